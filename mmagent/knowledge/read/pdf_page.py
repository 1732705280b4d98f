"""One page of a PDF as lines of text with boxes, or as pixels. It knows PDFium, and no headings, documents and OCR."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmagent.knowledge.extract import Box

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MAX_PIXELS = 8_000_000
"""Of a rendered page; larger pages are rendered smaller."""
MAX_SIDE = 8_000
"""Of a rendered page, in pixels."""
POINTS = 72
"""In an inch, the unit of PDF."""

_SHARES = 1_000_000
"""Parts of a page's width and height that places are rounded to."""
_INVISIBLE = 3
"""Text rendering mode (ISO 32000-1, 9.3.6)."""
_BOLD, _BOLD_NAME = 600, re.compile(rb"(?i)bold|black|heavy|demi")
_FONT_NAME = 128
"""Bytes of a font's name that are looked at; of a longer one, none."""
_HYPHENS = (0x2, 0xFFFE)
"""What PDFium gives for a hyphen at the end of a line, in place of the line's end."""
_COMPATIBLE = re.compile(r"[\ufb00-\ufdff\ufe70-\ufefc]+")
"""Ligatures and Arabic letters in the forms that they are printed in."""
_ALEFS, _LAM = "اأإآ", "ل"


@dataclass(frozen=True, slots=True)
class PageLine:
    """A line of text on a page."""

    text: str
    """Never empty, white space as single blanks."""
    box: Box
    size: float = 0.0
    """Of its letters, in points; 0 where it is not known."""
    bold: bool = False
    hidden: bool = False
    """Whether it is in the file, and not seen on the page."""


@dataclass(slots=True)
class _Run:
    """The characters of a line as they come."""

    chars: list[str] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    """Of those that are seen, in PDFium's count."""
    edges: tuple[float, float, float, float] | None = None
    """Left, bottom, right and top in points."""
    last: tuple[float, float, float, float] | None = None

    def add(self, char: str, index: int, edges: tuple[float, float, float, float] | None) -> None:
        if edges is None or edges[0] == edges[2]:
            self.chars.append(char)
            return
        if edges == self.last and char == _LAM and self.chars and self.chars[-1] in _ALEFS:
            self.chars.insert(-1, char)  # one glyph for both, which PDFium gives the wrong way round
        else:
            self.chars.append(char)
        self.indexes.append(index)
        known = self.edges or edges
        self.edges = (
            min(known[0], edges[0]),
            min(known[1], edges[1]),
            max(known[2], edges[2]),
            max(known[3], edges[3]),
        )
        self.last = edges


def page_lines(page: Any) -> list[PageLine]:
    """The text layer of a page of pypdfium2, in the order of the file, without what lies off the page."""
    textpage = page.get_textpage()
    try:
        runs = list(_runs(textpage))
        return [line for run in runs if (line := _line(page, textpage, run))]
    finally:
        textpage.close()


def render(page: Any, dpi: float) -> PILImage:
    """The pixels of a page of pypdfium2 as it is seen, RGB on white.

    Args:
        page: The page.
        dpi: Pixels in an inch; fewer where the page would become larger than `MAX_PIXELS` or `MAX_SIDE`.
    """
    width, height = (max(float(side), 1.0) for side in page.get_size())
    scale = min(dpi / POINTS, math.sqrt(MAX_PIXELS / (width * height)), MAX_SIDE / max(width, height))
    bitmap = page.render(scale=scale)
    try:
        return bitmap.to_pil().convert("RGB")  # type: ignore[no-any-return]
    finally:
        bitmap.close()


def _runs(textpage: Any) -> Iterator[_Run]:
    import pypdfium2.raw as pdfium

    raw, rect, run, high = textpage.raw, pdfium.FS_RECTF(), _Run(), 0
    for index in range(textpage.count_chars()):
        code = pdfium.FPDFText_GetUnicode(raw, index)
        if code in (0xA, 0xD) or code in _HYPHENS:
            if code in _HYPHENS:
                run.chars.append("-")
            yield run
            run = _Run()
            continue
        if 0xD800 <= code < 0xDC00:  # the first half of a pair
            high = code
            continue
        if 0xDC00 <= code < 0xE000:
            code, high = (0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00) if high else 0xFFFD), 0
        if code <= 0x20 or code > 0x10FFFF:
            run.chars.append(" " if code else "")
            continue
        seen = pdfium.FPDFText_GetLooseCharBox(raw, index, rect)
        run.add(chr(code), index, (rect.left, rect.bottom, rect.right, rect.top) if seen else None)
    yield run


def _line(page: Any, textpage: Any, run: _Run) -> PageLine | None:
    text = _COMPATIBLE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), " ".join("".join(run.chars).split()))
    if not text or run.edges is None or not all(map(math.isfinite, run.edges)):
        return None
    box = _box(page, run.edges)
    if box[0] >= box[2] or box[1] >= box[3]:  # nothing of it is on the page
        return None
    middle = run.indexes[len(run.indexes) // 2]
    bold = all(_is_bold(textpage, index) for index in (run.indexes[0], middle, run.indexes[-1]))
    return PageLine(text, box, _size(textpage, middle), bold, _is_hidden(textpage, middle))


def _size(textpage: Any, index: int) -> float:
    """The size of a character in points."""
    import pypdfium2.raw as pdfium

    matrix, raw = pdfium.FS_MATRIX(), textpage.raw
    known = pdfium.FPDFText_GetMatrix(raw, index, matrix)
    size = float(pdfium.FPDFText_GetFontSize(raw, index)) * (math.hypot(matrix.c, matrix.d) if known else 1.0)
    return size if math.isfinite(size) else 0.0


def _is_bold(textpage: Any, index: int) -> bool:
    """Whether a character is in bold, by its font's weight, or by its name where the file has no weight."""
    import ctypes

    import pypdfium2.raw as pdfium

    if pdfium.FPDFText_GetFontWeight(textpage.raw, index) >= _BOLD:
        return True
    name, flags = ctypes.create_string_buffer(_FONT_NAME), ctypes.c_int()
    pdfium.FPDFText_GetFontInfo(textpage.raw, index, name, _FONT_NAME, flags)
    return bool(_BOLD_NAME.search(name.value))


def _is_hidden(textpage: Any, index: int) -> bool:
    """Whether a character is not painted."""
    import pypdfium2.raw as pdfium

    found = pdfium.FPDFText_GetTextObject(textpage.raw, index)
    return bool(found) and pdfium.FPDFTextObj_GetTextRenderMode(found) == _INVISIBLE


def _box(page: Any, edges: tuple[float, float, float, float]) -> Box:
    """A rectangle in points as shares of the page as it is seen: cropped and turned."""
    (x0, y0), (x1, y1) = _seen(page, edges[0], edges[1]), _seen(page, edges[2], edges[3])
    left, top, right, bottom = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
    return _share(left), _share(top), _share(right), _share(bottom)


def _seen(page: Any, x: float, y: float) -> tuple[int, int]:
    import ctypes

    import pypdfium2.raw as pdfium

    to_x, to_y = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDF_PageToDevice(page.raw, 0, 0, _SHARES, _SHARES, 0, x, y, to_x, to_y)
    return to_x.value, to_y.value


def _share(value: int) -> float:
    return round(min(max(value / _SHARES, 0.0), 1.0), 4)
