"""Cuts a document's text into passages and sentences, as spans of the text. It knows nothing of files and stores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

CHUNKER = 1
"""Grows when the same document gives other passages; stores then take every document in anew."""

MAX_WORDS = 200
MAX_CHARS = 1600
"""The same limit for scripts that put no spaces between words."""
MAX_TITLE = 200
"""Characters of one heading; the rest is cut."""

Span: TypeAlias = tuple[int, int]
"""Start and end in characters of the source; the end is exclusive."""

_WORD = re.compile(r"\S+")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n.*?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(={2,}|-{2,})[ \t]*$")
_BLOCK = re.compile(r" {0,3}(?:[-*+](?=\s)|[>|#]|\d+[.)]\s)")
_MARKUP = re.compile(r"[*`]|!?\[([^\]]*)\]\([^)]*\)")

_PARAGRAPHS = re.compile(r"\n[ \t]*\r?\n\s*")
_ITEMS = re.compile(r"\n(?=[ \t]*(?:(?:[-*+>]|\d+[.)])[ \t]|\|))")
_SENTENCES = re.compile(r"[.!?…][\"'\u201d\u2019)\]*_]*\s+(?=[^\sa-z])|[\u3002\uff01\uff1f]")
_LINES = re.compile(r"\n")
_SPACES = re.compile(r"\s+")
_COARSE_TO_FINE = (_PARAGRAPHS, _ITEMS, _SENTENCES, _LINES, _SPACES)


@dataclass(frozen=True)
class Passage:
    """A span of a document under its headings."""

    title: str
    """Document title and heading path, joined by `` > ``."""
    text: str
    """``source[start:end]``."""
    start: int
    end: int


def passages(source: str, name: str, *, markdown: bool) -> list[Passage]:
    """The passages of a document, in order; sections are split where they are long, and never merged.

    Args:
        source: The document's text.
        name: Its title where it has no heading of level 1.
        markdown: Whether lines such as ``## Title`` are headings.
    """
    sections = list(_sections(source)) if markdown else [(_Heading(0, "", 0, 0), (0, len(source)))]
    name = next((heading.title for heading, _ in sections if heading.level == 1 and heading.title), name)
    found: list[Passage] = []
    path: list[_Heading] = []
    for heading, (start, end) in sections:
        path = [above for above in path if above.level < heading.level] + [heading]
        title = " > ".join(dict.fromkeys([name, *(part.title for part in path if part.title)]))
        found += [Passage(title, source[a:b], a, b) for a, b in _pieces(source, start, end)]
    return found


def sentences(text: str) -> list[Span]:
    """The sentences, list items and table rows of a text, without the white space around them."""
    spans: list[Span] = [(0, len(text))]
    for boundary in (_PARAGRAPHS, _ITEMS, _SENTENCES):
        spans = [part for start, end in spans for part in _cut(text, start, end, boundary)]
    return spans


@dataclass(frozen=True)
class _Heading:
    level: int
    title: str
    start: int
    end: int


def _sections(source: str) -> Iterator[tuple[_Heading, Span]]:
    """Each heading with the span of what stands under it; first the part before any heading, at level 0."""
    matter = _FRONT_MATTER.match(source)
    heading = _Heading(0, "", 0, matter.end() if matter else 0)
    for following in _headings(source, heading.end):
        yield heading, (heading.end, following.start)
        heading = following
    yield heading, (heading.end, len(source))


def _headings(source: str, start: int) -> Iterator[_Heading]:
    fence, before, position = "", (start, ""), start
    paragraph = 0  # lines of the paragraph so far: an underline makes a heading of a paragraph of one line
    for line in source[start:].splitlines(keepends=True):
        begin, position = position, position + len(line)
        bare = line.rstrip("\r\n")
        mark = _FENCE.match(bare)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) and not bare[mark.end() :].strip() else fence
            paragraph = 0
        elif mark:
            fence, paragraph = mark[1], 0
        elif atx := _ATX.match(bare):
            yield _Heading(len(atx[1]), _plain(bare[atx.end() :]), begin, position)
            paragraph = 0
        elif paragraph == 1 and (underline := _SETEXT.match(bare)):
            yield _Heading(1 if underline[1][0] == "=" else 2, _plain(before[1]), before[0], position)
            paragraph = 0
        elif not bare.strip():
            paragraph = 0
        else:
            paragraph = paragraph + 1 if paragraph or not _BLOCK.match(bare) else 2
        before = (begin, bare)


def _plain(title: str) -> str:
    """A heading's words, without mark-up and closing hashes."""
    words = title.split()
    if words and not words[-1].strip("#"):
        words.pop()
    title = " ".join(words)[:MAX_TITLE]
    return " ".join(_MARKUP.sub(r"\1", title).split())


def _fits(text: str, start: int, end: int) -> bool:
    return end - start <= MAX_CHARS and sum(1 for _ in _WORD.finditer(text, start, end)) <= MAX_WORDS


def _cut(text: str, start: int, end: int, boundary: re.Pattern[str]) -> Iterator[Span]:
    """The parts of ``text[start:end]`` between boundaries, stripped, none empty."""
    cuts = [match.end() for match in boundary.finditer(text, start, end)]
    for a, b in zip([start, *cuts], [*cuts, end], strict=True):
        part = text[a:b]
        if stripped := part.strip():
            begin = a + len(part) - len(part.lstrip())
            yield begin, begin + len(stripped)


def _pieces(text: str, start: int, end: int, boundaries: tuple[re.Pattern[str], ...] = _COARSE_TO_FINE) -> list[Span]:
    """Spans that fit the limit: cut at the coarsest boundary that will do, then packed again while they fit."""
    whole = list(_cut(text, start, end, re.compile(r"(?!)")))
    if not whole or _fits(text, *whole[0]):
        return whole
    if not boundaries:
        return [(at, min(at + MAX_CHARS, whole[0][1])) for at in range(*whole[0], MAX_CHARS)]
    parts = (piece for part in _cut(text, *whole[0], boundaries[0]) for piece in _pieces(text, *part, boundaries[1:]))
    return _packed(text, parts)


def _packed(text: str, parts: Iterable[Span]) -> list[Span]:
    packed: list[Span] = []
    for start, end in parts:
        if packed and _fits(text, packed[-1][0], end):
            packed[-1] = (packed[-1][0], end)
        else:
            packed.append((start, end))
    return packed
