"""The journal in one SQLite file: for one machine and any number of processes on it. It knows no message or model.

Every entry has a checksum and every session a count, so that what was damaged is refused and never passed on. Words
enter the search index some entries later, or when somebody searches: an append takes half the time so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmagent.errors import InputError, NotFound
from mmagent.session import contents, filelock
from mmagent.session.database import Database
from mmagent.session.journal import Draft, Entry, Found, SessionInfo
from mmagent.session.sqlite_schema import (
    add_entry,
    add_session,
    checksum,
    dump,
    forget_words,
    last_row,
    make_searchable,
    prepare,
)

_INFO = "s.id, s.name, s.parent, s.entries, s.created, s.updated, s.checksum"
_SEARCHABLE_EVERY = 64
"""Entries after which their words enter the search index, which takes some milliseconds; a search does it anyway."""
_LAST_USED_FIRST = (
    "ORDER BY coalesce((SELECT e.id FROM entries e WHERE e.session = s.id AND e.seq = s.entries), s.since) DESC,"
    " s.rowid DESC"
)
_NAMES = "SELECT rowid AS id, name FROM sessions INDEXED BY sqlite_autoindex_sessions_2 WHERE name"
_MISLED = f"""SELECT 1 FROM (
  SELECT * FROM ({_NAMES} >= ?1 ORDER BY name LIMIT 1) UNION ALL
  SELECT * FROM ({_NAMES} < ?1 ORDER BY name DESC LIMIT 1)
) n LEFT JOIN sessions s ON s.rowid = n.id WHERE s.name IS NOT n.name
UNION ALL SELECT 1 WHERE (SELECT count(*) FROM sessions INDEXED BY sqlite_autoindex_sessions_2)
  <> (SELECT count(*) FROM sessions NOT INDEXED)"""
"""Has rows where a damaged index of names may hide one: what it misleads ends beside the name that was changed,
and where an end was cut off, the numbers differ. It reads a page or two, and the heads of the others."""
_FAMILY = """WITH RECURSIVE family(id) AS (
  VALUES (?) UNION SELECT s.id FROM sessions s JOIN family ON s.parent = family.id
)"""


class SqliteJournal:
    """A journal in one SQLite file. See `Journal` for what its methods do.

    Args:
        path: The file, created when it is not there. Where it can only be read, a copy of it is.

    Raises:
        StoreError: The file is damaged, is something else, or was written by a newer mmagent.
        StoreLocked: Another process kept it locked.
    """

    quick = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turns = path.with_name(path.name + "-turns")
        self._unsearchable = 0
        self._database = Database(path, prepare)

    def create(self, name: str, *, parent: str | None = None) -> str:
        """See `Journal.create`; what is flushed next flushes it."""
        contents.check_name(name)
        with self._database.transaction(flush=False) as connection:
            self._check_free(name)
            if parent is not None and self._info("WHERE s.id = ?", parent) is None:
                raise NotFound(f"there is no session {parent!r} to be the parent of {name!r}")
            return add_session(connection, name, parent, _now())

    def append(self, session: str, drafts: Sequence[Draft], *, flush: bool = True) -> int:
        """See `Journal.append`."""
        rows = [(draft.kind, dump(draft.data), draft.data) for draft in drafts]
        row, now = 0, _now()
        with self._database.transaction(flush=flush, size=sum(len(data) for _, data, _ in rows)) as connection:
            counted = connection.execute(
                "UPDATE sessions SET entries = entries + ?, updated = ? WHERE id = ? RETURNING entries",
                (len(rows), now, session),
            ).fetchall()
            if not counted:
                raise _gone(session)
            last = int(counted[0][0])
            for seq, (kind, data, parsed) in enumerate(rows, last - len(rows) + 1):
                row = add_entry(connection, session, seq, kind, data, now, parsed)
            self._unsearchable += len(rows)
            if flush and self._unsearchable >= _SEARCHABLE_EVERY:
                make_searchable(connection)
                self._unsearchable = 0
            if flush and row:
                self._database.acknowledge(row)
        return last

    def read(self, session: str, after: int = 0, until: int | None = None) -> list[Entry]:
        """See `Journal.read`."""
        after = max(after, 0)
        rows = self._database.query(
            "SELECT s.entries, e.seq, e.kind, e.data, e.created, e.checksum FROM sessions s LEFT JOIN entries e"
            " ON e.session = s.id AND e.seq > ?2 AND e.seq <= ?3 WHERE s.id = ?1 ORDER BY e.seq",
            (session, after, 2**62 if until is None else until),
        )
        if not rows:
            if self._database.query("SELECT 1 FROM entries WHERE session = ? LIMIT 1", (session,)):
                raise self._database.damaged(f"the session {session} has entries and no name")
            return []
        entries = [self._entry(*row[1:]) for row in rows if row[1] is not None]
        last = rows[0][0] if until is None else min(until, rows[0][0])
        if [entry.seq for entry in entries] != list(range(after + 1, last + 1)):
            raise self._database.damaged(f"entries of the session {session} are missing")
        return entries

    def latest(self, session: str, kind: str) -> Entry | None:
        """See `Journal.latest`."""
        rows = self._database.query(
            "SELECT seq, kind, data, created, checksum FROM entries WHERE session = ? AND kind = ?"
            " ORDER BY seq DESC LIMIT 1",
            (session, kind),
        )
        return self._entry(*rows[0]) if rows else None

    def find(self, name: str) -> SessionInfo | None:
        """See `Journal.find`."""
        contents.check_name(name)
        found = self._info("WHERE s.name = ?", name)
        if found is None and self._database.query(_MISLED, (name,)):
            raise self._database.damaged(f"the session {name!r} is not where it should be")
        return found

    def sessions(self, *, parent: str | None = None) -> list[SessionInfo]:
        """See `Journal.sessions`."""
        return self._infos(f"WHERE s.parent IS ? {_LAST_USED_FIRST}", parent)

    def rename(self, session: str, name: str) -> None:
        """See `Journal.rename`."""
        contents.check_name(name)
        with self._database.transaction() as connection:
            info = self._info("WHERE s.id = ?", session)
            if info is None:
                raise _gone(session)
            if info.name != name:
                self._check_free(name)
                connection.execute(
                    "UPDATE sessions SET name = ?, checksum = ? WHERE id = ?",
                    (name, checksum(session, name, info.parent), session),
                )

    def fork(self, session: str, name: str, until: int | None = None) -> str:
        """See `Journal.fork`."""
        contents.check_name(name)
        with self._database.transaction() as connection:
            info = self._info("WHERE s.id = ?", session)
            if info is None:
                raise _gone(session)
            self._check_free(name)
            entries = self.read(session, until=until)
            copy = add_session(connection, name, None, _now())
            for entry in entries:
                add_entry(connection, copy, entry.seq, entry.kind, dump(entry.data), entry.created, entry.data)
            connection.execute("UPDATE sessions SET entries = ? WHERE id = ?", (len(entries), copy))
            self._database.acknowledge(last_row(connection))
        return copy

    def search(self, words: str, limit: int = 20) -> list[Found]:
        """See `Journal.search`."""
        query = contents.wanted(words)
        if not query or limit < 1:
            return []
        if self._database.query("SELECT 1 FROM searched WHERE through < (SELECT max(id) FROM entries)"):
            with self._database.transaction(flush=False, derived=True) as connection:
                make_searchable(connection)
        match = " AND ".join(f'"{term.text}"{" *" if term.prefix else ""}' for term in query)
        rows = self._database.query(
            f"SELECT e.seq, e.kind, e.data, e.created, e.checksum, {_INFO} FROM said"
            " JOIN entries e ON e.id = said.rowid JOIN sessions s ON s.id = e.session"
            f" WHERE said MATCH ? ORDER BY said.rowid DESC LIMIT {contents.CANDIDATES}",
            (match,),
        )
        places = [(self._checked(*row[5:]), self._entry(*row[:5])) for row in rows]
        texts = [(info, entry.seq, contents.said(entry.kind, entry.data)) for info, entry in places]
        texts.sort(key=lambda place: contents.score(place[2], query), reverse=True)
        return [Found(info, seq, contents.excerpt(text, query)) for info, seq, text in texts[:limit]]

    def delete(self, session: str) -> None:
        """See `Journal.delete`. Nothing of their text stays in the file."""
        with self._database.transaction() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            family = [id for (id,) in connection.execute(f"{_FAMILY} SELECT id FROM family", (session,))]
            for id in family:
                forget_words(connection, id)
                for table, column in (("entries", "session"), ("media", "session"), ("sessions", "id")):
                    connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (id,))
            connection.execute("INSERT INTO said (said) VALUES ('optimize')")
            last = last_row(connection)
            connection.execute("UPDATE sessions SET since = min(since, ?)", (last,))
            connection.execute("UPDATE searched SET through = min(through, ?)", (last,))
            self._database.acknowledge(last)
        self._database.empty_log()

    def media(self) -> frozenset[str]:
        """See `Journal.media`."""
        return frozenset(file_id for (file_id,) in self._database.query("SELECT file_id FROM media"))

    def lease(self, session: str) -> AbstractContextManager[None] | None:
        """See `Journal.lease`: a lock on a file named by the id, in a folder beside the database."""
        if not (session.isascii() and session.isalnum()):
            raise _gone(session)
        with self._database.errors():
            end = filelock.try_lease(self._turns / session)
        return None if end is None else self._leasing(end)

    def check(self) -> list[str]:
        """What is wrong with the file, as SQLite finds it; a second for some hundred megabytes."""
        problems = [str(row[0]) for row in self._database.query("PRAGMA integrity_check(20)")]
        return [] if problems == ["ok"] else problems

    def close(self) -> None:
        """See `Journal.close`."""
        self._database.close()

    @contextmanager
    def _leasing(self, end: Callable[[], None]) -> Iterator[None]:
        try:
            yield
        finally:
            end()

    def _info(self, where: str, value: str) -> SessionInfo | None:
        return next(iter(self._infos(where, value)), None)

    def _infos(self, where: str, *values: str | None) -> list[SessionInfo]:
        return [self._checked(*row) for row in self._database.query(f"SELECT {_INFO} FROM sessions s {where}", values)]

    def _checked(
        self, id: str, name: str, parent: str | None, entries: int, created: str, updated: str, check: int
    ) -> SessionInfo:
        if checksum(id, name, parent) != check:
            raise self._database.damaged(f"the session {name!r} is not what was written")
        return SessionInfo(id, name, parent, entries, created, updated)

    def _entry(self, seq: int, kind: str, data: str, created: str, check: int) -> Entry:
        if checksum(seq, kind, data) != check:
            raise self._database.damaged(f"an entry ({kind}, {seq}) is not what was written")
        parsed: Mapping[str, Any] = json.loads(data)
        return Entry(seq, kind, parsed, created)

    def _check_free(self, name: str) -> None:
        if self.find(name) is not None:
            raise InputError(f"there is a session called {name!r} already; take another name")


def _gone(session: str) -> NotFound:
    return NotFound(f"there is no session with the id {session!r} (any more); open it again by its name")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
