"""The end of a process at a named step of a turn. It wraps ports; the code under test has no hooks for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Literal, TypeAlias, get_args

from mmagent.chat.protocol import ChatModel, ModelDone, ModelEvent, ModelRequest
from mmagent.session.journal import Draft, Journal
from mmagent.testing.wrappers import ToolT, WrappedJournal, WrappedModel, around

KillStep: TypeAlias = Literal["admit", "model", "intent", "effect", "outcome", "answer"]
"""The steps of a turn: the question is journaled, the model answers, a tool's intent is journaled, it takes effect, its
outcome is journaled, the answer is journaled."""


class KillAt:
    """Ends the own process at a step of a turn, as ``kill -9`` does. For tests that start a process to lose it.

    Wrap the journal, the model and the tools that the agent is made of; one turn is then cut exactly there.

    Args:
        step: Which step.
        after: Whether it dies after the step rather than before it.
        nth: At which occurrence of the step, counting from 1.
        kill: What ends the process.
    """

    def __init__(
        self, step: KillStep, *, after: bool = False, nth: int = 1, kill: Callable[[], object] | None = None
    ) -> None:
        if step not in get_args(KillStep):
            raise ValueError(f"there is no step {step!r}; there are: {', '.join(get_args(KillStep))}")
        self.step, self.after = step, after
        self._left, self._lock = nth, threading.Lock()
        self._kill = kill or (lambda: os.kill(os.getpid(), signal.SIGKILL))

    def journal(self, journal: Journal) -> Journal:
        """The journal, for the steps ``admit``, ``intent``, ``outcome`` and ``answer``."""
        return _DeadlyJournal(journal, self)

    def model(self, model: ChatModel) -> ChatModel:
        """The model, for the step ``model``."""
        return _DeadlyModel(model, self)

    def tool(self, tool: ToolT) -> ToolT:
        """A tool, for the step ``effect``."""
        return around(
            tool, before=lambda: self.reached("effect", after=False), after=lambda: self.reached("effect", after=True)
        )

    def reached(self, step: KillStep, *, after: bool) -> None:
        """Dies if this is the moment."""
        if step != self.step or after != self.after:
            return
        with self._lock:
            self._left -= 1
            due = self._left == 0
        if due:
            self._kill()


class _DeadlyJournal(WrappedJournal):
    def __init__(self, journal: Journal, kill: KillAt) -> None:
        super().__init__(journal)
        self.kill = kill

    def append(self, session: str, drafts: Sequence[Draft], *, flush: bool = True) -> int:
        steps = [step for one in drafts if (step := _step_of(one))]
        for step in steps:
            self.kill.reached(step, after=False)
        last = super().append(session, drafts, flush=flush)
        for step in steps:
            self.kill.reached(step, after=True)
        return last


class _DeadlyModel(WrappedModel):
    def __init__(self, model: ChatModel, kill: KillAt) -> None:
        super().__init__(model)
        self.kill = kill

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.kill.reached("model", after=False)
        async with aclosing(super().stream(request)) as events:
            async for event in events:
                if isinstance(event, ModelDone):
                    self.kill.reached("model", after=True)
                yield event


def _step_of(one: Draft) -> KillStep | None:
    """Which step the entry is."""
    if one.kind == "intent":
        return "intent"
    if one.kind != "message" or one.data.get("interrupted"):
        return None
    message = one.data["message"]
    if message["role"] == "user":
        return "admit"
    if message["role"] == "tool":
        return "outcome"
    calls = any(block["type"] == "tool_call" for block in message["content"])
    return "answer" if message["role"] == "assistant" and not calls else None
