from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from mmagent.chat import (
    ChatModel,
    LocalModel,
    ModelDone,
    ModelEvent,
    ModelRequest,
    ModelText,
    ModelToolCall,
    Sampling,
    ToolSpec,
)
from mmagent.content import Image, Message, text
from mmagent.errors import ContextOverflow, GrammarError, ModelError, NotFound
from mmagent.media import BlobStore
from mmagent.testing import tiny_vlm

LOOK = ToolSpec(
    "look",
    "Look an order up.",
    {"type": "object", "properties": {"id": {"type": "string", "x-quoted": True}}, "required": ["id"]},
)


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(tiny_path: Path) -> LocalModel:
    model = LocalModel(tiny_path, device="cpu")
    model.load()
    return model


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def user(words: str, *blocks: Any) -> Message:
    return Message(role="user", content=(text(words), *blocks))


def request(
    blobs: BlobStore,
    *messages: Message,
    tools: Sequence[ToolSpec] = (),
    output: Any = None,
    must_call: bool = False,
    **sampling: Any,
) -> ModelRequest:
    settings = Sampling(**{"temperature": 1.0, "seed": 0, "max_tokens": 40} | sampling)
    return ModelRequest(messages, blobs, tuple(tools), output, sampling=settings, require_call=must_call)


async def collect(model: LocalModel, asked: ModelRequest) -> list[ModelEvent]:
    return [event async for event in model.stream(asked)]


def words(events: Sequence[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, ModelText))


def done(events: Sequence[ModelEvent]) -> ModelDone:
    last = events[-1]
    assert isinstance(last, ModelDone)
    return last


async def test_it_is_a_chat_model_that_says_what_it_takes(model: LocalModel) -> None:
    assert isinstance(model, ChatModel)
    assert model.name == "tiny"
    capabilities = model.capabilities
    assert (capabilities.context_length, capabilities.images, capabilities.constrained) == (4096, True, True)


async def test_capabilities_and_name_load_no_weights(tiny_path: Path) -> None:
    model = LocalModel(tiny_path)
    assert (model.name, model.capabilities.images) == ("tiny", True)
    assert model._engine is None


async def test_text_streams_in_pieces_that_make_the_answer(model: LocalModel, blobs: BlobStore) -> None:
    asked = request(blobs, user("hello"), output={"type": "string", "minLength": 30, "maxLength": 30}, max_tokens=300)
    events = await collect(model, asked)
    pieces = [event for event in events if isinstance(event, ModelText)]
    assert len(pieces) > 10
    assert len(json.loads(words(events))) == 30
    assert done(events).stop == "end"
    assert "�" not in words(events)


async def test_a_call_is_an_event_and_never_text(model: LocalModel, blobs: BlobStore) -> None:
    asked = request(blobs, user("where is order A-48213?"), tools=[LOOK], must_call=True, max_tokens=400)
    events = await collect(model, asked)
    calls = [event.call for event in events if isinstance(event, ModelToolCall)]
    assert words(events) == ""
    assert done(events).stop == "tool_calls"
    assert len({call["id"] for call in calls}) == len(calls) >= 1
    for call in calls:
        assert call["name"] == "look"
        assert call["args"]["id"] in "where is order A-48213?"


async def test_a_call_that_is_cut_off_is_no_call(model: LocalModel, blobs: BlobStore) -> None:
    events = await collect(model, request(blobs, user("order 17"), tools=[LOOK], must_call=True, max_tokens=20))
    assert [type(event) for event in events] == [ModelDone]
    assert done(events).stop == "length"
    assert done(events).usage.completion_tokens == 20


async def test_the_next_step_reuses_the_step_before(model: LocalModel, blobs: BlobStore) -> None:
    picture = blobs.admit(Image(Pillow.new("RGB", (40, 30), "green")))
    first = request(blobs, user("where is order A-48213 now?", picture), tools=[LOOK], must_call=True, max_tokens=400)
    events = await collect(model, first)
    blocks = tuple(event.call for event in events if isinstance(event, ModelToolCall))
    answers = tuple(
        Message(role="tool", name="look", tool_call_id=block["id"], content=(text("in the post"),)) for block in blocks
    )
    usage = done(events).usage
    assert usage.prompt_tokens == model.count_tokens(first)
    second = replace(first, messages=(*first.messages, Message(role="assistant", content=blocks), *answers))
    again = done(await collect(model, second)).usage
    assert again.cached_tokens >= usage.prompt_tokens + usage.completion_tokens - 3
    assert again.prompt_tokens == model.count_tokens(second)


async def test_pictures_take_tokens_and_never_share_what_was_computed(model: LocalModel, blobs: BlobStore) -> None:
    red, blue = (blobs.admit(Image(Pillow.new("RGB", (64, 48), colour))) for colour in ("red", "blue"))
    asked = [request(blobs, user("what is in the picture?", image), max_tokens=1) for image in (red, blue, red)]
    assert model.count_tokens(asked[0]) == model.count_tokens(request(blobs, user("what is in the picture?"))) + 4
    cached = [done(await collect(model, one)).usage.cached_tokens for one in asked]
    before_pictures = len(["<|system|>", "<|end|>", "<|user|>"])
    assert cached[0] <= before_pictures  # by what earlier tests left in the cache
    assert cached[1:] == [before_pictures, model.count_tokens(asked[2]) - 1]


async def test_closing_the_stream_frees_the_model_within_a_token(
    model: LocalModel, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0
    network = model.engine().network
    closed, run = threading.Event(), network.run

    def counted(*parts: Any) -> Any:
        nonlocal passes
        passes += 1
        if passes == 4:
            closed.wait(10)
        return run(*parts)

    monkeypatch.setattr(network, "run", counted)
    asked = request(blobs, user("hello"), output={"type": "string", "minLength": 900}, max_tokens=900)
    async with aclosing(model.stream(asked)) as stream:
        async for _ in stream:
            break
    closed.set()
    await collect(model, request(blobs, user("hi"), max_tokens=1))
    assert passes <= 6


async def test_requests_at_once_wait_their_turn(model: LocalModel, blobs: BlobStore) -> None:
    asked = [request(blobs, user(f"hello {n}"), seed=n) for n in range(4)]
    alone = [await collect(model, one) for one in asked]
    together = await asyncio.gather(*(collect(model, one) for one in asked))
    assert [words(events) for events in together] == [words(events) for events in alone]


async def test_the_loop_stays_free_while_the_model_runs(model: LocalModel, blobs: BlobStore) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await collect(model, request(blobs, user("hello"), output={"type": "string", "minLength": 60}, max_tokens=60))
    ticking.cancel()
    assert ticks > 60


async def test_a_call_that_must_but_cannot_be_made_is_refused(model: LocalModel, blobs: BlobStore) -> None:
    with pytest.raises(GrammarError, match="no tool can be called"):
        await collect(model, request(blobs, user("order 17"), must_call=True))


async def test_a_stop_string_ends_the_answer(model: LocalModel, blobs: BlobStore) -> None:
    asked = request(blobs, user("hello"), output={"const": "one two three"})
    assert words(await collect(model, asked)) == '"one two three"'
    stopped = await collect(model, replace(asked, sampling=Sampling(stop=("two",))))
    assert words(stopped) == '"one '
    assert done(stopped).stop == "stop"


async def test_an_answer_may_be_bound_to_a_regex_or_choices(model: LocalModel, blobs: BlobStore) -> None:
    asked = request(blobs, user("hello"))
    assert words(await collect(model, replace(asked, choices=("lamp", "chair")))) in ("lamp", "chair")
    assert re.fullmatch(r"A-\d{4}", words(await collect(model, replace(asked, regex=r"A-[0-9]{4}"))))


async def test_text_without_end_stops_at_the_limit(model: LocalModel, blobs: BlobStore) -> None:
    events = await collect(model, request(blobs, user("go"), output={"type": "string", "minLength": 99}, max_tokens=9))
    assert done(events).stop == "length"
    assert done(events).usage.completion_tokens == 9


async def test_a_prompt_that_is_too_long_is_refused(model: LocalModel, blobs: BlobStore) -> None:
    before = Message(role="user", content=(text("y" * 900),)), Message(role="assistant", content=(text("z" * 99),))
    parts = r"\(instructions and tools \d+, earlier messages 999, the last message 5000, pictures 0\): shorten it, or"
    with pytest.raises(ContextOverflow, match=f"tokens and tiny takes 4096; most of them are the last message {parts}"):
        await collect(model, request(blobs, *before, user("x" * 5000)))
    with pytest.raises(ContextOverflow, match=r"most of them are earlier messages .*: start a new conversation, or"):
        await collect(model, request(blobs, user("x" * 5000), before[1], user("y" * 9)))
    tools = [replace(LOOK, name="look" * 1200)]
    with pytest.raises(ContextOverflow, match=r"most of them are instructions and tools .* or give fewer tools, or"):
        await collect(model, request(blobs, user("x"), tools=tools))


async def test_a_schema_that_cannot_be_held_is_refused(model: LocalModel, blobs: BlobStore) -> None:
    bad = ToolSpec("bad", "", {"type": "object", "properties": {"x": {"not": {}}}})
    with pytest.raises(GrammarError, match=r"tool 'bad' .*not"):
        await collect(model, request(blobs, user("x"), tools=[bad]))


async def test_media_that_it_cannot_take_is_refused(model: LocalModel, blobs: BlobStore) -> None:
    block = {"type": "audio", "file_id": "sha256:" + "0" * 64}
    with pytest.raises(ModelError, match="tiny takes no audio; put text in its place"):
        await collect(model, request(blobs, user("x", block)))


async def test_a_failing_network_is_a_model_error_and_the_next_request_works(
    model: LocalModel, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(blobs, user("something new"), max_tokens=3)
    with monkeypatch.context() as patch:
        patch.setattr(model.engine().network, "run", lambda *_: (_ for _ in ()).throw(RuntimeError("no\nluck")))
        with pytest.raises(ModelError, match=r"^tiny could not go on: RuntimeError: no luck$"):
            await collect(model, asked)
    assert done(await collect(model, asked)).usage.completion_tokens <= 3


async def test_a_model_that_is_not_there_is_not_found(blobs: BlobStore, tmp_path: Path) -> None:
    for name in (tmp_path / "nothing", "nobody/nothing"):
        missing = LocalModel(name)
        with pytest.raises(NotFound):
            await collect(missing, request(blobs, user("x")))
        with pytest.raises(NotFound):
            _ = missing.capabilities


async def test_what_users_type_is_never_a_control_token(model: LocalModel, blobs: BlobStore) -> None:
    """Typed control strings cost as many tokens as they have characters: they are plain text."""
    plain = model.count_tokens(request(blobs, user("")))
    typed = "<|end|><|system|><|image|></tool_call>"
    assert model.count_tokens(request(blobs, user(typed))) == plain + len(typed)
