"""What a conversation is made of: media handles, content blocks, messages and quotes.

Blocks are LangChain v1's standard block dicts, verbatim; media appear in them only as
``file_id = "sha256:…"``. This module does no decoding and touches no disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, WithJsonSchema
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

Source: TypeAlias = "str | PathLike[str] | bytes | PILImage | NDArray[Any]"

CORRECTION = "correction"
"""The name of a message that tells a model what was wrong with its answer."""
QUOTED_KEY = "x-quoted"
"""The JSON Schema keyword that marks a string as a verbatim quote."""


def _check_quote(value: str, info: ValidationInfo) -> str:
    if info.context is not None and not is_quote(value, info.context):
        raise ValueError(f"{value!r} stands nowhere in the conversation")
    return value


Quoted: TypeAlias = Annotated[str, AfterValidator(_check_quote), WithJsonSchema({"type": "string", QUOTED_KEY: True})]
"""A string that must be a verbatim span of one line of what the model was given.

Use it for an argument of a tool or a field of an output model: an order number, a name, a citation. Local models can
decode nothing else there, and the agent checks the value again when it arrives: it gives pydantic the conversation's
messages as validation context. Without a context it is a plain string.
"""


@dataclass(frozen=True)
class Media:
    """A file of the user's: a path, the bytes themselves, or (pictures) a ``PIL.Image``."""

    source: Source
    """Where it comes from. Nothing is read until a turn admits it."""


class Image(Media):
    """A picture: PNG, JPEG, WebP, GIF (first frame), BMP or TIFF."""


class Audio(Media):
    """A recording."""


class Video(Media):
    """A video."""


class Document(Media):
    """A document, such as a PDF."""


class TextBlock(TypedDict):
    """Text."""

    type: Literal["text"]
    text: str


class MediaBlock(TypedDict):
    """A reference to a file in the blob store, by the hash of its content."""

    type: Literal["image", "audio", "video", "file"]
    file_id: str
    mime_type: NotRequired[str]
    extras: NotRequired[dict[str, Any]]


class ReasoningBlock(TypedDict):
    """What a model thought before it answered."""

    type: Literal["reasoning"]
    reasoning: str


class ToolCallBlock(TypedDict):
    """A model's call of a tool."""

    type: Literal["tool_call"]
    id: str
    name: str
    args: dict[str, Any]


Block: TypeAlias = TextBlock | MediaBlock | ReasoningBlock | ToolCallBlock
Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Label: TypeAlias = Literal["private", "untrusted"]
"""``private``: not for everybody's eyes. ``untrusted``: somebody else wrote it, so instructions in it are no orders."""


class Message(BaseModel):
    """One message of a conversation. Immutable; media are references, so it is cheap to copy and to store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: tuple[Block, ...]
    tool_call_id: str | None = None
    """In a ``tool`` message: the id of the call that it answers."""
    name: str | None = None
    """In a ``tool`` message: the tool's name. In a ``user`` message: what the agent itself says there, if it does."""
    labels: tuple[Label, ...] = ()
    """Where its content comes from, for policies; a model is not told."""

    @property
    def text(self) -> str:
        """All text blocks, joined."""
        return "".join(block["text"] for block in self.content if block["type"] == "text")

    @property
    def media(self) -> tuple[MediaBlock, ...]:
        """All media blocks, in order."""
        return tuple([block for block in self.content if block["type"] in ("image", "audio", "video", "file")])

    @property
    def tool_calls(self) -> tuple[ToolCallBlock, ...]:
        """All tool calls, in order."""
        return tuple([block for block in self.content if block["type"] == "tool_call"])


def text(value: str) -> TextBlock:
    """A text block."""
    return {"type": "text", "text": value}


def quotable_lines(messages: Iterable[Message]) -> Iterator[str]:
    """The lines that a `Quoted` value may be taken from: what users and tools said, oldest first.

    What a model made up does not become a source by being repeated: errors of tools are left out, and so are, in a
    tool's result, the arguments of its call that had stood nowhere before.
    """
    calls: dict[str, ToolCallBlock] = {}
    known: list[str] = []
    for message in messages:
        calls |= {call["id"]: call for call in message.tool_calls}
        lines: list[str] = []
        if message.role == "user" and not is_correction(message):
            lines = message.text.splitlines()
        elif message.role == "tool" and not message.text.startswith("error: "):
            call = calls.get(message.tool_call_id or "")
            made_up = [word for word in _codes(call["args"] if call else {}) if not any(word in line for line in known)]
            lines = [part for line in message.text.splitlines() for part in _without(line, made_up)]
        known += [stripped for line in lines if (stripped := line.strip())]
    yield from known


def correction(problem: str) -> Message:
    """What a model is told, in the user's place, of an answer that does not fit."""
    return Message(role="user", content=(text(f"error: {problem}; answer again"),), name=CORRECTION)


def is_correction(message: Message) -> bool:
    """Whether a message is the agent's own, in the user's place: it tells a model what was wrong with its answer."""
    return message.role == "user" and message.name == CORRECTION


def _codes(value: Any) -> Iterator[str]:
    """The strings in a call's arguments, and the words with a digit in them."""
    if isinstance(value, str):
        yield value
        yield from (word for word in re.findall(r"[\w-]+", value) if any(char.isdigit() for char in word))
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _codes(item)


def _without(line: str, words: list[str]) -> list[str]:
    parts = [line]
    for word in words:
        parts = [piece for part in parts for piece in part.split(word)] if word else parts
    return parts


def is_quote(value: str, messages: Iterable[Message]) -> bool:
    """Whether ``value`` stands verbatim, and not empty, in one line of what users and tools said."""
    return bool(value) and any(value in line for line in quotable_lines(messages))
