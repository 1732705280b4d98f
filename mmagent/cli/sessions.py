"""``mmagent sessions``: what was said, kept on this machine or in a database. It knows no model and no agent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmagent.cli.printable import printable
from mmagent.errors import InputError, NotFound, StoreError

if TYPE_CHECKING:
    from mmagent.session import Entry, Journal, Session, SessionInfo

Format = Literal["md", "jsonl", "html"]
_LAST_ENTRIES = 24
"""Among so many last entries of a session, its last question is looked for."""
_SHOWN_CHARACTERS = 60
_SETTLED = timedelta(minutes=1)
"""A picture that another session has just been given again stays, whoever deletes the one that had it first."""


def list_sessions(*, as_json: bool) -> None:
    """Print the sessions, the one used last first.

    Raises:
        StoreError: The journal cannot be read.
    """
    with _journal() as journal:
        rows = [_row(info, journal) for info in journal.sessions()] if journal else []
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        print(f"{printable(row['name']):24} {row['updated'][:16].replace('T', ' ')}  {_short(row['last'])}")
    if not rows:
        print("no sessions yet; begin one with: mmagent chat --session NAME")


def show(name: str) -> None:
    """Print a conversation.

    Raises:
        NotFound: There is no such session.
        StoreError: The journal cannot be read.
    """
    from mmagent.session.export import export_markdown

    with _session(name) as session:
        print(printable(export_markdown(session)), end="")


def search(words: str, *, limit: int, as_json: bool) -> None:
    """Print where words were said.

    Raises:
        StoreError: The journal cannot be read.
    """
    with _journal() as journal:
        found = journal.search(words, limit) if journal else []
        names = {info.id: info.name for info in journal.sessions()} if journal else {}
    rows = [
        {"name": names.get(one.session.parent or "", one.session.name), "entry": one.seq, "excerpt": one.excerpt}
        for one in found
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        print(f"{printable(str(row['name'])):24} {printable(str(row['excerpt']))}")
    if not rows:
        print("nobody said that")


def rename(name: str, new: str) -> None:
    """Give a session another name.

    Raises:
        InputError: There is no such session, or the new name cannot be used.
        StoreError: The journal cannot be written, or the session is in a turn.
    """
    with _session(name) as session:
        session.rename(new)
    print(f"{name} is called {new} now")


def fork(name: str, new: str | None, *, turns: int | None) -> None:
    """Copy a session, or its first turns.

    Raises:
        InputError: There is no such session, or the new name cannot be used.
        StoreError: The journal cannot be written.
    """
    with _session(name) as session:
        copy = session.fork(new, turns=turns)
    print(f"{copy.name} is a copy of {name}; go on with: mmagent chat --session {copy.name}")


def rewind(name: str, *, turns: int) -> None:
    """Take back the last turns.

    Raises:
        InputError: There is no such session, or it has not so many turns.
        StoreError: The journal cannot be written, or the session is in a turn.
    """
    with _session(name) as session:
        question = session.rewind(turns)
    print(f"{turns} turn{'s are' if turns > 1 else ' is'} taken back, from: {_short(question.text)}")


def export(name: str, *, form: Format, to: Path | None) -> None:
    """Write a conversation to a file or to stdout.

    Raises:
        NotFound: There is no such session.
        InputError: The file cannot be written.
        StoreError: The journal cannot be read.
    """
    with _session(name) as session:
        if to is None:
            for text in _exported(session, form):
                sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
            return
        written(session, form, to)
    print(f"{name} is in {printable(str(to))}", file=sys.stderr)


def written(session: Session, form: Format, to: Path) -> None:
    """Write a conversation to a file, whole or not at all.

    Raises:
        InputError: The file cannot be written.
        StoreError: The journal cannot be read.
    """
    special = to.exists() and not to.is_file()  # such as /dev/stdout
    part = to if special else to.with_name(f".{to.name}.part")
    try:
        with part.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(_exported(session, form))
        if part is not to:
            part.replace(to)
    except OSError as error:
        raise InputError(f"{to} cannot be written ({error.strerror}); choose another place") from error
    finally:
        if part is not to:
            part.unlink(missing_ok=True)


def import_file(path: Path, *, name: str | None) -> None:
    """Make a session of an exported one.

    Raises:
        NotFound: There is no such file.
        InputError: It is no exported session, or the name cannot be used.
        StoreError: The journal cannot be written.
    """
    from mmagent.media import BlobStore
    from mmagent.paths import blobs_dir
    from mmagent.session.export import import_jsonl, longest_line
    from mmagent.session.session import open_journal

    limit = longest_line() + 1
    try:
        with path.open(encoding="utf-8") as file:
            journal = open_journal()
            try:
                id = import_jsonl(iter(lambda: file.readline(limit), ""), journal, BlobStore(blobs_dir()), name)
                (made,) = (info.name for info in journal.sessions() if info.id == id)
            finally:
                journal.close()
    except OSError as error:
        raise NotFound(f"{path} cannot be read ({error.strerror}); give a file that was exported as jsonl") from error
    print(f"{made} is here; go on with: mmagent chat --session {made}")


def delete(names: Sequence[str], *, yes: bool) -> None:
    """Delete sessions, what their agents said, and their pictures, after a question unless ``yes``.

    Raises:
        NotFound: One of them is not there; none is deleted.
        InputError: Nobody can be asked, or the answer is no.
        StoreError: The journal cannot be written, or the one of this machine not read, which may need the same media;
            or one of the sessions is in a turn.
    """
    from mmagent.paths import sessions_path

    with _journal() as journal, _journal(sessions_path()) as usual:  # the same, unless the settings name another
        sessions = [_existing(name, journal) for name in dict.fromkeys(names)]
        assert journal is not None
        what = ", ".join(session.name for session in sessions)
        if not yes:
            if not sys.stdin.isatty():
                raise InputError(f"{what} would be deleted only after a question, and nobody can answer it; add --yes")
            if input(f"delete {what}? [y/N] ").strip().lower() not in ("y", "yes"):
                raise InputError(f"{what} is kept")
        files, size = forget(sessions, [journal, usual] if usual else [journal])
    print(f"{what} is deleted" + (f", and with it {size / 1e6:.1f} MB of media" if files else ""))


def forget(sessions: Sequence[Session], journals: Sequence[Journal]) -> tuple[int, int]:
    """Delete sessions of the first journal, and the media that no journal needs any more; gives files and bytes."""
    from mmagent.media import BlobStore
    from mmagent.paths import blobs_dir
    from mmagent.session.library import collect_garbage

    before = journals[0].media()
    for session in sessions:
        session.delete()
    return collect_garbage(journals, BlobStore(blobs_dir()), age=_SETTLED, among=before - journals[0].media())


def check() -> int:
    """Read everything there is, say what is wrong with it, and give the exit code.

    Raises:
        StoreError: The journal cannot be opened.
    """
    from mmagent.media import BlobStore
    from mmagent.paths import blobs_dir
    from mmagent.session.replay import replay

    problems: list[str] = []
    count = entries = 0
    with _journal() as journal:
        if journal is not None:
            problems += journal.check() if hasattr(journal, "check") else []
            for info in _all(journal):
                count += 1
                try:
                    entries += len(read := journal.read(info.id))
                    replay(read)
                except StoreError as error:
                    problems.append(f"{info.name}: {error}")
            blobs = BlobStore(blobs_dir())
            for file_id in sorted(journal.media()):
                try:
                    blobs.get(file_id)
                except (NotFound, StoreError) as error:
                    problems.append(str(error))
    for problem in problems:
        print(f"problem: {printable(problem)}")
    if not problems:
        print(f"{count} sessions with {entries} entries are well")
    return 1 if problems else 0


@contextmanager
def _journal(path: Path | None = None) -> Iterator[Journal | None]:
    """The journal of this user, or in a file; None where none was ever written."""
    from mmagent.session.session import journal_exists, open_journal

    journal = open_journal(path) if journal_exists(path) else None
    try:
        yield journal
    finally:
        if journal is not None:
            journal.close()


@contextmanager
def _session(name: str) -> Iterator[Session]:
    with _journal() as journal:
        yield _existing(name, journal)


def _existing(name: str, journal: Journal | None) -> Session:
    from mmagent.session import Session

    if journal is None or journal.find(name) is None:
        raise NotFound(f"there is no session called {name}; see: mmagent sessions")
    return Session(name, journal)


def _all(journal: Journal, parent: str | None = None) -> Iterator[SessionInfo]:
    for info in journal.sessions(parent=parent):
        yield info
        yield from _all(journal, info.id)


def _row(info: SessionInfo, journal: Journal) -> dict[str, Any]:
    last = last_question(journal.read(info.id, after=info.entries - _LAST_ENTRIES))
    return {"name": info.name, "entries": info.entries, "created": info.created, "updated": info.updated, "last": last}


def last_question(entries: Iterable[Entry]) -> str:
    """What the user said last in these entries; empty where nothing."""
    from mmagent.content import CORRECTION
    from mmagent.session import contents

    questions = (
        contents.said(entry.kind, entry.data)
        for entry in reversed(list(entries))
        if entry.kind == "message"
        and (message := entry.data.get("message") or {}).get("role") == "user"
        and message.get("name") != CORRECTION
    )
    return next(questions, "")


def _exported(session: Session, form: Format) -> Iterator[str]:
    from mmagent.media import BlobStore
    from mmagent.paths import blobs_dir
    from mmagent.session.export import export_html, export_jsonl, export_markdown

    if form == "md":
        yield export_markdown(session)
    elif form == "html":
        yield export_html(session, BlobStore(blobs_dir()))
    else:
        yield from (line + "\n" for line in export_jsonl(session, BlobStore(blobs_dir())))


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"
