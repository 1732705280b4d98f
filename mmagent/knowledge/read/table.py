"""Reads tables in plain text: values between commas, semicolons, bars or tabs. It knows no other format."""

from __future__ import annotations

import csv
import re
from io import StringIO
from typing import TYPE_CHECKING

from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read.compose import Composer
from mmagent.knowledge.read.text import decode

if TYPE_CHECKING:
    from mmagent.knowledge.read import Options

_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
_SAMPLE = 50
"""Lines that are looked at to find the delimiter."""


def read_table(data: bytes, name: str, options: Options) -> Extract:
    """The rows as Markdown writes them, the first one the header."""
    text = decode(data)
    page = Composer()
    delimiter = "\t" if name.lower().endswith(".tsv") else _delimiter(text.splitlines()[:_SAMPLE])
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # one cell may be all of it; its size was checked
    page.rows(csv.reader(StringIO(text, newline=""), delimiter=delimiter))
    return page.extract("text/csv")


def _delimiter(lines: list[str]) -> str:
    """The one that most lines have, and have as often as the header; a comma where none does."""
    counts = [[_QUOTED.sub("", line).count(mark) for mark in _DELIMITERS] for line in lines if line.strip()]
    if not counts:
        return ","

    def likeness(at: int) -> tuple[int, int]:
        return sum(1 for line in counts if line[at] and line[at] == counts[0][at]), sum(line[at] for line in counts)

    return _DELIMITERS[max(range(len(_DELIMITERS)), key=likeness)]
