"""Which lines of a PDF are headings: by its bookmarks, or by how they look. It knows lines and marks, no PDFium."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmagent.knowledge.extract import Heading, Mark
from mmagent.knowledge.read.compose import MAX_TITLE
from mmagent.knowledge.read.pdf_page import PageLine

_LARGER = 1.15
"""Times the size of most of the text, from which a line is a heading."""
_SAME = 0.88
"""Times a size, down to which letters are of the same level."""
_LONGEST, _MOST_LINES = 160, 3
"""Characters and lines of a heading."""
_MOST = 0.25
"""Share of the text in headings from which they are none: a poster, a slide."""
_LEVELS = 6
_NUMBERED = re.compile(r"(\d+(?:\.\d+)*)\.?\s+[^\W\d_]")
_LETTER = re.compile(r"[^\W\d_]{2}")


@dataclass(frozen=True, slots=True)
class Bookmark:
    """An entry of a document's outline."""

    title: str
    level: int
    """From 1."""
    page: int
    """From 1."""


def headings(lines: Sequence[PageLine], marks: Sequence[Mark], bookmarks: Sequence[Bookmark]) -> list[Heading]:
    """The headings among lines, in order.

    Args:
        lines: All lines of the document.
        marks: Where each of them stands.
        bookmarks: The document's outline; where most of it is found in the text, it decides alone.
    """
    found = _outlined(lines, marks, bookmarks) or _looking(lines, marks)
    if sum(heading.end - heading.start for heading in found) > _MOST * sum(len(line.text) for line in lines):
        return []
    return _levelled(_with_text(found, marks))


def _outlined(lines: Sequence[PageLine], marks: Sequence[Mark], bookmarks: Sequence[Bookmark]) -> list[Heading]:
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, mark in enumerate(marks):
        first.setdefault(mark.page or 0, index)
        last[mark.page or 0] = index + 1
    found: list[Heading] = []
    after = 0
    for entry in bookmarks:
        places = range(max(first.get(entry.page, 0), after), last.get(entry.page, 0))
        span = next((span for at in places if (span := _spells(lines, marks, at, entry))), None)
        if span:
            found.append(_heading(lines, marks, *span, entry.level))
            after = span[1]
    return found if len(found) * 2 > len(bookmarks) else []


def _spells(lines: Sequence[PageLine], marks: Sequence[Mark], at: int, entry: Bookmark) -> tuple[int, int] | None:
    """The lines from ``at`` that spell a bookmark's title on its page."""
    wanted, text = _letters(entry.title), ""
    for end in range(at, min(at + _MOST_LINES, len(lines))):
        if marks[end].page != entry.page:
            return None
        text += _letters(lines[end].text)
        if text and text == wanted:
            return at, end + 1
        if not wanted.startswith(text):
            return None
    return None


def _looking(lines: Sequence[PageLine], marks: Sequence[Mark]) -> list[Heading]:
    """Lines in larger letters than most, and lines in bold that are numbered or stand alone."""
    sizes = Counter[float]()
    for line in lines:
        sizes[_half(line.size)] += len(line.text)
    if not lines or (body := sizes.most_common(1)[0][0]) <= 0:
        return []
    in_bold = sum(len(line.text) for line in lines if line.bold and _half(line.size) == body)
    plain = 2 * in_bold < sizes[body]  # where most of the text is bold, bold says nothing
    runs: list[tuple[int, int, float]] = []
    index = 0
    while index < len(lines):
        end = _same_look(lines, marks, index)
        text = " ".join(line.text for line in lines[index:end])
        large = lines[index].size >= _LARGER * body
        bold = plain and lines[index].bold and lines[index].size >= 0.95 * body and _stands_alone(lines, index, end)
        if (large or bold) and end - index <= _MOST_LINES and len(text) <= _LONGEST and _LETTER.search(text):
            runs.append((index, end, _half(lines[index].size) if large else 0.0))
        index = end
    ranks = _ranks({size for *_, size in runs if size})
    lowest = max(ranks.values(), default=0)
    return [
        _heading(lines, marks, index, end, ranks[size] if size else lowest + _depth(lines[index].text))
        for index, end, size in runs
    ]


def _ranks(sizes: set[float]) -> dict[float, int]:
    """The level of each size from 1, the largest; sizes that are nearly the same are on one."""
    ranks: dict[float, int] = {}
    rank, largest = 0, math.inf
    for size in sorted(sizes, reverse=True):
        if size < _SAME * largest:
            rank, largest = rank + 1, size
        ranks[size] = rank
    return ranks


def _stands_alone(lines: Sequence[PageLine], start: int, end: int) -> bool:
    """Whether lines in bold are numbered, or begin like a title, do not end like a sentence, and have text below."""
    text = lines[end - 1].text
    if _NUMBERED.match(lines[start].text):
        return True
    below = end < len(lines) and not lines[end].bold and lines[end].box[1] > lines[end - 1].box[1]
    return below and end - start == 1 and text[0].isupper() and text[-1] not in ".,;:!?" and len(text) <= _LONGEST / 2


def _same_look(lines: Sequence[PageLine], marks: Sequence[Mark], start: int) -> int:
    """The end of the lines that follow each other closely on one page in letters of one look."""
    end = start + 1
    while end < len(lines) and marks[end].page == marks[start].page:
        one, other = lines[end - 1], lines[end]
        apart = other.box[1] - one.box[3] > one.box[3] - one.box[1]
        if apart or other.bold != one.bold or _half(other.size) != _half(one.size) or _NUMBERED.match(other.text):
            break
        end += 1
    return end


def _levelled(found: list[Heading]) -> list[Heading]:
    """Levels without gaps; level 1 is kept for a heading that stands alone there, the document's title."""
    levels = sorted({heading.level for heading in found})
    alone = bool(found) and [heading.level for heading in found].count(found[0].level) == 1
    shift = 1 if alone and found[0].level == levels[0] else 2
    return [
        Heading(heading.start, heading.end, min(_LEVELS, levels.index(heading.level) + shift), heading.title)
        for heading in found
    ]


def _with_text(found: list[Heading], marks: Sequence[Mark]) -> list[Heading]:
    """Without those that nothing stands under: their words would be lost."""
    kept: list[Heading] = []
    end = marks[-1].end if marks else 0
    following: Heading | None = None
    for heading in reversed(found):
        until = following.start if following else end
        below = until - heading.end > 2 or (following is not None and following.level > heading.level)
        if below:
            kept.append(heading)
            following = heading
    return kept[::-1]


def _heading(lines: Sequence[PageLine], marks: Sequence[Mark], start: int, end: int, level: int) -> Heading:
    title = " ".join(line.text for line in lines[start:end])
    return Heading(marks[start].start, marks[end - 1].end, level, title[:MAX_TITLE])


def _depth(text: str) -> int:
    match = _NUMBERED.match(text)
    return match[1].count(".") + 1 if match else 1


def _half(size: float) -> float:
    return round(size * 2) / 2


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
