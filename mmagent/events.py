"""What happens in a turn: one discriminated union. Interfaces learn what happened from these and from nothing else."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mmagent.content import Block, MediaBlock


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
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            forced_tokens=self.forced_tokens + other.forced_tokens,
        )


class Citation(_Model):
    """A passage, or a picture, that an answer points at with ``[mark]``."""

    number: int
    """The passage's number: what the model was told with it, the same in the whole conversation."""
    title: str
    """The document's title and heading path, e.g. ``"Returns > Return window"``."""
    uri: str
    """The document's path or address."""
    quote: str
    """A verbatim span of the source, checked in code; empty for a picture that no words are known of."""
    marked: int | None = None
    """The number that stands in the answer, where that is another one: that passage does not say so, this one does."""
    kind: str | None = None
    """``text``, ``speech``, ``image``, ``page``, ``region`` or ``frame``."""
    page: int | None = None
    """Page or slide, from 1."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom on the page or picture, as shares (0 to 1) of its width and height."""
    t0: float | None = None
    """When it begins to be heard or seen, in seconds."""
    t1: float | None = None
    """When it ends, in seconds."""

    @property
    def mark(self) -> int:
        """The number that stands in the answer."""
        return self.number if self.marked is None else self.marked


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


class PictureReduced(_Model):
    """There was no room for a picture as it is: from now on the model is shown less of it."""

    type: Literal["picture_reduced"] = "picture_reduced"
    file_id: str
    level: Literal["smaller", "caption", "reference"]
    """``smaller`` in pixels, a ``caption`` with the text read from it, or only a ``reference`` to recall it by."""


class HistoryCompacted(_Model):
    """The conversation outgrew the model's context: its oldest turns are shown to the model in short from now on.

    They stay in the session as they are.
    """

    type: Literal["history_compacted"] = "history_compacted"
    turns: int
    """How many turns are in short now, all together."""
    tokens_before: int
    tokens_after: int


class PlanStep(_Model):
    """One step of a plan."""

    text: str
    status: Literal["pending", "active", "done"] = "pending"


class PlanUpdated(_Model):
    """The agent wrote or revised its plan; this is the whole of it."""

    type: Literal["plan_updated"] = "plan_updated"
    steps: tuple[PlanStep, ...]


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


class ApprovalRequested(_Model):
    """A call may not run before somebody has allowed exactly it."""

    type: Literal["approval_requested"] = "approval_requested"
    id: str
    """The call's id: ``agent.decide(id, allow=...)``."""
    name: str
    args: dict[str, Any]
    """As they will run."""
    why: str
    """The rule that asks."""


class ApprovalDecided(_Model):
    """A call was allowed or denied, by a person or by policy."""

    type: Literal["approval_decided"] = "approval_decided"
    id: str
    allowed: bool
    reason: str = ""


class ToolProgress(_Model):
    """What a running tool says of its progress."""

    type: Literal["tool_progress"] = "tool_progress"
    id: str
    name: str
    message: str
    fraction: float | None = None
    """0 to 1, where it is known."""


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
    artifacts: tuple[MediaBlock, ...] = ()
    """Files for programs, in the blob store; the model is told one line of each."""
    error: str | None = None
    crashed: bool = False
    """Whether it failed in a way its author did not foresee (any exception but `ToolError`, or a timeout)."""
    seconds: float


class HandedOff(_Model):
    """Another agent goes on with the conversation."""

    type: Literal["handed_off"] = "handed_off"
    agent: str
    reason: str = ""


class SubagentEvent(_Model):
    """What happens in an agent that was called as a tool."""

    type: Literal["subagent_event"] = "subagent_event"
    id: str
    """The id of the call that asked it."""
    agent: str
    event: Event


class TurnPaused(_Model):
    """The turn waits for approvals. It goes on with ``resume=True`` once they are decided, after a restart too."""

    type: Literal["turn_paused"] = "turn_paused"
    pending: tuple[ApprovalRequested, ...]
    usage: Usage
    steps: int


class TurnFinished(_Model):
    """The turn ended with an answer."""

    type: Literal["turn_finished"] = "turn_finished"
    text: str
    output: Any = None
    """The typed result as JSON, where one was asked for."""
    citations: tuple[Citation, ...] = ()
    usage: Usage
    context_tokens: int = 0
    """Tokens of the last prompt and of the answer to it: what the conversation takes of the model's context."""
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
    | PictureReduced
    | HistoryCompacted
    | StepStarted
    | ReasoningDelta
    | TextDelta
    | PlanUpdated
    | ToolCalled
    | ApprovalRequested
    | ApprovalDecided
    | ToolProgress
    | ToolFinished
    | HandedOff
    | SubagentEvent
    | TurnPaused
    | TurnFinished
    | TurnFailed,
    Field(discriminator="type"),
]
SubagentEvent.model_rebuild()
EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
"""Validates and serialises any event: ``EVENTS.validate_json(line)``."""
