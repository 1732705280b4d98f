"""Files that older versions wrote. They are never changed: what was written once must be readable for ever."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mmagent.content import CORRECTION
from mmagent.errors import StoreError
from mmagent.session import Session, SqliteJournal, sqlite_schema

CORPUS = Path(__file__).parents[2] / "data" / "journals"
CAT = "sha256:" + "0a" * 32


@pytest.fixture
def copied(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return Path(shutil.copy(CORPUS / f"{request.param}.sqlite3", tmp_path / "sessions.sqlite3"))


@pytest.mark.parametrize("copied", ["version-1-shop"], indirect=True)
def test_a_conversation_of_version_1_goes_on(copied: Path) -> None:
    journal = SqliteJournal(copied)
    assert [(info.name, info.entries) for info in journal.sessions()] == [("notes", 3), ("shop", 10)]
    assert journal.media() == {CAT}
    assert [(found.session.name, found.seq) for found in journal.search("一只猫")] == [("shop", 7)]
    assert [found.seq for found in journal.search("ORD-1042 monday")] == [4]
    (info,) = (info for info in journal.sessions() if info.name == "shop")
    intents = [entry.data for entry in journal.read(info.id) if entry.kind == "intent"]
    assert intents == [
        {"id": "call_1", "name": "find_order", "effect": "read", "key": "", "digest": ""},
        {"id": "call_2", "name": "pay", "effect": "unsafe", "key": "", "digest": ""},
    ]
    assert info.created < info.updated
    journal.close()

    shop = Session.open("shop", copied)
    assert [message.role for message in shop.messages] == [
        *("user", "assistant", "tool", "assistant"),
        *("user", "assistant"),
        *("user", "assistant", "tool"),
    ]
    assert shop.messages[3].text == "It was sent on Monday."
    assert shop.messages[4].media[0]["file_id"] == CAT
    assert shop.messages[5].content[0] == {"type": "reasoning", "reasoning": "whiskers"}
    assert shop.messages[8].text == "error: interrupted; it is unknown whether pay took effect"
    assert shop.refresh().unfinished
    shop.close()

    notes = Session.open("notes", copied)
    assert [message.text for message in notes.messages] == ["Tell me a story", "Once upon a"]
    assert not notes.refresh().unfinished
    assert notes.refresh().last_seq == 3
    notes.close()


@pytest.mark.parametrize("copied", ["version-1-many"], indirect=True)
def test_sessions_stay_apart_and_in_order(copied: Path) -> None:
    journal = SqliteJournal(copied)
    assert [info.name for info in journal.sessions()] == ["three", "two", "one"]
    for info in journal.sessions():
        texts = [
            entry.data["message"]["content"][0]["text"] for entry in journal.read(info.id) if entry.kind == "message"
        ]
        assert texts[::2] == [f"question {turn} of {info.name}" for turn in range(12)]
    one = journal.find("one")
    assert one is not None
    assert journal.latest(one.id, "of_a_plugin").data == {"x": [1, None, "ü"]}
    assert journal.check() == []
    journal.close()
    again = SqliteJournal(copied)
    assert again.find("one") == one
    again.close()


@pytest.mark.parametrize("copied", ["version-1-many"], indirect=True)
def test_corrections_of_version_1_are_known_by_their_name(copied: Path) -> None:
    told = "error: 3 is no colour; answer again"
    said = [
        {"role": "user", "content": [{"type": "text", "text": told}]},
        {"role": "assistant", "content": [{"type": "text", "text": told}]},
        {"role": "user", "content": [{"type": "text", "text": "error: 404; what does it mean?"}]},
        {"role": "user", "content": [{"type": "text", "text": told}, {"type": "image", "file_id": CAT}]},
    ]
    with sqlite3.connect(copied) as old:
        for seq, message in enumerate(said, 1):
            old.execute(
                "INSERT INTO entries (session, seq, kind, data, created) VALUES ('new', ?, 'message', ?, '2024')",
                (seq, json.dumps({"message": message})),
            )
    journal = SqliteJournal(copied)
    info = journal.find("new")
    assert info is not None
    messages = [entry.data["message"] for entry in journal.read(info.id)]
    assert messages == [{**said[0], "name": CORRECTION}, *said[1:]]
    journal.close()


@pytest.mark.parametrize("copied", ["version-1-empty"], indirect=True)
def test_nothing_becomes_nothing(copied: Path) -> None:
    journal = SqliteJournal(copied)
    assert list(journal.sessions()) == []
    journal.append(journal.create("new"), [])
    journal.close()


@pytest.mark.parametrize("copied", ["version-1-many"], indirect=True)
@pytest.mark.parametrize("at", [0, 1, 40, 72])
def test_an_interrupted_migration_leaves_version_1(copied: Path, at: int) -> None:
    before = rows(copied)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom mmagent.session import SqliteJournal, sqlite_schema\n"
        "work, count = sqlite_schema.add_entry, 0\n"
        "def killed(*arguments):\n"
        "    global count\n"
        f"    if count == {at}: os.kill(os.getpid(), 9)\n"
        "    count += 1\n"
        "    return work(*arguments)\n"
        "sqlite_schema.add_entry = killed\n"
        "SqliteJournal(Path(sys.argv[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", script, copied], timeout=60, check=False).returncode == -9
    assert rows(copied) == before
    journal = SqliteJournal(copied)
    assert [info.entries for info in journal.sessions()] == [25, 25, 25]
    journal.close()


@pytest.mark.parametrize("copied", ["version-1-many"], indirect=True)
def test_a_migration_that_fails_leaves_version_1(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(copied)

    def full(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_schema, "_ended", full)
        with pytest.raises(StoreError, match="disk is full"):
            SqliteJournal(copied)
    assert rows(copied) == before
    SqliteJournal(copied).close()


@pytest.mark.parametrize("copied", ["version-1-many"], indirect=True)
def test_damaged_rows_of_version_1_are_refused(copied: Path) -> None:
    with sqlite3.connect(copied) as old:
        old.execute("UPDATE entries SET data = '{\"message' WHERE seq = 3")
    with pytest.raises(StoreError, match="is damaged"):
        SqliteJournal(copied)


def rows(path: Path) -> list[object]:
    """A version 1 file's content, as any program reads it."""
    database = sqlite3.connect(path)
    try:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        return database.execute("SELECT session, seq, kind, data, created FROM entries ORDER BY id").fetchall()
    finally:
        database.close()
