"""Questions about drawn scenes that training never saw. It knows scenes and their answers, not the model.

Each question stands alone before its picture. A part of them is about things whose colour and shape training never
shows together.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TypeAlias

from mmagent.chat.protocol import ChatModel
from mmagent.evaluate.ask import Asker, replied
from mmagent.evaluate.skills import Score, Told
from mmagent.train.draw.blocks import draw_scene
from mmagent.train.sample import Sample, Shown, user
from mmagent.train.sources.scenes import HELD_OUT, ask_about, invent

BAR, NEW_BAR = 0.95, 0.90
COUNT = 1000
"""Questions on what training shows; as many as `NEW_SHARE` of it more are on what it never shows together."""
NEW_SHARE = 0.3
KINDS = ("attribute", "exists", "count", "relation", "compare")
"""The kinds of question that are put; a description has more than one right wording."""
NEW = "scenes: combinations never trained"
MOST, ON_EACH = 7, 6
"""Things in a picture, and questions on it, at most."""
SHOWN = 12
"""Of what went wrong, how many a score tells."""
Put: TypeAlias = tuple[Sample, str, str, str]
"""A question alone on its picture, its words, its answer, and the name of the score that it counts for."""


def scenes(model: ChatModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None) -> list[Score]:
    """The share of right answers by kind of question, and of all kinds on combinations never trained."""
    count = COUNT if count is None else count
    new = max(1, round(NEW_SHARE * count))
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    wrong: dict[str, list[str]] = {}
    with Asker(model) as ask:
        for number, (sample, text, wanted, name) in enumerate(draw(seed, count) + draw(seed, new, held_out=True), 1):
            reply = replied(ask, sample, max_tokens=24)
            total[name] += 1
            if is_same(reply.text, wanted):
                right[name] += 1
            else:
                wrong.setdefault(name, []).append(f"{text} | {reply.shown} | {wanted}")
            if number % 100 == 0:
                told(f"scenes: {right.total()} of {number} right")
    return [
        Score(name, right[name], total[name], NEW_BAR if name == NEW else BAR, wrong=tuple(wrong.get(name, ())[:SHOWN]))
        for name in (*(f"scenes: {kind}" for kind in KINDS), NEW)
        if total[name]
    ]


def draw(seed: int, count: int, held_out: bool = False) -> list[Put]:
    """Questions that training never put; where something held out is shown, only those that are about it."""
    rng = random.Random(f"scenes {seed} {held_out}")  # words, for training's seeds are numbers
    drawn: list[Put] = []
    while len(drawn) < count:
        things = invent(rng, rng.randint(1, MOST), held_out)
        image, marks = draw_scene(rng, things)
        for kind, text, answer, of_first in ask_about(rng, things, ON_EACH, things[0] if held_out else None):
            if kind in KINDS and (of_first or speaks_of_new(text) or not held_out):
                sample = Sample([user(text, images=1)], [], [Shown(image, marks)])
                drawn.append((sample, text, answer, NEW if held_out else f"scenes: {kind}"))
    return drawn[:count]


def speaks_of_new(text: str) -> bool:
    """Whether a question names a combination of colour and shape that is held out."""
    return any(f"{color} {shape}" in text for color, shape in HELD_OUT)


def is_same(answer: str, wanted: str) -> bool:
    """Whether an answer is the wanted one, but for case and a final period."""
    return answer.strip().rstrip(".").strip().lower() == wanted.lower()
