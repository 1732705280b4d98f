"""What every chat model promises. To put another one to the test, add it to `FACTORIES`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest

from mmagent.chat import ChatModel, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall, Sampling, ToolSpec
from mmagent.chat.scripted import Reply
from mmagent.content import Message, text
from mmagent.events import Usage
from mmagent.media import BlobStore
from mmagent.testing import ScriptedModel, call

LOOKUP = ToolSpec(
    "lookup_order",
    "Look an order up.",
    {
        "type": "object",
        "properties": {"order_id": {"type": "string", "x-quoted": True}},
        "required": ["order_id"],
        "additionalProperties": False,
    },
)


def scripted(folder: Path) -> ChatModel:
    def step(request: ModelRequest) -> Reply:
        if not request.tools:
            return "I can help you with orders."
        return ["I look both up.", call("lookup_order", order_id="A17"), call("lookup_order", order_id="B4")]

    return ScriptedModel([step] * 10)


def langchain(folder: Path) -> ChatModel:
    from mmagent.agent.tools.langchain import as_langchain
    from mmagent.chat import LangChainModel

    return LangChainModel(as_langchain(scripted(folder), blobs=BlobStore(folder / "blobs")))


def local(folder: Path) -> ChatModel:
    chat = pytest.importorskip("mmagent.chat.local")
    tiny = pytest.importorskip("mmagent.testing.tiny")
    tiny.tiny_vlm(folder / "tiny")
    return cast("ChatModel", chat.LocalModel(folder / "tiny", device="cpu"))


FACTORIES: dict[str, Callable[[Path], ChatModel]] = {"scripted": scripted, "langchain": langchain, "local": local}
MUST_CALL = {"scripted", "langchain"}
"""Whose answers are known; the others' weights are random, so whether they call a tool is chance."""


def request(tmp_path: Path, *said: str, tools: tuple[ToolSpec, ...] = ()) -> ModelRequest:
    messages = tuple(Message(role="user", content=(text(words),)) for words in said)
    return ModelRequest(messages, BlobStore(tmp_path / "blobs"), tools, sampling=Sampling(max_tokens=24))


async def events_of(model: ChatModel, asked: ModelRequest) -> list[ModelEvent]:
    return [event async for event in model.stream(asked)]


@pytest.mark.parametrize("kind", FACTORIES)
class TestChatModel:
    @pytest.fixture
    def model(self, kind: str, tmp_path: Path) -> ChatModel:
        return FACTORIES[kind](tmp_path)

    def test_it_says_who_it_is_and_what_it_takes(self, model: ChatModel) -> None:
        assert isinstance(model, ChatModel)
        assert model.name
        assert model.capabilities.context_length > 0

    async def test_a_stream_ends_with_the_only_done(self, model: ChatModel, tmp_path: Path) -> None:
        events = await events_of(model, request(tmp_path, "Where are orders A17 and B4?", tools=(LOOKUP,)))
        assert isinstance(events[-1], ModelDone)
        assert [type(event) for event in events].count(ModelDone) == 1

    async def test_calls_have_ids_of_their_own_and_parsed_arguments(
        self, model: ChatModel, kind: str, tmp_path: Path
    ) -> None:
        asked = request(tmp_path, "Where are orders A17 and B4?", tools=(LOOKUP,))
        calls = []
        for _ in range(2):
            events = await events_of(model, asked)
            new = [event.call for event in events if isinstance(event, ModelToolCall)]
            assert cast("ModelDone", events[-1]).stop == "tool_calls" or not new
            calls += new
        assert len({called["id"] for called in calls}) == len(calls)
        assert all(called["name"] == "lookup_order" and isinstance(called["args"], dict) for called in calls)
        assert len(calls) == 4 or kind not in MUST_CALL

    async def test_closing_early_stops_it_and_leaves_it_usable(self, model: ChatModel, tmp_path: Path) -> None:
        asked = request(tmp_path, "Tell me about orders.")
        before = asyncio.all_tasks()
        async with aclosing(cast("AsyncGenerator[ModelEvent, None]", model.stream(asked))) as stream:
            first = await anext(stream)
        assert isinstance(first, ModelText | ModelDone)
        assert [event async for event in stream] == []
        assert asyncio.all_tasks() == before
        assert isinstance((await events_of(model, asked))[-1], ModelDone)

    async def test_a_cancelled_turn_leaves_it_usable(self, model: ChatModel, tmp_path: Path) -> None:
        asked = request(tmp_path, "Tell me about orders.")
        turn = asyncio.ensure_future(events_of(model, asked))
        await asyncio.sleep(0)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert isinstance((await events_of(model, asked))[-1], ModelDone)

    def test_it_works_on_one_event_loop_after_another(self, model: ChatModel, tmp_path: Path) -> None:
        for _ in range(2):
            events = asyncio.run(events_of(model, request(tmp_path, "Hello.")))
            assert isinstance(events[-1], ModelDone)

    def test_more_text_and_tools_are_more_tokens(self, model: ChatModel, tmp_path: Path) -> None:
        short = model.count_tokens(request(tmp_path, "Where is my order?"))
        longer = model.count_tokens(request(tmp_path, "Where is my order?", "It was a lamp, and it is late."))
        with_tools = model.count_tokens(request(tmp_path, "Where is my order?", tools=(LOOKUP,)))
        assert 0 < short < longer
        assert short < with_tools

    async def test_usage_adds_up(self, model: ChatModel, tmp_path: Path) -> None:
        used = []
        for said in (("Hello.",), ("Hello.", "Where is my order? It was a lamp, and it is late.")):
            done = (await events_of(model, request(tmp_path, *said)))[-1]
            assert isinstance(done, ModelDone)
            used.append(done.usage)
        first, second = used
        assert 0 < first.prompt_tokens < second.prompt_tokens
        for usage in used:
            assert 0 <= usage.cached_tokens <= usage.prompt_tokens
            assert 0 <= usage.forced_tokens <= usage.completion_tokens
            assert usage.completion_tokens > 0
        assert first + second == Usage(
            prompt_tokens=first.prompt_tokens + second.prompt_tokens,
            cached_tokens=first.cached_tokens + second.cached_tokens,
            completion_tokens=first.completion_tokens + second.completion_tokens,
            forced_tokens=first.forced_tokens + second.forced_tokens,
        )
