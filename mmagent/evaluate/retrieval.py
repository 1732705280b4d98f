"""Questions put to a store, with the documents that answer them. It knows `Knowledge.search`, not how it searches."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from mmagent.errors import InputError, NotFound
from mmagent.evaluate.metrics import Citation, Span, citation_precision, mean, ndcg, recall, reciprocal_rank
from mmagent.knowledge.cite import Hit

__all__ = ["Question", "Report", "Row", "evaluate", "read_questions"]

Mode = Literal["hybrid", "dense", "lexical"]
MAX_LINE = 1 << 20
"""Bytes of one line of a file of questions."""
_BETWEEN = "\n\0\n"
"""Between the units of a document: no quote goes from one to the next, as none holds a zero byte."""
_WORST = 10
"""Questions that a report shows."""


class Searchable(Protocol):
    """What is evaluated: a `mmagent.knowledge.Knowledge`."""

    def search(self, query: str, k: int = 3, *, mode: Mode = "hybrid", per_asset: int | None = None) -> list[Hit]:
        """The best units."""
        ...

    def get(self, uri: str) -> list[Hit]:
        """All units of a document, in order."""
        ...

    def quote(self, hit: Hit, claim: str) -> str:
        """The words of a hit that support a claim."""
        ...


@dataclass(frozen=True)
class Question:
    """A question, and what should be found for it."""

    query: str
    relevant: frozenset[str]
    """Names (`Hit.uri`) of the documents that answer it; at least one."""
    answer: str | None = None
    """Words of one of them that answer it."""


@dataclass(frozen=True)
class Row:
    """What became of one question."""

    query: str
    relevant: tuple[str, ...]
    found: tuple[str, ...]
    """Names of documents, best first."""
    rank: int | None
    """Of the first relevant one, from 1; None where none was found."""
    ndcg: float
    quoted: bool | None
    """Whether the answer stands in the quote from the first hit; None where the question has no answer."""
    cited: bool | None
    """Whether a citation of the first hit, quoted for the answer, or for the question where it has none, holds: its
    words are those of a relevant document, and touch the answer. None where there is nothing to quote."""
    ms: float
    """How long the search took."""


@dataclass(frozen=True)
class Report:
    """How well a store answers questions."""

    mode: Mode
    questions: int
    figures: dict[str, float]
    """Means over the questions, 0 to 1: ``recall@k``, ``nDCG@k``, ``MRR@k``, ``answer in quote`` where there is one;
    and ``citation precision``: the share of citations that hold."""
    rows: list[Row]

    @property
    def worst(self) -> list[Row]:
        """The questions that went worst, worst first; none that went perfectly."""
        return sorted((row for row in self.rows if row.ndcg < 1), key=lambda row: row.ndcg)[:_WORST]

    def json(self) -> str:
        """All of it on one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def markdown(self) -> str:
        """The figures, and the questions that went worst."""
        lines = [f"{self.questions} questions, {self.mode} search", "", "| figure | |", "|---|---|"]
        lines += [f"| {name} | {value:.4f} |" for name, value in self.figures.items()]
        if self.worst:
            lines += ["", "| worst questions | rank | found first | relevant |", "|---|---|---|---|"]
        for row in self.worst:
            cells = (
                row.query,
                str(row.rank or "none"),
                row.found[0] if row.found else "nothing",
                ", ".join(row.relevant),
            )
            lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
        return "\n".join(lines) + "\n"


def read_questions(file: str | Path) -> list[Question]:
    """Questions from JSON lines: ``{"query": "...", "relevant": ["returns.md"], "answer": "30 days"}``.

    Empty lines and other keys are passed over; ``answer`` may be left out.

    Raises:
        NotFound: There is no such file.
        InputError: It cannot be read, a line is not such a question, or there is none. The line is named.
    """
    questions = []
    try:
        with open(file, "rb") as lines:
            number = 0
            while line := lines.readline(MAX_LINE + 1):
                number += 1
                if line.strip():
                    questions.append(_question(line, f"{file}, line {number}"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {file}; give a file of questions, one JSON object a line") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}); give a file of questions") from error
    if not questions:
        raise InputError(f"there are no questions in {file}; write one a line: {_EXAMPLE}")
    return questions


def evaluate(
    knowledge: Searchable,
    questions: Sequence[Question],
    ks: Sequence[int] = (1, 5, 10),
    mode: Mode = "hybrid",
    progress: Callable[[Row], None] | None = None,
) -> Report:
    """Put questions to a store. Documents are ranked by their best unit.

    Args:
        knowledge: The store.
        questions: At least one.
        ks: Where recall is cut, each from 1; nDCG and MRR are cut at the largest.
        mode: How the store searches.
        progress: Called with each question's row.

    Raises:
        InputError: No questions, or a cut below 1.
    """
    if not questions:
        raise InputError("there are no questions to evaluate with; give at least one")
    if not ks or min(ks) < 1:
        raise InputError(f"recall cannot be cut at {list(ks)}; give numbers from 1")
    rows = []
    for question in questions:
        rows.append(_ask(knowledge, question, max(ks), mode))
        if progress:
            progress(rows[-1])
    return Report(mode, len(rows), _figures(rows, ks), rows)


def _ask(knowledge: Searchable, question: Question, k: int, mode: Mode) -> Row:
    began = time.perf_counter()
    hits = knowledge.search(question.query, k, mode=mode, per_asset=1)
    ms = (time.perf_counter() - began) * 1e3
    found = tuple(dict.fromkeys(hit.uri for hit in hits))
    rank = next((rank for rank, uri in enumerate(found, start=1) if uri in question.relevant), None)
    quoted = None
    if question.answer is not None:
        quoted = bool(hits) and _plain(question.answer) in _plain(knowledge.quote(hits[0], question.query))
    score = ndcg(found, question.relevant, k)
    cited = _cite(knowledge, question, hits[0]) if hits else None
    return Row(question.query, tuple(sorted(question.relevant)), found, rank, score, quoted, cited, ms)


def _cite(knowledge: Searchable, question: Question, hit: Hit) -> bool | None:
    quote = knowledge.quote(hit, question.answer or question.query)
    if not quote.strip():
        return None
    text = _BETWEEN.join(unit.text for unit in knowledge.get(hit.uri))
    gold = {hit.uri: _supporting(text, question.answer)} if hit.uri in question.relevant else {}
    return citation_precision([Citation(hit.uri, quote)], {hit.uri: text}, gold) == 1


def _supporting(text: str, answer: str | None) -> list[Span]:
    """Where the answer stands in a document, however it is spaced and capitalised; all of it where there is none."""
    if answer is None:
        return [(0, len(text))]
    words = r"\s+".join(map(re.escape, answer.split()))
    return [match.span() for match in re.finditer(words, text, re.IGNORECASE)]


def _figures(rows: Sequence[Row], ks: Iterable[int]) -> dict[str, float]:
    cuts = sorted(set(ks))
    figures = {f"recall@{k}": mean(recall(row.found, row.relevant, k) for row in rows) for k in cuts}
    figures[f"nDCG@{cuts[-1]}"] = mean(row.ndcg for row in rows)
    figures[f"MRR@{cuts[-1]}"] = mean(reciprocal_rank(row.found, row.relevant) for row in rows)
    if answered := [row.quoted for row in rows if row.quoted is not None]:
        figures["answer in quote"] = mean(map(float, answered))
    if cited := [row.cited for row in rows if row.cited is not None]:
        figures["citation precision"] = mean(map(float, cited))
    return figures


_EXAMPLE = '{"query": "How long can I return a lamp?", "relevant": ["returns.md"], "answer": "14 days"}'


def _question(line: bytes, where: str) -> Question:
    if len(line) > MAX_LINE:
        raise InputError(f"{where} is longer than {MAX_LINE:,} bytes; write one question a line: {_EXAMPLE}")
    try:
        held: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({error}); write one question a line: {_EXAMPLE}") from error
    if not isinstance(held, dict):
        raise InputError(f"{where} is no JSON object; write one question a line: {_EXAMPLE}")
    query, relevant, answer = held.get("query"), held.get("relevant"), held.get("answer")
    if not isinstance(query, str) or not query.strip():
        raise InputError(f'{where} has no text for "query"; write it like {_EXAMPLE}')
    if not isinstance(relevant, list) or not relevant or not all(isinstance(uri, str) and uri for uri in relevant):
        raise InputError(f'{where} needs "relevant", a list of names of documents; write it like {_EXAMPLE}')
    if answer is not None and (not isinstance(answer, str) or not answer.strip()):
        raise InputError(f'{where}: "answer" is no text; leave it out, or write it like {_EXAMPLE}')
    return Question(query, frozenset(relevant), answer)


def _plain(text: str) -> str:
    """A text as it is compared: case and white space do not count."""
    return " ".join(text.casefold().split())


def _cell(text: str) -> str:
    words = " ".join(text.split()).replace("|", "\\|")
    return words if len(words) <= 100 else words[:99] + "…"
