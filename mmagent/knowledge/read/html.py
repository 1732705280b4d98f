"""Reads HTML: what a reader of the page sees of its content, without navigation. It fetches and runs nothing."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read.compose import Composer, one_line
from mmagent.knowledge.read.text import decode

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

    from mmagent.knowledge.read import Options

MAX_DEPTH = 512
"""Of elements in elements, as in browsers; the parser's time grows with the square of it."""
_MAX_SPAN = 50
"""Rows or columns that one cell of a table stands for."""
_MAX_REPEATED = 200
"""Characters of a cell that is repeated in all the rows and columns it spans; longer ones stand once."""

_MAX_INDENT = 8
"""Levels of lists in lists that are shown."""

_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9._:-]{1,40})""")
_AS_BROWSERS = {"iso8859-1": "cp1252", "ascii": "cp1252"}
_TAGS = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*+)[^<>]*+>")
_FORMATTING = re.compile(r"</?(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])[^<>]*>", re.IGNORECASE)
"""Tags that say nothing here, and that a parser opens anew in every paragraph while they are not closed."""
_SPACES = re.compile(r"[ \t\r\n\f]+")
_UNSEEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

_NOT_NESTED = frozenset(
    """area base br col embed hr img input link meta param source track wbr html head body p li dt dd tr td th thead
    tbody tfoot option optgroup colgroup""".split()  # noqa: SIM905
)
"""Elements that hold nothing, or end by themselves where the next one begins."""
_LEFT_OUT = frozenset(
    """script style noscript template head nav footer button select textarea datalist svg canvas iframe object audio
    video map dialog""".split()  # noqa: SIM905
)
_BLOCKS = frozenset(
    """address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure form header
    hgroup hr legend main menu ol p pre search section summary table td th tr ul li h1 h2 h3 h4 h5 h6""".split()  # noqa: SIM905
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}


def read_html(data: bytes, name: str, options: Options) -> Extract:
    """The headings, paragraphs, lists and tables of a page, with the words that stand for its pictures."""
    from selectolax.lexbor import LexborHTMLParser

    parser = LexborHTMLParser(_clamped(_FORMATTING.sub("", _decoded(data))))
    title = parser.css_first("head > title")
    page = _Page({node.mem_id for node in parser.css(_FOR_LAYOUT)})
    if parser.root is not None:
        for node, entered in _walk(parser.root):
            if entered:
                page.enter(node)
            else:
                page.leave(node)
        page.flush()
    return page.composer.extract("text/html", title.text() if title else "")


_FOR_LAYOUT = ", ".join(f"table:has({tag})" for tag in ("table", *_HEADINGS))
"""Tables that arrange parts of the page and hold no values."""


class _Page:
    """Turns elements, as they begin and end, into blocks of text."""

    def __init__(self, layout: set[int]) -> None:
        self.composer = Composer()
        self._layout = layout
        self._words: list[str] = []
        self._lists: list[int | None] = []  # the next number, or None: bullets
        self._bullet = ""
        self._after_item = False
        self._preformatted = 0
        self._table: _Table | None = None

    def enter(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if node.is_text_node:
            text = node.text_content or ""
            self._words.append(text if self._preformatted else _SPACES.sub(" ", text))
        elif tag == "br":
            self._words.append("\n")
        elif tag == "img":
            self._words.append(f" {one_line(node.attributes.get('alt') or '')} ")
        elif tag in _BLOCKS:
            self._break()
            self._open(tag, node)

    def _open(self, tag: str, node: LexborNode) -> None:
        if tag == "pre":
            self._preformatted += 1
        elif tag in ("ul", "ol", "menu"):
            start = _number(node, "start", 1) if tag == "ol" else None
            self._lists.append(start)
        elif tag == "li" and self._lists and not self._in_cell():
            number = self._lists[-1]
            self._bullet = "- " if number is None else f"{number}. "
            self._lists[-1] = None if number is None else number + 1
        elif tag == "table" and node.mem_id not in self._layout and self._table is None:
            self._table = _Table(node.mem_id)
        elif self._table and tag == "tr":
            self._table.begin_row()
        elif self._table and tag in ("td", "th"):
            self._table.begin_cell(_number(node, "colspan", 1), _number(node, "rowspan", 1))
            self._words = []

    def leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag not in _BLOCKS:
            return
        if tag in _HEADINGS and not self._in_cell():
            title, self._words = "".join(self._words), []
            self.composer.heading(_HEADINGS[tag], title)
        elif self._table and tag in ("td", "th") and self._in_cell():
            self._table.end_cell("".join(self._words))
            self._words = []
        else:
            self._break()
        if tag == "pre":
            self._preformatted -= 1
        elif tag in ("ul", "ol", "menu") and self._lists:
            self._lists.pop()
            self._after_item = bool(self._lists)
        elif tag == "table" and self._table and self._table.id == node.mem_id:
            self.composer.rows(self._table.rows())
            self._table = None

    def flush(self) -> None:
        """Adds the words so far as a block."""
        text, self._words = "".join(self._words), []
        if not self._preformatted:
            text = "\n".join(line for line in map(one_line, text.split("\n")) if line)
        if not text.strip():
            return
        indent = "  " * min(len(self._lists) - 1, _MAX_INDENT)
        bullet, self._bullet = self._bullet, ""
        self.composer.add(indent + bullet + text, gap="\n" if bullet and self._after_item else "\n\n")
        self._after_item = bool(self._lists)

    def _break(self) -> None:
        if self._in_cell():
            self._words.append(" ")
        else:
            self.flush()

    def _in_cell(self) -> bool:
        return self._table is not None and self._table.in_cell


class _Table:
    """The cells of a table; what spans several rows or columns is said in each of them."""

    def __init__(self, mem_id: int) -> None:
        self.id = mem_id
        self.in_cell = False
        self._rows: list[list[tuple[str, int, int]]] = []
        self._span = (1, 1)

    def begin_row(self) -> None:
        self._rows.append([])
        self.in_cell = False

    def begin_cell(self, columns: int, rows: int) -> None:
        self._span = (min(max(columns, 1), _MAX_SPAN), min(max(rows, 1), _MAX_SPAN))
        self.in_cell = True

    def end_cell(self, text: str) -> None:
        if not self._rows:
            self._rows.append([])
        self._rows[-1].append((one_line(text), *self._span))
        self.in_cell = False

    def rows(self) -> Iterator[list[str]]:
        below: dict[int, tuple[str, int]] = {}  # column -> text of a cell from above, and rows it still reaches down
        for number, cells in enumerate(self._rows, 1):
            line: list[str] = []
            for text, columns, rows in cells:
                self._fill(line, below)
                again = text if len(text) <= _MAX_REPEATED else ""
                for at in range(columns):
                    if rows > 1:
                        below[len(line)] = (again, rows - 1)
                    line.append(text if at == 0 else again)
            self._fill(line, below)
            repeated = number < len(self._rows) and bool(cells) and all(rows > 1 for _, _, rows in cells)
            if not repeated:  # in the rows below
                yield line

    @staticmethod
    def _fill(line: list[str], below: dict[int, tuple[str, int]]) -> None:
        while len(line) in below:
            text, rows = below.pop(len(line))
            if rows > 1:
                below[len(line)] = (text, rows - 1)
            line.append(text)


def _walk(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Each node that can be seen as it begins (True) and ends (False), without recursion."""
    node = root
    while True:
        seen = not _unseen(node)
        if seen:
            yield node, True
            if (child := node.child) is not None:
                node = child
                continue
            yield node, False
        while node.next is None:
            parent = node.parent
            if parent is None or node.mem_id == root.mem_id:
                return
            node = parent
            yield node, False
        node = node.next


def _unseen(node: LexborNode) -> bool:
    if node.is_text_node:
        return False
    if not node.is_element_node or node.tag in _LEFT_OUT:
        return True
    attributes = node.attributes
    if not attributes:
        return False
    hidden = "hidden" in attributes or attributes.get("aria-hidden") == "true"
    return hidden or attributes.get("role") == "navigation" or bool(_UNSEEN.search(attributes.get("style") or ""))


def _number(node: LexborNode, name: str, default: int) -> int:
    value = node.attributes.get(name) or ""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 8 else default


def _decoded(data: bytes) -> str:
    """The page's characters: by its first bytes, by the encoding that it names, or as UTF-8."""
    declared = _DECLARED.search(data[:1024])
    if declared and not data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            encoding = codecs.lookup(declared[1].decode()).name
            text = data.decode(_AS_BROWSERS.get(encoding, encoding), "replace")
        except (LookupError, UnicodeError):  # no encoding, or none of texts: as if it were not named
            return decode(data)
        if "\0" in text:
            raise InputError("it is not text")
        return text
    return decode(data)


def _clamped(source: str) -> str:
    """The page without the elements that are nested too deeply to be parsed in time; what they hold stays."""
    depth = deepest = 0
    for tag in _TAGS.finditer(source):
        if tag[2].lower() not in _NOT_NESTED:
            depth = max(0, depth - 1) if tag[1] else depth + 1
            deepest = max(deepest, depth)
    if deepest <= MAX_DEPTH:
        return source
    depth = 0

    def kept(tag: re.Match[str]) -> str:
        nonlocal depth
        if tag[2].lower() in _NOT_NESTED:
            return tag[0]
        depth = max(0, depth - 1) if tag[1] else depth + 1
        return tag[0] if depth + bool(tag[1]) <= MAX_DEPTH else "<br>"

    return _TAGS.sub(kept, source)
