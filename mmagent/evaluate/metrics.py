"""How good a ranking and a citation are, in figures. It knows names of documents, and nothing of searching.

The figures are those of trec_eval (https://github.com/usnistgov/trec_eval): the same names, cuts and gains.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Citation", "citation_precision", "mean", "ndcg", "precision", "recall", "reciprocal_rank", "word_errors"]

Span: TypeAlias = tuple[int, int]
"""Start and end in characters of a document; the end is exclusive."""


def recall(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of what is relevant that is among the first ``k``: 0 to 1, and 0 where nothing is relevant.

    Args:
        ranked: Names, best first, each once.
        relevant: Names of what should be found.
        k: From 1.
    """
    return _found(ranked, relevant, k) / len(set(relevant)) if relevant else 0.0


def precision(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of the first ``k`` places that hold something relevant: 0 to 1; places that are empty count."""
    return _found(ranked, relevant, k) / k


def reciprocal_rank(ranked: Sequence[str], relevant: Collection[str], k: int | None = None) -> float:
    """1 / rank of the first that is relevant, from 1; 0 where none is among the first ``k`` (among all, by default)."""
    wanted = set(relevant)
    return next((1 / rank for rank, name in enumerate(ranked[:k], start=1) if name in wanted), 0.0)


def ndcg(ranked: Sequence[str], relevant: Collection[str] | Mapping[str, float], k: int) -> float:
    """Normalised discounted cumulative gain of the first ``k``: 0 to 1, and 0 where nothing is relevant.

    The gain of a document is its grade, discounted by log2(rank + 1), as in Järvelin and Kekäläinen 2002 and trec_eval.

    Args:
        ranked: Names, best first, each once.
        relevant: What should be found, each of grade 1; or the grade of each (0 and less is not relevant).
        k: From 1.
    """
    grades = relevant if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1.0)
    best = _discounted(sorted((max(0.0, grade) for grade in grades.values()), reverse=True)[:k])
    return _discounted(max(0.0, grades.get(name, 0.0)) for name in ranked[:k]) / best if best else 0.0


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean; 0 of nothing."""
    held = list(values)
    return math.fsum(held) / len(held) if held else 0.0


@dataclass(frozen=True)
class Citation:
    """Words that an answer gives as those of a document."""

    uri: str
    quote: str
    start: int | None = None
    """Where in the document they are said to begin, in characters; None where that was not said."""


def citation_precision(
    citations: Sequence[Citation], documents: Mapping[str, str], gold: Mapping[str, Sequence[Span]] | None = None
) -> float:
    """Share of citations that hold: 0 to 1, and 0 where there are none.

    One holds where its quote stands in the document it names, word for word, at the place that it gives if it gives
    one; and where ``gold`` is given, the quote overlaps one of the spans that support the answer.

    Args:
        citations: What was cited.
        documents: The text of each document by its name.
        gold: The spans of each document that answer the question.
    """
    return mean(float(_holds(citation, documents.get(citation.uri, ""), gold)) for citation in citations)


def word_errors(wanted: str, said: str) -> int:
    """Words to put in, take out or change until one text is the other; case and punctuation do not count.

    Divided by the words of ``wanted`` it is the word error rate.
    """
    ours, theirs = (re.findall(r"[\w']+", text.casefold()) for text in (wanted, said))
    costs = list(range(len(theirs) + 1))
    for row, word in enumerate(ours, start=1):
        before, costs[0] = costs[0], row
        for column, other in enumerate(theirs, start=1):
            before, costs[column] = (
                costs[column],
                min(before + (word != other), costs[column] + 1, costs[column - 1] + 1),
            )
    return costs[-1]


def _holds(citation: Citation, text: str, gold: Mapping[str, Sequence[Span]] | None) -> bool:
    places = _places(text, citation)
    if gold is None:
        return bool(places)
    spans = gold.get(citation.uri, ())
    return any(max(begin, start) < min(stop, end) for begin, stop in places for start, end in spans)


def _places(text: str, citation: Citation) -> list[Span]:
    """Every place where the quote stands, or the one that the citation names."""
    quote = citation.quote
    if not quote.strip():
        return []
    if citation.start is not None:
        there = citation.start >= 0 and text.startswith(quote, citation.start)
        return [(citation.start, citation.start + len(quote))] if there else []
    places, at = [], text.find(quote)
    while at >= 0:
        places.append((at, at + len(quote)))
        at = text.find(quote, at + 1)
    return places


def _found(ranked: Sequence[str], relevant: Collection[str], k: int) -> int:
    wanted = set(relevant)
    return sum(name in wanted for name in dict.fromkeys(ranked[:k]))


def _discounted(gains: Iterable[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
