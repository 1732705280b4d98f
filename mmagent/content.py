"""What a conversation is made of: media handles, content blocks, messages and quotes.

Blocks are LangChain v1's standard block dicts, verbatim; media appear in them only as
``file_id = "sha256:…"``. This module does no decoding and touches no disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import BaseModel, ConfigDict, WithJsonSchema
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Source: TypeAlias = "str | PathLike[str] | bytes | PILImage"

QUOTED_KEY = "x-quoted"
"""The JSON Schema keyword that marks a string as a verbatim quote."""

Quoted: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", QUOTED_KEY: True})]
"""A string that must be a verbatim span of one line of what the model was given.

Use it for an argument of a tool or a field of an output model: an order number, a name, a citation.
Local models can decode nothing else there, and the agent checks the value again when it arrives.
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


class Message(BaseModel):
    """One message of a conversation. Immutable; media are references, so it is cheap to copy and to store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: tuple[Block, ...]
    tool_call_id: str | None = None
    """In a ``tool`` message: the id of the call that it answers."""
    name: str | None = None
    """In a ``tool`` message: the tool's name."""

    @property
    def text(self) -> str:
        """All text blocks, joined."""
        return "".join(block["text"] for block in self.content if block["type"] == "text")

    @property
    def media(self) -> tuple[MediaBlock, ...]:
        """All media blocks, in order."""
        return tuple(block for block in self.content if block["type"] in ("image", "audio", "video", "file"))

    @property
    def tool_calls(self) -> tuple[ToolCallBlock, ...]:
        """All tool calls, in order."""
        return tuple(block for block in self.content if block["type"] == "tool_call")


def text(value: str) -> TextBlock:
    """A text block."""
    return {"type": "text", "text": value}


def quotable_lines(messages: Iterable[Message]) -> Iterator[str]:
    """The lines that a `Quoted` value may be taken from: what users and tools said, newest last."""
    for message in messages:
        if message.role in ("user", "tool") and not is_echo(message.text):
            for line in message.text.splitlines():
                if stripped := line.strip():
                    yield stripped


def is_echo(text: str) -> bool:
    """Whether a message only repeats what a model made up: quoting it would turn an invention into a source.

    Such are the refusals of wrong arguments, of unknown tools and of answers of the wrong form.
    """
    refused = " got wrong arguments: " in text or "there is no tool " in text or text.endswith("; answer again")
    return text.startswith("error: ") and refused


def is_quote(value: str, messages: Iterable[Message]) -> bool:
    """Whether ``value`` stands verbatim, and not empty, in one line of what users and tools said."""
    return bool(value) and any(value in line for line in quotable_lines(messages))
