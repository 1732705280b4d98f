"""Arrays, tables and figures as text and pixels. Their libraries are never imported here: whoever made one did that."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from io import BytesIO
from typing import Any

from mmagent.media.limits import check_size
from mmagent.settings import settings

MAX_VALUES = 1_000
"""Values of an array that are shown; of more there is only a summary."""
MAX_ROWS = 50
"""Rows of a table that are shown."""
MAX_CELL = 200


def is_array(value: Any) -> bool:
    """Whether it is numpy's: an array or one of its numbers."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def is_figure(value: Any) -> bool:
    """Whether it is a figure of matplotlib's."""
    figure = sys.modules.get("matplotlib.figure")
    return figure is not None and isinstance(value, figure.Figure)


def is_frame(value: Any) -> bool:
    """Whether it is a table, or a column of one, of pandas or polars."""
    libraries = filter(None, (sys.modules.get("pandas"), sys.modules.get("polars")))
    return any(isinstance(value, library.DataFrame | library.Series) for library in libraries)


def array_summary(value: Any) -> Any:
    """An array as JSON: its shape, type and values; of a large one the least, the greatest and the mean value.

    Args:
        value: An array or a number of numpy's.
    """
    if not getattr(value, "shape", ()):
        plain = value.item()
        return plain if isinstance(plain, bool | int | float | str | None) else str(plain)
    summary: dict[str, Any] = {"shape": list(value.shape), "dtype": str(value.dtype)}
    if value.size <= MAX_VALUES:
        values = value.tolist()
        return summary | {"values": values if value.dtype.kind in "biufU" else _as_text(values)}
    if value.dtype.kind in "biuf":
        summary |= {name: float(getattr(value, name)()) for name in ("min", "max", "mean")}
    return summary | {"note": f"{value.size:,} values are too many to show"}


def table_of(frame: Any) -> str:
    """A table in Markdown: the first `MAX_ROWS` rows, and a note where there are more.

    Args:
        frame: A data frame or series of pandas or polars.
    """
    if not hasattr(frame, "columns"):
        frame = frame.to_frame()
    total, head = len(frame), frame.head(MAX_ROWS)
    names = [str(name) for name in head.columns]
    if hasattr(head, "itertuples"):  # pandas
        rows: Iterable[Sequence[Any]] = head.itertuples(index=False, name=None)
        index = head.index
        if type(index).__name__ != "RangeIndex":
            names = [str(index.name or ""), *names]
            rows = ([label, *row] for label, row in zip(index, rows, strict=True))
    else:
        rows = head.rows()
    lines = [_row(names), _row(["---"] * len(names)), *map(_row, rows)]
    if total > MAX_ROWS:
        lines.append(f"[cut: these are the first {MAX_ROWS} of {total} rows]")
    return "\n".join(lines)


def png_of(figure: Any) -> bytes:
    """A figure of matplotlib's as a PNG, drawn without a window.

    Raises:
        LimitError: It is larger than a picture may be.
    """
    width, height = (math.ceil(inches * figure.dpi) for inches in figure.get_size_inches())
    check_size(width, height, "the figure", settings())
    file = BytesIO()
    import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    shown = " ".join(str(value)[: MAX_CELL + 1].split()).replace("|", "\\|")
    return shown if len(shown) <= MAX_CELL else f"{shown[:MAX_CELL]}..."


def _as_text(values: Any) -> Any:
    return [_as_text(value) for value in values] if isinstance(values, list) else str(values)
