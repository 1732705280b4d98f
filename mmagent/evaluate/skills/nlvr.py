"""NLVR's test: whether a sentence is true of a picture of three boxes. It knows the files and labels, not the model."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from mmagent.chat.protocol import ChatModel
from mmagent.evaluate.ask import Asker, replied
from mmagent.evaluate.skills import Score, Told
from mmagent.evaluate.skills.scenes import is_same
from mmagent.train.sample import Sample, Shown, user
from mmagent.train.sources.nlvr import ASK, read

FOLDER = Path("../shared/data/vqa_nlvr_test")
DEV = Path("../shared/data/vqa_nlvr_dev")
"""What training reads; some sentences of the test are in it, on other pictures."""
BAR = 0.70
COUNT = 600
SHOWN = 12
"""Of what went wrong, how many a score tells."""


def nlvr(model: ChatModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None) -> list[Score]:
    """The share of sentences that are judged right, each on one of its six pictures; of new sentences beside it."""
    if not FOLDER.is_dir():
        told(f"skipped: there is no folder {FOLDER}")
        return []
    known = {plain(row["sentence"]) for row in read(DEV)} if DEV.is_dir() else set()
    goods: list[bool] = []
    wrong: list[str] = []
    pairs = draw(read(FOLDER), COUNT if count is None else count, seed)
    with Asker(model) as ask:
        for number, (sample, sentence, label) in enumerate(pairs, 1):
            reply = replied(ask, sample, max_tokens=8)
            goods.append(is_same(reply.text, label))
            if not goods[-1]:
                wrong.append(f"{sentence} | {reply.shown} | {label}")
            if number % 100 == 0:
                told(f"NLVR: {sum(goods)} of {number} right")
    scores = [Score("NLVR test", sum(goods), len(pairs), BAR, wrong=tuple(wrong[:SHOWN]), note=always(pairs))]
    new = [(pair, good) for pair, good in zip(pairs, goods, strict=True) if plain(pair[1]) not in known]
    if known and new:
        note = always([pair for pair, _ in new])
        scores.append(Score("NLVR test: sentences not in dev", sum(good for _, good in new), len(new), note=note))
    return scores


def always(pairs: list[tuple[Sample, str, str]]) -> str:
    """What the more frequent label alone would get."""
    if not pairs:
        return ""
    ((label, count),) = Counter(label for _, _, label in pairs).most_common(1)
    return f"always saying {label!r} would get {count / len(pairs):.1%}"


def plain(sentence: str) -> str:
    """A sentence without case, blanks and final period."""
    return " ".join(sentence.lower().split()).rstrip(".")


def draw(rows: list[dict[str, Any]], count: int, seed: int) -> list[tuple[Sample, str, str]]:
    """Some of the rows as questions, with sentence and label, ``true`` or ``false``."""
    rng = random.Random(seed)
    questions = []
    for row in rng.sample(rows, min(count, len(rows))):
        with Image.open(rng.choice(row["files"])) as file:
            shown = Shown(file.convert("RGB"))
        sentence = row["sentence"].strip()
        questions.append((Sample([user(f"{sentence} {ASK[0]}", images=1)], [], [shown]), sentence, row["label"]))
    return questions
