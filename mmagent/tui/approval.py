"""Whether a call may run: asked so that no stray key says yes. It knows requests and keys, no agent.

Yes counts half a second after the question can be seen and has the keyboard, which it gets once nobody has typed for
two seconds. No counts at once.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from mmagent.cli.printable import printable

if TYPE_CHECKING:
    from mmagent.events import ApprovalRequested

GRACE = 0.5
"""Seconds before yes counts."""
IDLE = 2.0
"""Seconds without typing before the question takes the keyboard."""
_PLACE = re.compile("path|file|folder|dir|url|uri|link|address", re.IGNORECASE)
"""Names of arguments that say where; any other is taken as it is."""


@dataclass(frozen=True)
class Always:
    """Calls that need not be asked about again while the app runs."""

    name: str
    begins: tuple[tuple[str, str], ...] = ()
    """Of these arguments, how they must begin; others may be anything."""
    exact: tuple[tuple[str, str], ...] = ()
    """Of these, what they must be, as JSON."""

    def covers(self, request: ApprovalRequested) -> bool:
        """Whether a call is one of them."""
        if request.name != self.name or set(request.args) - {name for name, _ in (*self.begins, *self.exact)}:
            return False
        return all(_begins(request.args.get(name), start) for name, start in self.begins) and all(
            name in request.args and json.dumps(request.args[name], sort_keys=True, default=str) == value
            for name, value in self.exact
        )

    def __str__(self) -> str:
        if not self.begins:
            return f"{self.name} with these arguments" if self.exact else self.name
        parts = [f"{name} begins with {start}" for name, start in self.begins]
        parts += [f"{name} is {value if len(value) < 60 else value[:59] + '…'}" for name, value in self.exact]
        return self.name + (f" where {' and '.join(parts)}" if parts else "")


def always(request: ApprovalRequested) -> Always:
    """The pattern that a call stands for: the same folder or host; every other argument, a command too, as it is."""
    begins: list[tuple[str, str]] = []
    exact: list[tuple[str, str]] = []
    for name, value in request.args.items():
        start = _start(value) if isinstance(value, str) and _PLACE.search(name) else ""
        if start:
            begins.append((name, start))
        else:
            exact.append((name, json.dumps(value, sort_keys=True, default=str)))
    return Always(request.name, tuple(begins), tuple(exact))


def _start(value: str) -> str:
    """What like calls have in common in an argument; empty where that cannot be told."""
    start = ""
    if re.match(r"https?://", value):
        start = _host(value)
    elif re.match(r"~?/[^/\s]", value) and not re.search(r"\s", value):
        folder = str(PurePosixPath(value).parent)
        start = f"{folder}/" if folder.count("/") > 1 else ""
    return start if start and _begins(value, start) else ""


def _host(address: str) -> str:
    try:
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.netloc}/" if parts.hostname and "@" not in parts.netloc else ""
    except ValueError:
        return ""


def _begins(value: object, start: str) -> bool:
    if not isinstance(value, str) or not value.startswith(start) or re.search(r"[\s;&|<>`$]", value[len(start) :]):
        return False  # more than a path, or than the address of a page
    return ".." not in re.split(r"[/\\]", value.replace("%2e", ".").replace("%2E", "."))


class ApprovalBar(Vertical, can_focus=True):
    """A call as it will run, and the keys that decide about it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "decide('once')", "Allow once"),
        Binding("a", "decide('always')", "Always"),
        Binding("n,escape", "decide('deny')", "Deny"),
        Binding("up", "scroll(-1)", show=False),
        Binding("down", "scroll(1)", show=False),
        Binding("home", "scroll(-9999)", show=False),
        Binding("end", "scroll(9999)", show=False),
    ]

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(id="approval")
        self._clock = clock
        self._queue: list[tuple[ApprovalRequested, Callable[[str], None]]] = []
        self._ready_at = float("inf")
        self.typed_at = float("-inf")
        """When somebody last typed."""

    def compose(self) -> ComposeResult:
        """The call and the keys."""
        yield VerticalScroll(Static(id="request"), can_focus=False)
        yield Static(id="keys")

    def on_mount(self) -> None:
        """Nothing is asked yet."""
        self.display = False
        self.set_interval(0.1, self._tick)

    @property
    def asking(self) -> bool:
        """Whether a call waits."""
        return bool(self._queue)

    def ask(self, request: ApprovalRequested, decide: Callable[[str], None]) -> None:
        """Ask about a call, after those that wait already.

        Args:
            request: The call.
            decide: Is told ``once``, ``always`` or ``deny``.
        """
        self._queue.append((request, decide))
        if len(self._queue) == 1:
            self._show()

    def forget(self) -> None:
        """Nobody wants to know any more."""
        self._queue.clear()
        self._hide()

    def deny(self) -> None:
        """Say no; that always counts."""
        self._answer("deny")

    def action_decide(self, how: str) -> None:
        """Decide, unless yes comes too soon."""
        if how != "deny" and self._clock() < self._ready_at:
            self.query_one("#keys", Static).update(
                Text("one moment: look at it first, then press again", style="yellow")
            )
            return
        self._answer(how)

    def action_scroll(self, by: int) -> None:
        """See more of a long call."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def on_click(self) -> None:
        """A click gives it the keyboard."""
        self.focus()

    def watch_has_focus(self, focused: bool) -> None:
        """From now on keys decide, yes after a moment; or they do not."""
        super().watch_has_focus(focused)
        self._ready_at = self._clock() + GRACE if focused else float("inf")
        if self.is_mounted:
            self._keys()

    def _answer(self, how: str) -> None:
        if not self._queue:
            return
        _, decide = self._queue.pop(0)
        decide(how)
        if self._queue:
            self._show()
            self._ready_at = self._clock() + GRACE if self.has_focus else float("inf")
        else:
            self._hide()

    def _show(self) -> None:
        request, _ = self._queue[0]
        text = Text().append("may it run?  ", "bold yellow").append(printable(request.name), "bold")
        for name, value in request.args.items():
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)
            text.append(f"\n  {printable(name)}: ", "dim").append(printable(shown).replace("\n", "\n      "))
        text.append(f"\n  {printable(request.why)}", "dim italic")
        self.query_one("#request", Static).update(text)
        self.query_one(VerticalScroll).scroll_home(animate=False)
        self.display = True
        self._ready_at = float("inf")
        self._keys()

    def _keys(self) -> None:
        if not self._queue:
            return
        text = Text()
        if self.has_focus:
            text.append("y", "bold").append(" allow once   ")
            text.append("a", "bold").append(f" always {printable(str(always(self._queue[0][0])))}   ")
        text.append("n" if self.has_focus else "Esc", "bold").append(" deny")
        if not self.has_focus:
            text.append("   (click here, or stop typing, to allow)", "dim")
        if self.query_one(VerticalScroll).max_scroll_y:
            text.append("   ↑ ↓ the rest of it", "dim")
        if len(self._queue) > 1:
            text.append(f"   {len(self._queue) - 1} more wait", "dim")
        self.query_one("#keys", Static).update(text)

    def _hide(self) -> None:
        self.display = False
        if self.has_focus:
            self.screen.query_one("#lines").focus()

    def _tick(self) -> None:
        """Take the keyboard once nobody types."""
        if self._queue and not self.has_focus and self._clock() - self.typed_at >= IDLE and self.screen.is_current:
            self.focus()
