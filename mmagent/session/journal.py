"""The journal: append-only lists of entries, one for each session. A port: it knows no message, model, tool or disk.

`memory`, `sqlite` and `postgres` implement it; ``tests/contract/test_journal.py`` says what all of them promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Draft:
    """An entry that is not written yet."""

    kind: str
    """What `data` is; the kinds are in `replay`."""
    data: Mapping[str, Any]
    """JSON. It belongs to the journal from then on: do not change it."""


@dataclass(frozen=True)
class Entry:
    """One thing that happened in a session."""

    seq: int
    """Counts from 1 without gaps; the order of a session is this order."""
    kind: str
    data: Mapping[str, Any]
    created: str = field(default="", compare=False)
    """When, in UTC; for people only."""


@dataclass(frozen=True)
class SessionInfo:
    """What a list of sessions shows."""

    id: str
    """Stays through renames. Opaque: letters and digits."""
    name: str
    """Unique within the journal."""
    parent: str | None
    """The id of the session whose agent asked the one of this session; None where people talk."""
    entries: int
    created: str
    """When it began, in UTC; for people only."""
    updated: str
    """When it was written to last, in UTC; for people only."""


@dataclass(frozen=True)
class Found:
    """A place where a search found its words."""

    session: SessionInfo
    seq: int
    excerpt: str
    """The words and what stands around them, as plain text of one line."""


class Journal(Protocol):
    """Where sessions are kept. Many threads and processes may use one at once.

    Every method raises `StoreError` where the store cannot be read or written, `StoreLocked` where another process
    kept it locked, and then has changed nothing.
    """

    quick: bool
    """Whether an append without ``flush`` takes far less than a millisecond, so that an event loop may wait for it."""

    def create(self, name: str, *, parent: str | None = None) -> str:
        """Begin a session and return its id. The end of the process cannot lose it.

        Args:
            name: Not taken yet; any text.
            parent: The id of the session whose agent asks.

        Raises:
            InputError: There is a session of that name.
        """

    def append(self, session: str, drafts: Sequence[Draft], *, flush: bool = True) -> int:
        """Add entries, all of them or none, and return the number of the last.

        When this returns, the end of the process cannot lose them; with ``flush``, neither can a power cut, nor can it
        lose what was written before.

        Raises:
            NotFound: There is no such session (any more).
        """

    def read(self, session: str, after: int = 0, until: int | None = None) -> Sequence[Entry]:
        """The entries whose number is greater than ``after`` and at most ``until``, in order; none of no session."""

    def latest(self, session: str, kind: str) -> Entry | None:
        """The last entry of a kind."""

    def find(self, name: str) -> SessionInfo | None:
        """The session of that name."""

    def sessions(self, *, parent: str | None = None) -> Sequence[SessionInfo]:
        """The sessions with this parent, the one used last first."""

    def rename(self, session: str, name: str) -> None:
        """Give a session another name.

        Raises:
            InputError: There is a session of that name.
            NotFound: There is no such session.
        """

    def fork(self, session: str, name: str, until: int | None = None) -> str:
        """Copy a session, without parent and children, and return the copy's id. Media are hashes, so this is cheap.

        Args:
            session: Its id.
            name: The copy's name, not taken yet.
            until: The last entry to copy; None: all.

        Raises:
            InputError: There is a session of that name.
            NotFound: There is no such session.
        """

    def search(self, words: str, limit: int = 20) -> Sequence[Found]:
        """Where the words stand in what users, models and tools said, best first. Any text is a valid query.

        Args:
            words: All of them must stand in one entry; the last may be the beginning of a word.
            limit: Places at most.
        """

    def delete(self, session: str) -> None:
        """Forget a session and the sessions of its agents. Nothing happens where there is none."""

    def media(self) -> frozenset[str]:
        """The ``sha256:…`` ids of all media that any session refers to."""

    def lease(self, session: str) -> AbstractContextManager[None] | None:
        """The right to a turn of the session, while the context lasts; None while anybody else has it.

        It ends with the process that has it, however that ends.
        """

    def close(self) -> None:
        """Let go of the files or connections. Closing twice is harmless."""
