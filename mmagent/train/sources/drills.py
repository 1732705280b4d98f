"""Drills in copying: what is said must be found in the text and said again. It knows words, no pictures and no tools.

Most of what is copied is nonsense, so that it cannot be guessed; several answers are drilled on one text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from mmagent.errors import ConfigurationError
from mmagent.train.sample import Draw, Message, Sample, assistant, user
from mmagent.train.shop import phrases as p
from mmagent.train.shop.cases import order_id, tracking_number
from mmagent.train.shop.world import NOT_IN_POLICIES


def drills(kind: str = "long") -> Draw:
    """Drills of a kind.

    Args:
        kind: A mix: ``long`` (tens of copied tokens in each, so that copying is learnt for every token and not for
            digits alone), ``short`` or ``policies``; or one of ``repeat``, ``value``, ``passage``, ``policy``,
            ``compare``.

    Raises:
        ConfigurationError: There is no such kind; the message lists those there are.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"there is no kind of drill {kind!r}; choose one of: {', '.join(KINDS)}")
    chosen = KINDS[kind]
    return lambda rng: rng.choice(chosen)(rng)


def repeat(rng: random.Random) -> Sample:
    """Say nonsense again."""
    text = _nonsense(rng, 6, 40)
    return _rounds("", [(f"Repeat: {text}", text)])


def value(rng: random.Random) -> Sample:
    """Find the values of several keys in lines or in JSON; keys and values are nonsense."""
    keys = rng.sample(p.VOCABULARY, rng.randint(3, 8))
    values = {key: _nonsense(rng, 1, 4) for key in keys}
    draw = rng.random()
    if draw < 0.4:
        text = json.dumps(values, ensure_ascii=False)
    else:
        text = "\n".join(f"{key}{': ' if draw < 0.7 else ' '}{value}" for key, value in values.items())
    return _rounds(text, [(f"{key}?", values[key]) for key in rng.sample(keys, rng.randint(2, len(keys)))])


def passage(rng: random.Random) -> Sample:
    """Quote numbered passages of nonsense, by number, by heading, or by words that stand in them."""
    heads = rng.sample(p.VOCABULARY, rng.randint(3, 5))
    bodies = [_nonsense(rng, 4, 12) for _ in heads]
    text = "\n".join(f"[{n}] {head}\n{body}." for n, (head, body) in enumerate(zip(heads, bodies, strict=True), 1))
    asked = rng.sample(range(len(heads)), rng.randint(2, len(heads)))
    by = rng.choice(("number", "heading", "words"))

    def question(index: int) -> str:
        if by == "words":
            words = bodies[index].split()
            start = rng.randrange(len(words) - 2)
            return f"{' '.join(words[start : start + 2])}?"
        return f"[{index + 1}]?" if by == "number" else f"{heads[index]}?"

    return _rounds(text, [(question(index), f"{bodies[index]}. [{index + 1}]") for index in asked])


def policy(rng: random.Random) -> Sample:
    """Answer several questions from numbered passages, in the words of the passages; some stand in none."""
    *found, missing = rng.sample((p.RETURN_WINDOW, p.EXCEPTIONS, *p.TOPICS), rng.randint(4, 7))
    passages, rounds = [], []
    for number, topic in enumerate(found, 1):
        answer = p.fill(rng, p.phrase(rng, topic.says, False), topic.numbers)
        body = answer
        if rng.random() < 0.4:
            beside = p.phrase(rng, p.SENTENCES["fillers"], False)
            body = f"{answer} {beside}" if rng.random() < 0.7 else f"{beside} {answer}"
        passages.append(f"[{number}] {topic.document} > {p.phrase(rng, topic.headings, False)}\n{body}")
        rounds.append((p.phrase(rng, topic.asked, False), f"{answer} [{number}]"))
    rounds.append((p.phrase(rng, missing.asked, False), NOT_IN_POLICIES))
    return _rounds("\n".join(passages), rng.sample(rounds, rng.randint(2, len(rounds))))


def compare(rng: random.Random) -> Sample:
    """Pick a limit and numbers of days out of text, and write their differences as sums."""
    limit = rng.choice(p.RETURN_WINDOW.numbers)
    says = p.fill(rng, p.phrase(rng, p.RETURN_WINDOW.says, False), (limit,))
    rounds = []
    for _ in range(rng.randint(1, 3)):
        days = rng.randint(0, 150)
        record = {"item": p.item(rng), "price": p.price(rng), "status": "delivered", "days_since_delivery": days}
        rounds.append((json.dumps(record), f"{limit} - {days}"))
    return _rounds(says, rounds)


def repeat_word(rng: random.Random) -> Sample:
    """Say a few names and codes again."""
    text = " ".join(word(rng) for _ in range(rng.randint(1, 4)))
    return _rounds("", [(f"Repeat: {text}", text)])


def value_word(rng: random.Random) -> Sample:
    """Find the values of keys as receipts and records have them."""
    known = ("Order", "Total", "Date", "Ref", "Tracking", "item", "price", "status", "place", "name", "code", "days")
    keys = rng.sample(known, rng.randint(3, 6))
    values = {key: word(rng) for key in keys}
    lines = "\n".join(f"{key} {value}" for key, value in values.items())
    text = json.dumps(values, ensure_ascii=False) if rng.random() < 0.5 else lines
    return _rounds(text, [(f"{key}?", values[key]) for key in rng.sample(keys, rng.randint(1, 3))])


KINDS: dict[str, tuple[Callable[[random.Random], Sample], ...]] = {
    "long": (repeat, value, value, passage, policy, compare),
    "short": (repeat_word, value_word, policy, compare),
    "policies": (policy, policy, value, compare),
    "repeat": (repeat,),
    "value": (value,),
    "passage": (passage,),
    "policy": (policy,),
    "compare": (compare,),
}
"""What each kind of drill draws from."""


def word(rng: random.Random) -> str:
    """A number of an order or parcel, a product, a price, or a number."""
    draw = rng.random()
    if draw < 0.5:
        return order_id(rng) if draw < 0.35 else tracking_number(rng)
    if draw < 0.7:
        return p.item(rng)
    return p.price(rng) if draw < 0.85 else str(rng.randint(0, 9999))


def _nonsense(rng: random.Random, low: int, high: int) -> str:
    """Words in no order, codes and made-up words among them: nothing in it can be guessed, so it must be copied."""

    def one() -> str:
        draw = rng.random()
        if draw < 0.25:
            return word(rng)
        return p.made_up(rng) if draw < 0.4 else rng.choice(p.VOCABULARY)

    return " ".join(one() for _ in range(rng.randint(low, high)))


def _rounds(text: str, rounds: list[tuple[str, str]]) -> Sample:
    """Questions and answers about one text, which stands before the first question."""
    messages: list[Message] = []
    for question, answer in rounds:
        messages.append(user(f"{text}\n{question}" if text and not messages else question))
        messages.append(assistant(answer))
    return Sample(messages)
