"""What a journal in memory promises beyond what all do."""

from __future__ import annotations

import pytest

from mmagent.errors import StoreError
from mmagent.session import Draft, MemoryJournal, Session


def test_entries_are_kept_as_they_are_without_copies() -> None:
    journal = MemoryJournal()
    data = {"any": object()}
    session = journal.create("a")
    journal.append(session, [Draft("note", data)])
    assert journal.read(session)[0].data is data
    assert journal.quick


def test_what_was_read_does_not_change_behind_the_reader() -> None:
    journal = MemoryJournal()
    session = journal.create("a")
    journal.append(session, [Draft("note", {})])
    read = journal.read(session)
    journal.append(session, [Draft("note", {})])
    journal.delete(session)
    assert len(read) == 1


def test_closing_forgets_everything() -> None:
    session = Session.memory()
    session.write(Draft("note", {}))
    session.close()
    with pytest.raises(StoreError, match="is closed"):
        session.write(Draft("note", {}))
