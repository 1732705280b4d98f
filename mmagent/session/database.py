"""One SQLite file that many threads and processes share, made safe: locks, flushes, checkpoints, errors in one line.

It knows no sessions; its user's `prepare` makes the tables.

SQLite before 3.51.3 can damage a write-ahead log when two connections write or checkpoint at one instant
(sqlite.org/wal, "WAL-reset bug"). So whoever opens, writes, checkpoints or closes here has a lock of ours, a file
beside the database. Readers need none. Where files cannot be locked, the database has a rollback journal instead.

The lock file also keeps a receipt: the number of the last row that was flushed to the disk. A database whose last row
comes before that has lost some, which SQLite alone does not notice when the end of its log is gone.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

from mmagent.errors import StoreError, StoreLocked
from mmagent.session import filelock

_COMMITS, _BYTES = 100, 4_000_000
"""After so much, the log is merged into the database; it has about a thousand pages then."""
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}


class Database:
    """An open database. Where its folder or file cannot be written, a copy of it is read.

    Args:
        path: The file, created when it is not there.
        prepare: Makes or migrates the tables and returns the number of the last row ever written. It has the lock.

    Raises:
        StoreError: The file is damaged, has lost rows, or cannot be opened.
        StoreLocked: Another process kept it locked.
    """

    def __init__(self, path: Path, prepare: Callable[[Database], int]) -> None:
        self.path = path
        self._threads = threading.RLock()
        self._lock: filelock.FileLock | None = None
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._wal = self._closed = False
        self._level = ""
        self._commits = self._bytes = 0
        self._acknowledged = -1
        with self.errors():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # conversations are private
            try:
                file = self._file()
                with self._exclusive():
                    self._open(file, prepare)
            except BaseException:
                self._let_go()
                raise

    @contextmanager
    def transaction(self, *, flush: bool = True, size: int = 0, derived: bool = False) -> Iterator[sqlite3.Connection]:
        """Write all of it or nothing.

        Args:
            flush: Whether a power cut can lose neither this nor what was written before.
            size: About how many bytes it is.
            derived: Whether it only follows from what is there, so that a copy takes it too.
        """
        with self.errors(), self._threads, self._exclusive():
            if self._copy is not None and not derived:
                raise StoreError(
                    f"{self.path} can be read and not written; check that you may write to it and beside it"
                )
            self._synchronise("FULL" if flush or not self._wal else "NORMAL")
            self._acknowledged = -1
            with self.atomic():
                yield self.connection
            if self._acknowledged >= 0 and self._lock is not None:  # before anybody else can write, or close the file
                self._lock.receipt = self._acknowledged
            self._commits += 1
            self._bytes += size
            if self._commits >= _COMMITS or self._bytes >= _BYTES:
                self._checkpoint("PASSIVE")

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """A transaction and nothing around it: for `prepare`."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
            raise

    def query(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Read rows."""
        with self.errors(), self._threads:
            return self.connection.execute(sql, values).fetchall()

    def acknowledge(self, row: int) -> None:
        """In a transaction that is flushed: the number of its last row, which is the receipt once that is done."""
        self._acknowledged = row
        if self._lock is not None and row < self._lock.receipt:  # that rows are to go must be told before they are gone
            self._lock.receipt = row

    def empty_log(self) -> None:
        """Leave nothing in the write-ahead log, so that what was deleted is in no file."""
        with self._threads, suppress(StoreLocked), self._exclusive():
            self._checkpoint("TRUNCATE")

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        with self._threads:
            if self._closed:
                return
            with suppress(StoreLocked), self._exclusive():
                self._checkpoint("TRUNCATE")
                self.connection.close()
            self.connection.close()  # who kept the lock all the time has it open too: this is not the last to close
            self._closed = True
            self._let_go()

    def damaged(self, what: object) -> StoreError:
        """The error for content that is not what was written."""
        reason = " ".join(str(what).split())
        return StoreError(
            f"{self.path} is damaged ({reason}); move it away, put a copy in its place, or start without it"
        )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Errors of the disk and of SQLite, as ours."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if self._closed:
                raise StoreError(f"{self.path} is closed; open the session again") from error
            if code in _BUSY:
                raise StoreLocked(
                    f"another process has kept {self.path} locked for {filelock.WAIT_SECONDS:g} s; end it or try again"
                ) from error
            if code in _DAMAGED or isinstance(error, ValueError | OverflowError):
                raise self.damaged(error) from error
            raise StoreError(
                f"{self.path} cannot be used ({error}); check that the disk has space and that you may write there"
            ) from error

    def _file(self) -> Path:
        """The file to open: the one asked for, or a copy where that can only be read."""
        there = self.path.is_file()
        if not filelock.AVAILABLE:
            return self.path
        if not there or os.access(self.path, os.W_OK):
            try:
                self._lock = filelock.FileLock(self.path.with_name(self.path.name + "-lock"), self.path)
                return self.path
            except OSError:
                if not there:
                    raise
        self._copy = tempfile.TemporaryDirectory(prefix="mmagent-")
        copy = Path(self._copy.name, self.path.name)
        for suffix in ("", "-wal"):
            if (file := self.path.with_name(self.path.name + suffix)).exists():
                shutil.copyfile(file, copy.with_name(copy.name + suffix))
        return copy

    def _open(self, file: Path, prepare: Callable[[Database], int]) -> None:
        new = not file.exists()
        if new:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        self.connection = sqlite3.connect(
            file, timeout=filelock.WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in ("wal_autocheckpoint = 0", "cell_size_check = ON", "trusted_schema = OFF"):
                self.connection.execute(f"PRAGMA {pragma}")
            self._synchronise("FULL")
            rows = prepare(self)
            mode = "WAL" if filelock.AVAILABLE else "DELETE"
            self._wal = self.connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0] == "wal"
            if self._lock is not None:
                if new:
                    self._lock.receipt = 0
                elif rows < self._lock.receipt:
                    raise self.damaged(
                        f"its last entry is {rows}, but {self._lock.receipt} had been written; if you want it as it is,"
                        f" delete {self.path.name}-lock while nothing uses it"
                    )
        except BaseException:
            self.connection.close()
            raise

    def _exclusive(self) -> AbstractContextManager[None]:
        return nullcontext() if self._lock is None or self._closed else self._lock.held()

    def _synchronise(self, level: Literal["FULL", "NORMAL"]) -> None:
        if level != self._level:
            self.connection.execute(f"PRAGMA synchronous = {level}")
            self._level = level

    def _checkpoint(self, mode: Literal["PASSIVE", "TRUNCATE"]) -> None:
        """Merge the log into the database. Where that fails nothing is lost: it is merged another time."""
        self._commits = self._bytes = 0
        if not self._wal:
            return
        with suppress(sqlite3.Error):
            self.connection.execute("PRAGMA busy_timeout = 0")  # readers go first
            self.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        with suppress(sqlite3.Error):
            self.connection.execute(f"PRAGMA busy_timeout = {int(filelock.WAIT_SECONDS * 1000)}")

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
        if self._copy is not None:
            self._copy.cleanup()
