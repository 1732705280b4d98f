"""What a data source makes and a training run takes: a conversation with its pictures. It knows no tokens."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from PIL import Image
from pydantic import Field

Count: TypeAlias = Annotated[int, Field(ge=1)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
OnBadRow: TypeAlias = Literal["stop", "skip"]
"""Types of sources' options: what a recipe gives is checked by them."""
Message: TypeAlias = dict[str, Any]
Tool: TypeAlias = dict[str, Any]
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the picture."""


@dataclass(frozen=True)
class Mark:
    """Something that stands at a place of a picture: one printed character, or a thing by its words."""

    name: str
    """The character, or words such as ``large red circle``."""
    box: Box


@dataclass(frozen=True)
class Shown:
    """A picture of a sample."""

    image: Image.Image  # RGB
    marks: tuple[Mark, ...] = ()
    """What is where, for the vision tower to tell; empty where nobody knows."""
    caption: str = ""
    """A sentence that tells this picture from others; empty keeps it out of the contrastive loss."""


@dataclass(frozen=True)
class Sample:
    """A conversation as chat templates take it, with its pictures in the order of their ``image`` blocks.

    The loss counts the assistant's messages.
    """

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)
    pictures: list[Shown] = field(default_factory=list)


Draw: TypeAlias = Callable[[random.Random], Sample]
"""A source: a function of the dice alone, so that a run that was interrupted goes on as it was."""


def user(text: str, images: int = 0) -> Message:
    """A message of the user's, its pictures before its words."""
    words = [{"type": "text", "text": text}] if text else []
    return {"role": "user", "content": [{"type": "image"}] * images + words}


def assistant(text: str, *calls: tuple[str, dict[str, Any]]) -> Message:
    """A message of the assistant's: words, then calls by name and arguments."""
    made = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    return {"role": "assistant", "content": text, **({"tool_calls": made} if made else {})}


def result(name: str, text: str) -> Message:
    """What a tool returned, as the agent shows it to a model."""
    return {"role": "tool", "name": name, "content": text}


def system(text: str) -> Message:
    """The instructions; they stand first."""
    return {"role": "system", "content": text}
