"""Locks between processes that end with the process. It knows files and the clock, not what is in them.

``flock`` belongs to an open file, so two users of one process exclude each other as two processes do. A system without
it has at least SQLite's own locks: they do for leases there.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from mmagent.errors import StoreLocked

try:
    import fcntl
except ImportError:  # a system without them has no such locks
    fcntl = None  # type: ignore[assignment]

WAIT_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02
_DIGITS = 20

AVAILABLE = fcntl is not None
"""Whether this system can lock files."""


class FileLock:
    """A lock that is a file, made when it is not there. It also keeps one number, the receipt.

    Args:
        path: The file.
        what: What it guards, for messages.
    """

    def __init__(self, path: Path, what: Path) -> None:
        self._what = what
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the lock.

        Raises:
            StoreLocked: Others had it all the time.
        """
        if not _try_lock(self._file):
            self._wait()
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _wait(self) -> None:
        end = time.monotonic() + WAIT_SECONDS
        pause = _FIRST_PAUSE
        while time.monotonic() < end:
            time.sleep(pause)
            if _try_lock(self._file):
                return
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise StoreLocked(f"another process has kept {self._what} locked for {WAIT_SECONDS:g} s; end it or try again")

    @property
    def receipt(self) -> int:
        """The number that was kept last; 0: none."""
        text = os.pread(self._file, _DIGITS, 0).decode("ascii", errors="replace")
        return int(text) if text.isdecimal() else 0

    @receipt.setter
    def receipt(self, number: int) -> None:
        with suppress(OSError):  # it only helps to see a loss later
            os.pwrite(self._file, b"%0*d" % (_DIGITS, number), 0)

    def close(self) -> None:
        """Let go of the file, which stays."""
        os.close(self._file)


def try_lease(path: Path) -> Callable[[], None] | None:
    """Lock a file of one's own, without waiting, and return what ends that; None while anybody else has it."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not AVAILABLE:
        return _try_database(path)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _try_lock(file):
                os.close(file)
                return None
            if _is(file, path):
                return partial(_end_lease, file, path)
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # who had it before has just removed it


def _end_lease(file: int, path: Path) -> None:
    with suppress(OSError):
        if _is(file, path):
            path.unlink()
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)  # a child that was forked meanwhile has it open too
    os.close(file)


def _try_database(path: Path) -> Callable[[], None] | None:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return None
        raise
    return partial(_end_database, connection, path)


def _end_database(connection: sqlite3.Connection, path: Path) -> None:
    connection.close()
    with suppress(OSError):  # who has it open now has the lock, and such systems remove no open files
        path.unlink()


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(file: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)
