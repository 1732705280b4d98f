"""What a turn does: its events, its history, its limits, and how it can be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from pydantic import BaseModel, field_validator

from mmagent.agent import Agent, ToolContext, tool
from mmagent.chat.protocol import Capabilities, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall
from mmagent.content import Audio, Image, Quoted
from mmagent.errors import ConfigurationError, InputError, LimitError, MediaError, ModelError, NotFound, TurnError
from mmagent.events import (
    EVENTS,
    Event,
    MediaAdmitted,
    MediaSubstituted,
    TextDelta,
    ToolCalled,
    ToolFinished,
    TurnFailed,
    TurnFinished,
    TurnStarted,
    Usage,
)
from mmagent.knowledge import Hit
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.settings import Settings
from mmagent.testing import ScriptedModel, call

Make = Callable[..., Agent]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """An agent without built-in tools, whose media are in a folder of the test."""

    def agent(model: Any, tools: Any = None, **options: Any) -> Agent:
        return Agent(model, tools, **{"builtins": False, "blobs": BlobStore(tmp_path / "blobs")} | options)

    return agent


class Stalls:
    """A model that says something, perhaps calls a tool, and then never goes on."""

    name = "stalls"
    capabilities = Capabilities(context_length=1000)

    def __init__(self, *before: ModelEvent) -> None:
        self.before = before
        self.closed = False

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        try:
            for event in self.before:
                yield event
            await asyncio.Event().wait()
        finally:
            self.closed = True

    def count_tokens(self, request: ModelRequest) -> int:
        return 0


class Says(Stalls):
    """A model that plays events and ends."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        for event in self.before:
            yield event


def kinds(events: tuple[Event, ...]) -> list[str]:
    return [event.type for event in events]


def spoken(agent: Agent) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in agent.session.messages]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_an_answer_without_tools(make: Make) -> None:
    agent = make(ScriptedModel(["Hello you."]), instructions="Be kind.")
    result = await agent.arun("Hi")
    assert (result.text, result.output, result.citations, result.steps) == ("Hello you.", None, (), 1)
    assert kinds(result.events) == ["turn_started", "step_started", "text_delta", "text_delta", "turn_finished"]
    assert spoken(agent) == [("user", "Hi"), ("assistant", "Hello you.")]
    assert result.messages == agent.session.messages
    assert all(EVENTS.validate_json(event.model_dump_json()) == event for event in result.events)


async def test_the_model_is_given_the_prompt_the_history_and_the_tools(make: Make) -> None:
    model = ScriptedModel(["one", "two"])
    agent = make(model, [add], instructions="Be kind.")
    await agent.arun("first")
    await agent.arun("second")
    asked = model.requests[1]
    assert [message.role for message in asked.messages] == ["system", "user", "assistant", "user"]
    assert asked.messages[0].text.endswith("Be kind.")
    assert [(spec.name, spec.description) for spec in asked.tools] == [("add", "Add two numbers.")]
    assert asked.output is None


async def test_a_longer_conversation_begins_with_the_shorter_one(make: Make) -> None:
    model = ScriptedModel([call("add", a=1, b=2), call("add", a=3, b=4), "7"])
    await make(model, [add]).arun("sum up")
    for shorter, longer in zip(model.requests, model.requests[1:], strict=False):
        assert longer.messages[: len(shorter.messages)] == shorter.messages
        assert longer.tools == shorter.tools


async def test_calls_of_one_step_run_side_by_side_and_keep_their_results(make: Make) -> None:
    arrived = asyncio.Barrier(3)

    async def echo(word: str) -> str:
        await arrived.wait()
        return word.upper()

    model = ScriptedModel([["Wait. ", *(call("echo", word=word) for word in "abc")], "done"])
    agent = make(model, [echo])
    result = await agent.arun("go")
    called = [(event.id, event.args["word"]) for event in result.events if isinstance(event, ToolCalled)]
    ended = {event.id: event.content for event in result.events if isinstance(event, ToolFinished)}
    shown = [(message.tool_call_id, message.text) for message in result.messages if message.role == "tool"]
    assert shown == [(identity, word.upper()) for identity, word in called]
    assert ended == {identity: ({"type": "text", "text": word.upper()},) for identity, word in called}


async def test_results_stand_in_the_order_of_the_calls_not_of_their_ends(make: Make) -> None:
    last_is_done = asyncio.Event()

    async def slow() -> str:
        await last_is_done.wait()
        return "slow"

    async def quick() -> str:
        last_is_done.set()
        return "quick"

    agent = make(ScriptedModel([[call("slow"), call("quick")], "end"]), [slow, quick])
    result = await agent.arun("go")
    assert [event.name for event in result.events if isinstance(event, ToolFinished)] == ["quick", "slow"]
    assert [message.text for message in result.messages if message.role == "tool"] == ["slow", "quick"]


async def test_ids_that_a_model_gives_twice_are_told_apart(make: Make) -> None:
    first, second = ({"type": "tool_call", "id": "1", "name": "add", "args": {"a": 1, "b": b}} for b in (1, 2))
    model = Says(ModelToolCall(first), ModelToolCall(second), ModelDone(Usage(), "tool_calls"))  # type: ignore[arg-type]
    agent = make(model, [add], max_steps=2)
    with pytest.raises(TurnError):
        await agent.arun("go")
    messages = agent.session.messages
    assert [message.text for message in messages if message.role == "tool"] == ["2", "3", "2", "3"]
    assert len({block["id"] for message in messages for block in message.tool_calls}) == 4


async def test_tokens_are_added_up(make: Make) -> None:
    model = ScriptedModel([call("add", a=1, b=2), "3"])
    result = await make(model, [add]).arun("go")
    prompts = sum(model.count_tokens(request) for request in model.requests)
    assert (result.usage.prompt_tokens, result.steps) == (prompts, 2)
    assert result.usage.completion_tokens > 0
    end = result.events[-1]
    assert isinstance(end, TurnFinished)
    assert 0 < end.context_tokens - model.count_tokens(model.requests[-1]) < 5, "the last prompt and its answer"


# What is refused


@pytest.mark.parametrize("content", [(), ("",), ("  \n",), ("", " ")])
async def test_an_empty_question_is_refused(make: Make, content: tuple[str, ...]) -> None:
    agent = make(ScriptedModel([]))
    with pytest.raises(InputError, match="the question is empty"):
        await agent.arun(*content)
    assert spoken(agent) == []


async def test_a_refused_question_leaves_no_trace(make: Make, tmp_path: Path) -> None:
    text_file = tmp_path / "fake.png"
    text_file.write_text("no picture")
    model = ScriptedModel(["fine"])
    agent = make(model)
    for item, error in (
        (Image(tmp_path / "missing.png"), NotFound),
        (Image(text_file), MediaError),
        (Audio(text_file), MediaError),
        (tmp_path, InputError),
        ("half \ud83d pair", InputError),
    ):
        with pytest.raises(error):
            await agent.arun("what is this?", item)
    assert (spoken(agent), model.requests) == ([], [])
    assert (await agent.arun("and now?")).text == "fine"


@pytest.mark.parametrize(
    ("limits", "setting"),
    [({"max_images_per_turn": 1}, "MAX_IMAGES_PER_TURN"), ({"max_request_bytes": 80}, "MAX_REQUEST_BYTES")],
)
async def test_too_much_is_refused_with_the_setting(
    make: Make, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], setting: str
) -> None:
    monkeypatch.setattr("mmagent.agent.question.settings", lambda: Settings(**limits))  # type: ignore[arg-type]
    agent = make(ScriptedModel([]))
    with pytest.raises(LimitError, match=f"MMAGENT_{setting}"):
        await agent.arun("see", *[Image(PIL.Image.new("RGB", (8, 8))) for _ in range(2)])
    assert spoken(agent) == []


# Pictures


async def test_pictures_are_admitted_and_referred_to(make: Make, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "receipt.png")
    model = ScriptedModel(["a receipt"])
    result = await make(model).arun("what is it?", Image(tmp_path / "receipt.png"))
    (admitted,) = (event for event in result.events if isinstance(event, MediaAdmitted))
    assert (admitted.name, admitted.mime_type, admitted.width, admitted.height) == ("receipt.png", "image/png", 30, 20)
    assert isinstance(result.events[0], TurnStarted)
    (picture,) = model.requests[0].messages[-1].media
    assert picture["file_id"] == admitted.file_id
    assert picture["file_id"] in model.requests[0].blobs


async def test_a_picture_alone_is_a_question(make: Make) -> None:
    assert (await make(ScriptedModel(["black"])).arun(Image(PIL.Image.new("RGB", (2, 2))))).text == "black"


async def test_a_model_that_cannot_see_is_told_so_and_so_is_the_user(make: Make) -> None:
    def draw() -> PIL.Image.Image:
        return PIL.Image.new("RGB", (5, 6))

    model = ScriptedModel([call("draw"), "one", "two"], capabilities=Capabilities(context_length=1000))
    agent = make(model, [draw, "read_text"])
    first = await agent.arun("what is it?", Image(PIL.Image.new("RGB", (3, 4))))
    second = await agent.arun("sure?")
    notes = [f"[picture {number}, the model cannot see it; read_text can read it]" for number in ("1: 3x4", "2: 5x6")]
    told = [
        [event.instead for event in result.events if isinstance(event, MediaSubstituted)] for result in (first, second)
    ]
    assert told == [notes, []]
    asked = model.requests[2].messages
    assert [message.text for message in asked[1:]] == [f"what is it?{notes[0]}", "", notes[1], "one", "sure?"]
    assert not any(message.media for message in asked)
    assert len(first.messages[0].media) == 1


async def test_reading_is_not_promised_where_it_is_not_there(make: Make) -> None:
    model = ScriptedModel(["what?"], capabilities=Capabilities(context_length=1000))
    await make(model).arun(Image(PIL.Image.new("RGB", (3, 4))))
    assert model.requests[0].messages[-1].text == "[picture 1: 3x4, the model cannot see it]"


# Typed answers


class Answer(BaseModel):
    order: Quoted
    days: int

    @field_validator("days")
    @classmethod
    def positive(cls, days: int) -> int:
        if days < 0:
            raise ValueError("days cannot be negative")
        return days


@dataclass
class Count:
    number: int


async def test_a_typed_answer(make: Make) -> None:
    model = ScriptedModel(['{"order": "A-1", "days": 3}'])
    result = await make(model).arun("where is A-1?", output=Answer)
    assert result.output == Answer(order="A-1", days=3)
    assert model.requests[0].output == {
        "type": "object",
        "additionalProperties": False,
        "required": ["order", "days"],
        "properties": {"order": {"type": "string", "x-quoted": True}, "days": {"type": "integer"}},
    }
    end = result.events[-1]
    assert isinstance(end, TurnFinished)
    assert end.output == {"order": "A-1", "days": 3}


@pytest.mark.parametrize(("kind", "value"), [(Count, Count(3)), (dict[str, int], {"number": 3})])
async def test_other_types_than_models(make: Make, kind: Any, value: Any) -> None:
    assert (await make(ScriptedModel(['{"number": 3}'])).arun("how many?", output=kind)).output == value


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("three days", "error: Invalid JSON: expected ident at line 1 column 2; answer again"),
        ('{"order": "A-1"}', "error: days: Field required; answer again"),
        ('{"order": "A-1", "days": -1}', "error: days: days cannot be negative; answer again"),
        ('{"order": "B-2", "days": 1}', "error: order: 'B-2' stands nowhere in the conversation; answer again"),
    ],
)
async def test_a_wrong_answer_is_told_once_and_asked_again(make: Make, wrong: str, told: str) -> None:
    model = ScriptedModel([wrong, '{"order": "A-1", "days": 3}'])
    result = await make(model).arun("where is A-1?", output=Answer)
    assert result.output == Answer(order="A-1", days=3)
    (said,) = [message for message in model.requests[1].messages if message.name == "correction"]
    assert said.text == told


async def test_two_wrong_answers_end_the_turn(make: Make) -> None:
    agent = make(ScriptedModel(['{"order": "B-2", "days": 1}'] * 2))
    with pytest.raises(TurnError, match="wrong twice: order: 'B-2' stands nowhere"):
        await agent.arun("where is A-1?", output=Answer)


async def test_a_type_without_a_schema_is_refused_before_anything_happens(make: Make) -> None:
    agent = make(ScriptedModel([]))
    with pytest.raises(ConfigurationError, match="an answer cannot be a Agent"):
        await agent.arun("go", output=Agent)
    assert spoken(agent) == []


# Citations


LAMPS = Hit("1", "Lamps can be returned within 30 days. Bulbs cannot.", "Returns > Lamps", "returns.md", 0, 51, 1.0)
POST = Hit("2", "Parcels take two days.", "Post", "post.md", 0, 22, 1.0)


def search(ctx: ToolContext) -> str:
    return " ".join(f"[{ctx.cite(hit)}] {hit.text}" for hit in (LAMPS, POST))


async def test_marks_become_citations_with_verbatim_quotes(make: Make) -> None:
    answer = "You have 30 days to return lamps [1]. A bulb cannot come back. [1] It takes two days [2], not five [7]."
    result = await make(ScriptedModel([call("search"), answer]), [search]).arun("go")
    assert [(one.number, one.title, one.uri, one.quote) for one in result.citations] == [
        (1, "Returns > Lamps", "returns.md", "Lamps can be returned within 30 days."),
        (1, "Returns > Lamps", "returns.md", "Bulbs cannot."),
        (2, "Post", "post.md", "Parcels take two days."),
    ]
    assert result.text == answer


async def test_numbers_go_on_from_turn_to_turn(make: Make) -> None:
    agent = make(ScriptedModel([call("search"), "yes [1]", "still [1]", call("search"), "and [2]"]), [search])
    titles = [[one.title for one in (await agent.arun(asked)).citations] for asked in ("go", "sure?", "again")]
    assert titles == [["Returns > Lamps"], ["Returns > Lamps"], ["Post"]]


async def test_in_typed_answers_marks_are_looked_for_in_strings_only(make: Make) -> None:
    model = ScriptedModel([call("search"), '{"a": [1], "b": [[2]], "c": "30 days [1]"}'])
    result = await make(model, [search]).arun("go", output=dict[str, Any])
    assert [one.number for one in result.citations] == [1]


# Failures and limits


async def failed(agent: Agent, *content: Any) -> tuple[list[Event], Exception]:
    """The events and the error of a turn that fails."""
    events: list[Event] = []
    with pytest.raises((ModelError, TurnError)) as error:
        async for event in agent.stream(*content):
            events.append(event)
    return events, error.value


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (ModelError("the model is away"), ModelError, "the model is away"),
        (ValueError("bad shape\n[3, 4]"), ModelError, "the model scripted failed: ValueError: bad shape; ask again"),
        (TimeoutError(), ModelError, "the model scripted failed: TimeoutError"),
    ],
)
async def test_a_model_that_fails_ends_the_turn_and_not_the_session(
    make: Make, raised: Exception, error: type[Exception], message: str
) -> None:
    agent = make(ScriptedModel([raised, "here again"]))
    events, told = await failed(agent, "first")
    assert isinstance(told, error)
    assert str(told).startswith(message)
    assert events[-1] == TurnFailed(error="ModelError", message=str(told))
    await agent.arun("second")
    assert spoken(agent) == [("user", "first"), ("user", "second"), ("assistant", "here again")]


async def test_what_a_model_said_before_it_failed_is_kept_as_interrupted(make: Make) -> None:
    class Breaks(Stalls):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            yield ModelText("The answer ")
            raise ConnectionError("gone")

    agent = make(Breaks())
    await failed(agent, "go")
    assert spoken(agent) == [("user", "go"), ("assistant", "The answer ")]
    assert agent.session.journal.read(agent.session.id)[-2].data["interrupted"] is True


async def test_an_empty_answer_is_an_error(make: Make) -> None:
    agent = make(ScriptedModel(["  "]))
    _, error = await failed(agent, "go")
    assert "the model scripted gave an empty answer" in str(error)
    assert spoken(agent) == [("user", "go")]


async def test_the_step_limit(make: Make) -> None:
    agent = make(ScriptedModel([call("add", a=1, b=1)] * 3), [add], max_steps=3)
    events, error = await failed(agent, "go")
    assert isinstance(error, TurnError)
    assert "after 3 steps; ask for less at once or raise max_steps (MMAGENT_MAX_STEPS)" in str(error)
    assert sum(isinstance(event, ToolFinished) for event in events) == 3
    assert isinstance(events[-1], TurnFailed)


async def test_the_time_limit_stops_the_model(make: Make) -> None:
    model = Stalls(ModelText("Well, "))
    agent = make(model, turn_timeout=0.05)
    events, error = await failed(agent, "go")
    assert isinstance(error, TurnError)
    assert "within 0.05 s; ask for less at once or raise turn_timeout (MMAGENT_TURN_TIMEOUT)" in str(error)
    assert isinstance(events[-1], TurnFailed)
    assert model.closed
    assert spoken(agent) == [("user", "go"), ("assistant", "Well, ")]


async def test_the_token_limit(make: Make) -> None:
    agent = make(Says(ModelText("cut of"), ModelDone(Usage(completion_tokens=2), "length")))
    _, error = await failed(agent, "go")
    assert isinstance(error, TurnError)
    assert "MMAGENT_MAX_TOKENS" in str(error)
    assert spoken(agent)[-1] == ("assistant", "cut of")


@pytest.mark.parametrize("limits", [{"max_steps": 0}, {"turn_timeout": 0}])
def test_limits_that_allow_nothing_are_refused(make: Make, limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        make(ScriptedModel([]), **limits)


# Stopping


async def test_closing_the_iterator_stops_the_model_and_keeps_what_it_said(make: Make) -> None:
    model = Stalls(ModelText("I was "), ModelText("saying"))
    agent = make(model)
    said = 0
    async with aclosing(agent.stream("go")) as events:
        async for event in events:
            said += isinstance(event, TextDelta)
            if said == 2:
                break
    assert model.closed
    assert spoken(agent) == [("user", "go"), ("assistant", "I was saying")]
    agent.model = ScriptedModel(["go on"])
    assert (await agent.arun("next")).text == "go on"


async def test_cancelling_the_task_stops_a_tool_and_leaves_a_history_that_models_accept(make: Make) -> None:
    running, stopped = asyncio.Event(), []

    @tool
    async def pay() -> None:
        """Pay."""
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    agent = make(ScriptedModel([[call("add", a=1, b=2), call("pay")], "fine"]), [add, pay])
    task = asyncio.create_task(agent.arun("go"))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped == [True]
    await agent.arun("what now?")
    tools = [message.text for message in agent.session.messages if message.role == "tool"]
    assert tools[1] == "error: interrupted; it is unknown whether pay took effect"
    assert tools[0] in ("3", "error: interrupted; it is unknown whether add took effect")


async def test_no_task_is_left_behind(make: Make) -> None:
    before = asyncio.all_tasks()
    async with aclosing(make(Stalls(ModelText("x"))).stream("go")) as events:
        await anext(events)
    await make(ScriptedModel(["x"])).arun("go")
    assert asyncio.all_tasks() == before


async def test_two_turns_at_once_come_one_after_the_other(make: Make) -> None:
    model = ScriptedModel([call("add", a=1, b=2), "three", "four"])
    agent = make(model, [add])
    await asyncio.gather(agent.arun("first"), agent.arun("second"))
    words = [text for _, text in spoken(agent)]
    first, second = ("first", "second") if words[0] == "first" else ("second", "first")
    assert words == [first, "", "3", "three", second, "four"]


# Between processes and without a loop


def test_run_needs_no_event_loop(make: Make) -> None:
    agent = make(ScriptedModel(["one", "two"]))
    assert [agent.run("a").text, agent.run("b").text] == ["one", "two"]


async def test_run_inside_a_loop_says_what_to_write(make: Make) -> None:
    with pytest.raises(ConfigurationError, match=r"await agent\.arun"):
        make(ScriptedModel([])).run("go")


def test_a_conversation_goes_on_after_a_restart(make: Make, tmp_path: Path) -> None:
    make(ScriptedModel([call("add", a=1, b=2), "three"]), [add], session=Session.open("a", tmp_path / "s")).run("sum?")
    model = ScriptedModel(["still three"])
    result = make(model, [add], session=Session.open("a", tmp_path / "s")).run("sure?")
    assert [message.text for message in model.requests[0].messages[1:]] == ["sum?", "", "3", "three", "sure?"]
    assert isinstance(result.events[0], TurnStarted)
    assert result.events[0].session == "a"


def test_a_session_by_name_is_kept_and_closed(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.paths.data_dir", lambda: tmp_path)
    with make(ScriptedModel(["hello"]), session="mine") as agent:
        agent.run("hi")
    with make(ScriptedModel([]), session="mine") as agent:
        assert spoken(agent) == [("user", "hi"), ("assistant", "hello")]


async def test_a_picture_can_be_pinned_by_its_number(make: Make, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    agent = make(ScriptedModel(["A lamp."]))
    with pytest.raises(InputError, match="there is no picture 1; the conversation has 0"):
        agent.pin(1)
    await agent.arun("what is it?", Image(tmp_path / "a.png"))
    agent.pin(1)
    file_id = agent.session.state.media[0]["file_id"]
    assert agent.session.state.pictures[file_id].pinned
    for number in (0, 2):
        with pytest.raises(InputError, match=f"there is no picture {number}; the conversation has 1"):
            agent.pin(number)
