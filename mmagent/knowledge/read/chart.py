"""Reads the charts in Office files from their own parts: title, series and the numbers drawn. It draws nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_TEXT = "{http://schemas.openxmlformats.org/drawingml/2006/main}t"
_MAX_POINTS = 10_000
"""Of one series; more are not said one by one."""


def parsed(data: bytes) -> Any:
    """The root element of an XML part; nothing outside it is looked at."""
    from lxml import etree  # type: ignore[import-untyped]

    return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))


def title_of(root: Any) -> str:
    """The title of a chart, or nothing."""
    title = root.find(f"{_C}chart/{_C}title")
    return "" if title is None else "".join(text.text or "" for text in title.iter(_TEXT)).strip()


def series_of(root: Any) -> list[str]:
    """The names of what is drawn."""
    return [name for series in root.iter(_C + "ser") if (name := _first(series, "tx"))]


def rows_of(root: Any) -> Iterator[list[str]]:
    """The numbers as a table: a row for each category, a column for each series."""
    series = list(root.iter(_C + "ser"))
    columns = [_points(one, "val") or _points(one, "yVal") for one in series]
    if not any(columns):
        return
    categories = max((_points(one, "cat") or _points(one, "xVal") for one in series), key=len)
    yield ["", *(_first(one, "tx") for one in series)]
    for at in sorted(set(categories).union(*columns)):
        yield [categories.get(at, ""), *(column.get(at, "") for column in columns)]


def _points(series: Any, name: str) -> dict[int, str]:
    """The values of a series by their places, as the file keeps them for programs that do not have the data."""
    found: dict[int, str] = {}
    part = series.find(_C + name)
    for point in part.iter(_C + "pt") if part is not None else ():
        index, value = point.get("idx", ""), point.find(_C + "v")
        if index.isascii() and index.isdigit() and value is not None and len(found) < _MAX_POINTS:
            found[int(index[:9])] = _shown(value.text or "")
    return found


def _first(series: Any, name: str) -> str:
    part = series.find(_C + name)
    value = part.find(f".//{_C}v") if part is not None else None
    return (value.text or "").strip() if value is not None else ""


def _shown(value: str) -> str:
    try:
        return f"{float(value):.12g}"
    except ValueError:
        return value
