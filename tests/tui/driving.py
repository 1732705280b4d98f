"""How tests use the terminal app: an agent that plays a script, keys, and the screen as text. It knows no widgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from mmagent.agent import Agent
from mmagent.chat.protocol import ChatModel
from mmagent.events import Event
from mmagent.testing import ScriptedModel
from mmagent.tui.app import ChatApp
from mmagent.tui.turns import Over

SIZE = (100, 30)
Made = Callable[..., Agent]


def maker(*steps: Any, model: ChatModel | None = None, **made: Any) -> Made:
    """What makes the app's agent.

    Args:
        steps: What its model answers.
        model: Another model.
        made: More for the agent, such as ``tools`` and ``policy``.
    """
    answers = model or ScriptedModel(steps or ("Yes.",) * 9)

    def make(*, session: Any, approve: Any, say: Any, **changes: Any) -> Agent:
        return Agent(**{"model": answers, "session": session, "approve": approve, **made, **changes})

    return make


@asynccontextmanager
async def running(app: ChatApp, size: tuple[int, int] = SIZE, *, loaded: bool = True) -> AsyncIterator[Pilot[None]]:
    """The app on a screen of that size; what goes wrong in it fails the test."""
    async with app.run_test(size=size, notifications=True) as pilot:
        if loaded:
            await until(lambda: app.agent is not None and not app.status.figures.working)
        yield pilot


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: It does not.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it has not come to it in {seconds:g} s"
        await asyncio.sleep(0.01)


def screen_text(app: ChatApp) -> str:
    """What is on the screen, without the spaces at the ends of lines."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line).rstrip() for line in lines)


async def shown(app: ChatApp, *words: str) -> None:
    """Wait until all of these are on the screen."""
    try:
        await until(lambda: all(word in screen_text(app) for word in words), 10)
    except AssertionError:
        missing = [word for word in words if word not in screen_text(app)]
        raise AssertionError(f"there is no {missing} on the screen:\n{screen_text(app)}") from None


async def send(app: ChatApp, pilot: Pilot[None], text: str) -> None:
    """Write a message and press Enter."""
    app.composer.lines.focus()
    app.composer.write(text)
    await pilot.pause()
    app.composer._offer([])
    await pilot.press("enter")


async def asked(app: ChatApp, pilot: Pilot[None], text: str) -> None:
    """Ask, and wait for the end of the turn."""
    before = app.story.turns
    await send(app, pilot, text)
    await until(lambda: app.story.turns > before and idle(app))


def idle(app: ChatApp) -> bool:
    """Whether no turn goes on, and none waits."""
    return not app.turns.running and not app.queue and not app.status.figures.working


async def happen(app: ChatApp, events: Sequence[Event | Over]) -> None:
    """Show events, as if they had come from an agent."""
    app.turns._box.extend((app.turns._number, event) for event in events)
    await app.flush()


def notes(app: ChatApp) -> str:
    """All that was said beside the conversation."""
    return "\n".join(item.text for item in app.story.items if type(item).__name__ == "Note")


def answers(app: ChatApp) -> list[str]:
    """What the model wrote."""
    return [item.text for item in app.story.items if type(item).__name__ == "Answer"]
