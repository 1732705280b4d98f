"""Where the next message is written: lines, history, pastes, completion, and the files that go with it.

It knows text and paths, and no model; it says what was meant by messages.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import OptionList, Static, TextArea
from textual.widgets.option_list import Option

from mmagent.cli.printable import printable
from mmagent.tui.commands import completions
from mmagent.tui.paths import MOST_COMPLETIONS, pasted_path, paths

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.worker import Worker

    from mmagent.tui.pictures import Picture

LONG_LINES, LONG_CHARACTERS = 12, 1200
"""A paste of more becomes a chip."""
LONGEST_PASTE = 1_000_000
"""Characters; a longer one is refused."""
LONGEST_SHOWN = 20_000
"""Characters of a text that comes back to be edited here; of a longer one, its chip comes back."""
MOST_REMEMBERED = 500
"""Messages that ↑ brings back."""
_PASTED = re.compile(r"\[pasted text #(\d+), [\d,]+ lines\]")


@dataclass(frozen=True)
class Staged:
    """A file that goes with the next message."""

    path: Path
    name: str


class Submitted(Message):
    """The message is to be sent."""

    def __init__(self, text: str, staged: tuple[Staged, ...]) -> None:
        super().__init__()
        self.text, self.staged = text, staged


class Commanded(Message):
    """A slash command was entered."""

    def __init__(self, name: str, argument: str) -> None:
        super().__init__()
        self.name, self.argument = name, argument


class Stage(Message):
    """A file was named, dropped or pasted by its path."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path


class Complaint(Message):
    """Something could not be taken in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Typed(Message):
    """A key changed the text."""


class Lines(TextArea):
    """The text itself."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+j,shift+enter,alt+enter", "newline", "New line", show=False)]

    def __init__(self) -> None:
        super().__init__(id="lines", soft_wrap=True, show_line_numbers=False, tab_behavior="focus", compact=True)
        self.highlight_cursor_line = False
        self.placeholder = "Ask something · @file attaches · / commands"

    def action_newline(self) -> None:
        """Go on in the next line."""
        self.insert("\n")

    async def _on_key(self, event: events.Key) -> None:
        composer = self.query_ancestor(Composer)
        if composer.key(event.key):
            event.stop()
            event.prevent_default()
            return
        await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self.query_ancestor(Composer).paste(event.text)


class Composer(Vertical):
    """The lines, the chips above them, and what they may be completed to."""

    def __init__(self) -> None:
        super().__init__(id="composer")
        self.staged: list[Staged] = []
        self._history: list[str] = []
        self._at = 0
        self._draft = ""
        self._pasted: list[str] = []
        self._choices: list[str] = []

    def compose(self) -> ComposeResult:
        """Completions, chips, lines."""
        yield OptionList(id="completions", markup=False)
        yield Horizontal(id="chips")
        yield Lines()

    def on_mount(self) -> None:
        """Nothing to choose from yet."""
        self.query_one("#completions").display = False
        self.query_one("#completions").can_focus = False
        self.query_one("#chips").display = False

    @property
    def lines(self) -> Lines:
        """Where the text is."""
        return self.query_one(Lines)

    @property
    def text(self) -> str:
        """What is written, pastes in full."""
        return _PASTED.sub(self._original, self.lines.text)

    def write(self, text: str) -> None:
        """Put another text there."""
        self._load(printable(text))
        self._complete()

    def clear(self) -> None:
        """Take the text away; ↑ brings it back."""
        self._clear(self.text)

    def give_back(self, message: Submitted) -> None:
        """A message that was not asked comes before what is written now."""
        self.write("\n".join(part for part in (message.text, self.lines.text) if part))
        for staged in message.staged:
            self.stage(staged)

    def remember(self, texts: list[str]) -> None:
        """What the user said before, oldest first."""
        self._history = [printable(text) for text in texts if text.strip()][-MOST_REMEMBERED:]
        self._at = len(self._history)

    def stage(self, staged: Staged, thumbnail: Picture | None = None) -> None:
        """Add a chip, with a small picture beside it where it is one."""
        self.staged.append(staged)
        self.query_one("#chips").mount(Chip(staged, thumbnail))
        self._show_chips()

    def key(self, key: str) -> bool:
        """What a key does here that it does not do in any text; gives whether it did."""
        choosing = bool(self._choices)
        row, _ = self.lines.cursor_location
        match key:
            case "enter" if choosing and self._accept(entered=True):
                return True
            case "enter":
                self._enter()
                return True
            case "tab" if choosing:
                return self._accept(entered=False)
            case "up" | "down" if choosing:
                options = self.query_one("#completions", OptionList)
                (options.action_cursor_up if key == "up" else options.action_cursor_down)()
                return True
            case "escape" if choosing:
                self._offer([])
                return True
            case "up" if row == 0:
                return self._recall(-1)
            case "down" if row == self.lines.document.line_count - 1:
                return self._recall(1)
            case "backspace" if not self.lines.text and self.staged:
                self.staged.pop()
                self._show_chips()
                return True
        return False

    def paste(self, text: str) -> None:
        """Take in a paste: a path becomes a chip, as does a long text; the rest is written."""
        if len(text) > LONGEST_PASTE:
            size = f"this paste has {len(text):,} characters, over {LONGEST_PASTE:,}"
            self.post_message(Complaint(f"{size}; save it and attach the file, or add its folder with /knowledge"))
            return
        text = printable(text.replace("\r\n", "\n").replace("\r", "\n"))
        if (path := pasted_path(text)) is not None:
            self.post_message(Stage(path))
            return
        if text.count("\n") >= LONG_LINES or len(text) > LONG_CHARACTERS:
            text = self._chip_of(text)
        self.lines.insert(text)

    def on_text_area_changed(self) -> None:
        """Offer what it may become."""
        self.post_message(Typed())
        self._complete()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click chooses."""
        event.stop()
        self._accept(entered=False)
        self.lines.focus()

    def _chip_of(self, text: str) -> str:
        self._pasted.append(text)
        lines = text.count("\n") + 1
        return f"[pasted text #{len(self._pasted)}, {lines:,} lines]"

    def _load(self, text: str) -> None:
        if len(text) > LONGEST_SHOWN:
            text = self._chip_of(_PASTED.sub(self._original, text))
        self.lines.load_text(text)
        self.lines.move_cursor(self.lines.document.end)

    def _original(self, match: re.Match[str]) -> str:
        number = int(match[1])
        return self._pasted[number - 1] if 1 <= number <= len(self._pasted) else match[0]

    def _enter(self) -> None:
        lines, text = self.lines, self.text.strip()
        if lines.text.endswith("\\"):  # a new line, where no key for it gets through
            self._load(lines.text[:-1] + "\n")
            return
        if text.startswith("/") and "/" not in text[1:].partition(" ")[0] and "\n" not in text:
            name, _, argument = text[1:].partition(" ")
            self._clear(text)
            self.post_message(Commanded(name, argument.strip()))
        elif text or self.staged:
            staged = tuple(self.staged)
            self.staged = []
            self._show_chips()
            self._clear(text)
            self.post_message(Submitted(text, staged))

    def _clear(self, text: str) -> None:
        if text:
            self._history = [*self._history, text][-MOST_REMEMBERED:]
        self._at, self._draft = len(self._history), ""
        self.lines.load_text("")
        self._pasted.clear()
        self._offer([])

    def _recall(self, by: int) -> bool:
        to = self._at + by
        if not 0 <= to <= len(self._history):
            return False
        if self._at == len(self._history):
            self._draft = self.lines.text
        self._at = to
        self._load(self._draft if to == len(self._history) else self._history[to])
        self._offer([])
        return True

    def _complete(self) -> None:
        """Commands after a slash, paths after an at sign."""
        text = self.lines.text
        if text.startswith("/") and " " not in text and "\n" not in text:
            self._offer(
                [
                    (f"/{one.name} ", f"/{one.name} {one.argument}".strip() + f"  {one.help}")
                    for one in completions(text)
                ]
            )
        elif (found := self._word()) is not None:
            self._complete_path(found[1])
        else:
            self.workers.cancel_group(self, "completion")
            self._offer([])

    def _word(self) -> tuple[int, str] | None:
        """The column of an at sign, and what stands after it up to the cursor; a space in it has a backslash."""
        row, column = self.lines.cursor_location
        before = self.lines.document.get_line(row)[:column]
        match = re.search(r"(?:^|(?<!\\)\s)@((?:\\ |\S)*)$", before)
        return (match.start(1) - 1, match[1].replace("\\ ", " ")) if match else None

    def _complete_path(self, word: str) -> Worker[None]:
        async def look() -> None:
            found = await asyncio.to_thread(paths, word)
            if (there := self._word()) is not None and there[1] == word:
                self._offer([(f"@{path}", path) for path in found])

        return self.run_worker(look, exclusive=True, group="completion")

    def _offer(self, found: list[tuple[str, str]]) -> None:
        options = self.query_one("#completions", OptionList)
        self._choices = [text for text, _ in found[:MOST_COMPLETIONS]]
        options.clear_options()
        options.add_options(
            [Option(Text(printable(shown), no_wrap=True, overflow="ellipsis")) for _, shown in found[:MOST_COMPLETIONS]]
        )
        options.display = bool(self._choices)
        if self._choices:
            options.highlighted = 0

    def _accept(self, *, entered: bool) -> bool:
        """Take the completion that is marked; gives whether that was all there was to do."""
        options = self.query_one("#completions", OptionList)
        if options.highlighted is None:
            return False
        chosen = self._choices[options.highlighted]
        if chosen.startswith("/"):
            if entered and chosen.strip() == self.lines.text.strip():
                self._offer([])
                return False
            if entered and " " not in self.lines.text.strip():
                self.write(chosen.rstrip())
                self._offer([])
                return False
            self.write(chosen)
            return True
        if (found := self._word()) is None:
            return False
        row, column = self.lines.cursor_location
        if chosen.endswith("/"):
            self.lines.replace(chosen.replace(" ", "\\ "), (row, found[0]), (row, column))
        else:
            self.lines.replace("", (row, found[0]), (row, column))
            self._offer([])
            self.post_message(Stage(Path(chosen[1:]).expanduser()))
        return True

    def _show_chips(self) -> None:
        chips, number = self.query_one("#chips"), 0
        for chip in chips.query_children(Chip):
            if any(chip.staged is one for one in self.staged):
                chip.count(number := number + 1)
            else:
                chip.remove()
        chips.display = bool(self.staged)

    def unstage(self, staged: Staged) -> None:
        """Take a chip away."""
        self.staged = [one for one in self.staged if one is not staged]
        self._show_chips()


class Chip(Horizontal):
    """A file that goes with the next message; a click takes it away."""

    def __init__(self, staged: Staged, thumbnail: Picture | None = None) -> None:
        self._label = Static(classes="chip")
        super().__init__(*([self._label, thumbnail] if thumbnail else [self._label]))
        self.staged = staged

    def count(self, number: int) -> None:
        """Show which file of the message it is."""
        self._label.update(Text(f" {number} {printable(self.staged.name)} ✕ "))

    def on_click(self) -> None:
        """Take it away."""
        self.query_ancestor(Composer).unstage(self.staged)
