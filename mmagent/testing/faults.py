"""Faults to order: stores that fail, models that stall or break off, tools that fail. Each wraps a port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mmagent.chat.protocol import ChatModel, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall
from mmagent.errors import ModelError, StoreError, ToolError
from mmagent.session.journal import Draft, Journal
from mmagent.testing.wrappers import ToolT, WrappedJournal, WrappedModel, around


class FaultyJournal(WrappedJournal):
    """A journal that cannot be written at one point, as when the disk is full.

    Args:
        journal: What keeps the entries.
        fail: Which append fails: its number, counting from 1, or the kind of an entry in it.
        after: Whether it fails after the entries were written rather than before: they are there, and nobody knows.
        error: What is raised; None: a `StoreError` of a full disk.
        times: How many appends fail, from that one on.
    """

    def __init__(
        self,
        journal: Journal,
        fail: int | str,
        *,
        after: bool = False,
        error: Exception | None = None,
        times: int = 1,
    ) -> None:
        super().__init__(journal)
        self.fail, self.after, self.times = fail, after, times
        self.error = error or StoreError("the journal cannot be written: the disk is full; free some space")
        self.appends = 0
        """How often something was appended, or tried to be."""
        self.failed = 0
        """How often that failed."""

    def append(self, session: str, drafts: Sequence[Draft], *, flush: bool = True) -> int:
        """See `Journal.append`."""
        self.appends += 1
        due = any(one.kind == self.fail for one in drafts) if isinstance(self.fail, str) else self.appends >= self.fail
        if not due or self.failed >= self.times:
            return super().append(session, drafts, flush=flush)
        self.failed += 1
        if self.after:
            super().append(session, drafts, flush=flush)
        raise self.error


class SlowModel(WrappedModel):
    """A model that takes its time before each piece of its answer.

    Args:
        model: What answers.
        seconds: Before each piece.
    """

    def __init__(self, model: ChatModel, seconds: float = 0.05) -> None:
        super().__init__(model)
        self.seconds = seconds

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See `ChatModel.stream`."""
        async with aclosing(super().stream(request)) as events:
            async for event in events:
                await asyncio.sleep(self.seconds)
                yield event


class FailingModel(WrappedModel):
    """A model whose connection breaks in the middle of an answer.

    Args:
        model: What answers.
        after_tokens: Pieces of the answer that arrive before.
        error: What is raised; None: a `ModelError`.
        times: How many answers break; after these it works.
    """

    def __init__(
        self, model: ChatModel, after_tokens: int = 0, *, error: Exception | None = None, times: int = 1
    ) -> None:
        super().__init__(model)
        self.after_tokens, self.times = after_tokens, times
        self.error = error or ModelError("the connection to the model was lost; try again")
        self.failed = 0
        """How many answers broke."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See `ChatModel.stream`."""
        fails, said = self.failed < self.times, 0
        async with aclosing(super().stream(request)) as events:
            async for event in events:
                if fails and (said >= self.after_tokens or isinstance(event, ModelDone)):
                    self.failed += 1
                    raise self.error
                said += isinstance(event, ModelText | ModelToolCall)
                yield event


def flaky(tool: ToolT, failures: int = 1, error: Exception | None = None) -> ToolT:
    """A tool that fails before it does anything, and later works.

    Args:
        tool: What it does when it works.
        failures: How many calls fail first.
        error: What is raised; None: a `ToolError`.
    """
    left, lock = [failures], threading.Lock()

    def fail() -> None:
        with lock:
            left[0] -= 1
            if left[0] >= 0:
                raise error or ToolError("the service is not available; try again")

    return around(tool, before=fail)
