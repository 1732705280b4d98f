from __future__ import annotations

import asyncio
import base64
import builtins
import io
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from PIL import Image as Pillow
from pydantic import Field, SecretStr

from mmagent.chat import (
    LangChainModel,
    ModelDone,
    ModelEvent,
    ModelRequest,
    ModelText,
    ModelToolCall,
    Sampling,
    ToolSpec,
)
from mmagent.content import Block, Image, Message, text
from mmagent.errors import ConfigurationError, ContextOverflow, ModelError
from mmagent.media import BlobStore


class Fake(BaseChatModel):
    """Streams given chunks, raises what is an exception, and keeps what it was sent."""

    chunks: list[Any] = Field(default_factory=list)
    sent: list[Any] = Field(default_factory=list)
    closed: list[bool] = Field(default_factory=list)
    api_key: SecretStr | None = None
    max_tokens: int | None = None
    temperature: float | None = 0.3

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(tools=tools, **kwargs)

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        self.sent.append((messages, {"stop": stop} | kwargs))
        try:
            for chunk in self.chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                await asyncio.sleep(0)
                yield ChatGenerationChunk(message=AIMessageChunk(content=chunk) if isinstance(chunk, str) else chunk)
        finally:
            self.closed.append(True)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise AssertionError("it should have been streamed")


class Whole(FakeListChatModel):
    """Cannot stream, and takes no tools."""

    message: AIMessage

    def _should_stream(self, **kwargs: Any) -> bool:
        return False

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.message)])


def piece(name: str | None, args: str, call_id: str | None, index: int) -> AIMessageChunk:
    return AIMessageChunk(content="", tool_call_chunks=[tool_call_chunk(name=name, args=args, id=call_id, index=index)])


FIND = ToolSpec(
    "find",
    "Find an order.",
    {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "Its number.", "x-quoted": True}},
        "required": ["code"],
    },
)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def user(*blocks: Block | str) -> Message:
    return Message(role="user", content=tuple(text(block) if isinstance(block, str) else block for block in blocks))


async def ask(model: LangChainModel, request: ModelRequest) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


def calls_in(events: list[ModelEvent]) -> list[tuple[str, dict[str, Any]]]:
    return [(event.call["name"], event.call["args"]) for event in events if isinstance(event, ModelToolCall)]


async def test_text_calls_and_usage_are_streamed(blobs: BlobStore) -> None:
    usage = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14, "input_token_details": {"cache_read": 4}}
    fake = Fake(
        chunks=[
            "Let me ",
            "look.",
            piece("find", "", "call_a", 0),
            piece(None, '{"code": ', None, 0),
            piece(None, '"A1"}', None, 0),
            piece("find", '{"code": "B2"}', "call_b", 1),
            AIMessageChunk(content="", response_metadata={"finish_reason": "tool_calls"}),
            AIMessageChunk(content="", usage_metadata=cast("Any", usage)),
        ]
    )
    events = await ask(LangChainModel(fake), ModelRequest((user("Where?"),), blobs, (FIND,)))
    assert [event.text for event in events if isinstance(event, ModelText)] == ["Let me ", "look."]
    assert calls_in(events) == [("find", {"code": "A1"}), ("find", {"code": "B2"})]
    done = events[-1]
    assert isinstance(done, ModelDone)
    assert done.stop == "tool_calls"
    assert (done.usage.prompt_tokens, done.usage.cached_tokens, done.usage.completion_tokens) == (9, 4, 5)


async def test_a_model_that_cannot_stream_works_too(blobs: BlobStore) -> None:
    call = {"name": "find", "args": {"code": "A1"}, "id": "x"}
    fake = Whole(responses=[], message=AIMessage(content="Looking.", tool_calls=[call]))
    events = await ask(LangChainModel(fake), ModelRequest((user("Where?"),), blobs))
    assert calls_in(events) == [("find", {"code": "A1"})]
    assert events[0] == ModelText("Looking.")


async def test_ids_that_were_used_or_are_missing_are_replaced(blobs: BlobStore) -> None:
    earlier = Message(role="assistant", content=({"type": "tool_call", "id": "call_0", "name": "find", "args": {}},))
    fake = Fake(chunks=[piece("find", "{}", "call_0", 0), piece("find", "{}", None, 1), piece("find", "{}", "own", 2)])
    events = await ask(LangChainModel(fake), ModelRequest((user("Where?"), earlier), blobs))
    ids = [event.call["id"] for event in events if isinstance(event, ModelToolCall)]
    assert len({*ids, "call_0", ""}) == 5
    assert ids[2] == "own"


async def test_cut_arguments_are_not_mended(blobs: BlobStore) -> None:
    cut = AIMessageChunk(content="", response_metadata={"finish_reason": "length"})
    fake = Fake(chunks=[piece("refund", '{"amount": 10', "a", 0), cut])
    with pytest.raises(
        ModelError, match="called refund with arguments that are no JSON object; max_tokens cut it short"
    ):
        await ask(LangChainModel(fake), ModelRequest((user("Refund me."),), blobs))


async def test_an_answer_cut_by_its_length_says_so(blobs: BlobStore) -> None:
    fake = Fake(chunks=["It is", AIMessageChunk(content="", response_metadata={"finish_reason": "length"})])
    done = (await ask(LangChainModel(fake), ModelRequest((user("Where?"),), blobs)))[-1]
    assert isinstance(done, ModelDone)
    assert done.stop == "length"


async def test_a_conversation_becomes_langchain_messages(blobs: BlobStore) -> None:
    receipt = blobs.admit(Image(Pillow.new("RGB", (4, 4), "red")))
    crop = blobs.admit(Image(Pillow.new("RGB", (2, 2), "blue")))
    call: Block = {"type": "tool_call", "id": "c1", "name": "look", "args": {"x": 1}}
    other: Block = {"type": "tool_call", "id": "c2", "name": "find", "args": {}}
    messages = (
        Message(role="system", content=(text("Be kind."),)),
        user("What is this?", receipt),
        Message(role="assistant", content=({"type": "reasoning", "reasoning": "Hm."}, text("Look."), call, other)),
        Message(role="tool", content=(crop,), tool_call_id="c1", name="look"),
        Message(role="tool", content=(text("found"),), tool_call_id="c2", name="find"),
    )
    fake = Fake(chunks=["A lamp."])
    await ask(LangChainModel(fake), ModelRequest(messages, blobs))
    sent = fake.sent[0][0]
    assert [type(message) for message in sent] == [
        SystemMessage, HumanMessage, AIMessage, ToolMessage, ToolMessage, HumanMessage
    ]  # fmt: skip
    wire = {
        "type": "image",
        "mime_type": "image/png",
        "base64": base64.b64encode(blobs.get(receipt["file_id"])).decode(),
    }
    assert sent[1].content == [{"type": "text", "text": "What is this?"}, wire]
    assert sent[2].content == "Look."
    assert [made["id"] for made in sent[2].tool_calls] == ["c1", "c2"]
    assert [(answer.tool_call_id, answer.content) for answer in sent[3:5]] == [
        ("c1", "the picture follows"), ("c2", "found")
    ]  # fmt: skip
    label, picture = sent[5].content
    assert label["text"] == "Picture 1 that look returned (c1):"
    assert base64.b64decode(picture["base64"]) == blobs.get(crop["file_id"])


async def test_a_picture_type_that_providers_refuse_travels_as_png(blobs: BlobStore) -> None:
    bitmap = io.BytesIO()
    Pillow.new("RGB", (4, 4), "red").save(bitmap, "BMP")
    fake = Fake(chunks=["Red."])
    await ask(LangChainModel(fake), ModelRequest((user(blobs.admit(Image(bitmap.getvalue()))),), blobs))
    (block,) = fake.sent[0][0][0].content
    assert block["mime_type"] == "image/png"
    assert base64.b64decode(block["base64"]).startswith(b"\x89PNG")


async def test_tools_are_bound_with_quotes_said_in_words(blobs: BlobStore) -> None:
    fake = Fake(chunks=["ok"])
    await ask(LangChainModel(fake), ModelRequest((user("Where?"),), blobs, (FIND,)))
    (bound,) = fake.sent[0][1]["tools"]
    assert bound["function"]["name"] == "find"
    assert bound["function"]["parameters"]["properties"]["code"] == {
        "type": "string",
        "description": "Its number. Must be copied verbatim from the conversation.",
    }
    assert FIND.parameters["properties"]["code"]["x-quoted"] is True


async def test_an_output_schema_is_asked_for_in_the_system_message(blobs: BlobStore) -> None:
    fake = Fake(chunks=["{}"])
    messages = (Message(role="system", content=(text("Be kind."),)), user("Where?"))
    await ask(LangChainModel(fake), ModelRequest(messages, blobs, output={"type": "object", "title": "Order"}))
    system = fake.sent[0][0][0]
    assert system.content.startswith("Be kind.\n\n")
    assert '{"type": "object", "title": "Order"}' in system.content


async def test_sampling_goes_where_the_model_has_the_field_and_the_user_left_it(blobs: BlobStore) -> None:
    fake = Fake(chunks=["ok"])
    sampling = Sampling(temperature=1.0, top_k=5, max_tokens=7, stop=("END",))
    await ask(LangChainModel(fake), ModelRequest((user("Hi"),), blobs, sampling=sampling))
    assert fake.sent[0][1] == {"stop": ["END"], "max_tokens": 7}


async def test_closing_the_stream_closes_the_models(blobs: BlobStore) -> None:
    fake = Fake(chunks=["one ", "two ", "three"])
    stream = LangChainModel(fake).stream(ModelRequest((user("Hi"),), blobs))
    async with aclosing(stream):
        assert await anext(stream) == ModelText("one ")
        assert not fake.closed
    await asyncio.sleep(0)
    assert fake.closed == [True]


@pytest.mark.parametrize(("required", "choice"), [(True, "any"), ("find", "find")])
async def test_a_call_that_is_required_is_asked_for(required: bool | str, choice: str, blobs: BlobStore) -> None:
    model = Fake(chunks=[piece("find", '{"code": "A"}', "c1", 0)])
    request = ModelRequest((user("Find A."),), blobs, tools=(FIND,), require_call=required)
    assert calls_in(await ask(LangChainModel(model), request)) == [("find", {"code": "A"})]
    ((_, sent),) = model.sent
    assert sent["tool_choice"] == choice


class RateLimitError(Exception):
    pass


async def test_a_provider_error_is_one_line_without_secrets(blobs: BlobStore) -> None:
    error = RateLimitError("no more for my-secret-key-1\nAuthorization: Bearer abc\n{'headers': 1}")
    fake = Fake(chunks=["a", error], api_key=SecretStr("my-secret-key-1"))
    with pytest.raises(ModelError) as caught:
        await ask(LangChainModel(fake), ModelRequest((user("Hi"),), blobs))
    assert str(caught.value) == "Fake failed: RateLimitError: no more for ***; wait a little and try again"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "leak",
    [
        "sk-proj-abcdef123456",
        "Bearer eyJhbGciOi",
        "AIzaSyA1234567890abc",
        "https://x/y?key=hush&z=1",
        "http://me:hush@h/",
    ],
)
async def test_what_looks_like_a_key_is_masked(leak: str, blobs: BlobStore) -> None:
    with pytest.raises(ModelError) as caught:
        await ask(LangChainModel(Fake(chunks=[ValueError(f"refused {leak}")])), ModelRequest((user("Hi"),), blobs))
    message = str(caught.value)
    assert "***" in message
    assert not any(part in message for part in ("abcdef", "eyJ", "1234567890", "hush"))


async def test_a_prompt_that_is_too_long_is_an_overflow(blobs: BlobStore) -> None:
    from langchain_core.exceptions import ContextOverflowError

    fake = Fake(chunks=[ContextOverflowError("129000 tokens")])
    with pytest.raises(ContextOverflow, match="too long for Fake"):
        await ask(LangChainModel(fake), ModelRequest((user("Hi"),), blobs))


async def test_a_model_without_tools_or_pictures_says_so(blobs: BlobStore) -> None:
    words = Whole(responses=[], message=AIMessage(content="Hi."))
    with pytest.raises(ModelError, match="takes no tools"):
        await ask(LangChainModel(words), ModelRequest((user("Hi"),), blobs, (FIND,)))
    blind = LangChainModel(Fake(profile={"image_inputs": False}))
    picture = blobs.admit(Image(Pillow.new("RGB", (4, 4))))
    with pytest.raises(ModelError, match="takes no pictures"):
        await ask(blind, ModelRequest((user(picture),), blobs))


def test_capabilities_come_from_the_profile() -> None:
    known = LangChainModel(Fake(profile={"max_input_tokens": 9000, "image_inputs": False, "tool_calling": False}))
    assert (known.capabilities.context_length, known.capabilities.images, known.capabilities.tools) == (
        9000,
        False,
        False,
    )
    unknown = LangChainModel(Fake()).capabilities
    assert (unknown.context_length, unknown.images, unknown.tools) == (32_768, True, True)


def test_a_picture_counts_as_many_tokens(blobs: BlobStore) -> None:
    model = LangChainModel(Fake())
    picture = blobs.admit(Image(Pillow.new("RGB", (4, 4))))
    words = model.count_tokens(ModelRequest((user("a" * 40),), blobs))
    assert words == 10
    assert model.count_tokens(ModelRequest((user("a" * 40, picture),), blobs)) == 1010


def test_a_missing_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("langchain_ollama"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match="install it with: pip install langchain-ollama"):
        LangChainModel("ollama:qwen3")


def test_options_are_for_provider_strings() -> None:
    with pytest.raises(ConfigurationError, match="temperature cannot be given beside a model"):
        LangChainModel(Fake(), temperature=0)
