"""What each feature and state looks like, as text, at three widths: a change of looks is seen in the diff.

``UPDATE_SNAPSHOTS=1 pytest tests/tui/test_snapshots.py`` draws them anew.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from mmagent.content import text
from mmagent.events import (
    ApprovalRequested,
    Citation,
    PlanStep,
    PlanUpdated,
    ReasoningDelta,
    StepStarted,
    TextDelta,
    ToolCalled,
    ToolFinished,
    ToolProgress,
    TurnFailed,
    TurnFinished,
    Usage,
)
from mmagent.tui import panels
from mmagent.tui.app import ChatApp
from mmagent.tui.composer import Staged
from mmagent.tui.pickers import Choice, Picker, Question, Word
from mmagent.tui.sessions import SessionPicker
from mmagent.tui.turns import Over
from tests.tui.driving import happen, maker, running, screen_text, until

SNAPSHOTS = Path(__file__).parent / "snapshots"
WIDTHS = (60, 100, 160)
HEIGHT = 30
State = Callable[[ChatApp, Pilot[None]], Awaitable[None]]
STATES: dict[str, State] = {}


def state(make: State) -> State:
    """A state of the app that has a snapshot."""
    STATES[make.__name__] = make
    return make


def finished(words: str, *citations: Citation) -> TurnFinished:
    usage = Usage(prompt_tokens=900, completion_tokens=60)
    return TurnFinished(text=words, citations=citations, usage=usage, context_tokens=960, steps=1, seconds=2.0)


def called(
    number: int, name: str, result: str = "", data: Any = None, error: str | None = None, **args: Any
) -> list[Any]:
    made = ToolCalled(step=1, id=str(number), name=name, args=args)
    content = (text(result),) if result else ()
    return [
        made,
        ToolFinished(step=1, id=str(number), name=name, content=content, data=data, error=error, seconds=0.02),
    ]


async def say(app: ChatApp, question: str) -> None:
    await app.transcript.update([app.story.asked(question)])


@state
async def empty(app: ChatApp, pilot: Pilot[None]) -> None:
    """Nothing was said yet."""


@state
async def answer(app: ChatApp, pilot: Pilot[None]) -> None:
    await say(app, "Can I still return the lamp?")
    cited = Citation(
        number=2, marked=1, title="Returns > Return window", uri="returns.md", quote="within 30 days of delivery"
    )
    plain = Citation(number=3, title="Manual", uri="manual.pdf", quote="", kind="page", page=12)
    words = "Yes: **18 days** are left. [1]\n\n| item | price |\n|---|---|\n| lamp | 48.90 |\n\n1. pack it\n2. send it"
    await happen(
        app, [StepStarted(step=1), TextDelta(step=1, text=words), finished(words, cited, plain), Over(None, 0.4, 2.0)]
    )


@state
async def writing(app: ChatApp, pilot: Pilot[None]) -> None:
    await say(app, "Write a function.")
    app.status.figures.queued = 2
    await happen(
        app, [StepStarted(step=1), TextDelta(step=1, text="Here it is:\n\n```python\ndef add(a, b):\n    return")]
    )


@state
async def calls(app: ChatApp, pilot: Pilot[None]) -> None:
    await say(app, "Where is my order?")
    events = [
        *called(1, "lookup_order", data=[{"id": "A-1", "price": 3}], order_id="A-1"),
        *called(2, "send_mail", error="there is no address; give one", to="you"),
        ToolCalled(step=1, id="3", name="search", args={"query": "a long question " * 20}),
        ToolProgress(id="3", name="search", message="page 3 of 12", fraction=0.25),
    ]
    await happen(app, events)


@state
async def results(app: ChatApp, pilot: Pilot[None]) -> None:
    await app.transcript.set_results("always")
    await say(app, "Show everything.")
    rows = [{"id": "A-1", "price": 3, "what": "lamp"}, {"id": "B-2", "price": 4.5, "what": "mug"}]
    events = [
        *called(1, "orders", data=rows),
        *called(2, "order", result='{"id": "A-1", "lines": [1, 2]}', id="A-1"),
        *called(
            3, "read", result="first line\nsecond [bold]line[/]\x1b[31m", path="/a/very/long/path/to/some/file.txt"
        ),
    ]
    await happen(app, events)


@state
async def thought_folded(app: ChatApp, pilot: Pilot[None]) -> None:
    await say(app, "Think.")
    await happen(app, [ReasoningDelta(step=1, text="First this.\nThen that."), TextDelta(step=1, text="Done.")])


@state
async def thought_open(app: ChatApp, pilot: Pilot[None]) -> None:
    await thought_folded(app, pilot)
    await app.transcript.set_thoughts(True)


@state
async def plan(app: ChatApp, pilot: Pilot[None]) -> None:
    await say(app, "Do it step by step.")
    steps = (
        PlanStep(text="read the receipt", status="done"),
        PlanStep(text="look the order up", status="active"),
        PlanStep(text="answer"),
    )
    await happen(app, [PlanUpdated(steps=steps)])


@state
async def approval(app: ChatApp, pilot: Pilot[None]) -> None:
    await say(app, "Write to them.")
    await happen(app, [ToolCalled(step=1, id="1", name="send_mail", args={"to": "a@shop.example"})])
    args = {"to": "a@shop.example", "text": "Dear Ann,\nit is on its way.\x1b[2J", "copies": ["b", "c"]}
    asked = ApprovalRequested(id="1", name="send_mail", args=args, why="mail leaves the house")
    await happen(app, [asked])
    app.approval.ask(asked, lambda how: None)
    app.approval.focus()


@state
async def commands(app: ChatApp, pilot: Pilot[None]) -> None:
    app.composer.write("/re")


@state
async def chips(app: ChatApp, pilot: Pilot[None]) -> None:
    app.composer.write("What is on these?")
    app.composer.stage(Staged(Path("receipt.png"), "receipt.png"))
    app.composer.stage(Staged(Path("note.wav"), "note.wav"))


@state
async def error(app: ChatApp, pilot: Pilot[None]) -> None:
    await say(app, "Go on.")
    await happen(app, [TurnFailed(error="TurnError", message="12 steps without an answer; raise max_steps"), Over()])


@state
async def stopped(app: ChatApp, pilot: Pilot[None]) -> None:
    await say(app, "Tell me a story.")
    await happen(app, [TextDelta(step=1, text="Once upon a time")])
    await app.transcript.update(app.story.stop())


@state
async def recording(app: ChatApp, pilot: Pilot[None]) -> None:
    figures = app.status.figures
    figures.recording, figures.level, figures.working = True, 0.6, "listening"
    app.composer.write("my order number is")
    app.status.show()


@state
async def help(app: ChatApp, pilot: Pilot[None]) -> None:
    panels.do_help(app, "")


@state
async def sessions(app: ChatApp, pilot: Pilot[None]) -> None:
    rows = [
        Choice(
            "can-i-still-return-the-lamp", "can-i-still-return-the-lamp", "today 09:12  Can I still return the lamp?"
        ),
        Choice("holiday", "holiday", "yesterday 18:03  What is in this picture?"),
    ]
    app.push_screen(SessionPicker(rows, app.background))


@state
async def models(app: ChatApp, pilot: Pilot[None]) -> None:
    entries = [
        Choice("nano", "nano", "text, image · 9M · fits"),
        Choice("org/large", "org/large", "text · 70.0B · too large"),
    ]
    app.push_screen(Picker("models on this machine   others: /model NAME", entries, "nano"))


@state
async def question(app: ChatApp, pilot: Pilot[None]) -> None:
    app.push_screen(Question("delete holiday? What was said in it and its pictures are gone then."))


@state
async def word(app: ChatApp, pilot: Pilot[None]) -> None:
    app.push_screen(Word("a name for this conversation", "holiday"))


def shows(app: ChatApp, expected: str) -> bool:
    return screen_text(app) + "\n" == expected


@pytest.mark.parametrize("name", STATES)
async def test_it_looks_as_it_did(name: str) -> None:
    for width in WIDTHS:
        app = ChatApp(maker())
        async with running(app, (width, HEIGHT)) as pilot:
            await STATES[name](app, pilot)
            await pilot.pause()
            await pilot.pause(0.3)
            file = SNAPSHOTS / f"{name}-{width}.txt"
            expected = file.read_text(encoding="utf-8") if file.is_file() else ""
            with suppress(AssertionError):  # the foot of the screen is drawn anew a little later
                await until(partial(shows, app, expected), 3)
            seen = screen_text(app) + "\n"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(seen, encoding="utf-8")
            expected = seen
        assert seen == expected, f"{name} looks otherwise at {width} columns"


def test_no_snapshot_is_left_over() -> None:
    kept = {f"{name}-{width}.txt" for name in STATES for width in WIDTHS}
    assert {file.name for file in SNAPSHOTS.iterdir()} == kept
