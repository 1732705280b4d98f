"""What goes wrong with files, told in one line."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mmagent.errors import StoreError, StoreLocked
from mmagent.session import SqliteJournal, journal


def test_the_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "sessions.sqlite3"
    SqliteJournal(path).close()
    assert path.is_file()


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    path.write_bytes(b"these are no rows" * 100)
    with pytest.raises(StoreError, match=r"is damaged .* move it away"):
        SqliteJournal(path)
    assert path.read_bytes() == b"these are no rows" * 100


def test_a_journal_whose_pages_were_overwritten_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    written = SqliteJournal(path)
    for _ in range(50):
        written.append("a", "message", {"text": "x" * 1000})
    written.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"):
        SqliteJournal(path).read("a")


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="another program"):
        SqliteJournal(path)


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    SqliteJournal(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {journal.SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match=r"newer mmagent .* pip install -U mmagent"):
        SqliteJournal(path)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteJournal(tmp_path)


def test_a_lock_that_another_process_keeps_is_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "sessions.sqlite3"
    ours = SqliteJournal(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked, match="another process"):
        ours.append("a", "message", {})
    other.execute("ROLLBACK")
    other.close()
    assert ours.append("a", "message", {}) == 1


def test_every_entry_is_flushed_to_the_disk(tmp_path: Path) -> None:
    opened = SqliteJournal(tmp_path / "sessions.sqlite3")
    full = 2
    assert opened._database.execute("PRAGMA synchronous").fetchone() == (full,)
