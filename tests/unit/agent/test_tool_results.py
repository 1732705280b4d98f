"""What the model is shown of what tools return and of how they fail. The wording is a contract."""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy
import PIL.Image
import pytest
from pydantic import BaseModel

from mmagent.agent import Agent, Tool, ToolContext, ToolResult, tool
from mmagent.agent.tools.calls import perform
from mmagent.content import Audio, Image, Message, Quoted
from mmagent.errors import StoreError, ToolError
from mmagent.events import ToolFinished
from mmagent.media import BlobStore
from mmagent.session.journal import Draft
from mmagent.testing import ScriptedModel, call


class Order(BaseModel):
    id: str
    due: date


@dataclass
class Point:
    x: int
    y: float


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


async def finished(
    one: Tool[..., Any] | Callable[..., Any], blobs: BlobStore, question: str = "go", /, **args: Any
) -> ToolFinished:
    """What happened to one call of a tool, checked to be what the model saw too."""
    name = one.name if isinstance(one, Tool) else one.__name__
    model = ScriptedModel([call(name, **args), "end"])
    events = (await Agent(model, [one], builtins=False, blobs=blobs).arun(question)).events
    event = next(event for event in events if isinstance(event, ToolFinished))
    if all(block["type"] in ("text", "image") for block in event.content):  # others are put in words for this model
        seen = model.requests[1].messages[-1].model_copy(update={"labels": ()})
        assert seen == Message(role="tool", content=event.content, tool_call_id=event.id, name=name)
    return event


def words(event: ToolFinished) -> str:
    return "".join(block["text"] for block in event.content if block["type"] == "text")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("as it is\n", "as it is\n"),
        (None, "done"),
        (7, "7"),
        (2.5, "2.5"),
        (True, "true"),
        ({"ä": [1, None], "b": "c"}, '{"ä": [1, null], "b": "c"}'),
        ([1, "two"], '[1, "two"]'),
        ((1, 2), "[1, 2]"),
        (Order(id="A", due=date(2026, 1, 2)), '{"id": "A", "due": "2026-01-02"}'),
        ([Point(1, 2.0)], '[{"x": 1, "y": 2.0}]'),
        (Decimal("1.50"), '"1.50"'),
        (ToolResult(["a", {"b": 1}, None]), 'a\n{"b": 1}\ndone'),
        (ToolResult([]), "done"),
        (ToolResult({"b": 1}), '{"b": 1}'),
        ("half \ud83d pair", "half ? pair"),
    ],
)
async def test_what_a_tool_returns_is_shown(value: Any, shown: str, blobs: BlobStore) -> None:
    def act() -> Any:
        return value

    event = await finished(act, blobs)
    assert words(event) == shown
    assert (event.error, event.crashed, event.data) == (None, False, None)


async def test_data_goes_beside_the_content_as_json(blobs: BlobStore) -> None:
    def act() -> ToolResult:
        return ToolResult("shown", data=[Point(1, 2.0)])

    event = await finished(act, blobs)
    assert (words(event), event.data) == ("shown", [{"x": 1, "y": 2.0}])


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Colour.RED, '"red"'),
        (datetime(2026, 1, 2, 3, 4), '"2026-01-02T03:04:00"'),
        (UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
        ({"when": date(2026, 1, 2), 5: {1}}, '{"when": "2026-01-02", "5": [1]}'),
        ([[1, 2], [3, 4]], "[[1, 2], [3, 4]]"),
        (numpy.float32(2.5), "2.5"),
        (numpy.int64(3), "3"),
        ({"n": numpy.int64(3)}, '{"n": 3}'),
        (numpy.array([[1, 2]]), '{"shape": [1, 2], "dtype": "int64", "values": [[1, 2]]}'),
        (
            numpy.arange(2000.0),
            '{"shape": [2000], "dtype": "float64", "min": 0.0, "max": 1999.0, "mean": 999.5, '
            '"note": "2,000 values are too many to show"}',
        ),
        (b"plain text", "plain text"),
        (ToolResult([ToolResult("a", data=1), "b"]), "a\nb"),
        ("", ""),
        ([], "[]"),
    ],
)
async def test_what_libraries_give_is_shown_too(value: Any, shown: str, blobs: BlobStore) -> None:
    def act() -> Any:
        return value

    assert words(await finished(act, blobs)) == shown


async def test_files_are_shown_by_what_is_in_them(blobs: BlobStore, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (3, 2)).save(tmp_path / "picture.dat", "PNG")
    (tmp_path / "notes").write_text("grüße")
    (tmp_path / "terms").write_bytes(b"%PDF-1.7 ...")

    def act() -> Any:
        return [tmp_path / "picture.dat", tmp_path / "notes", tmp_path / "terms", (tmp_path / "terms").read_bytes()]

    event = await finished(act, blobs)
    assert [block["type"] for block in event.content] == ["image", "text", "file", "file"]
    assert words(event) == "grüße"
    labels = [block["extras"]["label"] for block in event.content if block["type"] != "text"]
    assert labels == ["act 1", "act 2", "act 3"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "MediaError: .* is a folder; give one file of it"),
        ("missing", "NotFound: there is no file .*; check the path"),
        ("unknown", "MediaError: unknown of unknown type cannot be shown"),
        ("archive", "MediaError: archive is no document: its content is application/zip"),
    ],
)
async def test_files_that_cannot_be_shown_are_told(name: str, why: str, blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "unknown").write_bytes(b"\x00\x01")
    (tmp_path / "archive").write_bytes(b"PK\x03\x04")

    def act() -> Path:
        return tmp_path / name

    event = await finished(act, blobs)
    assert event.error is not None and re.match(f"act failed: {why}", event.error)


async def test_recordings_are_kept_bit_for_bit(blobs: BlobStore) -> None:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, numpy.zeros(1600), 16_000, format="WAV")

    def act() -> Any:
        return ToolResult([Audio(file.getvalue()), "a second"])

    event = await finished(act, blobs)
    block: Any = event.content[0]
    assert (block["type"], block["mime_type"], block["extras"]["seconds"]) == ("audio", "audio/wav", 0.1)
    assert blobs.get(block["file_id"]) == file.getvalue()


async def test_artifacts_are_for_programs_and_the_model_is_told_one_line(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "report.bin").write_bytes(bytes(1500))

    @tool
    def act() -> ToolResult:
        return ToolResult("made it", artifacts=[tmp_path / "report.bin", b"%PDF-1.7"])

    outcome = await perform(act, {}, ToolContext(), blobs, 10)
    assert [block.get("text") for block in outcome.content] == [
        "made it\n"
        "[report.bin: 1,500 bytes, application/octet-stream; kept for the program]\n"
        "[the file: 8 bytes, application/pdf; kept for the program]"
    ]
    assert [blobs.get(block["file_id"]) for block in outcome.artifacts] == [bytes(1500), b"%PDF-1.7"]


async def test_tables_are_shown_as_tables(blobs: BlobStore) -> None:
    pandas = pytest.importorskip("pandas")

    def act() -> Any:
        return ["orders:", pandas.DataFrame({"id": ["A|1", "B"], "price": [1.5, float("nan")]})]

    def long() -> Any:
        return pandas.Series(range(60), name="n", index=[f"row {row}" for row in range(60)])

    assert words(await finished(act, blobs)) == ("orders:\n| id | price |\n| --- | --- |\n| A\\|1 | 1.5 |\n| B |  |")
    lines = words(await finished(long, blobs)).splitlines()
    assert lines[:3] == ["|  | n |", "| --- | --- |", "| row 0 | 0 |"]
    assert lines[-1] == "[cut: these are the first 50 of 60 rows]"


async def test_tables_of_polars_are_shown_alike(blobs: BlobStore) -> None:
    polars = pytest.importorskip("polars")

    def act() -> Any:
        return polars.DataFrame({"id": ["A", None], "n": [1, 2]})

    assert words(await finished(act, blobs)) == "| id | n |\n| --- | --- |\n| A | 1 |\n|  | 2 |"


async def test_figures_are_shown_as_pictures(blobs: BlobStore) -> None:
    figures = pytest.importorskip("matplotlib.figure")

    def act() -> Any:
        figure = figures.Figure(figsize=(2, 1), dpi=100)
        figure.subplots().plot([1, 3, 2])
        return [figure, "sales"]

    def huge() -> Any:
        return figures.Figure(figsize=(1000, 1000), dpi=100)

    event = await finished(act, blobs)
    assert [block["type"] for block in event.content] == ["image", "text"]
    picture: Any = event.content[0]
    assert blobs.open_image(picture["file_id"]).size == (200, 100)
    assert str((await finished(huge, blobs)).error).startswith("huge failed: LimitError: the figure is 100,000 x")


@pytest.mark.parametrize("wrapped", [lambda pixels: pixels, Image])
async def test_pictures_are_shown_as_pictures(wrapped: Callable[[Any], Any], blobs: BlobStore) -> None:
    def act() -> Any:
        return ToolResult(["before", wrapped(PIL.Image.new("RGB", (3, 2), "red")), "after"])

    event = await finished(act, blobs)
    assert [block["type"] for block in event.content] == ["text", "image", "text"]
    picture: Any = event.content[1]
    assert blobs.open_image(picture["file_id"]).size == (3, 2)


async def test_later_calls_see_the_pictures_of_earlier_ones(blobs: BlobStore) -> None:
    def draw() -> PIL.Image.Image:
        return PIL.Image.new("RGB", (5, 5))

    def measure(ctx: ToolContext) -> list[int]:
        return [ctx.open_picture(number).width for number in (0, 1, 2)]

    def miss(ctx: ToolContext) -> None:
        ctx.open_picture(3)

    model = ScriptedModel([call("draw"), call("measure"), call("miss"), "end"])
    agent = Agent(model, [draw, measure, miss], builtins=False, blobs=blobs)
    result = await agent.arun("see", Image(PIL.Image.new("RGB", (9, 9))))
    shown = [words(event) for event in result.events if isinstance(event, ToolFinished)]
    assert shown[1:] == ["[5, 9, 5]", "error: there is no picture 3; the latest is picture 2"]


def lookup(number: Quoted, count: int = 1) -> str:
    return f"{count} of {number}"


def raises_tool_error() -> None:
    raise ToolError("there is no order of that number")


def raises() -> None:
    raise KeyError("order")


def raises_nothing_to_say() -> None:
    raise AssertionError


def stops_iteration() -> None:
    next(iter(()))


def exits() -> None:
    raise SystemExit(3)


async def exits_async() -> None:
    raise SystemExit(3)


async def cancels_itself() -> None:
    raise asyncio.CancelledError


def raises_timeout() -> None:
    raise TimeoutError("the server is slow")


def returns_what_is_no_json() -> object:
    return object()


@pytest.mark.parametrize(
    ("act", "args", "error", "crashed"),
    [
        (lookup, {}, "lookup got wrong arguments: number: Field required", False),
        (lookup, {"number": "A-1", "count": "x"}, "lookup got wrong arguments: count: Input should be a valid", False),
        (lookup, {"number": "A-1", "n": 1}, "lookup got wrong arguments: n: Extra inputs are not permitted", False),
        (
            lookup,
            {"number": "A-9"},
            "lookup got wrong arguments: number: 'A-9' stands nowhere in the conversation",
            False,
        ),
        (lookup, {"number": ""}, "lookup got wrong arguments: number: '' stands nowhere in the conversation", False),
        (raises_tool_error, {}, "there is no order of that number", False),
        (raises, {}, "raises failed: KeyError: 'order'", True),
        (raises_nothing_to_say, {}, "raises_nothing_to_say failed: AssertionError", True),
        (stops_iteration, {}, "stops_iteration failed: RuntimeError: coroutine raised StopIteration", True),
        (exits, {}, "exits failed: SystemExit: 3", True),
        (exits_async, {}, "exits_async failed: SystemExit: 3", True),
        (cancels_itself, {}, "cancels_itself failed: CancelledError", True),
        (raises_timeout, {}, "raises_timeout failed: TimeoutError: the server is slow", True),
        (returns_what_is_no_json, {}, "returns_what_is_no_json failed: PydanticSerializationError: Unable", True),
    ],
)
async def test_failures_are_told_to_the_model(
    act: Callable[..., Any], args: dict[str, Any], error: str, crashed: bool, blobs: BlobStore
) -> None:
    event = await finished(act, blobs, "where is A-1?", **args)
    assert event.error is not None
    assert event.error.startswith(error)
    assert event.crashed is crashed
    assert words(event) == f"error: {event.error}"


async def test_a_quote_is_accepted_as_it_stands(blobs: BlobStore) -> None:
    assert words(await finished(lookup, blobs, "where is A-1?", number="A-1", count=2)) == "2 of A-1"


async def test_a_quote_may_come_from_a_tool_but_not_from_the_model_or_its_mistakes(blobs: BlobStore) -> None:
    def find() -> str:
        return "order B-2"

    tries = [call("lookup", number=number) for number in ("X-1", "X-1", "B-2")]
    model = ScriptedModel([["X-1? ", call("X-1")], tries[0], tries[1], call("find"), tries[2], "end"])
    result = await Agent(model, [lookup, find], builtins=False, blobs=blobs).arun("where?")
    shown = [words(event) for event in result.events if isinstance(event, ToolFinished)]
    refused = "error: lookup got wrong arguments: number: 'X-1' stands nowhere in the conversation"
    assert shown == ["error: there is no tool X-1; there are: lookup, find", refused, refused, "order B-2", "1 of B-2"]


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Hung threads wait for this, so that none outlives its test."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_tool_that_hangs_is_left_behind(blobs: BlobStore, released: threading.Event) -> None:
    @tool(timeout=0.02)
    def hang() -> None:
        released.wait(30)

    event = await finished(hang, blobs)
    assert (event.error, event.crashed) == ("hang timed out after 0.02 s", True)


async def test_an_async_tool_that_hangs_is_cancelled(blobs: BlobStore) -> None:
    cancelled: list[bool] = []

    @tool(timeout=0.02)
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    event = await finished(hang, blobs)
    assert (event.error, cancelled) == ("hang timed out after 0.02 s", [True])


async def test_a_blocking_tool_does_not_block_the_event_loop(blobs: BlobStore, released: threading.Event) -> None:
    def wait() -> str:
        return "released" if released.wait(30) else "stuck"

    async def release() -> str:
        released.set()
        return "released it"

    model = ScriptedModel([[call("wait"), call("release")], "end"])
    result = await Agent(model, [wait, release], builtins=False, blobs=blobs).arun("go")
    assert [message.text for message in result.messages if message.role == "tool"] == ["released", "released it"]


async def test_long_output_is_cut_and_says_so(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmagent.settings import Settings

    monkeypatch.setattr("mmagent.agent.tools.calls.settings", lambda: Settings(max_tool_output_chars=10))

    def act() -> ToolResult:
        return ToolResult(["abcdef", PIL.Image.new("RGB", (1, 1)), "ghijklm"])

    event = await finished(act, blobs)
    assert [block["type"] for block in event.content] == ["text", "image", "text", "text"]
    assert words(event) == "abcdefghij\n[cut: this is the beginning, 10 of 13 characters]"


async def test_a_traceback_goes_to_the_log_and_to_nobody_else(
    blobs: BlobStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="mmagent.agent"):
        event = await finished(raises, blobs)
    assert "Traceback" in caplog.text
    assert "Traceback" not in event.model_dump_json()


async def test_a_tool_never_runs_whose_intent_cannot_be_written(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[bool] = []

    def act() -> None:
        ran.append(True)

    async def full(*drafts: Draft, **_: object) -> None:
        if any(draft.kind == "intent" for draft in drafts):
            raise StoreError("the disk is full")

    agent = Agent(ScriptedModel([call("act")]), [act], builtins=False, blobs=blobs)
    monkeypatch.setattr(agent.session, "record", full)
    with pytest.raises(StoreError, match="the disk is full"):
        await agent.arun("go")
    assert ran == []
