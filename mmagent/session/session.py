"""A session: one conversation with a name, read from and written to a journal. It knows no model and runs no tool."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mmagent.content import Message, ToolCallBlock
from mmagent.errors import InputError
from mmagent.session.journal import Entry, Journal, SqliteJournal
from mmagent.session.replay import MESSAGE, TOOL_INTENT, replay

_NAME = re.compile(r"\w[\w.-]{0,63}")
_WAIT_SECONDS = 0.01


class Session:
    """One conversation. What `append` returned from is kept, whatever happens to the process.

    Args:
        name: Up to 64 letters, digits, ``.``, ``_`` and ``-``.
        journal: Where it is kept.
        saved: Whether it outlives the process.

    Raises:
        InputError: The name cannot be used.
    """

    def __init__(self, name: str, journal: Journal, *, saved: bool = True) -> None:
        if not _NAME.fullmatch(name):
            raise InputError(f"a session cannot be called {name!r}; use up to 64 letters, digits, '.', '_' and '-'")
        self.name = name
        self.journal = journal
        self.saved = saved
        self._entries: list[Entry] = []
        self._reading = threading.Lock()
        self._waiting: deque[object] = deque()

    @classmethod
    def open(cls, name: str, path: str | Path | None = None) -> Session:
        """The session of that name, new or continued.

        Args:
            name: Its name.
            path: The journal's file; None: the one of this user, ``paths.sessions_path()``.

        Raises:
            InputError: The name cannot be used.
            StoreError: The journal cannot be read.
        """
        return cls(name, SqliteJournal(_journal_path(path)))

    @classmethod
    def memory(cls) -> Session:
        """A session that ends with the process."""
        return cls("unsaved", SqliteJournal(), saved=False)

    @staticmethod
    def names(path: str | Path | None = None) -> list[str]:
        """The names of all saved sessions, the one used last first.

        Args:
            path: The journal's file; None: the one of this user.

        Raises:
            StoreError: The journal cannot be read.
        """
        file = _journal_path(path)
        if not file.exists():
            return []
        journal = SqliteJournal(file)
        try:
            return list(journal.sessions())
        finally:
            journal.close()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far; every tool call in it has an outcome.

        Raises:
            StoreError: The journal cannot be read.
        """
        with self._reading:
            self._entries.extend(self.journal.read(self.name, self._entries[-1].seq if self._entries else 0))
            return replay(self._entries)

    def append(self, message: Message, *, interrupted: bool = False) -> None:
        """Add a message, durably.

        Args:
            message: The message.
            interrupted: Whether it is only the part that there was when the turn was stopped.

        Raises:
            StoreError: It cannot be written; the session is as it was.
        """
        data: dict[str, Any] = {"message": message.model_dump(mode="json", exclude_none=True)}
        self.journal.append(self.name, MESSAGE, data | ({"interrupted": True} if interrupted else {}))

    def intend(self, call: ToolCallBlock, effect: str) -> None:
        """Note that a tool is about to run, durably. Its outcome is the tool message that answers the call.

        Raises:
            StoreError: It cannot be written; do not run the tool.
        """
        self.journal.append(
            self.name, TOOL_INTENT, {"id": call["id"], "name": call["name"], "effect": effect, "args": call["args"]}
        )

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One turn at a time, first come, first served, also between threads and event loops."""
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._waiting[0] is not ticket:
                await asyncio.sleep(_WAIT_SECONDS)
            yield
        finally:
            self._waiting.remove(ticket)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()


def _journal_path(path: str | Path | None) -> Path:
    if path is not None:
        return Path(path)
    from mmagent.paths import sessions_path

    return sessions_path()
