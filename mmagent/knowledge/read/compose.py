"""Puts blocks of text together and notes where headings, pages and times stand. It knows no formats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract, Heading, Mark

MAX_CHARS = 20_000_000
"""Of one document; more than any book has."""
MAX_TITLE = 200
"""Characters of one heading; the rest is cut."""

_SPACES = re.compile(r"\s+")


class Composer:
    """Takes a document's blocks in reading order."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._headings: list[Heading] = []
        self._marks: list[Mark] = []
        self.notes: list[str] = []

    def add(self, text: str, *, gap: str = "\n\n") -> tuple[int, int]:
        """Adds a block after a gap, unless it is empty; its indentation stays.

        Returns:
            Its span.

        Raises:
            InputError: The document became too long.
        """
        text = text.strip("\n").rstrip()
        if not text:
            return self._length, self._length
        if self._parts:
            self._put(gap)
        start = self._length
        self._put(text)
        return start, self._length

    def rows(self, rows: Iterable[Sequence[str]]) -> None:
        """Adds a table: a line for each row that is not empty."""
        gap = "\n\n"
        for cells in rows:
            if any(cells):
                self.add(row(cells), gap=gap)
                gap = "\n"

    def heading(self, level: int, title: str) -> None:
        """Adds a line that names what comes below it, on a level from 1; one too long for that is text as any other."""
        title = one_line(title)
        start, end = self.add(title)
        if 0 < end - start <= MAX_TITLE:
            self._headings.append(Heading(start, end, level, title))

    def section(self, level: int) -> None:
        """What comes below has no title of its own on a level: it does not stand under the headings above."""
        self._headings.append(Heading(self._length, self._length, level, ""))

    def timed(self, text: str, t0: float, t1: float) -> None:
        """Adds a line that is heard from `t0` to `t1`, in seconds."""
        start, end = self.add(text, gap="\n")
        if end > start:
            self._marks.append(Mark(start, end, t0=t0, t1=t1))

    @contextmanager
    def page(self, number: int) -> Iterator[None]:
        """All that is added within stands on a page, counted from 1."""
        start = self._length
        yield
        if self._length > start:
            self._marks.append(Mark(start + 2 * (start > 0), self._length, page=number))  # past the gap

    def extract(self, mime_type: str, title: str = "") -> Extract:
        """All that was added."""
        text = "".join(self._parts)
        return Extract(text, mime_type, one_line(title)[:MAX_TITLE], self._headings, self._marks, notes=self.notes)

    def _put(self, text: str) -> None:
        self._length += len(text)
        if self._length > MAX_CHARS:
            raise InputError(f"it has more than {MAX_CHARS:,} characters of text; split it")
        self._parts.append(text)


def one_line(text: str) -> str:
    """The text with all white space as single blanks."""
    return _SPACES.sub(" ", text).strip()


_NOTICE = re.compile(r"(?:Description automatically generated|AI-generated content may be incorrect).*", re.DOTALL)


def description(text: str | None) -> str:
    """What an Office file says that a picture shows, without the notice that a machine wrote it."""
    return one_line(_NOTICE.sub("", text or ""))


def row(cells: Sequence[str]) -> str:
    """A row of a table as Markdown writes it; bars within cells are escaped."""
    return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"
