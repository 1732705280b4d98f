"""Reads PowerPoint presentations (.pptx): each slide is a page under its title. It draws nothing."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read import chart
from mmagent.knowledge.read.archive import check_package
from mmagent.knowledge.read.compose import Composer, description

if TYPE_CHECKING:
    from mmagent.knowledge.read import Options

_SLIDES = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_TEXT = "{http://schemas.openxmlformats.org/drawingml/2006/main}t"
_PARAGRAPH = "{http://schemas.openxmlformats.org/drawingml/2006/main}p"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds"
_DIAGRAM_DATA = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}dm"
_MAX_REPEATED = 200
"""Characters of a cell that is repeated in the rows and columns it spans."""


def read_slides(data: bytes, name: str, options: Options) -> Extract:
    """The slides in order: title, texts, tables, numbers of charts, words of diagrams and pictures, speaker's notes."""
    import pptx

    from mmagent.knowledge.read import refused

    check_package(data, options)
    presentation = pptx.Presentation(BytesIO(data))
    if (found := len(presentation.slides)) > options.max_index_pages:
        raise refused(f"{found:,} slides", "max_index_pages", options.max_index_pages)
    composer = Composer()
    for number, slide in enumerate(presentation.slides, 1):
        with composer.page(number):
            _slide(composer, slide)
    return composer.extract(_SLIDES, presentation.core_properties.title or "")


def _slide(composer: Composer, slide: Any) -> None:
    title = slide.shapes.title
    if title is not None and title.text_frame.text.strip():
        composer.heading(2, title.text_frame.text)
    else:
        composer.section(2)
    for shape in _flat(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if getattr(shape, "has_table", False):
            composer.rows(_rows(shape.table))
        elif getattr(shape, "has_chart", False):
            root = chart.parsed(shape.chart_part.blob)
            composer.add(chart.title_of(root))
            composer.rows(chart.rows_of(root))
        elif shape.has_text_frame:
            composer.add("\n".join(_lines(shape.text_frame)))
        else:
            composer.add(_described(shape))
            composer.add("\n".join(_diagram(shape, slide)))
    if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None:
        composer.add(frame.text)


def _flat(shapes: Any) -> Iterator[Any]:
    """The shapes, those in groups one by one."""
    stack = [iter(shapes)]
    while stack:
        shape = next(stack[-1], None)
        if shape is None:
            stack.pop()
        elif hasattr(shape, "shapes"):
            stack.append(iter(shape.shapes))
        else:
            yield shape


def _lines(frame: Any) -> Iterator[str]:
    for paragraph in frame.paragraphs:
        text = paragraph.text.replace("\v", "\n")
        if text.strip():
            yield f"{'  ' * paragraph.level}- {text}" if paragraph.level else text


def _rows(table: Any) -> Iterator[list[str]]:
    """The rows; what spans several rows or columns is said in each of them."""
    merged: dict[tuple[int, int], str] = {}
    for at, row in enumerate(table.rows):
        line: list[str] = []
        for column, cell in enumerate(row.cells):
            text = merged.get((at, column), "") if cell.is_spanned else cell.text
            if cell.is_merge_origin and len(text) <= _MAX_REPEATED:
                below, right = min(cell.span_height, len(table.rows)), min(cell.span_width, len(row.cells))
                merged |= {(at + y, column + x): text for y in range(below) for x in range(right)}
            line.append(text)
        yield line


def _described(shape: Any) -> str:
    """What its author says that a picture shows."""
    return description(shape._element._nvXxPr.cNvPr.get("descr"))  # no public way to the alternative text


def _diagram(shape: Any, slide: Any) -> Iterator[str]:
    """The words in a SmartArt diagram, which is a part of its own."""
    for ids in shape._element.iter(_DIAGRAM):
        relation = slide.part.rels.get(ids.get(_DIAGRAM_DATA))
        if relation is None or relation.is_external:
            continue
        for paragraph in chart.parsed(relation.target_part.blob).iter(_PARAGRAPH):
            if words := "".join(text.text or "" for text in paragraph.iter(_TEXT)).strip():
                yield words
