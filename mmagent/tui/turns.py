"""One turn after the other, beside the screen: what happens in them is laid into a box that the screen empties.

It knows the agent and the background, no widgets.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmagent.errors import MMAgentError
from mmagent.tui.approval import Always, always
from mmagent.tui.background import Background

if TYPE_CHECKING:
    from mmagent.agent import Agent
    from mmagent.content import Media
    from mmagent.events import ApprovalRequested, Event

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Over:
    """The turn is over."""

    error: str | None = None
    """What went wrong, where no event has said it."""
    first: float | None = None
    """Seconds to the first piece of text."""
    writing: float = 0.0
    """Seconds in which the model was asked: without those of tools and approvals."""


Decide = Callable[[str], None]


class Turns:
    """Asks the agent and collects what happens.

    Args:
        background: Where the agent runs.
        wake: Called from there when there is something in the box, and told whether that is the end of the turn.
        ask: Called from there where a call needs an approval; is given how to answer, which any thread may do.
    """

    def __init__(
        self,
        background: Background,
        wake: Callable[[bool], None],
        ask: Callable[[ApprovalRequested, Decide], None],
    ) -> None:
        self._background, self._wake, self._ask = background, wake, ask
        self.always: list[Always] = []
        """Calls that need not be asked about."""
        self._box: deque[tuple[int, Event | Over]] = deque()
        self._number = 0
        self._future: Future[None] | None = None
        self._playing: set[asyncio.Task[None]] = set()
        """Turns that have not ended yet, stopped ones too; the background's own."""

    @property
    def running(self) -> bool:
        """Whether a turn goes on."""
        return self._future is not None

    def begin(self, agent: Agent, content: Sequence[str | Media], *, resume: bool = False) -> None:
        """Ask."""
        self._number += 1
        self._future = self._background.submit(self._play(agent, content, resume, self._number))

    def stop(self) -> None:
        """Stop the turn: nothing that it still does is told."""
        if self._future is not None:
            self._future.cancel()
            self._future = None
            self._number += 1

    async def stopped(self, seconds: float = 5.0) -> None:
        """Wait until no turn writes to its conversation any more."""
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(self._background.submit(self._quiet())), seconds)

    async def _quiet(self) -> None:
        if self._playing:
            await asyncio.wait(self._playing)

    def take(self) -> list[Event | Over]:
        """What has happened since the last time; after `Over`, another turn may begin."""
        taken: list[Event | Over] = []
        while self._box:
            number, one = self._box.popleft()
            if number == self._number:
                taken.append(one)
                if isinstance(one, Over):
                    self._future = None
        return taken

    async def approve(self, request: ApprovalRequested) -> bool | str:
        """Whether a call may run; the agent asks this in the background's loop."""
        if any(one.covers(request) for one in self.always):
            return True
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def decide(how: str) -> None:
            loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(how))

        self._ask(request, decide)
        how = await answer
        if how == "always":
            self.always.append(always(request))
        return True if how in ("once", "always") else "the user said no"

    async def _play(self, agent: Agent, content: Sequence[str | Media], resume: bool, number: int) -> None:
        from mmagent.events import StepStarted, TextDelta, ToolCalled, TurnFailed, TurnFinished

        task = asyncio.current_task()
        assert task is not None
        self._playing.add(task)
        task.add_done_callback(self._playing.discard)
        began, first, failed = time.monotonic(), None, False
        writing = 0.0
        asked: float | None = None
        error: str | None = None
        try:
            async with aclosing(agent.stream(*content, resume=resume)) as events:
                async for event in events:
                    now = time.monotonic()
                    if first is None and isinstance(event, TextDelta):
                        first = now - began
                    if isinstance(event, StepStarted):
                        asked = now
                    elif asked is not None and isinstance(event, ToolCalled | TurnFinished):
                        writing += now - asked
                        asked = None
                    failed = failed or isinstance(event, TurnFailed)
                    self._put(number, event)
        except MMAgentError as wrong:
            error = None if failed else str(wrong)
        except (asyncio.CancelledError, CancelledError):
            raise
        except Exception as bug:
            error = told_of(bug)
        self._put(number, Over(error, first, writing))

    def _put(self, number: int, one: Event | Over) -> None:
        self._box.append((number, one))
        self._wake(isinstance(one, Over))


def told_of(bug: BaseException) -> str:
    """One line about an error that nobody foresaw; the log has its traceback, without secrets."""
    from mmagent.redact import redact, redact_error

    log.error("unexpected\n%s", redact_error(bug))
    return (
        f"unexpected {type(bug).__name__}: {redact(bug)}; the conversation is kept; MMAGENT_DEBUG=1 shows the traceback"
    )
