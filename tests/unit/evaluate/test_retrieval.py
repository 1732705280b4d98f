from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmagent.errors import InputError, NotFound
from mmagent.evaluate.metrics import Citation, citation_precision, mean, ndcg, precision, recall, reciprocal_rank
from mmagent.evaluate.retrieval import MAX_LINE, Mode, Question, Report, evaluate, read_questions
from mmagent.knowledge.cite import Hit


def test_recall_and_precision_by_hand() -> None:
    ranked, relevant = ["a", "x", "b", "y"], {"a", "b", "c"}
    assert recall(ranked, relevant, 1) == 1 / 3
    assert recall(ranked, relevant, 3) == 2 / 3
    assert recall(ranked, relevant, 100) == 2 / 3
    assert precision(ranked, relevant, 4) == 1 / 2
    assert precision(ranked, relevant, 8) == 1 / 4  # places that are empty count


def test_reciprocal_rank_is_of_the_first_relevant() -> None:
    assert reciprocal_rank(["x", "b", "a"], {"a", "b"}) == 1 / 2
    assert reciprocal_rank(["x", "b", "a"], {"a"}, 2) == 0
    assert reciprocal_rank([], {"a"}) == 0


def test_ndcg_by_hand() -> None:
    assert ndcg(["x", "a"], {"a"}, 10) == 1 / math.log2(3)
    assert ndcg(["a", "b"], {"b", "a"}, 10) == pytest.approx(1)
    graded = {"a": 3.0, "b": 1.0, "spam": -2.0}
    assert ndcg(["b", "spam", "a"], graded, 3) == pytest.approx((1 + 3 / 2) / (3 + 1 / math.log2(3)))
    assert ndcg(["a"], graded, 1) == 1  # the best that a ranking of one can be


def test_nothing_relevant_and_nothing_found_is_zero() -> None:
    for ranked, relevant in ((["a"], set[str]()), ([], {"a"})):
        assert recall(ranked, relevant, 5) == precision(ranked, relevant, 5) == ndcg(ranked, relevant, 5) == 0
    assert mean([]) == 0


def _trec(scores: Mapping[str, float]) -> list[str]:
    """trec_eval's order: by score, ties by name, both descending."""
    return sorted(scores, key=lambda name: (scores[name], name), reverse=True)


def test_same_figures_as_trec_eval() -> None:
    """On 200 random queries with ties, graded and unjudged documents, and rankings without any document."""
    reason = "ir-measures is no dependency of mmagent; to compare with trec_eval: pip install ir-measures"
    measures: Any = pytest.importorskip("ir_measures", reason=reason)
    rng = random.Random(0)
    names = [f"d{at:02}" for at in range(40)]
    judged, runs = {}, {}
    for query in map(str, range(200)):
        judged[query] = {name: rng.choice((0, 0, 1, 1, 2, 3)) for name in rng.sample(names, rng.randint(1, 15))}
        runs[query] = {name: float(rng.randint(0, 5)) for name in rng.sample(names, rng.choice((0, 1, 5, 30)))}
    assert any(not run for run in runs.values())
    assert any(not any(grades.values()) for grades in judged.values())
    cuts = (1, 5, 10)
    wanted = [measures.RR, *(kind @ k for kind in (measures.nDCG, measures.R, measures.P) for k in cuts)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            (metric.query_id, str(metric.measure)): metric.value for metric in measures.iter_calc(wanted, judged, runs)
        }
    assert len(theirs) == 200 * len(wanted)
    for query, grades in judged.items():
        ranked = _trec(runs[query])
        relevant = {name for name, grade in grades.items() if grade > 0}
        ours = {"RR": reciprocal_rank(ranked, relevant)}
        for k in cuts:
            ours |= {f"nDCG@{k}": ndcg(ranked, grades, k), f"R@{k}": recall(ranked, relevant, k)}
            ours[f"P@{k}"] = precision(ranked, relevant, k)
        for name, value in ours.items():
            assert value == pytest.approx(theirs[query, name], abs=1e-9), (query, name)


DOCUMENTS = {"returns.md": "Lamps have 14 days. Others have 30 days. Lamps have 14 days."}


def test_citations_hold_word_for_word() -> None:
    cited = [
        Citation("returns.md", "Others have 30 days."),
        Citation("returns.md", "others have 30 days."),
        Citation("elsewhere.md", "Others have 30 days."),
        Citation("returns.md", " "),
    ]
    assert citation_precision(cited, DOCUMENTS) == 1 / 4
    assert citation_precision([], DOCUMENTS) == 0


def test_a_citation_of_the_wrong_place_does_not_hold() -> None:
    quote = "Lamps have 14 days."
    assert citation_precision([Citation("returns.md", quote, 41)], DOCUMENTS) == 1
    assert citation_precision([Citation("returns.md", quote, 40)], DOCUMENTS) == 0
    assert citation_precision([Citation("returns.md", quote, -19)], DOCUMENTS) == 0


def test_citations_overlap_what_supports_the_answer() -> None:
    second = [Citation("returns.md", "Lamps have 14 days.")]
    assert citation_precision(second, DOCUMENTS, {"returns.md": [(52, 59)]}) == 1  # its second occurrence
    assert citation_precision(second, DOCUMENTS, {"returns.md": [(20, 40)]}) == 0
    assert citation_precision(second, DOCUMENTS, {"returns.md": [(19, 19)]}) == 0
    assert citation_precision(second, DOCUMENTS, {}) == 0


def write(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_reads_questions(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '{"query": "Lamps?", "relevant": ["returns.md", "lamps.md"], "answer": "14 days", "id": 7}',
        "",
        '{"query": "退货?", "relevant": ["returns.md"]}',
    )
    assert read_questions(file) == [
        Question("Lamps?", frozenset({"lamps.md", "returns.md"}), "14 days"),
        Question("退货?", frozenset({"returns.md"})),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "no JSON object"),
        ('{"relevant": ["a"]}', '"query"'),
        ('{"query": " ", "relevant": ["a"]}', '"query"'),
        ('{"query": "q"}', '"relevant"'),
        ('{"query": "q", "relevant": []}', '"relevant"'),
        ('{"query": "q", "relevant": "a"}', '"relevant"'),
        ('{"query": "q", "relevant": ["a"], "answer": 3}', '"answer"'),
        ('{"query": "' + "q" * MAX_LINE + '", "relevant": ["a"]}', "longer than"),
    ],
)
def test_bad_questions_are_refused_by_line(tmp_path: Path, line: str, says: str) -> None:
    file = write(tmp_path, '{"query": "good", "relevant": ["a"]}', line)
    with pytest.raises(InputError, match=f"questions.jsonl, line 2.*{says}") as caught:
        read_questions(file)
    assert "\n" not in str(caught.value)


def test_no_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no questions"):
        read_questions(write(tmp_path, "", " "))
    with pytest.raises(NotFound, match="there is no file"):
        read_questions(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_questions(tmp_path)


class Shelf:
    """Finds for each query what it is told to, and quotes all of it, or what it makes up."""

    def __init__(self, found: Mapping[str, Sequence[str]], made_up: str | None = None) -> None:
        self.found, self.made_up = found, made_up
        self.asked: list[tuple[str, int, Mode, int | None]] = []

    def search(self, query: str, k: int = 3, *, mode: Mode = "hybrid", per_asset: int | None = None) -> list[Hit]:
        self.asked.append((query, k, mode, per_asset))
        return [Hit(uri, f"{uri} has\n14 DAYS", "", uri, 0, 1, 0.0) for uri in self.found[query]]

    def get(self, uri: str) -> list[Hit]:
        return [Hit(uri, text, "", uri, 0, 1, 0.0) for text in ("Nothing here.", f"{uri} has\n14 DAYS")]

    def quote(self, hit: Hit, claim: str) -> str:
        return hit.text if self.made_up is None else self.made_up


def report() -> tuple[Shelf, Report]:
    shelf = Shelf({"one": ["a", "b"], "two": ["x", "a"], "three": []})
    questions = [
        Question("one", frozenset({"a"}), "14 days"),
        Question("two", frozenset({"a", "b"}), "15 days"),
        Question("three", frozenset({"c"})),
    ]
    return shelf, evaluate(shelf, questions, ks=(2, 1), mode="dense")


def test_evaluates() -> None:
    shelf, made = report()
    assert shelf.asked[0] == ("one", 2, "dense", 1)
    second = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    assert made.figures == {
        "recall@1": pytest.approx(1 / 3),
        "recall@2": pytest.approx((1 + 1 / 2) / 3),
        "nDCG@2": pytest.approx((1 + second) / 3),
        "MRR@2": pytest.approx((1 + 1 / 2) / 3),
        "answer in quote": 1 / 2,
        "citation precision": 1 / 2,
    }
    assert [row.cited for row in made.rows] == [True, False, None]
    assert [(row.rank, row.quoted) for row in made.rows] == [(1, True), (2, False), (None, None)]
    assert [row.query for row in made.worst] == ["three", "two"]


@pytest.mark.parametrize(
    ("relevant", "answer", "quote", "holds"),
    [
        ("a", None, "Nothing here.", True),
        ("a", None, "Nothing there.", False),  # not its words
        ("a", None, "here.\na has", False),  # of two passages
        ("b", None, "Nothing here.", False),  # of another document than answers it
        ("a", "14 days", "14 DAYS", True),
        ("a", "14 days", "has\n14", True),
        ("a", "14 days", "Nothing here.", False),  # of another place than answers it
        ("a", "15 days", "14 DAYS", False),
        ("a", "14 days", " ", None),
    ],
)
def test_a_citation_holds_where_its_words_support_the_answer(
    relevant: str, answer: str | None, quote: str, holds: bool | None
) -> None:
    made = evaluate(Shelf({"q": ["a"]}, quote), [Question("q", frozenset({relevant}), answer)])
    assert made.rows[0].cited is holds
    assert made.figures.get("citation precision") == (None if holds is None else float(holds))


def test_reports_as_markdown_and_json() -> None:
    _, made = report()
    text = made.markdown()
    assert "3 questions, dense search" in text
    assert "| recall@1 | 0.3333 |" in text
    assert "| two | 2 | x | a, b |" in text
    assert "| three | none | nothing | c |" in text
    assert json.loads(made.json())["rows"][1]["found"] == ["x", "a"]


def test_a_report_keeps_its_table_whatever_is_asked() -> None:
    query = "a | b\nc" + "d" * 200
    text = evaluate(Shelf({query: []}), [Question(query, frozenset({"a"}))]).markdown()
    row = next(line for line in text.splitlines() if line.startswith("| a"))
    assert "a \\| b cd" in row
    assert len(row) < 200


def test_tells_of_each_question() -> None:
    heard: list[str] = []
    evaluate(Shelf({"q": ["a"]}), [Question("q", frozenset({"a"}))], progress=lambda row: heard.append(row.query))
    assert heard == ["q"]


def test_cannot_evaluate_nothing() -> None:
    with pytest.raises(InputError, match="no questions"):
        evaluate(Shelf({}), [])
    with pytest.raises(InputError, match="numbers from 1"):
        evaluate(Shelf({}), [Question("q", frozenset({"a"}))], ks=(0, 5))
