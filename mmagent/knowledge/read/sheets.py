"""Reads Excel workbooks (.xlsx, .xlsm): the values of each sheet under its name. It runs no formulas and no macros."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from datetime import datetime, time
from io import BytesIO
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read import chart
from mmagent.knowledge.read.archive import check_package
from mmagent.knowledge.read.compose import Composer

if TYPE_CHECKING:
    from mmagent.knowledge.read import Options

_SHEETS = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_CHART = re.compile(r"xl/charts/chart\d+\.xml")
MAX_CELLS = 5_000_000
"""Of a workbook, empty ones between others included."""


def read_sheets(data: bytes, name: str, options: Options) -> Extract:
    """The tables on each sheet, apart where rows are empty between them, without empty columns."""
    import openpyxl

    check_package(data, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that it does not keep, as if the file were to be written again
        book = openpyxl.load_workbook(BytesIO(data), read_only=True, data_only=True, keep_links=False)
        try:
            composer = Composer()
            _values(composer, book)
            _charts(composer, data)
            return composer.extract(_SHEETS, book.properties.title or "")
        finally:
            book.close()


def _values(composer: Composer, book: Any) -> None:
    left = _Budget()
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            composer.notes.append(f"the hidden sheet {sheet.title!r} was left out")
            continue
        sheet.reset_dimensions()  # what the file says of them is often wrong
        titled = False
        for table in _tables(left.spent(sheet.iter_rows(values_only=True))):
            if not titled:
                composer.heading(2, sheet.title)
                titled = True
            composer.rows(table)


def _charts(composer: Composer, data: bytes) -> None:
    """What is drawn in the workbook, in words; the numbers stand in its sheets."""
    with ZipFile(BytesIO(data)) as package:
        parts = [name for name in package.namelist() if _CHART.fullmatch(name)]
        roots = [chart.parsed(package.read(name)) for name in parts]
    lines = [": ".join(filter(None, (chart.title_of(root), ", ".join(chart.series_of(root))))) for root in roots]
    if any(lines):
        composer.heading(2, "Charts")
        composer.add("\n".join(f"- {line}" for line in lines if line))


class _Budget:
    """How many cells may still be looked at."""

    def __init__(self) -> None:
        self._cells = MAX_CELLS

    def spent(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for row in rows:
            self._cells -= len(row) or 1
            if self._cells < 0:
                raise InputError(f"it has more than {MAX_CELLS:,} cells; split it")
            yield row


def _tables(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[list[str]]]:
    """Rows that stand together, as text, without the columns that are empty in all of them."""
    table: list[list[str]] = []
    for row in rows:
        cells = [_shown(value) for value in row]
        if any(cells):
            table.append(cells)
        elif table:
            yield _trimmed(table)
            table = []
    if table:
        yield _trimmed(table)


def _trimmed(table: list[list[str]]) -> list[list[str]]:
    used = sorted({at for cells in table for at, cell in enumerate(cells) if cell})
    return [[cells[at] if at < len(cells) else "" for at in used] for cells in table]


def _shown(value: Any) -> str:
    """A value as people write it: days without a time, whole numbers without a point."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return str(value).strip()
