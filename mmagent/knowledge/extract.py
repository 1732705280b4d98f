"""What a reader found in a file: its text, where each part of it stands, and its pictures. It knows no stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares (0 to 1) of the width and height of the page or picture, from its top left."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A line of the text that names what stands below it."""

    start: int
    end: int
    """Exclusive. The line is not part of any passage: it becomes part of their titles."""
    level: int
    """From 1, the title of the document."""
    title: str
    """Its words, without mark-up."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a span of the text stands in the source. What has no page, box or time leaves it None."""

    start: int
    end: int
    """Exclusive."""
    page: int | None = None
    """Page or slide, from 1. No passage reaches over the end of one."""
    box: Box | None = None
    t0: float | None = None
    """When it begins to be heard or seen, in seconds."""
    t1: float | None = None
    """When it ends, in seconds."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Something to look at, found by what it shows. Its pixels are made when they are needed (`read.pixels`)."""

    kind: Literal["image", "page", "region", "frame"]
    """The picture that a file is, a page of a document, a part of a page or picture, a moment of a video."""
    page: int | None = None
    box: Box | None = None
    t0: float | None = None
    t1: float | None = None
    text: str = ""
    """What is known of it in words, e.g. a caption."""


@dataclass(frozen=True)
class Extract:
    """What was read from one document."""

    text: str
    """All of its text in reading order; spans are in characters of it."""
    mime_type: str
    title: str = ""
    """The document's own title, where it has one besides its headings."""
    headings: list[Heading] = field(default_factory=list)
    """In order, apart from each other."""
    marks: list[Mark] = field(default_factory=list)
    """In order, apart from each other; empty where characters are place enough."""
    pictures: list[Picture] = field(default_factory=list)
    kind: Literal["text", "speech"] = "text"
    """Of its passages: written or spoken."""
    notes: list[str] = field(default_factory=list)
    """What could not be read, in words for the user, e.g. "pages 3-5 have no text"."""
