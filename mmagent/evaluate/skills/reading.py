"""What a model reads off documents, charts and real receipts by sight alone. It knows what is printed, no tools.

Documents and charts are drawn from dice that training never threw, worn and in every font of this machine. An answer is
right where it is what is printed, sign by sign.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mmagent.chat.protocol import ChatModel
from mmagent.evaluate.ask import Asker, replied
from mmagent.evaluate.skills import Score, Told
from mmagent.train.draw.charts import draw_chart
from mmagent.train.draw.forms import Form, draw_form
from mmagent.train.sample import Sample, Shown, system, user
from mmagent.train.shop.episodes import SYSTEM
from mmagent.train.sources.charts import ask_chart, show_chart
from mmagent.train.sources.documents import NAMES, ask, show

BAR = 0.90
COUNT = 200
FIELDS = {"order": "order number", "date": "date", "total": "total"}
RECEIPTS = Path("../shared/data/receipts_sroie")
_CHART = ("value", "highest", "lowest", "title", "count", "more")
_LONGEST = 48
"""Tokens of an answer."""
_SHOWN = 8


@dataclass(frozen=True)
class Asked:
    """A question about a picture, and what is right."""

    groups: tuple[str, ...]
    """The scores that it counts for."""
    sample: Sample
    answer: str


def reading(model: ChatModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None) -> list[Score]:
    """Order numbers, dates and totals of ``count`` documents; then kinds of document, charts and scanned receipts."""
    most = COUNT if count is None else count
    asked = [*document_questions(most, seed), *chart_questions(max(1, most // 4), seed)]
    if RECEIPTS.is_dir():
        asked += receipt_questions(RECEIPTS, most)
    else:
        told(f"skipped: there is no folder {RECEIPTS}")
    with Asker(model) as ask_model:
        return scored(ask_model, asked, told)


def scored(ask_model: Asker, asked: Iterable[Asked], told: Told) -> list[Score]:
    """The share of right answers of each group; those with a bar stand first, as they come first."""
    runs: dict[str, list[str]] = {f"reading: {name}": [] for name in FIELDS.values()}
    for number, one in enumerate(asked, 1):
        reply = replied(ask_model, one.sample, max_tokens=_LONGEST)
        question = one.sample.messages[-1]["content"][-1]["text"]
        wrong = "" if is_right(reply.text, one.answer) else f"{question} | {reply.shown} | {one.answer}"
        for group in one.groups:
            runs.setdefault(group, []).append(wrong)
        if number % 100 == 0:
            told(f"reading: {number} questions")
    barred = {f"reading: {name}" for name in FIELDS.values()}
    return [_score(name, wrongs, BAR if name in barred else None) for name, wrongs in runs.items() if wrongs]


def is_right(answer: str, printed: str) -> bool:
    """Whether the answer is what is printed."""
    return answer.strip() == printed.strip()


def document_questions(count: int, seed: int) -> Iterator[Asked]:
    """Each number, date and total of so many documents, and now and then one that is not there."""
    for index in range(count):
        rng = random.Random(f"held out: document {seed} {index}")
        form = draw_form(rng)
        shown = show(rng, form)
        for field, name in FIELDS.items():
            question, answer = ask(rng, form, field)
            yield Asked(_groups(form, field, name), _sample(rng, question, shown), answer)


def _groups(form: Form, field: str, name: str) -> tuple[str, ...]:
    if field not in form.facts:
        return ("reading: what is not there",)
    return f"reading: {name}", f"reading: {NAMES[form.kind]}"


def chart_questions(count: int, seed: int) -> Iterator[Asked]:
    """Some questions about each of so many charts."""
    for index in range(count):
        rng = random.Random(f"held out: chart {seed} {index}")
        chart = draw_chart(rng)
        shown = show_chart(rng, chart)
        for about in ("value", rng.choice(_CHART)):
            question, answer = ask_chart(rng, chart, about)
            yield Asked(("reading: chart",), _sample(rng, question, shown), answer)


def receipt_questions(folder: Path, most: int) -> Iterator[Asked]:
    """Date and total of scanned receipts: SROIE's pictures and keys (ICDAR 2019)."""
    rng = random.Random("held out: receipts")
    for file in sorted((folder / "key").glob("*.json"))[:most]:
        facts = json.loads(file.read_text(encoding="utf-8"))
        picture = folder / "img" / f"{file.stem}.jpg"
        if not picture.is_file():
            continue
        with Image.open(picture) as image:
            shown = Shown(image.convert("RGB"))
        for field in ("date", "total"):
            if facts.get(field):
                question, _ = ask(rng, Form("receipt", {}, (), ()), field)
                yield Asked((f"reading: scanned receipt, {field}",), _sample(rng, question, shown), facts[field])


def _sample(rng: random.Random, question: str, shown: Shown) -> Sample:
    """Two of five under the agent's instructions, as in training."""
    head = [system(SYSTEM)] if rng.random() < 0.4 else []
    return Sample([*head, user(question, images=1)], pictures=[shown])


def _score(name: str, wrongs: list[str], bar: float | None) -> Score:
    wrong = [line for line in wrongs if line]
    return Score(name, len(wrongs) - len(wrong), len(wrongs), bar, wrong=tuple(wrong[:_SHOWN]))
