"""The journal in a PostgreSQL database: for many machines that share sessions. It knows no message and no model."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mmagent.errors import InputError, NotFound, StoreError
from mmagent.session import contents
from mmagent.session.journal import Draft, Entry, Found, SessionInfo
from mmagent.session.postgres_server import PostgresServer

if TYPE_CHECKING:
    import psycopg

SCHEMA_VERSION = 1
_SCHEMA_LOCK = int.from_bytes(b"mmagent")
_TABLES = f"""
CREATE TABLE mmagent_version (version integer NOT NULL);
INSERT INTO mmagent_version VALUES ({SCHEMA_VERSION});
CREATE SEQUENCE mmagent_used;
CREATE TABLE mmagent_sessions (
  id text PRIMARY KEY,
  name text NOT NULL UNIQUE,
  parent text REFERENCES mmagent_sessions ON DELETE CASCADE,
  entries bigint NOT NULL DEFAULT 0,
  used bigint NOT NULL DEFAULT nextval('mmagent_used'),
  created timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX mmagent_sessions_parent ON mmagent_sessions (parent);
CREATE TABLE mmagent_entries (
  session text NOT NULL REFERENCES mmagent_sessions ON DELETE CASCADE,
  seq bigint NOT NULL,
  kind text NOT NULL,
  data text NOT NULL,
  created timestamptz NOT NULL DEFAULT clock_timestamp(),
  said tsvector,
  PRIMARY KEY (session, seq)
);
CREATE INDEX mmagent_entries_said ON mmagent_entries USING gin (said);
CREATE TABLE mmagent_media (
  session text NOT NULL REFERENCES mmagent_sessions ON DELETE CASCADE,
  file_id text NOT NULL,
  seq bigint NOT NULL,
  PRIMARY KEY (session, file_id)
);
"""
_HELD = (
    "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = %s AND classid = %s::bigint::oid"
    " AND objid = %s::bigint::oid)"
)
_INFO = "s.id, s.name, s.parent, s.entries, s.created, s.updated"


class PostgresJournal:
    """A journal in a PostgreSQL database. See `Journal` for what its methods do.

    Args:
        url: Its address, ``postgresql://user:password@host/database``; the tables are made when they are not there.

    Raises:
        MissingExtra: The extra ``postgres`` is not installed.
        ConfigurationError: The address cannot be understood.
        StoreError: The database cannot be used, or was written by a newer mmagent.
    """

    quick = False

    def __init__(self, url: str) -> None:
        self._server = PostgresServer(url)
        self._server.work(_prepare)

    def create(self, name: str, *, parent: str | None = None) -> str:
        """See `Journal.create`."""
        contents.check_name(name)
        id = uuid.uuid4().hex
        with self._names(name, parent):
            self._server.work(
                lambda connection: connection.execute(
                    "INSERT INTO mmagent_sessions (id, name, parent) VALUES (%s, %s, %s)", (id, name, parent)
                )
            )
        return id

    def append(self, session: str, drafts: Sequence[Draft], *, flush: bool = True) -> int:
        """See `Journal.append`."""
        rows = [(draft.kind, json.dumps(draft.data), _words(draft.kind, draft.data)) for draft in drafts]
        media = [(seq, file_id) for seq, draft in enumerate(drafts) for file_id in contents.media(draft.data)]

        def work(connection: psycopg.Connection[Any]) -> int:
            held = self._server.holder(session)
            counted = connection.execute(
                "UPDATE mmagent_sessions SET entries = entries + %s, updated = clock_timestamp(),"
                f" used = nextval('mmagent_used') WHERE id = %s RETURNING entries, {_HELD if held else 'true'}",
                (len(rows), session, *(held or ())),
            ).fetchone()
            if counted is None:
                raise _gone(session)
            if not counted[1]:
                self._server.keep(session)
            first = counted[0] - len(rows) + 1
            _insert(
                connection,
                session,
                [(seq, *row) for seq, row in enumerate(rows, first)],
                [(first + seq, file_id) for seq, file_id in media],
            )
            return int(counted[0])

        return self._server.work(work, flush=flush)

    def read(self, session: str, after: int = 0, until: int | None = None) -> list[Entry]:
        """See `Journal.read`."""
        return [
            Entry(seq, kind, json.loads(data), _time(created))
            for seq, kind, data, created in self._rows(
                "SELECT seq, kind, data, created FROM mmagent_entries WHERE session = %s AND seq > %s AND seq <= %s"
                " ORDER BY seq",
                (session, after, 2**62 if until is None else until),
            )
        ]

    def latest(self, session: str, kind: str) -> Entry | None:
        """See `Journal.latest`."""
        rows = self._rows(
            "SELECT seq, kind, data, created FROM mmagent_entries WHERE session = %s AND kind = %s"
            " ORDER BY seq DESC LIMIT 1",
            (session, kind),
        )
        return next((Entry(seq, kind, json.loads(data), _time(created)) for seq, kind, data, created in rows), None)

    def find(self, name: str) -> SessionInfo | None:
        """See `Journal.find`."""
        contents.check_name(name)
        rows = self._rows(f"SELECT {_INFO} FROM mmagent_sessions s WHERE s.name = %s", (name,))
        return _info(*rows[0]) if rows else None

    def sessions(self, *, parent: str | None = None) -> list[SessionInfo]:
        """See `Journal.sessions`."""
        rows = self._rows(
            f"SELECT {_INFO} FROM mmagent_sessions s WHERE s.parent IS NOT DISTINCT FROM %s ORDER BY s.used DESC",
            (parent,),
        )
        return [_info(*row) for row in rows]

    def rename(self, session: str, name: str) -> None:
        """See `Journal.rename`."""
        contents.check_name(name)
        sql = "UPDATE mmagent_sessions SET name = %s WHERE id = %s"
        with self._names(name, None):
            if not self._server.work(lambda connection: connection.execute(sql, (name, session)).rowcount):
                raise _gone(session)

    def fork(self, session: str, name: str, until: int | None = None) -> str:
        """See `Journal.fork`."""
        contents.check_name(name)
        id = uuid.uuid4().hex
        last = 2**62 if until is None else max(until, 0)

        def work(connection: psycopg.Connection[Any]) -> None:
            copied = connection.execute(
                "INSERT INTO mmagent_sessions (id, name, entries)"
                " SELECT %s, %s, least(entries, %s) FROM mmagent_sessions WHERE id = %s RETURNING entries",
                (id, name, last, session),
            ).fetchone()
            if copied is None:
                raise _gone(session)
            for table, columns in (("entries", "seq, kind, data, created, said"), ("media", "file_id, seq")):
                connection.execute(
                    f"INSERT INTO mmagent_{table} (session, {columns})"
                    f" SELECT %s, {columns} FROM mmagent_{table} WHERE session = %s AND seq <= %s",
                    (id, session, copied[0]),
                )

        with self._names(name, None):
            self._server.work(work)
        return id

    def search(self, words: str, limit: int = 20) -> list[Found]:
        """See `Journal.search`."""
        query = contents.wanted(words)
        if not query or limit < 1:
            return []
        rows = self._rows(
            f"SELECT e.seq, e.kind, e.data, {_INFO} FROM mmagent_entries e JOIN mmagent_sessions s ON s.id = e.session"
            " WHERE e.said @@ %s::tsquery ORDER BY s.used DESC, e.seq DESC LIMIT %s",
            (" & ".join(f"'{term.text}'{':*' if term.prefix else ''}" for term in query), contents.CANDIDATES),
        )
        places = [(_info(*row[3:]), row[0], contents.said(row[1], json.loads(row[2]))) for row in rows]
        places.sort(key=lambda place: contents.score(place[2], query), reverse=True)
        return [Found(info, seq, contents.excerpt(text, query)) for info, seq, text in places[:limit]]

    def delete(self, session: str) -> None:
        """See `Journal.delete`."""
        self._server.work(
            lambda connection: connection.execute("DELETE FROM mmagent_sessions WHERE id = %s", (session,))
        )

    def media(self) -> frozenset[str]:
        """See `Journal.media`."""
        return frozenset(file_id for (file_id,) in self._rows("SELECT DISTINCT file_id FROM mmagent_media", ()))

    def lease(self, session: str) -> AbstractContextManager[None] | None:
        """See `Journal.lease`: an advisory lock."""
        return self._leasing(session) if self._server.lock(session) else None

    def close(self) -> None:
        """See `Journal.close`."""
        self._server.close()

    @contextmanager
    def _leasing(self, session: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._server.unlock(session)

    def _rows(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        return self._server.work(lambda connection: connection.execute(sql, values).fetchall())

    @contextmanager
    def _names(self, name: str, parent: str | None) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            if isinstance(error.__cause__, self._server.errors.UniqueViolation):
                raise InputError(f"there is a session called {name!r} already; take another name") from error
            if isinstance(error.__cause__, self._server.errors.ForeignKeyViolation):
                raise NotFound(f"there is no session {parent!r} to be the parent of {name!r}") from error
            raise


def _prepare(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
    if connection.execute("SELECT to_regclass('mmagent_version')").fetchone() == (None,):
        connection.execute(_TABLES)
    (version,) = connection.execute("SELECT version FROM mmagent_version").fetchone() or (0,)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the database was written by a newer mmagent (its schema is {version}, this one knows {SCHEMA_VERSION});"
            " upgrade with: pip install -U mmagent"
        )


def _insert(
    connection: psycopg.Connection[Any],
    session: str,
    rows: list[tuple[int, str, str, list[str] | None]],
    media: list[tuple[int, str]],
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO mmagent_entries (session, seq, kind, data, said)"
            " VALUES (%s, %s, %s, %s, array_to_tsvector(%s::text[]))",
            [(session, *row) for row in rows],
        )
        if media:
            cursor.executemany(
                "INSERT INTO mmagent_media (session, seq, file_id) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                [(session, *one) for one in media],
            )


def _words(kind: str, data: Any) -> list[str] | None:
    return sorted(contents.terms(contents.said(kind, data))) or None


def _info(id: str, name: str, parent: str | None, entries: int, created: datetime, updated: datetime) -> SessionInfo:
    return SessionInfo(id, name, parent, entries, _time(created), _time(updated))


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _gone(session: str) -> NotFound:
    return NotFound(f"there is no session with the id {session!r} (any more); open it again by its name")
