"""Whether a value is the user's own: whether it stands, whole, in what they said. It knows text; it knows no tool.

A value that stands there was not brought in by somebody else's content. That the user wanted it used so is not certain.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence, Set
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

_JOINS = "-_.,@/:+\\"
"""Between letters or digits these make one word of two: ``A-17``, ``anna@shop.example``, ``12.50``."""
_AMOUNT = re.compile(r"[-+]?\d(?:[\d.,]*\d)?")


def is_own(value: Any, words: Sequence[str], names: Set[str] = frozenset()) -> bool:
    """Whether everything in a JSON value stands in the words.

    A string does where it stands there whole, letter case and white space aside; a number, where a number of that
    value does, in digits. True, False, null and what is empty cannot be said, so they never do.

    Args:
        value: JSON.
        words: What was said, in pieces; nothing stands across two.
        names: Keys of objects that need not stand there.
    """
    texts = [_text(piece) for piece in words]
    leaves = list(_leaves(value, names))
    return bool(leaves) and all(any(_stands(leaf, piece) for piece in texts) for leaf in leaves)


def _leaves(value: Any, names: Set[str]) -> Iterator[Any]:
    if isinstance(value, dict) and value:
        yield from (key for key in value if key not in names)
        for item in value.values():
            yield from _leaves(item, names)
    elif isinstance(value, list) and value:
        for item in value:
            yield from _leaves(item, names)
    else:
        yield value


def _stands(leaf: Any, text: str) -> bool:
    if isinstance(leaf, bool) or leaf is None:
        return False
    if isinstance(leaf, int | float):
        return Decimal(str(leaf)) in (_amount(match[0]) for match in _AMOUNT.finditer(text) if _whole(text, match))
    if not isinstance(leaf, str) or not unicodedata.is_normalized("NFKC", leaf):
        return False
    sought = _text(leaf)
    return bool(sought) and any(_whole(text, match) for match in re.finditer(re.escape(sought), text))


def _whole(text: str, match: re.Match[str]) -> bool:
    """Whether a match is no part of a longer word or number."""
    before, after = text[max(match.start() - 9, 0) : match.start()], text[match.end() : match.end() + 9]
    return not (before.rstrip(_JOINS)[-1:].isalnum() or after.lstrip(_JOINS)[:1].isalnum())


def _amount(token: str) -> Decimal | None:
    """The number that digits mean: ``1,200.50`` has a comma before each three digits, ``12,5`` one for the point."""
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", token):
        token = token.replace(",", "")
    elif token.count(",") == 1 and "." not in token:
        token = token.replace(",", ".")
    try:
        return Decimal(token)
    except InvalidOperation:
        return None


@lru_cache(maxsize=4096)
def _text(value: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", value).lower().split())
