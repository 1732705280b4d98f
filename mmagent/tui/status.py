"""The line at the foot: what answers, how fast, how full, and whether anybody listens. It knows numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual.widgets import Static

from mmagent.cli.printable import printable

if TYPE_CHECKING:
    from mmagent.events import Event

_METER = " ▁▂▃▄▅▆▇█"


@dataclass
class Figures:
    """What the line tells."""

    model: str = ""
    device: str = ""
    session: str = "new"
    context: int = 0
    """Tokens that the model takes."""
    used: int = 0
    """Of these, what the last prompt and answer took."""
    first: float | None = None
    """Seconds to the first token of the last answer."""
    tokens: int = 0
    """That the model wrote in the last turn."""
    speed: float | None = None
    """Of these, in a second in which it was asked."""
    approvals: str = ""
    working: str = "loading …"
    """What is going on."""
    queued: int = 0
    recording: bool = False
    level: float = 0.0
    aloud: bool = False


class StatusLine(Static):
    """One row; what matters less gives way where it is narrow."""

    def __init__(self) -> None:
        super().__init__(id="status")
        self.figures = Figures()

    def show(self) -> None:
        """Draw the figures as they are now."""
        width = self.app.size.width
        text = Text(no_wrap=True, overflow="ellipsis")
        one = self.figures
        if one.recording:
            text.append(f"● REC {_METER[round(one.level * (len(_METER) - 1))] * 3} ", "bold red")
        if one.working:
            text.append(f"{printable(one.working)} ", "bold")
        parts = [part for part in (one.model, one.session) if part]
        if one.context and one.used:
            parts.append(f"{one.used / one.context:.0%} of context")
        if one.speed:
            parts.append(f"{one.speed:.0f} tok/s")
        if one.first is not None:
            parts.append(f"first {one.first:.1f} s")
        if width >= 80:
            parts += [part for part in (one.device, one.approvals) if part]
        if one.aloud:
            parts.append("aloud")
        if one.queued:
            parts.append(f"{one.queued} queued")
        text.append(printable(" · ".join(parts)), "dim")
        self.update(text)

    def follow(self, event: Event) -> None:
        """Take the figures of a turn's event; `show` draws them."""
        from mmagent.events import ApprovalRequested, StepStarted, TextDelta, ToolCalled, TurnFinished

        figures = self.figures
        if isinstance(event, StepStarted):
            figures.working = "thinking"
        elif isinstance(event, TextDelta):
            figures.working = "writing"
        elif isinstance(event, ToolCalled):
            figures.working = event.name
        elif isinstance(event, ApprovalRequested):
            figures.working = "waits for you"
        elif isinstance(event, TurnFinished):
            figures.used, figures.tokens = event.context_tokens, event.usage.completion_tokens

    def measured(self, first: float | None, writing: float) -> None:
        """Take the seconds of a turn that is over: to its first text, and while the model was at work."""
        figures = self.figures
        figures.first, figures.speed = first, figures.tokens / writing if figures.tokens and writing else None
        figures.tokens = 0

    def on_resize(self) -> None:
        """There is more or less room."""
        self.show()
