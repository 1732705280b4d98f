"""The choice among eight intents that are offered as tools, on requests that training never saw. It knows BANKING77's
and CLINC150's tests, not the model.

Seven of the eight are drawn from the set's other intents. Out of scope, eight of CLINC150's intents are offered and
none fits: a reply without a call is right.
"""

from __future__ import annotations

import random
from pathlib import Path

from mmagent.chat.protocol import ChatModel
from mmagent.evaluate.ask import Asker, Reply, replied
from mmagent.evaluate.skills import Score, Told
from mmagent.train.sample import Sample, system, user
from mmagent.train.shop.episodes import SYSTEM
from mmagent.train.sources.intents import Requests, banking, clinc_part, offer, tool_name

BANKING = Path("../shared/data/intents_banking77/test.csv")
CLINC = Path("../shared/data/intents_clinc150/data_full.json")
OFFERED = 8
REQUESTS = 300
"""How many of each set are asked."""
TOKENS = 200
"""Of a reply, at most."""


def intents(model: ChatModel, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """The share of right choices in each set; ``count`` is of each."""
    rng = random.Random(seed)
    most = REQUESTS if count is None else count
    tests: list[tuple[str, list[tuple[Sample, str]]]] = []
    if BANKING.is_file():
        tests.append(("BANKING77: tool of 8", draw_questions(rng, banking(str(BANKING)), most)))
    else:
        told(f"skipped: there is no file {BANKING}")
    if CLINC.is_file():
        known = clinc_part(str(CLINC), "test")
        strange = [text for texts in clinc_part(str(CLINC), "oos_test").values() for text in texts]
        tests.append(("CLINC150: tool of 8", draw_questions(rng, known, most)))
        tests.append(("CLINC150: out of scope", draw_strange(rng, known, strange, most)))
    else:
        told(f"skipped: there is no file {CLINC}")
    with Asker(model) as ask:
        return [_score(ask, name, questions, told) for name, questions in tests]


def draw_questions(rng: random.Random, requests: Requests, count: int) -> list[tuple[Sample, str]]:
    """Requests with their tool among eight, and its name."""
    pairs = [(text, intent) for intent in sorted(requests) for text in requests[intent]]
    names = sorted(requests)
    questions = []
    for text, intent in rng.sample(pairs, min(count, len(pairs))):
        others = [name for name in names if name != intent]
        offered = [intent, *rng.sample(others, min(OFFERED - 1, len(others)))]
        rng.shuffle(offered)
        questions.append((Sample([system(SYSTEM), user(text)], offer(offered)), tool_name(intent)))
    return questions


def draw_strange(rng: random.Random, requests: Requests, strange: list[str], count: int) -> list[tuple[Sample, str]]:
    """Requests that none of eight tools fits, and no name."""
    names = sorted(requests)
    return [
        (Sample([system(SYSTEM), user(text)], offer(rng.sample(names, min(OFFERED, len(names))))), "")
        for text in rng.sample(strange, min(count, len(strange)))
    ]


def is_right(reply: Reply, name: str) -> bool:
    """Whether that tool alone was called; of no name, whether something was said and nothing called."""
    return not reply.empty and [called for called, _ in reply.calls] == ([name] if name else [])


def _score(ask: Asker, name: str, questions: list[tuple[Sample, str]], told: Told) -> Score:
    right, wrong = 0, []
    for number, (sample, wanted) in enumerate(questions, 1):
        reply = replied(ask, sample, max_tokens=TOKENS)
        if is_right(reply, wanted):
            right += 1
        else:
            text = sample.messages[-1]["content"][0]["text"]
            wrong.append(f"{text} | {[called for called, _ in reply.calls] or reply.shown} | {wanted or 'no call'}")
        if number % 50 == 0:
            told(f"{name}: {right} of {number}")
    return Score(name, right, len(questions), wrong=tuple(wrong[:8]))
