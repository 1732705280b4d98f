"""A session: one conversation with a name, read from and written to a journal. It knows no model and runs no tool."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from mmagent.content import Message
from mmagent.errors import ConfigurationError, InputError, NotFound, StoreLocked
from mmagent.session.journal import Draft, Entry, Journal
from mmagent.session.memory import MemoryJournal
from mmagent.session.replay import COPIED, REWOUND, Said, State, draft, replay

_NAME = re.compile(r"\w[\w.-]{0,63}")
T = TypeVar("T")
_WAIT_SECONDS = 0.01
_SLOW_FLUSH_SECONDS = 0.002
LEASE_SECONDS = 5.0
"""How long a turn waits for another process to end its own."""


class Session:
    """One conversation. What was written is kept, whatever happens to the process.

    Args:
        name: Up to 64 letters, digits, ``.``, ``_`` and ``-``.
        journal: Where it is kept.
        saved: Whether it outlives the process.

    Raises:
        InputError: The name cannot be used.
        StoreError: The journal cannot be read.
    """

    def __init__(self, name: str, journal: Journal, *, saved: bool = True) -> None:
        _check(name)
        self._begin(name, journal, saved, None)

    def _begin(self, name: str, journal: Journal, saved: bool, parent: str | None) -> None:
        self.name, self.journal, self.saved, self._parent = name, journal, saved, parent
        self.id: str | None = None
        """What it is called in the journal, through renames; None before the first entry."""
        self._state = State()
        self._lock = threading.RLock()
        self._waiting: deque[object] = deque()
        self._slow_flush = False
        self._found()

    @classmethod
    def open(cls, name: str, path: str | Path | None = None) -> Session:
        """The session of that name, new or continued.

        Args:
            name: Its name.
            path: The journal: a file, or the address of a PostgreSQL database (``postgresql://…``); None: the
                setting ``sessions``, else the file of this user, ``paths.sessions_path()``.

        Raises:
            InputError: The name cannot be used.
            StoreError: The journal cannot be read.
        """
        _check(name)
        return cls(name, open_journal(path))

    @classmethod
    def memory(cls) -> Session:
        """A session that ends with the process."""
        return cls("unsaved", MemoryJournal(), saved=False)

    @staticmethod
    def names(path: str | Path | None = None) -> list[str]:
        """The names of all saved sessions, the one used last first.

        Args:
            path: The journal, as for `open`.

        Raises:
            StoreError: The journal cannot be read.
        """
        if not journal_exists(path):
            return []
        journal = open_journal(path)
        try:
            return [info.name for info in journal.sessions()]
        finally:
            journal.close()

    def child(self, call_id: str) -> Session:
        """The session of an agent that a call in this one asks; it has the same journal."""
        session = Session.__new__(Session)
        session._begin(f"{self._made()}/{call_id}", self.journal, self.saved, self.id)
        return session

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation; every tool call in it has an outcome.

        Raises:
            StoreError: The journal cannot be read.
        """
        session = self._found()
        return replay(self.journal.read(session), whole=True).all_messages() if session else ()

    @property
    def state(self) -> State:
        """What the journal's entries come to, as of the last reading or writing. Do not change it."""
        return self._state

    def refresh(self) -> State:
        """`state`, after reading what others have written meanwhile.

        Raises:
            StoreError: The journal cannot be read.
        """
        with self._lock:
            if session := self._found():
                new = self.journal.read(session, self._state.last_seq)
                if any(entry.kind == REWOUND for entry in new):
                    version = self._state.version
                    self._state = replay(self.journal.read(session))
                    self._state.version += version + 1
                else:
                    for entry in new:
                        self._state.apply(entry)
            return self._state

    def append(self, message: Message, *, interrupted: bool = False) -> None:
        """Add a message, durably.

        Args:
            message: The message.
            interrupted: Whether it is only the part that there was when the turn was stopped.

        Raises:
            StoreError: It cannot be written; the session is as it was.
        """
        self.write(draft(message, interrupted=interrupted))

    def write(self, *drafts: Draft, flush: bool = True) -> None:
        """Add entries, all of them or none.

        Args:
            drafts: What to add.
            flush: Whether a power cut cannot lose it either; the end of the process never can.

        Raises:
            StoreError: They cannot be written; the session is as it was.
        """
        with self._lock:
            started = time.perf_counter()
            last = self.journal.append(self._made(), drafts, flush=flush)
            if flush:
                self._slow_flush = time.perf_counter() - started > _SLOW_FLUSH_SECONDS
            first = last - len(drafts) + 1
            if first != self._state.last_seq + 1 or any(one.kind == REWOUND for one in drafts):
                self.refresh()
                return
            for seq, one in enumerate(drafts, start=first):
                self._state.apply(Entry(seq, one.kind, one.data), one.message if isinstance(one, Said) else None)

    async def record(self, *drafts: Draft, flush: bool = False) -> None:
        """`write` for an event loop. A thread waits for a slow disk or server; a fast disk is faster than a thread."""
        if not self.journal.quick or (flush and self._slow_flush):
            await _to_the_end(lambda: self.write(*drafts, flush=flush))
        else:
            self.write(*drafts, flush=flush)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[State]:
        """One turn at a time: first come, first served in this process, and never beside one of another process.

        Raises:
            StoreLocked: Another process is in a turn of this session and does not end it.
            StoreError: The journal cannot be read.
        """
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._waiting[0] is not ticket:
                await asyncio.sleep(_WAIT_SECONDS)
            lease = await self._leased(LEASE_SECONDS)
            await self._soon(lease.__enter__)
            try:
                yield await self._soon(self.refresh)
            finally:
                await self._soon(lambda: lease.__exit__(None, None, None))
        finally:
            self._waiting.remove(ticket)

    def fork(self, name: str | None = None, *, turns: int | None = None) -> Session:
        """A copy that goes its own way. Approvals are not copied: they are bound to this session.

        Args:
            name: Its name; None: this one's with a number.
            turns: How many turns to copy, from the first; None: all.

        Raises:
            InputError: The name cannot be used, or is taken, or there are not so many turns.
            NotFound: There is nothing to copy yet.
            StoreError: It cannot be written.
        """
        state = self.refresh()
        if self.id is None:
            raise NotFound(f"the session {self.name} has no entries yet, so there is nothing to copy")
        if name is None:
            taken = {info.name for info in self.journal.sessions()}
            stem = self.name[:56]
            name = next(one for number in range(2, len(taken) + 3) if (one := f"{stem}-{number}") not in taken)
        _check(name)
        if turns is not None and not 0 <= turns <= len(state.questions):
            raise InputError(f"the session {self.name} has {len(state.questions)} turns; {turns} cannot be copied")
        until = None if turns is None or turns == len(state.questions) else state.questions[turns] - 1
        self.journal.fork(self.id, name, until)
        fork = Session(name, self.journal, saved=self.saved)
        fork.write(Draft(COPIED, {"imported": False}))
        return fork

    def rewind(self, turns: int = 1) -> Message:
        """Take back the last turns; they stay in the journal and count no more. What tools did stays done.

        Args:
            turns: How many.

        Returns:
            The question that began the first of them.

        Raises:
            InputError: There are not so many.
            StoreLocked: The session is in a turn.
            StoreError: It cannot be written.
        """
        with self._alone():
            questions = self.refresh().questions
            if not 1 <= turns <= len(questions):
                raise InputError(f"the session {self.name} has {len(questions)} turns; {turns} cannot be taken back")
            assert self.id is not None
            first = questions[-turns]
            (entry,) = self.journal.read(self.id, first - 1, first)
            self.write(Draft(REWOUND, {"to": first - 1}))
        return Message.model_validate(entry.data["message"])

    def rename(self, name: str) -> None:
        """Give it another name.

        Raises:
            InputError: The name cannot be used, or is taken.
            StoreLocked: The session is in a turn.
        """
        _check(name)
        with self._alone():
            if self.id is not None:
                self.journal.rename(self.id, name)
            elif self.journal.find(name) is not None:
                raise InputError(f"there is a session called {name!r} already; take another name")
            self.name = name

    def delete(self) -> None:
        """Forget it, and what its agents said. Media stay until they are collected.

        Raises:
            StoreLocked: The session is in a turn.
        """
        with self._alone():
            if self.id is not None:
                self.journal.delete(self.id)
            self.id, self._state = None, State(version=self._state.version + 1)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()

    def _found(self) -> str | None:
        """The session's id in the journal, where it has a place."""
        if self.id is None and (found := self.journal.find(self.name)):
            self.id = found.id
        return self.id

    def _made(self) -> str:
        """The session's id in the journal, where it has a place from now on."""
        with self._lock:
            if (session := self._found()) is not None:
                return session
            try:
                self.id = self.journal.create(self.name, parent=self._parent)
            except InputError:  # another process was faster
                if self._found() is None:
                    raise
            assert self.id is not None
            return self.id

    async def _leased(self, seconds: float) -> AbstractContextManager[None]:
        session = await self._soon(self._made)
        waited = 0.0
        while (lease := await self._lease(session)) is None:
            if waited >= seconds:
                raise self._in_turn()
            await asyncio.sleep(_WAIT_SECONDS)
            waited += _WAIT_SECONDS
        return lease

    async def _lease(self, session: str) -> AbstractContextManager[None] | None:
        if self.journal.quick:
            return self.journal.lease(session)
        asking = asyncio.ensure_future(asyncio.to_thread(self.journal.lease, session))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:  # it may be given all the same
            await asyncio.wait({asking})
            if not asking.exception() and (lease := asking.result()) is not None:
                with lease:
                    pass
            raise

    async def _soon(self, work: Callable[[], T]) -> T:
        """What a journal says; a thread waits for one that may take its time."""
        return work() if self.journal.quick else await asyncio.to_thread(work)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._found() is None:
            yield
            return
        assert self.id is not None
        if self._waiting or (lease := self.journal.lease(self.id)) is None:
            raise self._in_turn()
        with lease:
            yield

    def _in_turn(self) -> StoreLocked:
        return StoreLocked(
            f"the session {self.name} is in the middle of a turn, maybe in another process; wait for its end or take a"
            f" copy: mmagent sessions fork {self.name}"
        )


def open_journal(path: str | Path | None = None) -> Journal:
    """The journal of a file or an address, as `Session.open` takes them.

    Raises:
        StoreError: It cannot be opened.
        MissingExtra: PostgreSQL needs the extra ``postgres``.
    """
    place = _place(path)
    if isinstance(place, Path):
        from mmagent.session.sqlite import SqliteJournal

        return SqliteJournal(place)
    from mmagent.session.postgres import PostgresJournal

    return PostgresJournal(place)


def journal_exists(path: str | Path | None = None) -> bool:
    """Whether there is a journal to open; `open_journal` would make one."""
    place = _place(path)
    return place.exists() if isinstance(place, Path) else True


def _place(path: str | Path | None) -> str | Path:
    from mmagent.paths import sessions_path
    from mmagent.settings import settings

    place = path or settings().sessions or sessions_path()
    if isinstance(place, Path) or "://" not in place:
        return Path(place)
    if not place.startswith(("postgres://", "postgresql://")):
        scheme = place.partition("://")[0]
        raise ConfigurationError(f"sessions cannot be kept at {scheme}://; give a file or a postgresql:// address")
    return place


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"a session cannot be called {name!r}; use up to 64 letters, digits, '.', '_' and '-'")


async def _to_the_end(work: Callable[[], None]) -> None:
    """Do what may wait for a disk in a thread. Cancelling waits until it is done: nothing goes on behind one's back."""
    thread = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        while not thread.done():
            with suppress(asyncio.CancelledError):  # a second time changes nothing
                await asyncio.wait({thread})
        raise
