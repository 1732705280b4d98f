"""How a turn looks in a terminal, a pipe or a program. It knows events, and
takes what models and tools say for data.

Steps go to stderr and the answer to stdout, so that a pipe gets the answer alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from mmagent.cli.printable import complain, printable
from mmagent.content import Block
from mmagent.events import (
    ApprovalDecided,
    Citation,
    Event,
    HandedOff,
    HistoryCompacted,
    MediaAdmitted,
    MediaSubstituted,
    PictureReduced,
    PlanUpdated,
    ReasoningDelta,
    SubagentEvent,
    TextDelta,
    ToolCalled,
    ToolFinished,
    ToolProgress,
    TurnFailed,
    TurnFinished,
    TurnPaused,
    TurnStarted,
)
from mmagent.knowledge.cite import where

if TYPE_CHECKING:
    from rich.console import Console

_TICKS = {"pending": "☐", "active": "▶", "done": "☑"}


class View(Protocol):
    """Something that shows a turn."""

    def show(self, event: Event) -> None:
        """Show one event, as soon as it happens."""


class TerminalView:
    """A turn for a person: each step as it happens, then the answer, its citations and what it cost.

    Where stdout is a terminal the text appears as the model writes it; in a pipe only the answer is written there.

    Args:
        quiet: Show the answer, its citations and errors only.
        verbose: Show calls and results whole, not shortened to one line of the terminal.
    """

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, out: TextIO | None = None, err: TextIO | None = None
    ) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._live = self._out.isatty()
        self._quiet, self._verbose = quiet, verbose
        self._console = _console(self._err)
        self._written: list[str] = []  # the text of this step
        self._running: dict[str, str] = {}  # calls in flight: id -> tool
        self._thoughts: list[str] = []
        self._mid_line = False

    def show(self, event: Event) -> None:
        """Show one event, as soon as it happens."""
        if not isinstance(event, ReasoningDelta):
            self._end_of_thought()
        match event:
            case ReasoningDelta():
                self._thoughts.append(event.text)
            case TurnStarted():
                session = f" · session {event.session}" if event.session else ""
                self._note(f"model {event.model}{session}", "dim")
            case MediaAdmitted():
                size = f" ({event.width}×{event.height})" if event.width and event.height else ""
                kind = {"audio": "recording", "video": "video"}.get(event.mime_type.partition("/")[0], "picture")
                self._note(f"{kind} {event.name}{size}", "dim")
            case MediaSubstituted():
                self._note(f"the model cannot take {event.file_id[:15]}…; it was given {event.instead}", "yellow")
            case PictureReduced():
                shown = "smaller" if event.level == "smaller" else f"as a {event.level}"
                self._note(f"the model's context is full; {event.file_id[:15]}… is shown to it {shown}", "yellow")
            case HistoryCompacted():
                tokens = f"{event.tokens_before:,} tokens became {event.tokens_after:,}"
                turns = "1 turn is" if event.turns == 1 else f"{event.turns:,} turns are"
                self._note(f"the model's context is full; {turns} now in short ({tokens})", "yellow")
            case TextDelta():
                self._text(event.text)
            case ToolCalled():
                self._end_of_plan()
                self._running[event.id] = event.name
                self._note(f"→ {_call(event)}", "cyan")
            case ToolProgress():
                done = f" {event.fraction:.0%}" if event.fraction is not None else ""
                self._note(f"… {event.name}{done} {event.message}", "dim")
            case ToolFinished():
                self._result(event)
            case PlanUpdated():
                for step in event.steps:
                    self._note(f"{_TICKS[step.status]} {step.text}", "dim" if step.status == "done" else "none")
            case ApprovalDecided():
                self._note(f"{'allowed' if event.allowed else 'denied'} {event.reason}".strip(), "yellow")
            case HandedOff():
                self._note(f"⇒ {event.agent} goes on: {event.reason}", "cyan")
            case SubagentEvent():
                self._of_another(event)
            case TurnFinished():
                self._answer(event)
            case TurnPaused():
                self._end_of_plan()
            case TurnFailed():
                self._end_of_plan()
                complain(event.message, self._err)

    def _note(self, line: str, style: str) -> None:
        """One line about a step."""
        if self._quiet:
            return
        self._end_line()
        from rich.text import Text

        text = Text(printable(line), style=style)
        if not self._verbose and self._console.is_terminal:
            text = Text(" ".join(text.plain.split("\n")), style=style)
            text.truncate(self._console.width, overflow="ellipsis")
        self._console.print(text, soft_wrap=True)

    def _text(self, text: str) -> None:
        """A piece of text, which may turn out to be the plan or the answer."""
        piece = text if self._written else text.lstrip()
        if not piece:
            return
        self._written.append(piece)
        if self._live:
            self._write(printable(piece))

    def _end_of_thought(self) -> None:
        """What the model thought before this, in one line."""
        if thought := " ".join("".join(self._thoughts).split()):
            self._note(f"thought: {thought}", "dim italic")
        self._thoughts.clear()

    def _end_of_plan(self) -> None:
        """What was written in this step was no answer."""
        plan = "".join(self._written).strip()
        self._written.clear()
        if self._live:
            self._end_line()
        elif plan:
            self._note(plan, "none")

    def _of_another(self, event: SubagentEvent) -> None:
        """What an agent does that was asked by this one; of its answer, the tool result tells."""
        inner, by = event.event, f"{event.agent}: "
        match inner:
            case ToolCalled():
                self._note(f"  {by}→ {_call(inner)}", "cyan")
            case ToolFinished():
                text = f"error: {inner.error}" if inner.error is not None else " ".join(_plain(inner.content).split())
                self._note(f"  {by}← {text}", "red" if inner.error is not None else "green")
            case PlanUpdated() | ApprovalDecided() | SubagentEvent():
                self.show(inner)

    def _result(self, event: ToolFinished) -> None:
        name = f"{event.name} " if len(self._running) > 1 else ""
        self._running.pop(event.id, None)
        if event.error is not None:
            if self._quiet and event.crashed:
                complain(event.error, self._err)
            self._note(f"← {name}error: {event.error}", "red")
            return
        result, seconds = f"← {name}{_plain(event.content)}", f"  {event.seconds:.2f} s"
        if not self._verbose:
            result = _shorten(" ".join(result.split()), self._console.width - len(seconds))
        self._note(result + seconds, "green")

    def _answer(self, event: TurnFinished) -> None:
        streamed = "".join(self._written).strip()
        self._written.clear()
        if not (self._live and streamed == event.text.strip()):
            self._end_line()
            self._write(printable(event.text.strip()))
        self._end_line()
        for citation in event.citations:
            self._write(f"{printable(cited(citation))}\n")
        self._note(_cost(event), "dim")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        if text:
            self._mid_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._mid_line:
            self._write("\n")


class JsonView:
    """A turn for a program: one JSON object on stdout when it is over."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._calls: dict[str, dict[str, Any]] = {}

    def show(self, event: Event) -> None:
        """Note one event; print when it is the last."""
        match event:
            case ToolCalled():
                self._calls[event.id] = {"name": event.name, "args": event.args}
            case ToolFinished():
                outcome = {"result": _plain(event.content), "data": event.data, "error": event.error}
                self._calls.setdefault(event.id, {"name": event.name, "args": {}}).update(
                    outcome, seconds=event.seconds
                )
                _complain_of_crash(event, self._err)
            case TurnFinished() | TurnPaused():
                self._print(event.model_dump(mode="json", exclude={"type"}) | {"error": None})
            case TurnFailed():
                self._print({"error": {"type": event.error, "message": event.message}})
                complain(event.message, self._err)

    def _print(self, outcome: dict[str, Any]) -> None:
        line = json.dumps(outcome | {"calls": list(self._calls.values())}, ensure_ascii=False)
        print(line, file=self._out, flush=True)


class JsonLinesView:
    """A turn for a program: every event as one line of JSON on stdout, as it happens."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr

    def show(self, event: Event) -> None:
        """Print one event."""
        print(event.model_dump_json(), file=self._out, flush=True)
        if isinstance(event, ToolFinished):
            _complain_of_crash(event, self._err)
        elif isinstance(event, TurnFailed):
            complain(event.message, self._err)


def cited(citation: Citation) -> str:
    """A citation as one line: ``[1] Manual > Care (manual.pdf, p. 12): "…"``; a picture without words has no quote.

    ``[2 → 1]`` is of passage 1, where the answer has the mark ``[2]``.
    """
    mark = f"{citation.mark} → {citation.number}" if citation.mark != citation.number else f"{citation.number}"
    quote = " ".join(citation.quote.split())
    return f"[{mark}] {citation.title} ({where(citation)})" + (f': "{quote}"' if quote else "")


def _console(file: TextIO) -> Console:
    from rich.console import Console

    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not file.isatty()
    return Console(file=file, color_system=None if plain else "auto", markup=False, highlight=False, emoji=False)


def _call(event: ToolCalled) -> str:
    args = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in event.args.items())
    return f"{event.name}({args})"


def _plain(content: Iterable[Block]) -> str:
    """Blocks as text; a picture is told by its size."""
    parts = []
    for block in content:
        if block["type"] == "text":
            parts.append(block["text"])
        elif block["type"] in ("image", "audio", "video", "file"):
            extras: dict[str, Any] = block.get("extras", {})
            size = f" {extras['width']}×{extras['height']}" if "width" in extras and "height" in extras else ""
            parts.append(f"[{'picture' if block['type'] == 'image' else block['type']}{size}]")
    return "\n".join(parts)


def _shorten(line: str, width: int) -> str:
    from rich.text import Text

    text = Text(printable(line))
    text.truncate(max(width, 10), overflow="ellipsis")
    return text.plain


def _cost(event: TurnFinished) -> str:
    usage = event.usage
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    steps = f"{event.steps} step{'' if event.steps == 1 else 's'}"
    return (
        f"{steps} · {usage.prompt_tokens:,} tokens in{cached}, {usage.completion_tokens:,} out · {event.seconds:.1f} s"
    )


def _complain_of_crash(event: ToolFinished, err: TextIO) -> None:
    if event.crashed and event.error is not None:
        complain(event.error, err)
