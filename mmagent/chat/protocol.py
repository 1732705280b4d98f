"""The contract between the agent and any model it can think with. It knows no model, no tool code and no disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from mmagent.content import Message, ToolCallBlock
from mmagent.events import Usage
from mmagent.media import BlobStore


@dataclass(frozen=True)
class Capabilities:
    """What a model can take."""

    context_length: int
    """Tokens, prompt and answer together."""
    images: bool = False
    audio: bool = False
    video: bool = False
    tools: bool = True
    constrained: bool = False
    """Whether tool arguments and outputs are valid by construction (a grammar masks the logits)."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. ``temperature`` 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0 is no limit."""
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class ToolSpec:
    """What a model is told about a tool."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema of an object; quoted strings carry ``"x-quoted": true``."""


@dataclass(frozen=True)
class ModelRequest:
    """One question to a model: the whole conversation, since models keep no state that matters."""

    messages: tuple[Message, ...]
    blobs: BlobStore
    """Where the media that the messages refer to are."""
    tools: tuple[ToolSpec, ...] = ()
    output: dict[str, Any] | None = None
    """JSON Schema that the answer's text must follow when no tool is called."""
    require_call: bool | str = False
    """Whether a tool must be called, or which. Models that are not `Capabilities.constrained` may answer in words."""
    regex: str | None = None
    """What the answer's text must match as a whole; only models that are `Capabilities.constrained` heed it."""
    choices: tuple[str, ...] = ()
    """What the answer's text must be one of; only models that are `Capabilities.constrained` heed it."""
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class ModelText:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True)
class ModelReasoning:
    """A piece of what the model thinks before its answer; it is no part of the answer."""

    text: str


@dataclass(frozen=True)
class ModelToolCall:
    """A whole tool call. Its arguments are parsed JSON, not yet validated."""

    call: ToolCallBlock


@dataclass(frozen=True)
class ModelDone:
    """The last event of every stream that was not cancelled."""

    usage: Usage
    stop: Literal["end", "tool_calls", "length", "stop"]


ModelEvent: TypeAlias = ModelReasoning | ModelText | ModelToolCall | ModelDone


@runtime_checkable
class ChatModel(Protocol):
    """A model an agent can think with. Closing the iterator cancels the work behind it."""

    @property
    def name(self) -> str:
        """What users know it by."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can take."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Answer ``request``. Raises `ModelError` (`ContextOverflow` before any token)."""

    def count_tokens(self, request: ModelRequest) -> int:
        """Tokens of the prompt that ``request`` makes, pictures included."""
