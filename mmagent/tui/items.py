"""What a conversation is made of on the screen, one after the other. Plain data: importing it imports nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from mmagent.content import Block, MediaBlock
    from mmagent.events import Citation, PlanStep

Status: TypeAlias = Literal["waiting", "running", "done", "failed", "denied", "unknown"]


@dataclass
class Question:
    """What the user said."""

    text: str
    media: tuple[MediaBlock, ...] = ()
    turn: int = 0
    """Counts from 1."""


@dataclass
class Thought:
    """What the model thought before it went on."""

    text: str = ""


@dataclass
class Call:
    """A tool call and what came of it."""

    id: str
    name: str
    args: dict[str, Any]
    status: Status = "running"
    content: tuple[Block, ...] = ()
    data: Any = None
    artifacts: tuple[MediaBlock, ...] = ()
    error: str | None = None
    seconds: float | None = None
    progress: str = ""
    by: str = ""
    """The agent that made it, where another was asked."""


@dataclass
class Answer:
    """What the model wrote."""

    text: str = ""
    citations: tuple[Citation, ...] = ()
    open: bool = True
    """Whether more may come."""
    stopped: bool = False
    """Whether it is only the part that there was."""


@dataclass
class Plan:
    """The plan as it is now."""

    steps: tuple[PlanStep, ...] = ()


@dataclass
class Note:
    """Something that happened beside."""

    text: str
    kind: Literal["note", "warning", "error"] = "note"


Item: TypeAlias = Question | Thought | Call | Answer | Plan | Note
