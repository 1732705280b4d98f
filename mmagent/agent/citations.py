"""From the marks of an answer, ``[1]``, to citations. It knows search hits; it knows no model and no store."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mmagent.events import Citation

if TYPE_CHECKING:
    from mmagent.knowledge import Hit

CLEARLY = 2.0
"""How much more support another passage must give: two words, or a number that the marked one lacks."""
_MARK = re.compile(r"\[(\d{1,4})\]")
_BREAK = re.compile(r"(?<=[.!?])\s+(?!\[\d)|\n+")
"""Between two sentences; a mark after the full stop belongs to the sentence before."""


def cite(answer: Any, hits: Sequence[Hit]) -> tuple[Citation, ...]:
    """A citation for each mark, in the order of the answer; marks that no hit has stay what they are.

    A small model may copy the right words and the wrong number. So a mark is checked against its sentence: where
    another passage supports that clearly better than the one that was marked, the citation is of that passage.

    Args:
        answer: The model's answer, or the JSON of a typed one.
        hits: What was found in this turn; number 1 comes first.
    """
    if not hits:
        return ()
    from mmagent.knowledge import quote_for

    found: dict[Citation, None] = {}
    for sentence in (part for string in _strings(answer) for part in _BREAK.split(string)):
        claim = _MARK.sub("", sentence).strip()
        for number in map(int, _MARK.findall(sentence)):
            if 1 <= number <= len(hits):
                hit = _supporting(hits, hits[number - 1], claim)
                quote = quote_for(hit.text, claim)
                found[Citation(number=number, title=hit.title, uri=hit.uri, quote=quote)] = None
    return tuple(found)


def _supporting(hits: Sequence[Hit], marked: Hit, claim: str) -> Hit:
    from mmagent.knowledge import support

    best = max(hits, key=lambda hit: support(hit.text, claim))
    return best if support(best.text, claim) >= support(marked.text, claim) + CLEARLY else marked


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
