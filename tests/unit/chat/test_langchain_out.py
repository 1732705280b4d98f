from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from PIL import Image as Pillow
from pydantic import BaseModel

from mmagent.chat import ModelRequest, ToolSpec, as_langchain
from mmagent.content import Image
from mmagent.errors import ConfigurationError, MediaError, ModelError
from mmagent.media import BlobStore
from mmagent.testing import ScriptedModel, call


def png(color: str) -> bytes:
    data = io.BytesIO()
    Pillow.new("RGB", (4, 4), color).save(data, "PNG")
    return data.getvalue()


def block(data: bytes) -> dict[str, Any]:
    return {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": "image/png"}


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@tool
def lookup_order(order_id: str) -> str:
    """Look an order up."""
    return f"{order_id}: a lamp"


@tool
def look(x: int) -> list[dict[str, Any]]:
    """Crop the picture."""
    return [{"type": "text", "text": f"from {x}"}, block(png("blue"))]


def test_create_agent_works_with_a_picture_and_two_calls(blobs: BlobStore) -> None:
    def answer(request: ModelRequest) -> str:
        return f"It is {request.messages[-2].text.partition(': ')[2]}."

    model = ScriptedModel([["Let me see.", call("lookup_order", order_id="A17"), call("look", x=3)], answer])
    agent = create_agent(as_langchain(model, blobs=blobs), [lookup_order, look], system_prompt="Be kind.")
    question = HumanMessage(content=[{"type": "text", "text": "What did I buy?"}, block(png("red"))])
    result = agent.invoke({"messages": [question]})
    assert result["messages"][-1].text == "It is a lamp."
    first, second = model.requests
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "tool", "tool"]
    assert [spec.name for spec in first.tools] == ["lookup_order", "look"]
    assert first.tools[0].parameters["properties"]["order_id"]["type"] == "string"
    (receipt,) = first.messages[1].media
    assert blobs.get(receipt["file_id"]) == png("red")
    asked, told = second.messages[2].tool_calls, second.messages[3:]
    assert [made["id"] for made in asked] == [message.tool_call_id for message in told]
    assert told[1].text == "from 3"
    assert blobs.get(told[1].media[0]["file_id"]) == png("blue")


async def test_create_agent_streams(blobs: BlobStore) -> None:
    model = ScriptedModel([call("lookup_order", order_id="A17"), "It is a lamp."])
    agent = create_agent(as_langchain(model, blobs=blobs), [lookup_order])
    pieces = [
        chunk.text
        async for chunk, _ in agent.astream({"messages": [HumanMessage("What?")]}, stream_mode="messages")
        if isinstance(chunk, AIMessage) and chunk.text
    ]
    assert pieces == ["It ", "is ", "a ", "lamp."]


class Order(BaseModel):
    order_id: str
    lamps: int


@pytest.mark.parametrize("tools", [[], [lookup_order]])
def test_create_agent_gives_typed_answers(tools: list[Any], blobs: BlobStore) -> None:
    model = ScriptedModel(['{"order_id": "A17", "lamps": 2}'])
    agent = create_agent(as_langchain(model, blobs=blobs), tools, response_format=Order)
    assert agent.invoke({"messages": [HumanMessage("What?")]})["structured_response"] == Order(order_id="A17", lamps=2)
    output = model.requests[0].output
    assert output is not None
    assert set(output["properties"]) == {"order_id", "lamps"}


def test_structured_output_is_the_requests_schema(blobs: BlobStore) -> None:
    model = ScriptedModel(['{"order_id": "A17", "lamps": 2}'] * 2)
    chat = as_langchain(model, blobs=blobs)
    assert chat.with_structured_output(Order).invoke("What?") == Order(order_id="A17", lamps=2)
    assert chat.with_structured_output(Order.model_json_schema()).invoke("What?") == {"order_id": "A17", "lamps": 2}
    assert model.requests[0].output == model.requests[1].output is not None


async def test_it_answers_sync_async_streaming_and_inside_a_loop(blobs: BlobStore) -> None:
    chat = as_langchain(ScriptedModel(["one two"] * 4), blobs=blobs)
    assert (await chat.ainvoke("Count.")).text == "one two"
    assert [chunk.text async for chunk in chat.astream("Count.") if chunk.text] == ["one ", "two"]
    assert chat.invoke("Count.").text == "one two"
    assert [chunk.text for chunk in chat.stream("Count.") if chunk.text] == ["one ", "two"]


def test_an_answer_has_calls_usage_and_the_models_name(blobs: BlobStore) -> None:
    chat = as_langchain(ScriptedModel([["a b", call("look", x=1)]]), blobs=blobs).bind_tools([look])
    answer = chat.invoke("Count to two.")
    assert answer.tool_calls == [{"name": "look", "args": {"x": 1}, "id": "call_1", "type": "tool_call"}]
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 5
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    assert answer.response_metadata["model_name"] == "scripted"


class Watched(ScriptedModel):
    closed = False

    async def stream(self, request: ModelRequest) -> Any:
        try:
            async for event in super().stream(request):
                yield event
        finally:
            self.closed = True


def test_leaving_a_sync_stream_cancels_the_model(blobs: BlobStore) -> None:
    model = Watched(["word " * 100_000])
    stream = as_langchain(model, blobs=blobs).stream("Go on.")
    assert next(stream).text == "word "
    stream.close()  # type: ignore[attr-defined]
    assert model.closed


def test_errors_of_the_model_arrive_as_they_are(blobs: BlobStore) -> None:
    chat = as_langchain(ScriptedModel([ModelError("out of memory")] * 2), blobs=blobs)
    for ask in (chat.invoke, lambda words: asyncio.run(chat.ainvoke(words))):
        with pytest.raises(ModelError, match="out of memory"):
            ask("Hi.")


@pytest.mark.parametrize(
    ("choice", "offered"),
    [("auto", ["lookup_order", "look"]), ("none", []), ("any", ["lookup_order", "look"]), ("look", ["look"])],
)
def test_tool_choice_decides_what_is_offered(choice: str, offered: list[str], blobs: BlobStore) -> None:
    model = ScriptedModel([call("look", x=1)])
    as_langchain(model, blobs=blobs).bind_tools([lookup_order, look], tool_choice=choice).invoke("Hi.")
    assert [spec.name for spec in model.requests[0].tools] == offered


def test_words_where_a_call_was_demanded_are_an_error(blobs: BlobStore) -> None:
    chat = as_langchain(ScriptedModel(["no"]), blobs=blobs).bind_tools([look], tool_choice="any")
    with pytest.raises(ModelError, match="was to call a tool and answered in words"):
        chat.invoke("Hi.")
    with pytest.raises(ConfigurationError, match="tool_choice is 'nothing'; there are: look"):
        as_langchain(ScriptedModel(["no"]), blobs=blobs).bind_tools([look], tool_choice="nothing").invoke("Hi.")


def test_sampling_is_taken_from_the_call(blobs: BlobStore) -> None:
    model = ScriptedModel(["ok"])
    as_langchain(model, blobs=blobs).invoke("Hi.", stop=["END"], temperature=0.7, max_tokens=9)
    sampling = model.requests[0].sampling
    assert (sampling.stop, sampling.temperature, sampling.max_tokens) == (("END",), 0.7, 9)


def ask_about(blobs: BlobStore, *content: dict[str, Any]) -> ModelRequest:
    model = ScriptedModel(["Red."])
    as_langchain(model, blobs=blobs).invoke([SystemMessage("Be kind."), HumanMessage(content=list(content))])
    return model.requests[0]


def test_pictures_come_in_every_local_form(blobs: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(png("red"))
    data_url = "data:image/png;base64," + base64.b64encode(png("red")).decode()
    stored = blobs.put(png("red"), "image/png")
    forms: list[dict[str, Any]] = [
        block(png("red")),
        {"type": "image", "url": data_url},
        {"type": "image_url", "image_url": {"url": data_url}},
        {"type": "image", "url": path.as_uri()},
        {"type": "image", "url": str(path)},
        {"type": "image", "file_id": stored},
    ]
    for form in forms:
        (picture,) = ask_about(blobs, {"type": "text", "text": "Which colour?"}, form).messages[1].media
        assert picture["file_id"] == stored


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"type": "image", "url": "https://example.com/a.png"}, "would have to be fetched"),
        ({"type": "image", "base64": "%%%", "mime_type": "image/png"}, "base64 is damaged"),
        ({"type": "image", "base64": "bm8gcGljdHVyZQ==", "mime_type": "image/png"}, "is no picture"),
        ({"type": "image", "file_id": "file-123"}, "neither base64 nor a path"),
        (
            {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
            "'audio'; this version takes text and pictures",
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_before_the_model_is_asked(
    wrong: dict[str, Any], message: str, blobs: BlobStore
) -> None:
    with pytest.raises(MediaError, match=message):
        ask_about(blobs, wrong)


def test_a_conversation_keeps_calls_and_results(blobs: BlobStore) -> None:
    model = ScriptedModel(["ok"])
    called = AIMessage("Look.", tool_calls=[{"name": "look", "args": {"x": 1}, "id": "c1"}])
    history = [HumanMessage("Hi."), called, ToolMessage("done", tool_call_id="c1", name="look")]
    as_langchain(model, blobs=blobs).invoke(history)
    _, assistant, result = model.requests[0].messages
    assert assistant.content == (
        {"type": "text", "text": "Look."},
        {"type": "tool_call", "id": "c1", "name": "look", "args": {"x": 1}},
    )
    assert (result.role, result.tool_call_id, result.name, result.text) == ("tool", "c1", "look", "done")


def test_an_unknown_kind_of_message_is_refused(blobs: BlobStore) -> None:
    with pytest.raises(ConfigurationError, match="ChatMessage is no message that mmagent knows"):
        as_langchain(ScriptedModel(["ok"]), blobs=blobs).invoke([ChatMessage(content="Hi.", role="critic")])


def test_quotes_keep_their_keyword_for_models_that_hold_it(blobs: BlobStore) -> None:
    parameters = {"type": "object", "properties": {"code": {"type": "string", "x-quoted": True}}}
    function = {"name": "find", "description": "Find.", "parameters": parameters}
    model = ScriptedModel([call("find", code="A")])
    as_langchain(model, blobs=blobs).bind_tools([{"type": "function", "function": function}]).invoke("Find A.")
    assert model.requests[0].tools == (ToolSpec("find", "Find.", parameters),)


def test_a_name_is_loaded_and_pictures_go_to_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mmagent.chat import factory
    from mmagent.settings import settings

    model = ScriptedModel(["Red."])
    monkeypatch.setattr(factory, "load_model", lambda name: model)
    monkeypatch.setenv("MMAGENT_DATA_DIR", str(tmp_path))
    settings.cache_clear()
    try:
        chat: BaseChatModel = as_langchain("nano")
    finally:
        settings.cache_clear()
    chat.invoke([HumanMessage(content=[block(png("red"))])])
    (picture,) = model.requests[0].messages[0].media
    assert picture["file_id"] in BlobStore(tmp_path / "blobs")
    assert chat.profile is not None
    assert chat.profile["image_inputs"]


def test_our_own_blocks_are_taken_as_they_are(blobs: BlobStore) -> None:
    admitted = blobs.admit(Image(Pillow.new("RGB", (4, 4), "red")))
    request = ask_about(blobs, dict(admitted))
    assert request.messages[1].media[0]["file_id"] == admitted["file_id"]
