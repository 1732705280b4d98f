"""Which media are removed, and which never."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from mmagent.errors import StoreError
from mmagent.media import BlobStore
from mmagent.session import Draft, MemoryJournal
from mmagent.session.library import collect_garbage

DAYS_AGO = 3 * 24 * 3600


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def put(blobs: BlobStore, data: bytes, *, old: bool = True) -> str:
    file_id = blobs.put(data, "image/png")
    if old:
        long_ago = time.time() - DAYS_AGO
        os.utime(blobs.path(file_id), (long_ago, long_ago))
    return file_id


def journal_with(*file_ids: str) -> MemoryJournal:
    journal = MemoryJournal()
    journal.append(journal.create("a"), [Draft("picture", {"file_id": file_id}) for file_id in file_ids])
    return journal


def test_what_no_session_refers_to_goes(blobs: BlobStore) -> None:
    needed, unneeded = put(blobs, b"cat"), put(blobs, b"a dog")
    assert collect_garbage(journal_with(needed), blobs) == (1, 5)
    assert needed in blobs
    assert unneeded not in blobs
    assert collect_garbage(journal_with(needed), blobs) == (0, 0)


def test_several_journals_may_share_media(blobs: BlobStore) -> None:
    one, two = put(blobs, b"1"), put(blobs, b"2")
    assert collect_garbage([journal_with(one), journal_with(two)], blobs) == (0, 0)


def test_what_is_new_stays_and_so_does_what_was_given_again(blobs: BlobStore) -> None:
    new, again = put(blobs, b"new", old=False), put(blobs, b"again")
    assert blobs.put(b"again", "image/png") == again
    assert collect_garbage(MemoryJournal(), blobs) == (0, 0)
    assert new in blobs
    assert again in blobs
    assert collect_garbage(MemoryJournal(), blobs, age=timedelta(seconds=-60)) == (2, 8)


def test_it_can_be_limited(blobs: BlobStore) -> None:
    one, two, three = (put(blobs, data) for data in (b"1", b"2", b"3"))
    assert collect_garbage(journal_with(three), blobs, among={one, three}) == (1, 1)
    assert [file_id in blobs for file_id in (one, two, three)] == [False, True, True]


def test_what_an_interrupted_write_left_goes_and_other_peoples_files_stay(blobs: BlobStore) -> None:
    folder = blobs.path(put(blobs, b"x", old=False)).parent
    long_ago = time.time() - DAYS_AGO
    for name in (".tmp-abc", "notes.txt", "A" * 64):
        (folder / name).write_bytes(b"data")
        os.utime(folder / name, (long_ago, long_ago))
    assert collect_garbage(MemoryJournal(), blobs) == (1, 4)
    assert (folder / "notes.txt").exists()


def test_nothing_goes_where_a_journal_cannot_be_read(blobs: BlobStore) -> None:
    file_id = put(blobs, b"x")
    closed = MemoryJournal()
    closed.close()
    with pytest.raises(StoreError):
        collect_garbage([MemoryJournal(), closed], blobs)
    assert file_id in blobs


def test_nothing_is_nothing(blobs: BlobStore) -> None:
    assert collect_garbage([], blobs) == (0, 0)
