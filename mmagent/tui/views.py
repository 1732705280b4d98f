"""How each item of a conversation looks. It knows items, no events and no agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from mmagent.cli.printable import printable
from mmagent.tui.items import Answer, Call, Item, Note, Plan, Question, Thought
from mmagent.tui.markdown import GrowingMarkdown

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from mmagent.content import MediaBlock
    from mmagent.events import Citation

_MARKS = {"waiting": "?", "running": "…", "done": "✓", "failed": "✗", "denied": "⊘", "unknown": "·"}
_STYLES = {
    "waiting": "yellow",
    "running": "cyan",
    "done": "green",
    "failed": "red",
    "denied": "yellow",
    "unknown": "dim",
}
_TICKS = {"pending": "☐", "active": "▶", "done": "☑"}
_LONGEST = 20_000
"""Characters of a result that are shown."""
_LONG_ARGS = 40
"""Characters from which arguments are shown under the line, too."""
_MOST_ROWS, _MOST_COLUMNS, _WIDEST_CELL = 50, 8, 40


class ShowPicture(Message):
    """A view wants a stored picture drawn at its end."""

    def __init__(self, parent: Widget, block: MediaBlock) -> None:
        super().__init__()
        self.place, self.block = parent, block


class OpenCitation(Message):
    """Somebody wants to see where an answer has something from."""

    def __init__(self, citation: Citation) -> None:
        super().__init__()
        self.citation = citation


class ItemView(Vertical):
    """One item."""

    def __init__(self, item: Item, *, classes: str = "") -> None:
        super().__init__(classes=f"item {classes}")
        self.item = item

    async def show(self) -> None:
        """Show the item as it is now."""


class QuestionView(ItemView):
    """What the user said, with pictures."""

    def compose(self) -> ComposeResult:
        """The words."""
        assert isinstance(self.item, Question)
        if self.item.text:
            yield Static(Text(printable(self.item.text)))

    def on_mount(self) -> None:
        """The files that are known already."""
        self._shown = 0
        self._show_media()

    async def show(self) -> None:
        """Files that have been taken in meanwhile."""
        self._show_media()

    def _show_media(self) -> None:
        assert isinstance(self.item, Question)
        for block in self.item.media[self._shown :]:
            self.post_message(ShowPicture(self, block))
        self._shown = len(self.item.media)


class NoteView(ItemView):
    """One line beside the conversation."""

    def compose(self) -> ComposeResult:
        """The line."""
        assert isinstance(self.item, Note)
        yield Static(Text(printable(self.item.text)))


class PlanView(ItemView):
    """The plan, ticked off."""

    def compose(self) -> ComposeResult:
        """The steps."""
        yield Static(self._text())

    async def show(self) -> None:
        """The steps as they are now."""
        self.query_one(Static).update(self._text())

    def _text(self) -> Text:
        assert isinstance(self.item, Plan)
        text = Text("plan", style="bold")
        for step in self.item.steps:
            style = {"done": "dim", "active": "bold"}.get(step.status, "")
            text.append(f"\n{_TICKS[step.status]} {printable(step.text)}", style)
        return text


class FoldingView(ItemView, can_focus=True):
    """A line that opens into more."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space", "fold", "Open or fold", show=False)]

    def __init__(self, item: Item, *, unfolded: bool, classes: str) -> None:
        super().__init__(item, classes=classes)
        self.unfolded = unfolded
        self.chosen = False
        """Whether the user folded or opened it."""

    def compose(self) -> ComposeResult:
        """The line."""
        yield Static(self.line(), classes="line")

    async def on_mount(self) -> None:
        """What is open from the beginning."""
        await self.show()

    async def show(self) -> None:
        """The line as it is now, and the body where it is open."""
        self.query_one(".line", Static).update(self.line())
        bodies = self.query(".body")
        if self.unfolded != bool(bodies):
            await (self.mount(Vertical(*self.body(), classes="body")) if self.unfolded else bodies.remove())
            if self.unfolded:
                self.opened()

    async def action_fold(self) -> None:
        """Open or fold it."""
        self.chosen = True
        await self.fold(not self.unfolded)

    async def fold(self, unfolded: bool) -> None:
        """Open it, or fold it."""
        self.unfolded = unfolded
        await self.show()

    async def on_click(self, event: Any) -> None:
        """A click on the line does what Enter does."""
        if event.widget is self.query_one(".line", Static):
            await self.action_fold()

    def line(self) -> Text:
        """What is always there."""
        raise NotImplementedError

    def body(self) -> Iterator[Widget]:
        """What is there while it is open."""
        raise NotImplementedError

    def opened(self) -> None:
        """The body has just been shown."""


class ThoughtView(FoldingView):
    """What the model thought: one line, or all of it."""

    def line(self) -> Text:
        """Its beginning."""
        assert isinstance(self.item, Thought)
        words = " ".join(printable(self.item.text).split())
        text = Text(f"{'▾' if self.unfolded else '▸'} thought", style="dim italic", no_wrap=True, overflow="ellipsis")
        return text if self.unfolded else text.append(f"  {words[:200]}")

    def body(self) -> Iterator[Widget]:
        """All of it."""
        assert isinstance(self.item, Thought)
        yield Static(Text(printable(self.item.text), style="dim italic"), classes="thought")

    async def show(self) -> None:
        """It may have grown."""
        await super().show()
        assert isinstance(self.item, Thought)
        for body in self.query(".thought").results(Static):
            body.update(Text(printable(self.item.text), style="dim italic"))


class CallView(FoldingView):
    """A tool call: its name, arguments, state and time; open, its result."""

    def __init__(self, item: Call, *, expand: str) -> None:
        self._expand = expand
        super().__init__(item, unfolded=self._rule(item), classes="call")

    def line(self) -> Text:
        """``✓ lookup_order(id="A-1")  0.02 s``."""
        call = self.item
        assert isinstance(call, Call)
        args = ", ".join(
            f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in call.args.items()
        )
        text = Text(f"{'▾' if self.unfolded else '▸'} ", no_wrap=True, overflow="ellipsis")
        text.append(f"{_MARKS[call.status]} ", _STYLES[call.status])
        seconds = f"  {call.seconds:.2f} s" if call.seconds is not None else ""
        state = {"waiting": "  waits for you", "denied": "  denied"}.get(call.status, "")
        by = f"{call.by}: " if call.by else ""
        room = max(10, self.app.size.width - 12 - len(seconds) - len(state) - len(call.name) - len(by))
        args = printable(" ".join(args.split()))
        text.append(printable(f"{by}{call.name}"), "bold").append(
            f"({args if len(args) <= room else args[: room - 1] + '…'})"
        )
        text.append(state or seconds, "dim")
        if call.progress:
            text.append(f"  {printable(call.progress)}", "dim")
        return text

    async def show(self) -> None:
        """A call that failed opens by itself, unless somebody decided otherwise."""
        assert isinstance(self.item, Call)
        if not self.chosen:
            self.unfolded = self._rule(self.item)
        finished = self.item.status in ("done", "failed")
        for body in self.query(".body"):
            if finished and not body.has_class("finished"):
                await body.remove()
        await super().show()
        for body in self.query(".body"):
            body.set_class(finished, "finished")

    def body(self) -> Iterator[Widget]:
        """Arguments, then the result as a table, as JSON or as text."""
        call = self.item
        assert isinstance(call, Call)
        if len(json.dumps(call.args, default=str)) > _LONG_ARGS:
            yield Static(_json(call.args), classes="args")
        if call.error is not None:
            yield Static(Text(printable(call.error)[:_LONGEST], style="red"))
            return
        words = "\n".join(block["text"] for block in call.content if block["type"] == "text")
        yield from (Static(drawn) for drawn in (_drawn(call.data, words),) if drawn is not None)

    def opened(self) -> None:
        """Its pictures are drawn too."""
        assert isinstance(self.item, Call)
        for body in self.query(".body"):
            for block in (*self.item.content, *self.item.artifacts):
                if block["type"] == "image":
                    self.post_message(ShowPicture(body, block))

    def _rule(self, call: Call) -> bool:
        failed = call.status == "failed"
        return self._expand == "always" or (self._expand == "failed" and failed)


class CitationView(Static, can_focus=True):
    """Where the answer has something from; Enter or a click opens it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open the source")]

    def __init__(self, citation: Citation) -> None:
        from mmagent.knowledge.cite import where

        mark = f"{citation.mark} → {citation.number}" if citation.mark != citation.number else f"{citation.number}"
        text = Text().append(f"[{mark}] ", "bold").append(printable(citation.title), "underline")
        text.append(f" ({printable(where(citation))})", "dim")
        if quote := " ".join(citation.quote.split()):
            text.append(f' "{printable(quote)}"', "italic")
        super().__init__(text, classes="citation")
        self._citation = citation

    def action_open(self) -> None:
        """Show the source."""
        self.post_message(OpenCitation(self._citation))

    def on_click(self) -> None:
        """As Enter."""
        self.action_open()


class AnswerView(ItemView):
    """What the model wrote, and where it has it from."""

    def compose(self) -> ComposeResult:
        """The text."""
        yield GrowingMarkdown()

    async def on_mount(self) -> None:
        """What is known already."""
        await self.show()

    async def show(self) -> None:
        """What is new of it."""
        answer = self.item
        assert isinstance(answer, Answer)
        await self.query_one(GrowingMarkdown).show(answer.text, more=answer.open)
        if answer.citations and not self.query(CitationView):
            await self.mount_all(CitationView(one) for one in answer.citations)
        if answer.stopped and not self.query(".stopped"):
            await self.mount(Static(Text("stopped", style="dim"), classes="stopped"))


def view_of(item: Item, expand: str, *, thoughts: bool) -> ItemView:
    """The view of an item.

    Args:
        item: What is to be shown.
        expand: Which results are open: ``never``, ``failed`` or ``always``.
        thoughts: Whether thoughts are.
    """
    match item:
        case Question():
            return QuestionView(item, classes="question")
        case Answer():
            return AnswerView(item, classes="answer")
        case Call():
            return CallView(item, expand=expand)
        case Thought():
            return ThoughtView(item, unfolded=thoughts, classes="thinking")
        case Plan():
            return PlanView(item, classes="plan")
        case Note():
            return NoteView(item, classes=f"note {item.kind}")


def _drawn(data: Any, words: str) -> Any:
    """A result as a person wants to see it: short rows as a table, what is JSON in lines, else the text."""
    parsed = _parsed(words)
    found = data if data is not None else parsed
    if isinstance(found, list) and found and all(isinstance(row, dict) and row for row in found) and _is_narrow(found):
        return _table(found)
    if parsed is not None or (isinstance(found, dict | list) and not words.strip()):
        return _json(found)
    if not words.strip():
        return None
    cut = f"\n… {len(words) - _LONGEST:,} characters more" if len(words) > _LONGEST else ""
    return Text(printable(words[:_LONGEST])).append(cut, "dim")


def _is_narrow(rows: list[dict[str, Any]]) -> bool:
    """Whether rows fit a terminal side by side."""
    names = {name for row in rows for name in row}
    cells = (len(_cell(value)) for row in rows[:_MOST_ROWS] for value in row.values())
    return len(names) <= _MOST_COLUMNS and max(cells) <= _WIDEST_CELL


def _parsed(words: str) -> Any:
    if not words.lstrip().startswith(("{", "[")) or len(words) > _LONGEST:
        return None
    try:
        return json.loads(words)
    except (ValueError, RecursionError):
        return None


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich import box
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows[:_MOST_ROWS] for name in row))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(Text(printable(str(name))), overflow="fold")
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(Text(printable(_cell(row.get(name, "")))) for name in names))
    if len(rows) > _MOST_ROWS:
        table.caption = f"{len(rows) - _MOST_ROWS:,} rows more"
    return table


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _json(value: Any) -> Text:
    from rich.highlighter import JSONHighlighter

    lines = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    text = Text(printable(lines[:_LONGEST]))
    JSONHighlighter().highlight(text)
    return text
