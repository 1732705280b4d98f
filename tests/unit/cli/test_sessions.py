"""What ``mmagent sessions`` and its subcommands print and do."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmagent import settings
from mmagent.cli import sessions
from mmagent.content import Message, text
from mmagent.errors import InputError, NotFound, StoreLocked
from mmagent.media import BlobStore
from mmagent.paths import blobs_dir, sessions_path
from mmagent.session import Draft, Session

Out = Callable[[], str]


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Out:
    return lambda: capsys.readouterr().out


def talk(name: str, *questions: str, picture: bytes | None = None) -> str:
    """A session with questions and answers; gives the picture's id."""
    session = Session.open(name)
    file_id = BlobStore(blobs_dir()).put(picture, "image/png") if picture else ""
    for question in questions:
        image = {"type": "image", "file_id": file_id, "mime_type": "image/png"}
        session.append(Message(role="user", content=(text(question), *([image] if picture else ()))))
        session.append(Message(role="assistant", content=(text(f"you said: {question}"),)))
        session.write(Draft("ended", {"how": "finished", "usage": {}, "citations": []}))
    session.close()
    return file_id


def questions(name: str) -> list[str]:
    session = Session.open(name)
    try:
        return [message.text for message in session.messages if message.role == "user"]
    finally:
        session.close()


def age(file_id: str) -> None:
    path = BlobStore(blobs_dir()).path(file_id)
    os.utime(path, (time.time() - 3600,) * 2)


def test_the_list_has_the_last_question_of_each(out: Out) -> None:
    talk("anna", "hello", "what is\nmy \x1b[31mname? " + "x" * 100)
    talk("ben", "hi")
    sessions.list_sessions(as_json=False)
    lines = out().splitlines()
    assert [line.split()[0] for line in lines] == ["ben", "anna"]
    assert "what is my \\x1b[31mname?" in lines[1]
    assert lines[1].endswith("…")
    sessions.list_sessions(as_json=True)
    rows = json.loads(out())
    assert [(row["name"], row["entries"]) for row in rows] == [("ben", 3), ("anna", 6)]
    assert rows[0]["last"] == "hi"


def test_where_nothing_was_said_nothing_is_made(out: Out) -> None:
    sessions.list_sessions(as_json=False)
    assert "mmagent chat --session NAME" in out()
    sessions.search("hello", limit=5, as_json=False)
    assert out() == "nobody said that\n"
    assert sessions.check() == 0
    with pytest.raises(NotFound, match="there is no session called anna; see: mmagent sessions"):
        sessions.show("anna")
    with pytest.raises(NotFound):
        sessions.delete(["anna"], yes=True)
    assert not sessions_path().exists()


def test_the_list_reads_the_ends_only(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    talk("anna", *(f"question {number}" for number in range(50)))
    from mmagent.session import SqliteJournal

    read, asked = SqliteJournal.read, []

    def counted(self: SqliteJournal, *arguments: object, **named: object) -> object:
        asked.append(read(self, *arguments, **named))  # type: ignore[arg-type]
        return asked[-1]

    monkeypatch.setattr(SqliteJournal, "read", counted)
    sessions.list_sessions(as_json=False)
    assert "question 49" in out()
    assert [len(entries) for entries in asked] == [24]


def test_a_conversation_is_shown_without_obeying_it(out: Out) -> None:
    talk("anna", "say \x1b]0;evil\x07")
    sessions.show("anna")
    shown = out()
    assert "## User\n\nsay \\x1b]0;evil\\x07\n\n## Assistant" in shown
    assert "\x1b" not in shown


def test_words_are_found(out: Out) -> None:
    talk("anna", "where is my parcel?")
    talk("ben", "发票在哪里")
    sessions.search("parc", limit=5, as_json=True)
    rows = json.loads(out())
    assert {(row["name"], row["entry"]) for row in rows} == {("anna", 1), ("anna", 2)}
    sessions.search("发票", limit=1, as_json=False)
    assert out().startswith("ben ")


def test_renaming_forking_and_rewinding(out: Out) -> None:
    talk("anna", "one", "two", "three")
    sessions.rename("anna", "anne")
    assert "anne" in out()
    sessions.fork("anne", "copy", turns=2)
    assert "mmagent chat --session copy" in out()
    sessions.fork("anne", None, turns=None)
    sessions.rewind("anne", turns=2)
    assert "2 turns are taken back, from: two" in out()
    assert [questions(name) for name in ("anne", "copy", "anne-2")] == [
        ["one"],
        ["one", "two"],
        ["one", "two", "three"],
    ]
    with pytest.raises(NotFound):
        sessions.rename("anna", "x")
    with pytest.raises(InputError):
        sessions.rename("anne", "copy")
    with pytest.raises(InputError):
        sessions.rewind("anne", turns=5)


@pytest.mark.parametrize(("form", "begins"), [("md", "# anna"), ("html", "<!doctype html>"), ("jsonl", '{"mmagent"')])
def test_exporting(form: sessions.Format, begins: str, out: Out, tmp_path: Path) -> None:
    talk("anna", "hello", picture=b"a picture")
    sessions.export("anna", form=form, to=None)
    printed = out()
    assert printed.startswith(begins)
    sessions.export("anna", form=form, to=tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == printed
    with pytest.raises(InputError, match="cannot be written"):
        sessions.export("anna", form=form, to=tmp_path)


def test_importing(out: Out, tmp_path: Path) -> None:
    file_id = talk("anna", "hello", picture=b"a picture")
    file = tmp_path / "anna.jsonl"
    sessions.export("anna", form="jsonl", to=file)
    age(file_id)
    sessions.delete(["anna"], yes=True)
    assert file_id not in BlobStore(blobs_dir())
    sessions.import_file(file, name=None)
    assert "mmagent chat --session anna" in out()
    sessions.import_file(file, name="other")
    assert questions("anna") == questions("other") == ["hello"]
    assert BlobStore(blobs_dir()).get(file_id) == b"a picture"
    with pytest.raises(InputError, match="already"):
        sessions.import_file(file, name=None)
    with pytest.raises(NotFound, match="cannot be read"):
        sessions.import_file(tmp_path / "nothing", name=None)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no exported session"):
        sessions.import_file(file, name="third")


def test_deleting_asks_and_takes_the_pictures_along(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    own, shared = talk("anna", "hello", picture=b"own"), talk("ben", "hi", picture=b"shared")
    talk("anna", "again", picture=b"shared")
    of_nobody = BlobStore(blobs_dir()).put(b"of another journal", "image/png")
    for file_id in (own, shared, of_nobody):
        age(file_id)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(InputError, match="add --yes"):
        sessions.delete(["anna"], yes=False)
    monkeypatch.setattr("sys.stdin", terminal := io.StringIO())
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("builtins.input", lambda _: "n")
    with pytest.raises(InputError, match="is kept"):
        sessions.delete(["anna"], yes=False)
    with pytest.raises(NotFound):
        sessions.delete(["anna", "nobody"], yes=True)
    assert questions("anna") == ["hello", "again"]
    out()
    monkeypatch.setattr("builtins.input", lambda _: "Y")
    sessions.delete(["anna", "anna"], yes=False)
    assert out() == "anna is deleted, and with it 0.0 MB of media\n"
    blobs = BlobStore(blobs_dir())
    assert [file_id in blobs for file_id in (own, shared, of_nobody)] == [False, True, True]
    assert questions("ben") == ["hi"]


def test_pictures_that_another_journal_of_this_machine_needs_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = talk("ben", "hi", picture=b"shared")
    usual = settings.settings()
    other = usual.model_copy(update={"sessions": str(tmp_path / "other.sqlite3")})
    monkeypatch.setattr(settings, "settings", lambda: other)
    own = talk("anna", "hello", picture=b"own")
    assert talk("anna", "and this", picture=b"shared") == shared
    for file_id in (own, shared):
        age(file_id)
    sessions.delete(["anna"], yes=True)
    blobs = BlobStore(blobs_dir())
    assert [file_id in blobs for file_id in (own, shared)] == [False, True]
    assert Session.names() == []
    monkeypatch.setattr(settings, "settings", lambda: usual)
    assert questions("ben") == ["hi"]


def test_a_session_in_a_turn_is_not_deleted() -> None:
    talk("anna", "hello")
    session = Session.open("anna")
    assert session.id is not None
    lease = session.journal.lease(session.id)
    assert lease is not None
    with lease, pytest.raises(StoreLocked):
        sessions.delete(["anna"], yes=True)
    session.close()
    assert questions("anna") == ["hello"]


def test_checking_says_what_is_wrong(out: Out) -> None:
    file_id = talk("anna", "hello", picture=b"own")
    session = Session.open("anna")
    session.journal.append(session.journal.create("a/1", parent=session.id), [Draft("note", {})])
    assert sessions.check() == 0
    assert out() == "2 sessions with 4 entries are well\n"
    session.journal.append(session.journal.create("bad"), [Draft("message", {"message": {"role": "emperor"}})])
    session.close()
    BlobStore(blobs_dir()).path(file_id).unlink()
    assert sessions.check() == 1
    lines = out().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("problem: bad: ")
    assert "is not in" in lines[1] and "give the file again" in lines[1]
