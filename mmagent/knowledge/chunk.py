"""Cuts what was read into passages and sentences, and names passages. It knows nothing of files and stores."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, zip_longest
from typing import TypeAlias

from mmagent.knowledge.extract import Box, Extract, Heading, Mark, Picture

CHUNKER = 2
"""Grows when the same document gives other passages; stores then take every document in anew."""

MAX_WORDS = 200
MAX_CHARS = 1600
"""The same limit for scripts that put no spaces between words."""
MAX_SECONDS = 30.0
"""Of what is heard in one passage."""
MAX_PAGE_CHARS = 8000
"""Of the text that goes with the picture of a page."""

Span: TypeAlias = tuple[int, int]
"""Start and end in characters of the source; the end is exclusive."""

_WORD = re.compile(r"\S+")
_PARAGRAPHS = re.compile(r"\n[ \t]*\r?\n\s*")
_ITEMS = re.compile(r"\n(?=[ \t]*(?:(?:[-*+>]|\d+[.)])[ \t]|\|))")
_SENTENCES = re.compile(r"[.!?…][\"'\u201d\u2019)\]*_]*\s+(?=[^\sa-z])|[\u3002\uff01\uff1f]")
_LINES = re.compile(r"\n")
_NOWHERE = re.compile(r"(?!)")
_COARSE_TO_FINE = (_PARAGRAPHS, _ITEMS, _SENTENCES, _LINES)


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that can be found: a span of its text under its headings, or a picture in it."""

    title: str
    """Document title and heading path, joined by `` > ``."""
    text: str
    """``source[start:end]``; of a picture what is known of it in words."""
    start: int
    end: int
    kind: str = "text"
    """``text``, ``speech``, ``image``, ``page``, ``region`` or ``frame``."""
    page: int | None = None
    box: Box | None = None
    t0: float | None = None
    t1: float | None = None
    gap: str | None = None
    """What stands between it and the next one, where that is white space under the same heading on the same page."""

    @property
    def place(self) -> tuple[int, int, int | None, str | None, float | None, float | None, str | None]:
        """Where it stands, as it is kept: start, end, page, box, times, gap."""
        box = None if self.box is None else json.dumps([round(share, 5) for share in self.box])
        return self.start, self.end, self.page, box, self.t0, self.t1, self.gap

    @property
    def embedded(self) -> str:
        """What stands for it in a space of texts."""
        return embedded(self.title, self.text)


def embedded(title: str, text: str) -> str:
    """What stands for a passage in a space of texts."""
    return f"{title}\n{text}" if title else text


def passages(extract: Extract, name: str) -> list[Passage]:
    """The passages of a document, in order; sections are split where they are long, and never merged.

    Args:
        extract: What was read.
        name: Its title where it has none.
    """
    text = extract.text
    name = next((h.title for h in extract.headings if h.level == 1 and h.title), extract.title or name)
    places, cutter = _Places(extract.marks), _Cutter(text)
    found: list[Passage] = []
    path: list[Heading] = []
    for heading, (start, end) in _sections(text, extract.headings):
        path = [above for above in path if above.level < heading.level] + [heading]
        title = " > ".join(dict.fromkeys([name, *(part.title for part in path if part.title)]))
        for first, last in places.divided(start, end):
            spans = cutter.pieces(first, last)
            for (a, b), after in zip_longest(spans, spans[1:]):
                gap = None if after is None else text[b : after[0]]
                found.append(Passage(title, text[a:b], a, b, extract.kind, *places.at(a, b), gap))
    return found + [_picture(picture, name, text, extract.marks) for picture in extract.pictures]


def identified(tenant: str, path: str, passages: Iterable[Passage]) -> dict[str, Passage]:
    """The units of a document: id to passage, in order.

    A passage that only moved keeps its id, and so its vectors; copies differ by their order. A picture is the same
    where it stands at the same place of the same document.
    """
    seen: dict[str, int] = {}
    units = {}
    for passage in passages:
        place = "" if passage.kind in ("text", "speech") else f"{passage.page}\0{passage.box}\0{passage.t0}"
        content = json.dumps([tenant, path, passage.kind, place, passage.title, passage.text])
        seen[content] = seen.get(content, 0) + 1
        name = f"{content}{seen[content]}".encode()
        units[hashlib.blake2b(name, digest_size=16).hexdigest()] = passage
    return units


def sentences(text: str) -> list[Span]:
    """The sentences, list items and table rows of a text, without the white space around them."""
    spans: list[Span] = [(0, len(text))]
    for boundary in (_PARAGRAPHS, _ITEMS, _SENTENCES):
        spans = [part for start, end in spans for part in _cut(text, start, end, boundary)]
    return spans


def _sections(text: str, headings: Sequence[Heading]) -> Iterator[tuple[Heading, Span]]:
    """Each heading with the span of what stands under it; first the part before any heading, at level 0."""
    heading = Heading(0, 0, 0, "")
    for following in headings:
        yield heading, (heading.end, following.start)
        heading = following
    yield heading, (heading.end, len(text))


class _Places:
    """Where spans of the text stand: on which page, in which box, from when to when."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        self._marks = marks
        self._starts, self._ends = [mark.start for mark in marks], [mark.end for mark in marks]
        self._cuts = list(self._boundaries())

    def _boundaries(self) -> Iterator[int]:
        since: float | None = None
        for before, mark in pairwise([None, *self._marks]):
            if mark is None:
                continue
            turned = before is not None and before.page != mark.page
            late = None not in (since, mark.t1) and mark.t1 - since > MAX_SECONDS  # type: ignore[operator]
            if turned or late:
                yield mark.start
            if turned or late or since is None:
                since = mark.t0

    def divided(self, start: int, end: int) -> list[Span]:
        """A span, cut where a page ends or enough was heard."""
        inner = self._cuts[bisect_right(self._cuts, start) : bisect_left(self._cuts, end)]
        return list(pairwise([start, *inner, end]))

    def at(self, start: int, end: int) -> tuple[int | None, Box | None, float | None, float | None]:
        """The page, the box around it there, and the times of a span."""
        marks = self._marks[bisect_right(self._ends, start) : bisect_left(self._starts, end)]
        if not marks:
            return None, None, None, None
        page = marks[0].page
        boxes = [mark.box for mark in marks if mark.box and mark.page == page]
        times = [(mark.t0, mark.t1) for mark in marks if mark.t0 is not None and mark.t1 is not None]
        box = _around(boxes) if boxes else None
        return page, box, min(t for t, _ in times) if times else None, max(t for _, t in times) if times else None


def _around(boxes: Sequence[Box]) -> Box:
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _picture(picture: Picture, name: str, text: str, marks: Sequence[Mark]) -> Passage:
    start = end = 0
    known = picture.text
    if picture.kind == "page":
        on_page = [mark for mark in marks if mark.page == picture.page]
        if on_page:
            start, end = on_page[0].start, min(on_page[-1].end, on_page[0].start + MAX_PAGE_CHARS)
        known = text[start:end]
    return Passage(name, known, start, end, picture.kind, picture.page, picture.box, picture.t0, picture.t1)


class _Cutter:
    """Cuts a text where it is best cut. Words are counted once, so that the time it takes grows with the text alone."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = array("Q", (match.start() for match in _WORD.finditer(text)))

    def pieces(self, start: int, end: int, boundaries: tuple[re.Pattern[str], ...] = _COARSE_TO_FINE) -> list[Span]:
        """Spans that fit the limit: cut at the coarsest boundary that will do, then packed again while they fit."""
        whole = list(_cut(self._text, start, end, _NOWHERE))
        if not whole or self._fits(*whole[0]):
            return whole
        if not boundaries:
            return list(self._between_words(*whole[0]))
        parts = _cut(self._text, *whole[0], boundaries[0])
        return self._packed(piece for part in parts for piece in self.pieces(*part, boundaries[1:]))

    def _between_words(self, start: int, end: int) -> Iterator[Span]:
        """The longest spans that fit and end with a word, or within one that is too long itself."""
        while start < end:
            most = min(start + MAX_CHARS, end)
            after = bisect_left(self._words, start) + MAX_WORDS
            if after < len(self._words):
                most = min(most, self._words[after])
            if most < end and not self._text[most].isspace():
                word = self._words[bisect_right(self._words, most) - 1]  # the one that would be cut
                most = word if start < word else most
            yield start, start + len(self._text[start:most].rstrip())
            if most < end and self._text[most].isspace():
                following = bisect_left(self._words, most)
                most = self._words[following] if following < len(self._words) else end
            start = most

    def _fits(self, start: int, end: int) -> bool:
        return end - start <= MAX_CHARS and bisect_left(self._words, end) - bisect_left(self._words, start) <= MAX_WORDS

    def _packed(self, parts: Iterable[Span]) -> list[Span]:
        packed: list[Span] = []
        for start, end in parts:
            if packed and self._fits(packed[-1][0], end):
                packed[-1] = (packed[-1][0], end)
            else:
                packed.append((start, end))
        return packed


def _cut(text: str, start: int, end: int, boundary: re.Pattern[str]) -> Iterator[Span]:
    """The parts of ``text[start:end]`` between boundaries, stripped, none empty."""
    begin = start
    for cut in chain((match.end() for match in boundary.finditer(text, start, end)), [end]):
        part = text[begin:cut]
        if stripped := part.strip():
            first = begin + len(part) - len(part.lstrip())
            yield first, first + len(stripped)
        begin = cut
