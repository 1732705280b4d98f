"""What happens in a turn: one discriminated union. Interfaces learn what happened from these and from nothing else."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mmagent.content import Block


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Usage(_Model):
    """Tokens that a turn (or one step of it) used."""

    prompt_tokens: int = 0
    """Tokens in the prompts, pictures included."""
    cached_tokens: int = 0
    """Of these, tokens whose keys and values were reused."""
    completion_tokens: int = 0
    """Tokens that were generated."""
    forced_tokens: int = 0
    """Of these, tokens that the grammar allowed no choice about."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})


class Citation(_Model):
    """A passage that an answer points at with ``[number]``."""

    number: int
    title: str
    """The document's title and heading path, e.g. ``"Returns > Return window"``."""
    uri: str
    """The document's path or address."""
    quote: str
    """A verbatim span of the source, checked in code."""


class TurnStarted(_Model):
    """A turn began; its user message is in the journal."""

    type: Literal["turn_started"] = "turn_started"
    session: str | None = None
    model: str


class MediaAdmitted(_Model):
    """A file passed the guards and is in the blob store."""

    type: Literal["media_admitted"] = "media_admitted"
    file_id: str
    mime_type: str
    name: str
    width: int | None = None
    height: int | None = None


class MediaSubstituted(_Model):
    """The model cannot take this kind of media; this is what it was given in its place."""

    type: Literal["media_substituted"] = "media_substituted"
    file_id: str
    instead: str


class HistoryCut(_Model):
    """The conversation is longer than the model's context: its oldest turns are not shown to the model any more."""

    type: Literal["history_cut"] = "history_cut"
    turns: int
    """How many turns are left out from now on; they stay in the session."""


class StepStarted(_Model):
    """The model is asked; steps count from 1."""

    type: Literal["step_started"] = "step_started"
    step: int


class ReasoningDelta(_Model):
    """A piece of what the model thinks before it answers."""

    type: Literal["reasoning_delta"] = "reasoning_delta"
    step: int
    text: str


class TextDelta(_Model):
    """A piece of the model's text."""

    type: Literal["text_delta"] = "text_delta"
    step: int
    text: str


class ToolCalled(_Model):
    """The model called a tool."""

    type: Literal["tool_called"] = "tool_called"
    step: int
    id: str
    name: str
    args: dict[str, Any]


class ToolFinished(_Model):
    """A tool returned (``error`` is None) or failed (``error`` says why, and so was the model told)."""

    type: Literal["tool_finished"] = "tool_finished"
    step: int
    id: str
    name: str
    content: tuple[Block, ...]
    """What the model is shown."""
    data: Any = None
    """What is for programs: JSON that the tool gave beside its content."""
    error: str | None = None
    crashed: bool = False
    """Whether it failed in a way its author did not foresee (any exception but `ToolError`, or a timeout)."""
    seconds: float


class TurnFinished(_Model):
    """The turn ended with an answer."""

    type: Literal["turn_finished"] = "turn_finished"
    text: str
    output: Any = None
    """The typed result as JSON, where one was asked for."""
    citations: tuple[Citation, ...] = ()
    usage: Usage
    steps: int
    seconds: float


class TurnFailed(_Model):
    """The turn ended without an answer."""

    type: Literal["turn_failed"] = "turn_failed"
    error: str
    """The error class of mmagent.errors, e.g. ``"TurnError"``."""
    message: str


Event: TypeAlias = Annotated[
    TurnStarted
    | MediaAdmitted
    | MediaSubstituted
    | HistoryCut
    | StepStarted
    | ReasoningDelta
    | TextDelta
    | ToolCalled
    | ToolFinished
    | TurnFinished
    | TurnFailed,
    Field(discriminator="type"),
]
EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
"""Validates and serialises any event: ``EVENTS.validate_json(line)``."""
