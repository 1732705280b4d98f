"""NLVR's test: whether a sentence is true of a picture of three boxes. It knows the files and labels, not the model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from PIL import Image

from mmagent.chat.protocol import ChatModel
from mmagent.evaluate.ask import Asker
from mmagent.evaluate.skills import Score, Told
from mmagent.evaluate.skills.scenes import is_same
from mmagent.train.sample import Sample, Shown, user
from mmagent.train.sources.nlvr import ASK, read

FOLDER = Path("../shared/data/vqa_nlvr_test")
BAR = 0.70
COUNT = 600
SHOWN = 12
"""Of what went wrong, how many a score tells."""


def nlvr(model: ChatModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None) -> list[Score]:
    """The share of sentences that are judged right, each on one of its six pictures."""
    if not FOLDER.is_dir():
        told(f"skipped: there is no folder {FOLDER}")
        return []
    right, wrong = 0, []
    pairs = draw(read(FOLDER), COUNT if count is None else count, seed)
    with Asker(model) as ask:
        for number, (sample, sentence, label) in enumerate(pairs, 1):
            answer = ask(sample, max_tokens=8).text
            if is_same(answer, label):
                right += 1
            else:
                wrong.append(f"{sentence} | {answer} | {label}")
            if number % 100 == 0:
                told(f"NLVR: {right} of {number} right")
    return [Score("NLVR test", right, len(pairs), BAR, wrong=tuple(wrong[:SHOWN]))]


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
