"""Reads Word documents (.docx): headings, paragraphs, lists, tables, text boxes, footnotes; no headers and footers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read.archive import check_package
from mmagent.knowledge.read.compose import Composer, description, one_line

if TYPE_CHECKING:
    from mmagent.knowledge.read import Options

_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}docPr"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_BREAKS = {_W + "tab": "\t", _W + "br": "\n", _W + "cr": "\n", _W + "noBreakHyphen": "-"}
_MAX_LEVEL = 9
_MAX_BASES = 20
"""Styles that a style may be based on, one on the other."""
_MAX_SPAN = 63
"""Columns of a Word table."""


def read_word(data: bytes, name: str, options: Options) -> Extract:
    """The text of a document in reading order; the title is a heading of level 1, and the others stand below it."""
    import docx

    check_package(data, options)
    document = docx.Document(BytesIO(data))
    reader = _Reader(document)
    reader.blocks(document.element.body)
    for kind in ("footnotes", "endnotes"):
        reader.notes(document.part, kind)
    return reader.composer.extract(_WORD, document.core_properties.title or "")


class _Reader:
    def __init__(self, document: Any) -> None:
        self.composer = Composer()
        self._styles = _Styles(document.styles.element)
        self._numbering = _Numbering(document.part)
        self._below_title = 0
        self._after_item = False

    def blocks(self, parent: Any) -> None:
        """Adds the paragraphs and tables in an element, and those in the content controls in it."""
        for element in parent:
            if element.tag == _W + "p":
                self._paragraph(element)
            elif element.tag == _W + "tbl":
                self.composer.rows(_rows(element))
                self._after_item = False
            elif element.tag == _W + "sdt":
                for content in element.findall(_W + "sdtContent"):
                    self.blocks(content)
            elif element.tag in (_W + "ins", _W + "customXml", _W + "smartTag"):
                self.blocks(element)

    def notes(self, part: Any, kind: str) -> None:
        """Adds the footnotes or endnotes."""
        from docx.oxml import parse_xml

        for relation in part.rels.values():
            if relation.reltype.endswith("/" + kind) and not relation.is_external:
                for note in parse_xml(relation.target_part.blob):
                    if note.get(_W + "type") in (None, "normal"):
                        self.composer.section(1)
                        self.blocks(note)

    def _paragraph(self, paragraph: Any) -> None:
        text = _text(paragraph)
        properties = paragraph.find(_W + "pPr")
        style = _value(properties, "pStyle")
        level = self._styles.level(style) if _value(properties, "outlineLvl") is None else _outline(properties)
        label, depth = self._numbering.label(properties, self._styles.list_of(style))
        if self._styles.is_title(style) and text.strip():
            self._below_title = 1
            self.composer.heading(1, text)
        elif level is not None and text.strip():
            number = f"{label} " if label != "-" else ""
            self.composer.heading(min(level + self._below_title, _MAX_LEVEL), number + text)
        elif label and text.strip():
            gap = "\n" if self._after_item else "\n\n"
            self.composer.add(f"{'  ' * depth}{label} {one_line(text)}", gap=gap)
        else:
            self.composer.add(text.strip())
        if text.strip():
            self._after_item = bool(label) and level is None
        for box in _boxes(paragraph):
            self.blocks(box)


class _Styles:
    """What paragraph styles say of outline levels and lists, by their ids."""

    def __init__(self, element: Any) -> None:
        self._styles = {style.get(_W + "styleId"): style for style in element.findall(_W + "style")}
        self._default = next((name for name, style in self._styles.items() if _is_default(style)), None)

    def level(self, style_id: str | None) -> int | None:
        """The level of the heading that a paragraph of this style is, from 1; None: of no heading."""
        for style in self._with_bases(style_id):
            name = (_value(style, "name") or "").lower()
            if name.startswith("heading ") and name[8:].isdigit() and 1 <= int(name[8:]) <= _MAX_LEVEL:
                return int(name[8:])
            properties = style.find(_W + "pPr")
            if _value(properties, "outlineLvl") is not None:
                return _outline(properties)
        return None

    def is_title(self, style_id: str | None) -> bool:
        """Whether a paragraph of this style is the document's title."""
        return any((_value(style, "name") or "").lower() == "title" for style in self._with_bases(style_id))

    def list_of(self, style_id: str | None) -> Any:
        """The properties of the first of a style's bases that makes list items of its paragraphs."""
        for style in self._with_bases(style_id):
            properties = style.find(_W + "pPr")
            if properties is not None and properties.find(_W + "numPr") is not None:
                return properties
        return None

    def _with_bases(self, style_id: str | None) -> Iterator[Any]:
        style_id = style_id or self._default
        for _ in range(_MAX_BASES):
            style = self._styles.get(style_id)
            if style is None:
                return
            yield style
            style_id = _value(style, "basedOn")


class _Numbering:
    """Counts list items and headings, as Word does when it shows them."""

    def __init__(self, part: Any) -> None:
        self._levels: dict[str, dict[int, Any]] = {}  # list -> its levels
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)
        self._lists: dict[str, str] = {}
        found = [rel for rel in part.rels.values() if rel.reltype.endswith("/numbering") and not rel.is_external]
        if not found:
            return
        from docx.oxml import parse_xml

        root = parse_xml(found[0].target_part.blob)
        for abstract in root.findall(_W + "abstractNum"):
            levels = {_integer(level.get(_W + "ilvl")): level for level in abstract.findall(_W + "lvl")}
            self._levels[abstract.get(_W + "abstractNumId")] = levels
        for number in root.findall(_W + "num"):
            self._lists[number.get(_W + "numId")] = _value(number, "abstractNumId") or ""

    def label(self, properties: Any, style: Any) -> tuple[str, int]:
        """The bullet or number of a paragraph, and how deep its list is nested; empty where it is no item."""
        own = properties.find(_W + "numPr") if properties is not None else None
        inherited = style.find(_W + "numPr") if style is not None else None
        number = _value(own, "numId") or _value(inherited, "numId")
        depth = min(max(_integer(_value(own, "ilvl") or _value(inherited, "ilvl")), 0), 8)
        level = self._levels.get(self._lists.get(number or "", ""), {}).get(depth)
        if number in (None, "0") or level is None:
            return "", 0
        if _value(level, "numFmt") in (None, "bullet", "none"):
            return "-", depth
        return self._counted(self._lists[number], depth), depth

    def _counted(self, name: str, depth: int) -> str:
        counts, levels = self._counts[name], self._levels[name]
        counts[depth] = counts[depth] + 1 if depth in counts else _integer(_value(levels[depth], "start") or "1")
        for deeper in [other for other in counts if other > depth]:
            del counts[deeper]
        label = _value(levels[depth], "lvlText") or f"%{depth + 1}."
        for at in range(depth + 1):
            form = _value(levels[at], "numFmt") if at in levels else "decimal"
            label = label.replace(f"%{at + 1}", _written(counts.get(at, 1), form or "decimal"))
        return one_line(label)[:40]


def _written(number: int, form: str) -> str:
    if form in ("lowerLetter", "upperLetter") and 0 < number <= 26 * 10:
        letter = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letter if form == "lowerLetter" else letter.upper()
    if form in ("lowerRoman", "upperRoman") and 0 < number < 4000:
        roman = ""
        for value, sign in zip((1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1), _ROMAN, strict=True):
            roman += sign * (number // value)
            number %= value
        return roman if form == "lowerRoman" else roman.upper()
    return str(number)


_ROMAN = ("m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i")


def _text(parent: Any) -> str:
    """The words in a paragraph or cell, text boxes left out; paragraphs within are on lines of their own."""
    parts: list[str] = []
    stack = [iter(parent)]
    while stack:
        element = next(stack[-1], None)
        if element is None:
            stack.pop()
        elif element.tag in (_W + "t", _MATH_TEXT):
            parts.append(element.text or "")
        elif element.tag in _BREAKS:
            parts.append(_BREAKS[element.tag])
        elif element.tag == _DRAWING:
            parts.append(f" {description(element.get('descr'))} ")
        elif element.tag not in (_FALLBACK, _W + "txbxContent", _W + "pPr", _W + "rPr", _W + "del", _W + "moveFrom"):
            if element.tag == _W + "p" and parts:
                parts.append("\n")
            stack.append(iter(element))
    return "".join(parts)


def _boxes(paragraph: Any) -> list[Any]:
    """The text boxes at a paragraph, once each: what is there for old versions of Word is left out."""
    box, found = _W + "txbxContent", paragraph.iter(_W + "txbxContent")
    return [one for one in found if not any(above.tag in (_FALLBACK, box) for above in one.iterancestors())]


def _rows(table: Any) -> Iterator[list[str]]:
    """The rows of a table; what spans several rows or columns is said in each of them."""
    above: dict[int, str] = {}
    for line in table.iter(_W + "tr"):
        if next(line.iterancestors(_W + "tbl")) is not table:
            continue  # of a table in a cell, whose words are the cell's
        cells = [""] * min(_integer(_value(line.find(_W + "trPr"), "gridBefore")), _MAX_SPAN)
        for cell in line.iter(_W + "tc"):
            if next(cell.iterancestors(_W + "tr")) is not line:
                continue
            properties = cell.find(_W + "tcPr")
            merged = properties.find(_W + "vMerge") if properties is not None else None
            continued = merged is not None and merged.get(_W + "val") in (None, "continue")
            text = above.get(len(cells), "") if continued else one_line(_text(cell))
            above[len(cells)] = text
            cells += [text] * min(max(_integer(_value(properties, "gridSpan") or "1"), 1), _MAX_SPAN)
        yield cells


def _value(parent: Any, name: str) -> str | None:
    """The value of a property, e.g. of ``<w:pStyle w:val="Title"/>``."""
    child = parent.find(_W + name) if parent is not None else None
    value = child.get(_W + "val") if child is not None else None
    return str(value) if value is not None else None


def _outline(properties: Any) -> int | None:
    level = _integer(_value(properties, "outlineLvl"))
    return level + 1 if 0 <= level < _MAX_LEVEL else None  # 9 is body text


def _is_default(style: Any) -> bool:
    return style.get(_W + "default") in ("1", "true") and style.get(_W + "type") == "paragraph"


def _integer(value: str | None) -> int:
    try:
        return int(value or "0")
    except ValueError:
        return 0
