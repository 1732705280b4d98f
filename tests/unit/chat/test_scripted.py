from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest

from mmagent.chat import Capabilities, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall, ToolSpec, scripted
from mmagent.content import Image, Message, text
from mmagent.errors import ModelError, ToolError
from mmagent.events import Usage
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


async def test_a_step_may_be_an_async_function(asked: ModelRequest) -> None:
    async def step(request: ModelRequest) -> str:
        await asyncio.sleep(0)
        return request.messages[-1].text.lower()

    assert "".join(said(await play(ScriptedModel([step]), asked))) == "where is my order?"


async def test_a_slow_answer_can_be_cancelled_in_the_middle(asked: ModelRequest) -> None:
    heard: list[str] = []
    first = asyncio.Event()

    async def listen() -> None:
        async for event in ScriptedModel(["one two three"], pause=0.02).stream(asked):
            heard.append(event.text if isinstance(event, ModelText) else "")
            first.set()

    listening = asyncio.create_task(listen())
    await first.wait()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert heard[0] == "one "
    assert len(heard) < 3


async def test_usage_is_what_it_is_told(asked: ModelRequest) -> None:
    used = Usage(prompt_tokens=100, cached_tokens=90, completion_tokens=2)
    done = (await play(ScriptedModel(["a b c"], usage=used), asked))[-1]
    assert isinstance(done, ModelDone)
    assert done.usage == used


async def test_it_tells_which_pictures_it_saw_and_how_large(tmp_path: Path) -> None:
    red, blue = (PIL.Image.new("RGB", (40, 20), colour) for colour in ("red", "blue"))
    blobs = BlobStore(tmp_path / "blobs")
    block = blobs.admit(Image(red))
    bare = {key: value for key, value in block.items() if key != "extras"}
    question = Message.model_validate({"role": "user", "content": [text("Which colour?"), bare]})
    model = ScriptedModel(["red", "none"])
    await play(model, ModelRequest((question,), blobs))
    await play(model, ModelRequest((Message(role="user", content=(text("and now?"),)),), blobs))
    assert model.pictures(0) == [(block["file_id"], 40, 20)]
    assert model.pictures() == []
    path = tmp_path / "red.png"
    path.write_bytes(blobs.get(block["file_id"]))
    for picture in (red, Image(red), path, str(path), path.read_bytes(), block["file_id"]):
        model.assert_saw(picture, request=0)
        model.assert_saw(picture, at=(40, 20), request=0)
    for picture, at in ((blue, None), (red, (20, 40))):
        with pytest.raises(AssertionError, match=r"was shown sha256:\w+ at 40 × 20"):
            model.assert_saw(picture, at=at, request=0)
    with pytest.raises(AssertionError, match="it was shown no picture"):
        model.assert_saw(red)


async def test_each_message_is_counted_once_however_long_the_conversation(
    asked: ModelRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0

    def count(item: Message | ToolSpec) -> int:
        nonlocal counted
        counted += 1
        return 1

    monkeypatch.setattr(scripted, "_count", count)
    model = ScriptedModel([])
    history: tuple[Message, ...] = ()
    for number in range(200):
        history += (Message(role="user", content=(text(f"message {number}"),)),)
        assert model.count_tokens(replace(asked, messages=history)) == number + 1
    assert counted == 200
