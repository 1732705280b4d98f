"""A PostgreSQL server as a journal needs it: transactions, locks that end with the process, errors in one line.

It knows no sessions. A call takes one of a few connections. One that broke before its transaction was to end is
replaced, once; one that breaks while it ends is an error, because nobody can know what became of the transaction.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from mmagent.errors import ConfigurationError, MissingExtra, StoreError, StoreLocked

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

WAIT_SECONDS = 5
_STATEMENT_SECONDS = 60
"""No statement takes so long unless something is wrong."""
_CONNECTIONS = 8
_NETWORK = {
    "connect_timeout": WAIT_SECONDS,
    "keepalives_idle": WAIT_SECONDS,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 2 * 1000 * WAIT_SECONDS,
}
"""A network that is gone is an error soon; what the address says comes first."""


class PostgresServer:
    """A database and the connections to it. Its messages have no passwords in them.

    Args:
        url: The address.

    Raises:
        MissingExtra: The extra ``postgres`` is not installed.
        ConfigurationError: The address cannot be understood.
    """

    def __init__(self, url: str) -> None:
        try:
            import psycopg
            from psycopg.conninfo import conninfo_to_dict
        except ImportError as error:
            raise MissingExtra("a journal in PostgreSQL", "postgres") from error
        self.errors = psycopg.errors
        self._psycopg = psycopg
        try:
            parts = conninfo_to_dict(url)
        except psycopg.Error:  # whose message quotes the address, with the password in it
            raise ConfigurationError(
                "the address of the sessions' database cannot be understood; write postgresql://user@host/database"
            ) from None
        self._url = url
        self._secrets = [str(parts[key]) for key in ("password", "sslpassword") if parts.get(key)]
        self._where = f"the database {parts.get('dbname', '')} at {parts.get('host') or 'this machine'}"
        self._settings: dict[str, Any] = {name: value for name, value in _NETWORK.items() if name not in parts}
        self._lock = threading.RLock()
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._idle: list[psycopg.Connection[Any]] = []
        self._locks: psycopg.Connection[Any] | None = None
        self._locked: set[str] = set()
        self._lost: set[str] = set()
        self._closed = False

    def work(self, work: Callable[[psycopg.Connection[Any]], T], *, flush: bool = True) -> T:
        """Do something in one transaction."""
        with self._free, self._as_ours():
            for last_try in (False, True):
                connection = self._take(fresh=last_try)
                try:
                    connection.execute(f"BEGIN; SET LOCAL synchronous_commit TO {'on' if flush else 'off'}")
                    result = work(connection)
                except BaseException as error:
                    broken = connection.broken
                    self._give_back(connection)
                    if broken and not last_try and isinstance(error, self._psycopg.OperationalError):
                        continue
                    raise
                try:
                    connection.execute("COMMIT")
                except self._psycopg.Error as error:
                    if error.sqlstate and not connection.broken:  # the server says that it is not written
                        self._give_back(connection)
                        raise
                    connection.close()
                    raise StoreError(
                        f"the connection to {self._where} broke at the end of a transaction; nobody knows whether it"
                        " was written: read the session again"
                    ) from error
                self._give_back(connection)
                return result
        raise AssertionError("the second try returns or raises")

    def lock(self, name: str) -> bool:
        """Take a lock that nobody else has, until `unlock` or the end of the process. All hang on one connection."""
        with self._lock, self._as_ours():
            self._check_open()
            if name in self._locked or not _try_lock(self._lock_connection(), name):
                return False
            self._locked.add(name)
            return True

    def holder(self, name: str) -> tuple[int, int, int] | None:
        """Where `pg_locks` shows a lock of ours: its ``pid``, ``classid`` and ``objid``; None: we have not taken it.

        Raises:
            StoreLocked: We had, and it is lost.
        """
        with self._lock:
            if name not in self._locked:
                return None
            self._check_kept(name)
            return self._locks.info.backend_pid if self._locks else 0, *divmod(_key(name) % 2**64, 2**32)

    def keep(self, name: str) -> None:
        """After `pg_locks` did not show a lock of ours: take it again.

        Raises:
            StoreLocked: Another process was faster.
        """
        with self._lock, self._as_ours():
            self._check_open()
            self._lock_connection()
            self._check_kept(name)

    def unlock(self, name: str) -> None:
        """Give a lock back."""
        with self._lock:
            self._locked.discard(name)
            if name in self._lost:
                self._lost.discard(name)
            elif self._locks is not None:
                with suppress(self._psycopg.Error):  # then the connection is gone, and the lock with it
                    self._locks.execute("SELECT pg_advisory_unlock(%s)", (_key(name),))

    def close(self) -> None:
        """Close all connections. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            for connection in (*self._idle, *([self._locks] if self._locks else [])):
                connection.close()
            self._idle.clear()
            self._locks = None

    def _lock_connection(self) -> psycopg.Connection[Any]:
        """The connection of the locks. A new one takes them again; those that others have meanwhile are lost."""
        if self._locks is None or not self._alive(self._locks):
            self._locks = None
            connection = self._connect()
            self._lost |= {name for name in self._locked - self._lost if not _try_lock(connection, name)}
            self._locks = connection
        return self._locks

    def _check_kept(self, name: str) -> None:
        if name in self._lost:
            raise StoreLocked(
                f"the connection to {self._where} broke in the middle of a turn, and another process has begun a turn"
                " of the same session; read the session again"
            )

    def _take(self, *, fresh: bool) -> psycopg.Connection[Any]:
        with self._lock:
            self._check_open()
            if fresh:  # what broke one connection has most likely broken all
                for idle in self._idle:
                    idle.close()
                self._idle.clear()
            elif self._idle:
                return self._idle.pop()
        return self._connect()

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        with suppress(self._psycopg.Error):
            if not connection.broken:
                connection.rollback()  # nothing to do after a commit
        with self._lock:
            if self._closed or connection.broken or connection.closed:
                connection.close()
            else:
                self._idle.append(connection)

    def _connect(self) -> psycopg.Connection[Any]:
        connection = self._psycopg.connect(self._url, autocommit=True, **self._settings)
        connection.execute(
            f"SET lock_timeout = '{WAIT_SECONDS}s'; SET statement_timeout = '{_STATEMENT_SECONDS}s';"
            " SET client_encoding = 'UTF8'"
        )
        return connection

    def _alive(self, connection: psycopg.Connection[Any]) -> bool:
        try:
            connection.execute("SELECT 1")
        except self._psycopg.Error:
            connection.close()
            return False
        return True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the journal is closed; open the session again")

    @contextmanager
    def _as_ours(self) -> Iterator[None]:
        """Errors of psycopg as ours, in one line and without secrets."""
        try:
            yield
        except self._psycopg.Error as error:
            reason = " ".join((error.diag.message_primary or str(error) or type(error).__name__).split())
            for secret in self._secrets:
                reason = reason.replace(secret, "***")
            if isinstance(error, self._psycopg.errors.LockNotAvailable):
                raise StoreLocked(
                    f"another process has kept {self._where} locked for {WAIT_SECONDS} s; end it or try again"
                ) from error
            raise StoreError(
                f"{self._where} cannot be used ({reason}); check that it runs and what you may do there"
            ) from error


def _try_lock(connection: psycopg.Connection[Any], name: str) -> bool:
    return connection.execute("SELECT pg_try_advisory_lock(%s)", (_key(name),)).fetchone() == (True,)


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
