"""Reads PDF: the text layer with the place of each line, and OCR where a page is a picture. It knows no stores."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract, Mark, Picture
from mmagent.knowledge.read import refused
from mmagent.knowledge.read.compose import MAX_CHARS
from mmagent.knowledge.read.pdf_headings import Bookmark, headings
from mmagent.knowledge.read.pdf_page import PageLine, page_lines, render

if TYPE_CHECKING:
    from mmagent.knowledge.read import Options

MIME_TYPE = "application/pdf"
OCR_DPI = 200
OCR_SHARE = 0.7
"""Of the time that reading one document may take: after it, pages are no longer looked at for text."""

_GARBAGE = 0.3
"""Share of characters without a meaning from which a text layer is worthless: its fonts do not say what they show."""
_FOREIGN = 0.02
"""Share of letters that the OCR does not know from which an invisible text layer is better than the OCR."""
_GAP = 0.5
"""White space above a new paragraph, in heights of a line."""
_MAX_BOOKMARKS = 10_000
_PASSWORD, _SECURITY = 4, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY
_NO_MEANING = re.compile(r"[\ufffd\ue000-\uf8ff\x00-\x1f\x7f-\x9f]")
_JUNK = re.compile(r"(?i)^(untitled|title|document\d*|powerpoint presentation|microsoft (word|powerpoint|excel) - .*)$")
_FILE = re.compile(r"(?i)^.*\.(docx?|pptx?|xlsx?|pdf|png|jpe?g|tiff?|indd|dvi|tex|qxd|rtf|odt)$")

one_at_a_time = Lock()
"""PDFium is not for several threads."""


@dataclass
class _Reading:
    """What was found so far."""

    lines: list[list[PageLine]] = field(default_factory=list)
    """Of each page."""
    broken: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    """Pages that time was too short for."""
    failed: list[int] = field(default_factory=list)
    chars: int = 0


def read_pdf(data: bytes, name: str, options: Options) -> Extract:
    """Reads a PDF.

    Raises:
        InputError: It is encrypted, damaged, too long, or there is nothing in it; the message is the reason.
    """
    until = monotonic() + OCR_SHARE * options.limits.index_timeout
    with one_at_a_time, opened(data) as document:
        count = len(document)
        if count > options.max_index_pages:
            raise refused(f"{count:,} pages", "max_index_pages", options.max_index_pages)
        reading = _Reading()
        for index in range(count):
            reading.lines.append(_page(document, index, options, reading, until))
        title, bookmarks = _title(document), _bookmarks(document)
    if not any(reading.lines) and (not options.pages_as_pictures or len(reading.broken) == count):
        raise InputError(_nothing(reading, options))
    return _extract(reading, title, bookmarks, options)


@contextmanager
def opened(data: bytes) -> Iterator[Any]:
    """A document of pypdfium2 in memory; hold `one_at_a_time` meanwhile.

    Raises:
        InputError: It is encrypted or damaged.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in (_PASSWORD, _SECURITY):
            raise InputError("it is encrypted; save it without a password") from error
        raise InputError("it is a damaged PDF; save it again or take another one") from error
    with closing(document):
        yield document


def _page(document: Any, index: int, options: Options, reading: _Reading, until: float) -> list[PageLine]:
    """The lines of a page; what cannot be had is noted in ``reading``."""
    try:
        with closing(document[index]) as page:
            lines = page_lines(page)
            visible = [line for line in lines if not line.hidden]
            reading.chars += sum(len(line.text) for line in lines)
            if reading.chars > MAX_CHARS:
                raise InputError(f"it has more than {MAX_CHARS:,} characters of text; split it")
            if _is_text(visible) and _length(visible) >= _length(lines) / 2:
                return visible
            if not options.ocr or (_is_text(lines) and _beyond_ocr(lines)):
                found = lines if _is_text(lines) else []
            elif monotonic() > until:
                found = lines if _is_text(lines) else []
                if not found:
                    reading.skipped.append(index + 1)
                    return []
            else:
                found = _ocr(page, reading, index) or (lines if _is_text(lines) else [])
    except InputError:
        raise
    except Exception:  # PDFium's errors on this page; the other pages may do
        reading.broken.append(index + 1)
        return []
    if not found and index + 1 not in reading.failed:
        reading.empty.append(index + 1)
    return found


def _ocr(page: Any, reading: _Reading, index: int) -> list[PageLine]:
    from mmagent.errors import MediaError
    from mmagent.media.ocr import read_lines

    try:
        return [PageLine(line.text, line.box) for line in read_lines(render(page, OCR_DPI))]
    except MediaError:
        reading.failed.append(index + 1)
        return []


def _length(lines: Sequence[PageLine]) -> int:
    return sum(len(line.text) for line in lines)


def _is_text(lines: Sequence[PageLine]) -> bool:
    """Whether there is text, and it means something."""
    worthless = sum(len(_NO_MEANING.findall(line.text)) for line in lines)
    return bool(lines) and worthless <= _GARBAGE * _length(lines)


def _beyond_ocr(lines: Sequence[PageLine]) -> bool:
    """Whether a text is in letters that the OCR could not have read, e.g. Arabic ones."""
    from mmagent.media.ocr import alphabet

    letters = [char for line in lines for char in line.text if char.isalpha()]
    known = alphabet()
    return sum(char not in known for char in letters) > _FOREIGN * len(letters)


def _extract(reading: _Reading, title: str, bookmarks: list[Bookmark], options: Options) -> Extract:
    parts: list[str] = []
    marks: list[Mark] = []
    position = 0
    for number, lines in enumerate(reading.lines, start=1):
        before: PageLine | None = None
        for line in lines:
            gap = "" if not marks else "\n\n" if before is None or _parted(before, line) else "\n"
            position += len(gap)
            marks.append(Mark(position, position + len(line.text), page=number, box=line.box))
            parts += [gap, line.text]
            position += len(line.text)
            before = line
    found = headings([line for lines in reading.lines for line in lines], marks, bookmarks)
    pages = range(1, len(reading.lines) + 1) if options.pages_as_pictures else ()
    pictures = [Picture("page", page=number) for number in pages if number not in set(reading.broken)]
    return Extract("".join(parts), MIME_TYPE, title, found, marks, pictures, notes=_notes(reading, options))


def _parted(one: PageLine, other: PageLine) -> bool:
    """Whether a new paragraph begins with the other line."""
    if one.size and abs(one.size - other.size) > 0.1 * max(one.size, other.size):
        return True
    return other.box[1] - one.box[3] > _GAP * min(one.box[3] - one.box[1], other.box[3] - other.box[1])


def _title(document: Any) -> str:
    try:
        title = " ".join(str(document.get_metadata_value("Title")).split())
    except Exception:  # damaged metadata
        return ""
    return "" if _JUNK.match(title) or _FILE.match(title) else title[:200]


def _bookmarks(document: Any) -> list[Bookmark]:
    found = []
    try:
        for entry in document.get_toc():
            destination = entry.get_dest()
            page = destination.get_index() if destination else None
            if page is not None:
                found.append(Bookmark(entry.get_title(), entry.level + 1, page + 1))
            if len(found) >= _MAX_BOOKMARKS:
                break
    except Exception:  # a damaged outline: what was found so far is good
        pass
    return found


def _nothing(reading: _Reading, options: Options) -> str:
    if reading.broken and len(reading.broken) == len(reading.lines):
        return "it is a damaged PDF: no page can be read; save it again or take another one"
    if reading.lines and not options.ocr:
        return "there is no text in it, only pictures; set MMAGENT_OCR=true to have them read"
    return "there is no text in it"


def _notes(reading: _Reading, options: Options) -> list[str]:
    told = (
        (reading.broken, "could not be read"),
        (reading.failed, "could not be looked at for text"),
        (reading.skipped, "there was no time to look for text; MMAGENT_INDEX_TIMEOUT gives more"),
        (reading.empty, "no text" if options.ocr else "no text, and pictures are not read: MMAGENT_OCR is false"),
    )
    return [f"{_ranges(pages)}: {words}" for pages, words in told if pages]


def _ranges(pages: Sequence[int]) -> str:
    """Ascending numbers in words, e.g. ``"pages 2-4, 7"``."""
    ranges: list[list[int]] = []
    for page in pages:
        if ranges and ranges[-1][1] == page - 1:
            ranges[-1][1] = page
        else:
            ranges.append([page, page])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
    return f"page {text}" if len(pages) == 1 else f"pages {text}"
