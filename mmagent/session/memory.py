"""A journal that ends with the process. It knows nothing of disks; it is what tests and unsaved sessions use."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from mmagent.errors import InputError, NotFound, StoreError
from mmagent.session import contents
from mmagent.session.journal import Draft, Entry, Found, SessionInfo


@dataclass
class _Session:
    id: str
    name: str
    parent: str | None
    created: str
    updated: str
    used: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def info(self) -> SessionInfo:
        return SessionInfo(self.id, self.name, self.parent, len(self.entries), self.created, self.updated)


class MemoryJournal:
    """A journal of plain lists. See `Journal` for what its methods do.

    What is appended is kept as it is, not copied: do not change it afterwards.
    """

    quick = True

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sessions: dict[str, _Session] | None = {}
        self._leased: set[str] = set()
        self._clock = count()

    def create(self, name: str, *, parent: str | None = None) -> str:
        """See `Journal.create`."""
        contents.check_name(name)
        with self._lock:
            sessions = self._open()
            self._check_free(name)
            if parent is not None and parent not in sessions:
                raise NotFound(f"there is no session {parent!r} to be the parent of {name!r}")
            id, now = secrets.token_hex(10), _now()
            sessions[id] = _Session(id, name, parent, now, now, next(self._clock))
            return id

    def append(self, session: str, drafts: Sequence[Draft], *, flush: bool = True) -> int:
        """See `Journal.append`."""
        with self._lock:
            kept = self._session(session)
            if drafts:
                now = _now()
                first = len(kept.entries) + 1
                kept.entries += [Entry(seq, one.kind, one.data, now) for seq, one in enumerate(drafts, first)]
                kept.updated, kept.used = now, next(self._clock)
            return len(kept.entries)

    def read(self, session: str, after: int = 0, until: int | None = None) -> list[Entry]:
        """See `Journal.read`."""
        with self._lock:
            kept = self._open().get(session)
            return kept.entries[max(after, 0) : None if until is None else max(until, 0)] if kept else []

    def latest(self, session: str, kind: str) -> Entry | None:
        """See `Journal.latest`."""
        return next((entry for entry in reversed(self.read(session)) if entry.kind == kind), None)

    def find(self, name: str) -> SessionInfo | None:
        """See `Journal.find`."""
        contents.check_name(name)
        with self._lock:
            return next((one.info for one in self._open().values() if one.name == name), None)

    def sessions(self, *, parent: str | None = None) -> list[SessionInfo]:
        """See `Journal.sessions`."""
        with self._lock:
            kept = [one for one in self._open().values() if one.parent == parent]
            return [one.info for one in sorted(kept, key=lambda one: one.used, reverse=True)]

    def rename(self, session: str, name: str) -> None:
        """See `Journal.rename`."""
        contents.check_name(name)
        with self._lock:
            kept = self._session(session)
            if kept.name != name:
                self._check_free(name)
                kept.name = name

    def fork(self, session: str, name: str, until: int | None = None) -> str:
        """See `Journal.fork`."""
        with self._lock:
            self._session(session)
            copy = self.create(name)
            self._open()[copy].entries = self.read(session, until=until)
            return copy

    def search(self, words: str, limit: int = 20) -> list[Found]:
        """See `Journal.search`; it looks through everything."""
        query = contents.wanted(words)
        with self._lock:
            latest = sorted(self._open().values(), key=lambda one: one.used, reverse=True)
            places = [(one.info, entry) for one in latest for entry in reversed(one.entries)]
        texts = ((info, entry.seq, contents.said(entry.kind, entry.data)) for info, entry in places)
        fitting = [place for place in texts if contents.fits(place[2], query)][: contents.CANDIDATES]
        fitting.sort(key=lambda place: contents.score(place[2], query), reverse=True)
        return [Found(info, seq, contents.excerpt(text, query)) for info, seq, text in fitting[: max(limit, 0)]]

    def delete(self, session: str) -> None:
        """See `Journal.delete`."""
        with self._lock:
            sessions = self._open()
            doomed = {session}
            while more := {one.id for one in sessions.values() if one.parent in doomed} - doomed:
                doomed |= more
            for id in doomed:
                sessions.pop(id, None)

    def media(self) -> frozenset[str]:
        """See `Journal.media`; it looks through everything."""
        with self._lock:
            entries = [entry for one in self._open().values() for entry in one.entries]
        return frozenset(file_id for entry in entries for file_id in contents.media(entry.data))

    def lease(self, session: str) -> AbstractContextManager[None] | None:
        """See `Journal.lease`."""
        with self._lock:
            self._open()
            if session in self._leased:
                return None
            self._leased.add(session)
        return self._leasing(session)

    def close(self) -> None:
        """See `Journal.close`. Everything is forgotten."""
        with self._lock:
            self._sessions = None

    @contextmanager
    def _leasing(self, session: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._leased.discard(session)

    def _open(self) -> dict[str, _Session]:
        if self._sessions is None:
            raise StoreError("the journal is closed; open the session again")
        return self._sessions

    def _session(self, id: str) -> _Session:
        kept = self._open().get(id)
        if kept is None:
            raise NotFound(f"there is no session with the id {id!r} (any more); open it again by its name")
        return kept

    def _check_free(self, name: str) -> None:
        if self.find(name) is not None:
            raise InputError(f"there is a session called {name!r} already; take another name")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
