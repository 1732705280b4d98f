"""Stopping turns in the middle: control comes back at once, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from benchmarks.lives import invalid
from mmagent.agent import Agent, ToolContext, tool
from mmagent.agent.tools import AnyTool
from mmagent.chat.protocol import Capabilities, ChatModel, ModelEvent, ModelRequest, ModelText
from mmagent.content import text
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.testing import ScriptedModel, call
from tests.blocking import no_blocking  # noqa: F401 # a fixture

TURNS = 50
LONGEST_SECONDS = 2.0
"""Ten times what it may take on a quiet machine."""


class Endless:
    """A model that never comes to an end, and says when it began."""

    name = "endless"
    capabilities = Capabilities(context_length=1 << 20)

    def __init__(self, running: asyncio.Event) -> None:
        self._running = running

    def count_tokens(self, request: ModelRequest) -> int:
        return 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        while True:
            yield ModelText("and so on ")
            self._running.set()
            await asyncio.sleep(0.001)


class Case:
    """An agent that is busy in one way, and tells when."""

    def __init__(self, kind: str, session: Session, blobs: BlobStore) -> None:
        self.running = asyncio.Event()
        loop = asyncio.get_running_loop()

        @tool
        async def wait() -> None:
            """Wait."""
            self.running.set()
            await asyncio.Event().wait()

        @tool
        def wait_in_a_thread(context: ToolContext) -> None:
            """Wait."""
            loop.call_soon_threadsafe(self.running.set)
            context.cancelled.wait(60)

        endless = Agent(Endless(self.running), name="other", builtins=False, blobs=blobs)
        tools: dict[str, list[AnyTool]] = {
            "stream": [],
            "async tool": [wait],
            "sync tool": [wait_in_a_thread],
            "child": [endless.as_tool("ask_other")],
        }
        calls = {
            "async tool": call("wait"),
            "sync tool": call("wait_in_a_thread"),
            "child": call("ask_other", question="why?"),
        }
        model: ChatModel = Endless(self.running) if kind == "stream" else ScriptedModel([["Wait. ", calls[kind]]])
        self.agent = Agent(model, tools[kind], session=session, builtins=False, blobs=blobs)


@pytest.mark.parametrize("kind", ["stream", "async tool", "sync tool", "child"])
async def test_cancelling_running_turns(kind: str, tmp_path: Path, no_blocking: list[str]) -> None:  # noqa: F811
    blobs = BlobStore(tmp_path / "blobs")
    session = Session.memory()  # whose writing waits for no disk
    tasks_before, threads_before, slowest = len(asyncio.all_tasks()), threading.active_count(), 0.0
    for _ in range(TURNS):
        case = Case(kind, session, blobs)
        task = asyncio.create_task(case.agent.arun("go"))
        await asyncio.wait_for(case.running.wait(), 60)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < LONGEST_SECONDS
    assert len(asyncio.all_tasks()) == tasks_before
    assert threading.active_count() <= threads_before + 8  # workers that wait for more to do
    assert not invalid(session.messages)
    assert (await Agent(ScriptedModel(["on"]), session=session, builtins=False, blobs=blobs).arun("?")).text == "on"


async def test_the_same_by_leaving_the_stream(tmp_path: Path, no_blocking: list[str]) -> None:  # noqa: F811
    session = Session.memory()
    case = Case("stream", session, BlobStore(tmp_path / "blobs"))
    stream = case.agent.stream("go")
    async for event in stream:
        if event.type == "text_delta":
            break
    await stream.aclose()
    assert [message.role for message in session.messages] == ["user", "assistant"]
    assert session.messages[-1].content == (text("and so on "),)
