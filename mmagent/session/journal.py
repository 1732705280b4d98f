"""The journal: an append-only list of entries for each session. It knows SQLite; it knows no message, model or tool."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from mmagent.errors import StoreError, StoreLocked

SCHEMA_VERSION = 1
_APPLICATION_ID = int.from_bytes(b"mmag")
_BUSY_SECONDS = 5.0
_WAL_IS_SAFE = sqlite3.sqlite_version_info >= (3, 51, 3)
"""Before, two processes that wrote and checkpointed at one instant could damage a write-ahead log (sqlite.org/wal)."""
_SCHEMA = """
CREATE TABLE entries (
  id INTEGER PRIMARY KEY,
  session TEXT NOT NULL,
  seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  data TEXT NOT NULL,
  created TEXT NOT NULL,
  UNIQUE (session, seq)
)
"""


@dataclass(frozen=True)
class Entry:
    """One thing that happened in a session."""

    seq: int
    """Counts from 1 without gaps; the order of a session is this order."""
    kind: str
    """What `data` is, e.g. ``"message"``."""
    data: dict[str, Any]
    """JSON."""
    created: str
    """When, in UTC; for people only."""


class Journal(Protocol):
    """Where sessions are kept. Many threads and processes may use one at once."""

    def append(self, session: str, kind: str, data: dict[str, Any]) -> int:
        """Add an entry and return its number. When this returns, a power cut cannot lose it.

        Raises:
            StoreLocked: Another process kept the journal locked.
            StoreError: It cannot be written; nothing was added.
        """

    def read(self, session: str, after: int = 0) -> Sequence[Entry]:
        """The entries of a session whose number is greater than ``after``, in order.

        Raises:
            StoreError: The journal cannot be read.
        """

    def sessions(self) -> Sequence[str]:
        """The names of all sessions, the one written to last first."""

    def close(self) -> None:
        """Let go of the files. Closing twice is harmless."""


class SqliteJournal:
    """A journal in one SQLite file.

    Args:
        path: The file, created when it is not there; None keeps everything in memory.

    Raises:
        StoreError: The file is damaged, is something else, or was written by a newer mmagent.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._errors():
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # conversations are private
            self._database = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def append(self, session: str, kind: str, data: dict[str, Any]) -> int:
        """See `Journal.append`. One transaction and one flush to the disk: a few milliseconds."""
        text = json.dumps(data, ensure_ascii=False)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._errors(), self._lock, self._transaction():
            (seq,) = self._database.execute(
                "INSERT INTO entries (session, seq, kind, data, created)"
                " SELECT ?1, coalesce(max(seq), 0) + 1, ?2, ?3, ?4 FROM entries WHERE session = ?1 RETURNING seq",
                (session, kind, text, now),
            ).fetchone()
        return int(seq)

    def read(self, session: str, after: int = 0) -> list[Entry]:
        """See `Journal.read`."""
        query = "SELECT seq, kind, data, created FROM entries WHERE session = ? AND seq > ? ORDER BY seq"
        with self._errors(), self._lock:
            rows = self._database.execute(query, (session, after)).fetchall()
            return [Entry(seq, kind, json.loads(data), created) for seq, kind, data, created in rows]

    def sessions(self) -> list[str]:
        """See `Journal.sessions`."""
        query = "SELECT session FROM entries GROUP BY session ORDER BY max(id) DESC"
        with self._errors(), self._lock:
            return [name for (name,) in self._database.execute(query)]

    def close(self) -> None:
        """See `Journal.close`."""
        with self._lock:
            self._database.close()

    def _prepare(self) -> None:
        self._database.execute("PRAGMA synchronous = FULL")
        if self._version() == 0:
            if _WAL_IS_SAFE:
                self._database.execute("PRAGMA journal_mode = WAL")
            with self._transaction():  # another process may be doing the same
                if self._version() == 0:
                    self._create()
        if self._version() > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by a newer mmagent (its schema is {self._version()}, this one knows"
                f" {SCHEMA_VERSION}); upgrade with: pip install -U mmagent"
            )
        if self._database.execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
            raise self._not_ours()

    def _version(self) -> int:
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    def _create(self) -> None:
        if self._database.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise self._not_ours()
        self._database.execute(_SCHEMA)
        self._database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _not_ours(self) -> StoreError:
        return StoreError(f"{self.path} is a database of another program; choose another path for the sessions")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of the disk and of SQLite, as ours."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreLocked(
                    f"another process has kept {self.path} locked for {_BUSY_SECONDS:g} s; end it or try again"
                ) from error
            if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) or isinstance(error, ValueError):
                raise StoreError(
                    f"{self.path} is damaged ({error}); move it away, put a copy in its place, or start without it"
                ) from error
            raise StoreError(
                f"{self.path} cannot be used ({error}); check that the disk has space and that you may write there"
            ) from error
