"""What a turn looks like: steps on stderr, the answer on stdout, and data never obeyed."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from mmagent.cli.printable import printable
from mmagent.cli.view import JsonLinesView, JsonView, TerminalView, cited
from mmagent.content import text
from mmagent.events import (
    EVENTS,
    Citation,
    Event,
    HistoryCompacted,
    MediaAdmitted,
    StepStarted,
    TextDelta,
    ToolCalled,
    ToolFinished,
    TurnFailed,
    TurnFinished,
    TurnStarted,
    Usage,
)

RESULT = '{"item": "lamp", "bought": "2026-11-02"}'
CITATION = Citation(
    number=1, title="Returns > Return window", uri="/shop/returns.md", quote="within 30 days of\nthe purchase"
)
TURN: list[Event] = [
    TurnStarted(session="anna", model="nano"),
    MediaAdmitted(file_id="sha256:0", mime_type="image/png", name="receipt.png", width=480, height=640),
    StepStarted(step=1),
    TextDelta(step=1, text="Look the "),
    TextDelta(step=1, text="order up."),
    ToolCalled(step=1, id="1", name="lookup_order", args={"order_id": "A-48213"}),
    ToolFinished(step=1, id="1", name="lookup_order", content=(text(RESULT),), seconds=0.25),
    StepStarted(step=2),
    TextDelta(step=2, text="Yes, until "),
    TextDelta(step=2, text="2 December [1]."),
    TurnFinished(
        text="Yes, until 2 December [1].",
        citations=(CITATION,),
        usage=Usage(prompt_tokens=1204, cached_tokens=980, completion_tokens=85),
        steps=2,
        seconds=3.21,
    ),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(events: list[Event], out: io.StringIO | None = None, **options: Any) -> tuple[str, str]:
    out, err = out or io.StringIO(), io.StringIO()
    view = TerminalView(out=out, err=err, **options)
    for event in events:
        view.show(event)
    return out.getvalue(), err.getvalue()


def finished(result: str, **more: Any) -> ToolFinished:
    return ToolFinished(step=1, id="1", name="lookup_order", content=(text(result),), seconds=0.25, **more)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_a_pipe_gets_the_answer_and_its_citations_and_nothing_else() -> None:
    out, _ = shown(TURN)
    assert out == (
        'Yes, until 2 December [1].\n[1] Returns > Return window (returns.md): "within 30 days of the purchase"\n'
    )


def test_the_steps_are_told_in_order() -> None:
    _, err = shown(TURN)
    assert err.splitlines() == [
        "model nano · session anna",
        "picture receipt.png (480×640)",
        "Look the order up.",
        '→ lookup_order(order_id="A-48213")',
        f"← {RESULT}  0.25 s",
        "2 steps · 1,204 tokens in (980 cached), 85 out · 3.2 s",
    ]


def test_each_step_is_told_when_it_happens() -> None:
    out, err = io.StringIO(), io.StringIO()
    view = TerminalView(out=out, err=err)
    for event in TURN[:6]:
        view.show(event)
    assert err.getvalue().endswith('→ lookup_order(order_id="A-48213")\n')


def test_a_terminal_sees_the_text_as_it_is_written_and_once() -> None:
    terminal = Terminal()
    view = TerminalView(out=terminal, err=io.StringIO())
    for event in TURN[:9]:
        view.show(event)
    assert terminal.getvalue() == "Look the order up.\nYes, until "
    for event in TURN[9:]:
        view.show(event)
    assert terminal.getvalue().count("Yes, until 2 December [1].") == 1


def test_a_final_answer_that_differs_from_the_stream_is_shown() -> None:
    end = TurnFinished(text="Yes.", usage=Usage(), steps=1, seconds=1)
    out, _ = shown([TextDelta(step=1, text="Yes [7]."), end], Terminal())
    assert out == "Yes [7].\nYes.\n"


def test_quiet_leaves_only_the_answer() -> None:
    out, err = shown(TURN, quiet=True)
    assert out.startswith("Yes, until 2 December [1].\n")
    assert err == ""


def test_long_results_take_one_line_unless_verbose() -> None:
    result = "\n".join(f"line {number}" for number in range(100))
    _, short = shown([finished(result)])
    _, whole = shown([finished(result)], verbose=True)
    (line,) = short.splitlines()
    assert len(line) <= 100
    assert "…" in line
    assert line.endswith("0.25 s")
    assert "line 99" in whole


def test_wide_characters_count_as_two() -> None:
    _, err = shown([finished("退" * 200)])
    (line,) = err.splitlines()
    assert len(line) <= 60


def test_calls_in_parallel_say_whose_result_it_is() -> None:
    calls = [ToolCalled(step=1, id=str(n), name=name, args={}) for n, name in enumerate(("today", "look"))]
    done = ToolFinished(step=1, id="1", name="look", content=(text("a lamp"),), seconds=1)
    _, err = shown([*calls, done])
    assert "← look a lamp" in err


def test_a_picture_that_a_tool_gives_is_told_by_its_size() -> None:
    block = {"type": "image", "file_id": "sha256:1", "extras": {"width": 20, "height": 10}}
    event = EVENTS.validate_python(
        {"type": "tool_finished", "step": 1, "id": "1", "name": "look", "content": [block], "seconds": 0.1}
    )
    _, err = shown([event])
    assert "← [picture 20×10]" in err


@pytest.mark.parametrize(("turns", "said"), [(1, "1 turn is now"), (2, "2 turns are now")])
def test_turns_in_short_are_told(turns: int, said: str) -> None:
    _, err = shown([HistoryCompacted(turns=turns, tokens_before=4100, tokens_after=900)])
    assert err == f"the model's context is full; {said} in short (4,100 tokens became 900)\n"


def test_data_cannot_drive_the_terminal() -> None:
    evil = "\x1b[31mred\x1b]0;title\x07\x9b2J\rover\u202ereversed"
    events: list[Event] = [
        ToolCalled(step=1, id="1", name="read", args={"x": evil}),
        finished(evil),
        TurnFinished(text=evil, usage=Usage(), steps=1, seconds=1),
    ]
    for out, err in (shown(events), shown(events, Terminal(), verbose=True)):
        assert not any(character in out + err for character in "\x1b\x07\x9b\r\u202e")
        assert "\\x1b[31mred" in out
        assert "\\x1b[31mred" in err


def test_data_is_no_markup() -> None:
    _, err = shown([finished("[bold]x[/bold] :smile: [link=https://a.example]y[/link]")])
    assert "[bold]x[/bold] :smile: [link=https://a.example]y[/link]" in err


def test_colour_only_in_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def coloured() -> bool:
        err = Terminal()
        TerminalView(out=io.StringIO(), err=err).show(TURN[0])
        return "\x1b[" in err.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured()
    assert "\x1b" not in shown(TURN)[1]


def test_a_failed_turn_is_one_line() -> None:
    out, err = shown([TextDelta(step=1, text="Let me"), TurnFailed(error="TurnError", message="12 steps\nwere taken")])
    assert out == ""
    assert err.splitlines()[-1] == "error: 12 steps were taken"


@pytest.mark.parametrize("options", [{}, {"quiet": True}])
def test_a_crash_of_a_tool_is_told_at_once(options: dict[str, bool]) -> None:
    _, err = shown([finished("error: x", error="lookup_order failed: KeyError: 'a'", crashed=True)], **options)
    assert "error: lookup_order failed: KeyError: 'a'" in err


def test_json_is_one_object_with_everything() -> None:
    out = io.StringIO()
    view = JsonView(out, io.StringIO())
    for event in TURN:
        view.show(event)
    answer = json.loads(out.getvalue())
    assert answer["text"] == "Yes, until 2 December [1]."
    assert answer["error"] is None
    assert answer["citations"][0]["quote"] == CITATION.quote
    assert answer["usage"]["cached_tokens"] == 980
    (call,) = answer["calls"]
    assert (call["name"], call["args"], call["result"]) == ("lookup_order", {"order_id": "A-48213"}, RESULT)


def test_json_of_a_failure_names_the_error() -> None:
    out, err = io.StringIO(), io.StringIO()
    JsonView(out, err).show(TurnFailed(error="NotFound", message="there is no file x"))
    assert json.loads(out.getvalue())["error"] == {"type": "NotFound", "message": "there is no file x"}
    assert err.getvalue() == "error: there is no file x\n"


def test_json_lines_are_the_events() -> None:
    out, err = io.StringIO(), io.StringIO()
    view = JsonLinesView(out, err)
    events = [*TURN, finished("", error="x timed out after 1 s", crashed=True)]
    for event in events:
        view.show(event)
    assert [EVENTS.validate_json(line) for line in out.getvalue().splitlines()] == events
    assert err.getvalue() == "error: x timed out after 1 s\n"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\r\nb", "a\nb"),
        ("\x00", "\\x00"),
        ("\udc80", "\\udc80"),
        ("é 退", "é 退"),
    ],
)
def test_printable(given: str, wanted: str) -> None:
    assert printable(given) == wanted


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, '[1] Manual (manual.pdf): "Turn it."'),
        ({"page": 12}, '[1] Manual (manual.pdf, p. 12): "Turn it."'),
        ({"uri": "call.wav", "t0": 62.0, "t1": 77.0}, '[1] Manual (call.wav, 1:02-1:17): "Turn it."'),
        ({"uri": "a.png", "quote": "", "box": (0.1, 0.2, 0.6, 0.3)}, "[1] Manual (a.png, region 10,20-60,30 %)"),
        ({"marked": 3}, '[3 → 1] Manual (manual.pdf): "Turn it."'),
    ],
)
def test_a_citation_says_where_it_stands_and_what_was_marked(more: dict[str, Any], line: str) -> None:
    fields: dict[str, Any] = {"number": 1, "title": "Manual", "uri": "shop/manual.pdf", "quote": "Turn\nit."}
    assert cited(Citation(**fields | more)) == line
