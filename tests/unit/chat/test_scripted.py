from __future__ import annotations

from pathlib import Path

import pytest

from mmagent.chat import Capabilities, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall, ToolSpec
from mmagent.content import Message, text
from mmagent.errors import ModelError, ToolError
from mmagent.media import BlobStore
from mmagent.testing import ScriptedModel, call


@pytest.fixture
def asked(tmp_path: Path) -> ModelRequest:
    return ModelRequest((Message(role="user", content=(text("Where is my order?"),)),), BlobStore(tmp_path))


async def play(model: ScriptedModel, request: ModelRequest) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


def said(events: list[ModelEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, ModelText)]


async def test_text_streams_in_words_that_add_up(asked: ModelRequest) -> None:
    events = await play(ScriptedModel(["  It is\non its  way. "]), asked)
    assert said(events) == ["  ", "It ", "is\n", "on ", "its  ", "way. "]
    assert isinstance(events[-1], ModelDone)
    assert events[-1].stop == "end"


async def test_text_streams_in_chunks_of_a_size(asked: ModelRequest) -> None:
    assert said(await play(ScriptedModel(["a\nbcde"], chunk=4), asked)) == ["a\nbc", "de"]


async def test_text_and_calls_mix_in_order(asked: ModelRequest) -> None:
    model = ScriptedModel([["Looking.", call("find", name="A"), call("find", name="B")], call("find", name="C")])
    events = await play(model, asked)
    assert [type(event) for event in events] == [ModelText, ModelToolCall, ModelToolCall, ModelDone]
    calls = [event.call for event in events + await play(model, asked) if isinstance(event, ModelToolCall)]
    assert [(made["name"], made["args"]) for made in calls] == [("find", {"name": letter}) for letter in "ABC"]
    assert len({made["id"] for made in calls}) == 3
    assert isinstance(events[-1], ModelDone)
    assert events[-1].stop == "tool_calls"


async def test_a_function_answers_from_the_request(asked: ModelRequest) -> None:
    model = ScriptedModel([lambda request: request.messages[-1].text.upper()])
    assert "".join(said(await play(model, asked))) == "WHERE IS MY ORDER?"
    assert model.requests == [asked]


async def test_an_exception_is_raised(asked: ModelRequest) -> None:
    with pytest.raises(ToolError, match="no"):
        await play(ScriptedModel([ToolError("no")]), asked)
    with pytest.raises(ToolError, match="later"):
        await play(ScriptedModel([lambda request: ToolError("later")]), asked)


async def test_a_script_that_is_over_says_how_long_it_was(asked: ModelRequest) -> None:
    model = ScriptedModel(["one", "two"])
    await play(model, asked)
    await play(model, asked)
    with pytest.raises(ModelError, match="the script has 2 steps and this is request 3"):
        await play(model, asked)


async def test_tokens_are_words(asked: ModelRequest) -> None:
    model = ScriptedModel(["It is on its way."])
    assert model.count_tokens(asked) == 4
    done = (await play(model, asked))[-1]
    assert isinstance(done, ModelDone)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (4, 5)
    tool = ToolSpec("find", "Find a thing.", {"type": "object"})
    assert model.count_tokens(ModelRequest(asked.messages, asked.blobs, (tool,))) > 4


def test_it_claims_what_it_is_told() -> None:
    assert ScriptedModel([]).capabilities.images
    blind = Capabilities(context_length=100)
    assert ScriptedModel([], capabilities=blind).capabilities is blind
