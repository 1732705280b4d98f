"""Small windows over the conversation: choose one, answer yes or no, say a word, read a text. They know lists only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from mmagent.cli.printable import printable


@dataclass(frozen=True)
class Choice:
    """Something to choose."""

    id: str
    label: str
    about: str = ""
    """What stands after it, or under it."""


class Picker(ModalScreen[str | None]):
    """Choose one of a list; what is typed narrows it.

    Args:
        title: What the list is.
        choices: What there is.
        chosen: The one that is marked at first.
        previewed: Is told which one is marked, as it moves.
        hint: What stands where nothing is typed yet.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    def __init__(
        self,
        title: str,
        choices: Sequence[Choice],
        chosen: str = "",
        previewed: Callable[[str], None] | None = None,
        hint: str = "type to narrow the list",
    ) -> None:
        super().__init__()
        self._title, self._all, self._chosen = title, list(choices), chosen
        self._previewed, self._hint = previewed, hint
        self._shown: list[Choice] = []

    def compose(self) -> ComposeResult:
        """The list and what narrows it."""
        with Vertical(classes="window"):
            yield Static(Text(self._title, style="bold"))
            yield Input(placeholder=self._hint)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        """Everything, the chosen one marked."""
        self._narrow("")
        ids = [one.id for one in self._shown]
        if self._chosen in ids:
            self.query_one(OptionList).highlighted = ids.index(self._chosen)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show those that it may be."""
        self.typed(event.value)

    def on_input_submitted(self) -> None:
        """The one that is marked."""
        self.choose()

    def on_key(self, event: object) -> None:
        """Up and down move in the list from the words, too."""
        key, options = getattr(event, "key", ""), self.query_one(OptionList)
        if key in ("up", "down") and self.query_one(Input).has_focus:
            (options.action_cursor_up if key == "up" else options.action_cursor_down)()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """That one."""
        event.stop()
        self.choose()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show what it would be."""
        if self._previewed is not None and event.option_index < len(self._shown):
            self._previewed(self._shown[event.option_index].id)

    def typed(self, words: str) -> None:
        """Show those that have all these words."""
        self._narrow(words)

    def choose(self) -> None:
        """Take the one that is marked."""
        if self.marked is not None:
            self.dismiss(self.marked.id)

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)

    @property
    def marked(self) -> Choice | None:
        """The one that Enter would choose."""
        number = self.query_one(OptionList).highlighted
        return None if number is None else self._shown[number]

    def show(self, choices: Sequence[Choice]) -> None:
        """Show others."""
        self._all = list(choices)
        self._narrow(self.query_one(Input).value)

    def _narrow(self, typed: str) -> None:
        words = typed.lower().split()
        self._shown = [one for one in self._all if all(word in f"{one.label} {one.about}".lower() for word in words)]
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(_drawn(one)) for one in self._shown])
        if self._shown:
            options.highlighted = 0


class Question(ModalScreen[bool]):
    """Yes or no; Enter is no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,enter", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question and the keys."""
        with Vertical(classes="window small"):
            yield Static(Text(printable(self._question)))
            yield Static(Text("y yes   n no", style="dim"))

    def action_answer(self, yes: bool) -> None:
        """That is it."""
        self.dismiss(yes)


class Word(ModalScreen[str]):
    """Say a word, such as a name; empty where nothing is said."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    def __init__(self, title: str, given: str = "") -> None:
        super().__init__()
        self._title, self._given = title, given

    def compose(self) -> ComposeResult:
        """A line to write it in."""
        with Vertical(classes="window small"):
            yield Static(Text(printable(self._title), style="bold"))
            yield Input(self._given)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """That is it."""
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        """Say nothing."""
        self.dismiss("")


class Reader(ModalScreen[None]):
    """Something to read; Esc closes it.

    Args:
        title: What it is.
        body: Widgets, one under the other.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "leave", "Back")]

    def __init__(self, title: str, body: Sequence[Widget]) -> None:
        super().__init__()
        self._title, self._body = title, body

    def compose(self) -> ComposeResult:
        """The title and the text."""
        with Vertical(classes="window"):
            yield Static(Text(printable(self._title), style="bold"))
            with VerticalScroll():
                yield from self._body
            yield Static(Text("Esc closes", style="dim"))

    def on_mount(self) -> None:
        """The keys scroll."""
        self.query_one(VerticalScroll).focus()

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)


def _drawn(choice: Choice) -> Text:
    text = Text(printable(choice.label), no_wrap=True, overflow="ellipsis")
    return text.append(f"  {printable(choice.about)}", "dim") if choice.about else text
