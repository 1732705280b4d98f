"""What a model was asked once, it is asked again first: caches of prefixes live on that.

Every request begins with the whole of the one before it, unless an event said that pictures or turns were shortened.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from pydantic import BaseModel

from mmagent.agent import Agent, tool
from mmagent.chat.protocol import Capabilities, ModelRequest, Sampling
from mmagent.content import Image
from mmagent.errors import ModelError
from mmagent.events import Event, HistoryCompacted, PictureReduced, StepStarted, TurnFailed
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.testing import ScriptedModel, call

COLORS = ("red", "green", "blue", "white", "black", "pink", "gray", "cyan")
LONG = "and there is much more to say about that " * 6


class Age(BaseModel):
    years: int


def draw(color: str) -> Image:
    """Draw a picture."""
    return picture(color)


async def wait(order: int) -> str:
    """Wait a little, longer for smaller numbers, so that results come in the other order."""
    for _ in range(20 - order):
        await asyncio.sleep(0)
    return f"order {order} is there"


def fail(order: int) -> str:
    """Fail."""
    raise RuntimeError(f"no order {order}")


TOOLS = [tool(effect="read")(one) for one in (draw, wait, fail)]


def picture(color: str) -> Image:
    return Image(PIL.Image.new("RGB", (512, 512), color))


class Sees(ScriptedModel):
    """A picture of 32 x 32 pixels is one token."""

    def count_tokens(self, request: ModelRequest) -> int:
        sizes = [block["extras"] for message in request.messages for block in message.media]
        return super().count_tokens(request) + sum(size["width"] * size["height"] // 1024 for size in sizes)


def serialized(request: ModelRequest) -> str:
    """System, tools and messages, block by block, as a template would go through them."""
    tools = [[spec.name, spec.description, spec.parameters] for spec in request.tools]
    lines = [json.dumps([tools, request.messages[0].model_dump()])]
    for message in request.messages[1:]:
        head = [message.role, message.tool_call_id, message.name]
        lines += [json.dumps([*head, block], sort_keys=True) for block in message.content]
    return "\n".join(lines) + "\n"


class Watch:
    """Compares each request of a model with the one before it."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model, self.last, self.moved = model, "", 0

    async def turn(self, agent: Agent, *content: Any, **options: Any) -> None:
        before = len(self.model.requests)
        events: list[Event] = []
        try:
            async for event in agent.stream(*content, **options):
                events.append(event)
        except ModelError:
            assert isinstance(events[-1], TurnFailed)
        told: list[bool] = []
        """Of each step, whether an event said that something was shortened."""
        for event in events:
            if isinstance(event, StepStarted):
                told.append(False)
            elif isinstance(event, PictureReduced | HistoryCompacted):
                told[-1] = True
        for request, may_move in zip(self.model.requests[before:], told, strict=True):
            now = serialized(request)
            moved = not now.startswith(self.last)
            assert may_move or not moved, "it moved, and nobody said so"
            self.moved += moved
            self.last = now


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture(autouse=True)
def no_ocr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.agent.context.ladder.text_in", lambda block, blobs: "TOTAL 12.50")


def script() -> list[Any]:
    steps: list[Any] = []
    for color in COLORS * 3:
        steps += [
            "I see.",
            [call("wait", order=1), call("wait", order=9), call("draw", color=color)],
            [call("fail", order=3), call("nobody")],
            LONG,
            ModelError("gone"),
            "here again",
            "no number",
            '{"years": 7}',
        ]
    return steps


@pytest.mark.parametrize("context", [100_000, 2500, 900])
async def test_each_request_begins_with_the_one_before_it(context: int, blobs: BlobStore, tmp_path: Path) -> None:
    model = Sees(script(), capabilities=Capabilities(context_length=context, images=True))
    watch = Watch(model)

    def agent() -> Agent:
        session = Session.open("s", tmp_path / "s.db")  # as a new process would
        return Agent(model, TOOLS, builtins=False, blobs=blobs, session=session, sampling=Sampling(max_tokens=100))

    one = agent()
    for number, color in enumerate(COLORS * 3):
        if number % 4 == 0:
            one = agent()
        for content, options in (
            (("look", picture(color)), {}),
            ((f"do it, number {number}",), {}),
            (("this fails",), {}),
            (("this goes on",), {}),
            (("how old?",), {"output": Age}),
        ):
            await watch.turn(one, *content, **options)
    assert len(model.requests) == len(script())
    assert (watch.moved > 0) == (context < 100_000)
    if context < 100_000:
        assert watch.moved < len(model.requests) / 3, "room is made for more than a step"


async def test_a_fork_goes_on_from_the_same_prompt(blobs: BlobStore, tmp_path: Path) -> None:
    model = Sees(["ok"] * 30, capabilities=Capabilities(context_length=900, images=True))
    options: Any = {"builtins": False, "blobs": blobs, "sampling": Sampling(max_tokens=100)}
    agent = Agent(model, session=Session.open("s", tmp_path / "s.db"), **options)
    for color in COLORS:
        await agent.arun(f"look {LONG}", picture(color))
    fork = Agent(model, session=agent.session.fork("f"), **options)
    await fork.arun("and?")
    await agent.arun("and?")
    here, there = model.requests[-1], model.requests[-2]
    assert serialized(here) == serialized(there)
    again = Agent(model, session=Session.open("s", tmp_path / "s.db"), **options)
    await again.arun("what else?")
    assert serialized(model.requests[-1]).startswith(serialized(here))
