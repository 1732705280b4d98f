"""From the marks of an answer, ``[1]``, to citations. It knows search hits; it knows no model and no store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mmagent.errors import StoreError
from mmagent.events import Citation

if TYPE_CHECKING:
    from mmagent.knowledge import Hit

CLEARLY = 2.0
"""How much more support another passage must give: two words, or a number that the marked one lacks."""
RECENT = 30
"""Passages, those found last, that may take the place of the marked one."""
_MARK = re.compile(r"\[(\d{1,4})\]")
_GROUP = re.compile(r"\[\d{1,4}\](?:[\s,;]*\[\d{1,4}\])*")
"""Marks beside each other, which are of the same words."""
_BREAK = re.compile(r"(?<=[.!?\u061f\u06d4])\s+(?!\[\d)|(?<=[\u3002\uff01\uff1f\u0964])(?!\s*\[\d)\s*|\n+")
"""Between two sentences; a mark after the full stop belongs to the sentence before."""


def cite(answer: Any, hits: Sequence[Hit]) -> tuple[Citation, ...]:
    """A citation for each mark, in the order of the answer; marks that no hit has stay what they are.

    A small model may copy the right words and the wrong number. So a mark is checked against its sentence: where
    another passage supports that clearly better than the one that was marked, the citation is of that passage, has
    that passage's number, and says in `Citation.marked` what stands in the answer. What is marked as a picture without
    words is left so: there is nothing to check it by.

    Args:
        answer: The model's answer, or the JSON of a typed one.
        hits: What was found in the conversation; number 1 comes first.
    """
    if not hits:
        return ()
    found: dict[Citation, None] = {}
    for sentence in (part for string in _strings(answer) for part in _BREAK.split(string)):
        for mark, claim in _claims(sentence):
            if 1 <= mark <= len(hits):
                number = _supporting(hits, mark, claim)
                found[_citation(hits[number - 1], number, mark, claim)] = None
    return tuple(found)


def hits_of(cited: Iterable[Mapping[str, Any]]) -> list[Hit]:
    """The passages of a conversation, as they are journaled.

    Raises:
        StoreError: They are none.
    """
    if not cited:
        return []
    from mmagent.knowledge import Hit

    known = [field.name for field in fields(Hit)]
    hits = []
    for entry in cited:
        data = {name: entry[name] for name in known if name in entry}
        if isinstance(data.get("box"), list):
            data["box"] = tuple(data["box"])
        try:
            hit = Hit(**data)
            if not all(isinstance(words, str) for words in (hit.id, hit.text, hit.title, hit.uri)):
                raise TypeError("a passage is made of words")
        except TypeError as error:
            raise StoreError("the session cites passages that are none; take a new session") from error
        hits.append(hit)
    return hits


def _claims(sentence: str) -> Iterator[tuple[int, str]]:
    """Each mark of a sentence and what it is said of: all of it, or where there are more marks, what stands before."""
    groups = list(_GROUP.finditer(sentence))
    whole, at = _MARK.sub("", sentence).strip(), 0
    for group in groups:
        before = sentence[at : group.start()].strip(" ,;:.")
        yield from ((int(mark), before if len(groups) > 1 and before else whole) for mark in _MARK.findall(group[0]))
        at = group.end()


def _citation(hit: Hit, number: int, mark: int, claim: str) -> Citation:
    from mmagent.knowledge import quote_for

    return Citation(
        number=number,
        marked=mark if mark != number else None,
        title=hit.title,
        uri=hit.uri,
        quote=quote_for(hit.text, claim),
        kind=hit.kind,
        page=hit.page,
        box=hit.box,
        t0=hit.t0,
        t1=hit.t1,
    )


def _supporting(hits: Sequence[Hit], mark: int, claim: str) -> int:
    """The number of the passage that a claim is of."""
    from mmagent.knowledge import support

    marked = hits[mark - 1]
    if marked.is_picture and not marked.text.strip():
        return mark
    recent = range(max(0, len(hits) - RECENT), len(hits))
    gain, best = max((support(hits[at].text, claim), at) for at in recent)
    return best + 1 if gain >= support(marked.text, claim) + CLEARLY else mark


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
