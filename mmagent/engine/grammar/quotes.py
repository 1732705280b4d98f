r"""Which spans of a text may be quoted, as a regex of the grammar. It knows lines of text, no tools and no tokens.

A quote starts and ends at the edge of a word, of a word without the punctuation around it, or of a part of it
between ``: # = ( ) ,``: of ``order:B-73105?`` these are ``order``, ``B-73105``, ``order:B-73105`` and so on,
but never ``73105``. It stays within one line, begins and ends with no white space, and is never empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

_CJK = r"\u2e80-\u9fff\uf900-\ufaff"
"""Scripts that write no spaces: each character is a unit."""
_WORD = rf"[^\W{_CJK}]+"
_UNIT = re.compile(rf"\s+|[{_CJK}]|{_WORD}(?:[^\w\s:#=(),]+{_WORD})*|.", re.DOTALL)
"""White space, a character of those scripts, a word with the punctuation inside it, or punctuation one by one."""
_BREAK = "\n"
"""Stands between lines; no JSON string has it raw, so no quote can cross it."""

_LONG = 1000
"""Characters from which a line is not kept, which bounds what is."""


def quote_rules(lines: Iterable[str]) -> str | None:
    r"""Lark terminal ``QUOTED``: a JSON string that quotes one of ``lines``. None where there is nothing to quote.

    One substring automaton over all lines (Lark ``%regex substring_chunks``) compiles in time linear in the text.
    """
    told = (line for line in dict.fromkeys(lines) if line.strip())
    chunks = ", ".join(_kept_chunks(line) if len(line) < _LONG else _chunks(line) for line in told)
    if not chunks:
        return None
    span = f'{{"substring_chunks": [{chunks}]}}'
    return f'QUOTED: "\\"" (_SPAN & _TRIMMED) "\\""\n_TRIMMED: /[^\\s](?:[^\\n]*[^\\s])?/\n_SPAN: %regex {span}'


@lru_cache(maxsize=1 << 14)
def _kept_chunks(line: str) -> str:
    """A conversation grows line by line: those that were there before are not cut again."""
    return _chunks(line)


def _chunks(line: str) -> str:
    """The units of a line and the break after it, as the inside of a JSON list."""
    return json.dumps([*_units(line), _BREAK], ensure_ascii=False)[1:-1]


def _units(line: str) -> Iterator[str]:
    for unit in _UNIT.findall(line):
        plain = unit.isspace() and unit != " " * len(unit)  # tabs and the like end a span: JSON would escape them
        yield _BREAK if plain else json.dumps(unit, ensure_ascii=False)[1:-1]
