from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.tools import tool
from PIL import Image as Pillow
from pydantic import BaseModel

from mmagent.agent.tools.langchain import as_langchain
from mmagent.chat import ModelDone, ModelRequest, ToolSpec
from mmagent.chat.langchain_export import ChatMMAgent
from mmagent.content import Image, Message
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
    ("choice", "required"),
    [
        (None, False),
        ("auto", False),
        ("any", True),
        ("required", True),
        (True, True),
        ("look", "look"),
        ({"type": "function", "function": {"name": "look"}}, "look"),
    ],
)
def test_tool_choice_decides_what_must_be_called(choice: Any, required: bool | str, blobs: BlobStore) -> None:
    model = ScriptedModel([call("look", x=1)])
    as_langchain(model, blobs=blobs).bind_tools([lookup_order, look], tool_choice=choice).invoke("Hi.")
    assert [spec.name for spec in model.requests[0].tools] == ["lookup_order", "look"]
    assert model.requests[0].require_call == required


def test_the_tool_choice_none_offers_nothing(blobs: BlobStore) -> None:
    model = ScriptedModel(["Hi."])
    as_langchain(model, blobs=blobs).bind_tools([look], tool_choice="none").invoke("Hi.")
    assert model.requests[0].tools == ()


def test_a_call_of_another_tool_than_the_chosen_one_is_an_error(blobs: BlobStore) -> None:
    chat = as_langchain(ScriptedModel([call("look", x=1)]), blobs=blobs)
    with pytest.raises(ModelError, match="scripted was to call lookup_order and called look"):
        chat.bind_tools([lookup_order, look], tool_choice="lookup_order").invoke("Hi.")


def test_a_tool_that_runs_at_a_provider_is_refused(blobs: BlobStore) -> None:
    chat = as_langchain(ScriptedModel(["ok"]), blobs=blobs).bind_tools([{"type": "web_search_preview"}])
    with pytest.raises(ConfigurationError, match="'web_search_preview' runs at its provider"):
        chat.invoke("Hi.")


@pytest.mark.parametrize(("parallel", "count"), [(None, 2), (True, 2), (False, 1)])
def test_calls_come_together_unless_that_is_unwanted(parallel: bool | None, count: int, blobs: BlobStore) -> None:
    model = ScriptedModel([[call("look", x=1), call("look", x=2)]])
    answer = as_langchain(model, blobs=blobs).bind_tools([look], parallel_tool_calls=parallel).invoke("Hi.")
    assert [made["args"]["x"] for made in answer.tool_calls] == [1, 2][:count]


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
        ({"type": "image", "base64": "é", "mime_type": "image/png"}, "base64 is damaged"),
        ({"type": "image", "url": "file://["}, "address is damaged"),
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


def test_only_people_name_files_of_this_machine(blobs: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "private.png"
    path.write_bytes(png("red"))
    for url in (path.as_uri(), str(path)):
        picture: Any = [{"type": "image", "url": url}]
        for message in (ToolMessage(picture, tool_call_id="c1"), AIMessage(picture)):
            model = ScriptedModel(["Red."])
            with pytest.raises(MediaError, match="would have to be read"):
                as_langchain(model, blobs=blobs).invoke([HumanMessage("Fetch it."), message])
            assert not model.requests
    shown: Any = [block(png("red"))]
    model = ScriptedModel(["Red."])
    as_langchain(model, blobs=blobs).invoke([HumanMessage("Go."), ToolMessage(shown, tool_call_id="c1")])
    assert len(model.requests[0].messages[1].media) == 1


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


def heard(blobs: BlobStore, *messages: Any) -> tuple[Message, ...]:
    """What our model is told of LangChain's messages."""
    model = ScriptedModel(["ok"])
    as_langchain(model, blobs=blobs).invoke(list(messages))
    return model.requests[0].messages


def test_messages_of_one_role_in_a_row_are_one(blobs: BlobStore) -> None:
    system, user, assistant, last = heard(
        blobs,
        SystemMessage("Be kind."),
        SystemMessage("Be brief."),
        HumanMessage("Hi."),
        HumanMessage("Anybody?"),
        AIMessage("Yes."),
        AIMessage("Hello."),
        HumanMessage("Good."),
    )
    assert system.text == "Be kind.\nBe brief."
    assert user.text == "Hi.\nAnybody?"
    assert assistant.text == "Yes.\nHello."
    assert last.text == "Good."


def test_what_another_provider_put_into_its_answer_is_left_out(blobs: BlobStore) -> None:
    calls = [{"name": "look", "args": {"x": 1}, "id": "c1"}]
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
    used = {"type": "tool_use", "id": "c1", "name": "look", "input": {"x": 1}}
    for given in (
        AIMessage([thought, {"type": "text", "text": "Look."}, used], tool_calls=calls),
        AIMessage("Look.", tool_calls=calls, additional_kwargs={"reasoning_content": "Hm."}),
    ):
        _, assistant, _ = heard(blobs, HumanMessage("Hi."), given, ToolMessage("done", tool_call_id="c1"))
        assert [block["type"] for block in assistant.content] == ["text", "tool_call"]


def test_a_result_gets_its_tools_name_and_says_that_it_failed(blobs: BlobStore) -> None:
    called = AIMessage("", tool_calls=[{"name": "look", "args": {"x": 1}, "id": "c1"}])
    *_, result = heard(blobs, HumanMessage("Hi."), called, ToolMessage("no light", tool_call_id="c1", status="error"))
    assert (result.name, result.text) == ("look", "error: no light")


def test_a_picture_in_a_result_comes_in_both_forms(blobs: BlobStore) -> None:
    called = AIMessage("", tool_calls=[{"name": "look", "args": {"x": 1}, "id": "c1"}])
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(png("red")).decode()}}
    for form in (block(png("red")), url):
        *_, result = heard(blobs, HumanMessage("Hi."), called, ToolMessage([form], tool_call_id="c1"))
        assert [blobs.get(media["file_id"]) for media in result.media] == [png("red")]


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_the_raw_message_comes_with_what_was_read_in_it(method: Any, blobs: BlobStore) -> None:
    args = {"order_id": "A17", "lamps": 2}
    model = ScriptedModel([call("Order", **args) if method == "function_calling" else json.dumps(args)])
    chat = as_langchain(model, blobs=blobs).with_structured_output(Order, method=method, include_raw=True)
    got: Any = chat.invoke("What?")
    assert got["parsed"] == Order(order_id="A17", lamps=2)
    assert got["parsing_error"] is None
    assert isinstance(got["raw"], AIMessage)
    if method == "function_calling":
        assert model.requests[0].require_call is True


def test_a_wrong_answer_comes_with_its_error_where_the_raw_message_does(blobs: BlobStore) -> None:
    chat = as_langchain(ScriptedModel(['{"lamps": 2}']), blobs=blobs).with_structured_output(Order, include_raw=True)
    got: Any = chat.invoke("What?")
    assert got["parsed"] is None
    assert "order_id" in str(got["parsing_error"])


def test_any_object_and_a_schema_without_a_title_will_do(blobs: BlobStore) -> None:
    model = ScriptedModel(['{"a": 1}'] * 2)
    chat = as_langchain(model, blobs=blobs)
    assert chat.with_structured_output(None, method="json_mode").invoke("What?") == {"a": 1}
    plain = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert chat.with_structured_output(plain).invoke("What?") == {"a": 1}
    assert [request.output for request in model.requests] == [{"type": "object"}, plain]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schema": Order, "method": "magic"}, "there is no method 'magic'"),
        ({"schema": Order, "tools": []}, "there is no argument tools"),
        ({"schema": None}, "json_schema needs a schema"),
    ],
)
def test_structured_output_says_what_it_cannot_do(arguments: Any, message: str, blobs: BlobStore) -> None:
    with pytest.raises(ConfigurationError, match=message):
        as_langchain(ScriptedModel([]), blobs=blobs).with_structured_output(**arguments)


class Cut(ScriptedModel):
    """A model whose answers end where max_tokens is."""

    async def stream(self, request: ModelRequest) -> Any:
        async for event in super().stream(request):
            yield ModelDone(event.usage, "length") if isinstance(event, ModelDone) else event


def test_a_cut_answer_is_no_answer_where_it_had_to_be_whole(blobs: BlobStore) -> None:
    chat = as_langchain(Cut(['{"order_id": "A', "", "Once upon"]), blobs=blobs)
    with pytest.raises(ModelError, match="max_tokens, which is 9, cut the answer of scripted short"):
        chat.with_structured_output(Order).invoke("What?", max_tokens=9)
    with pytest.raises(ModelError, match="cut the call of scripted short"):
        chat.bind_tools([look], tool_choice="any").invoke("What?")
    assert chat.invoke("A story, please.").response_metadata["finish_reason"] == "length"


def test_a_model_keeps_its_sampling_and_a_call_may_change_it(blobs: BlobStore) -> None:
    model = ScriptedModel(["ok"] * 2)
    chat = ChatMMAgent(chat=model, blobs=blobs, temperature=0.5, top_k=7, stop=["END"], seed=1)
    chat.invoke("Hi.")
    chat.invoke("Hi.", temperature=0.0, stop=["."])
    first, second = (request.sampling for request in model.requests)
    assert (first.temperature, first.top_k, first.stop, first.seed) == (0.5, 7, ("END",), 1)
    assert (second.temperature, second.top_k, second.stop) == (0.0, 7, (".",))


def test_tokens_are_the_models_own(blobs: BlobStore) -> None:
    chat = as_langchain(ScriptedModel([]), blobs=blobs)
    assert chat.get_num_tokens("one two three") == 3
    assert chat.get_num_tokens_from_messages([HumanMessage(content=[block(png("red"))])]) == 1
    kept = trim_messages([HumanMessage("a b c"), HumanMessage("d e")], max_tokens=3, token_counter=chat)
    assert [message.text for message in kept] == ["d e"]


def test_langchain_can_read_what_the_model_can_do(blobs: BlobStore) -> None:
    profile = as_langchain(ScriptedModel([]), blobs=blobs).profile
    assert profile is not None
    assert profile["image_inputs"]
    assert profile["image_tool_message"]
    assert profile["tool_choice"]
    assert not profile["image_url_inputs"]


async def test_leaving_or_cancelling_an_async_stream_cancels_the_model(blobs: BlobStore) -> None:
    left, cancelled = Watched(["word " * 100_000]), Watched(["word " * 100_000])
    stream = as_langchain(left, blobs=blobs).astream("Go on.")
    assert (await anext(stream)).text == "word "
    await stream.aclose()  # type: ignore[attr-defined]
    await until(lambda: left.closed)
    task = asyncio.create_task(as_langchain(cancelled, blobs=blobs).ainvoke("Go on."))
    await until(lambda: bool(cancelled.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.closed


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0)


async def test_many_questions_at_once(blobs: BlobStore) -> None:
    chat = as_langchain(ScriptedModel([lambda request: request.messages[-1].text] * 40), blobs=blobs)
    questions: list[Any] = [f"question {number}" for number in range(20)]
    assert [answer.text for answer in chat.batch(questions)] == questions
    assert [answer.text for answer in await chat.abatch(questions)] == questions


def test_what_is_no_model_of_ours_is_refused(blobs: BlobStore) -> None:
    with pytest.raises(ConfigurationError, match="a ChatMMAgent is no model of mmagent"):
        as_langchain(as_langchain(ScriptedModel([]), blobs=blobs), blobs=blobs)  # type: ignore[arg-type]
