"""Training text: shop cases played against simulated tools, and drills, as conversations in the prompt format.

The format is the model's own chat template, so what is trained on is what the agent builds at run time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmagent.train.shop import phrases as p
from mmagent.train.shop.cases import draw_case, order_id, tracking_number
from mmagent.train.shop.world import (
    NOT_IN_POLICIES,
    RETURN_QUERY,
    Call,
    Case,
    Hits,
    Picture,
    Section,
    Turn,
    section_on,
    solve,
)

SYSTEM = "Plan, call tools, then answer from what they return and cite passages like [1]."
SHOP_SYSTEM = "You answer the customers of a shop."
OTHER_SYSTEMS = (
    "You answer the customers of <shop>.", "You work for <shop>. Be short.",
    "You are the assistant of <shop>. Be polite.", "Answer the customers of <shop> in one sentence.",
)  # fmt: skip


def signature(name: str, required: dict[str, str], optional: dict[str, str] | None = None) -> dict[str, Any]:
    """A tool as chat templates take it; types are JSON Schema's, or ``quoted``."""
    kinds = {
        key: {"type": "string", "x-quoted": True} if kind == "quoted" else {"type": kind}
        for key, kind in (required | (optional or {})).items()
    }
    parameters = {"type": "object", "properties": kinds, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


TOOLS: tuple[dict[str, Any], ...] = (
    signature("read_text", {}, {"image": "integer"}),
    signature("look", {}, {"box": "array", "image": "integer"}),
    signature("calculate", {"expression": "string"}),
    signature("today", {}),
    signature("search_knowledge", {"query": "string"}),
    signature("lookup_order", {"order_id": "quoted"}),
    signature("track_parcel", {"tracking": "quoted"}),
    signature("find_product", {"name": "string"}),
)
"""The built-in tools in their order, then the shop's; a test holds them to the real tools' signatures."""
DISTRACTORS = (
    signature("send_mail", {"to": "string", "text": "string"}),
    signature("weather", {"city": "string"}),
    signature("open_ticket", {"text": "string"}),
    signature("list_orders", {"customer": "quoted"}),
    signature("translate", {"text": "string", "language": "string"}),
    signature("play_music", {"name": "string"}),
)
"""Tools that no case needs."""

Message = dict[str, Any]


@dataclass(frozen=True)
class Episode:
    """A conversation as chat templates take it, with its pictures in order."""

    messages: list[Message]
    tools: list[dict[str, Any]]
    pictures: list[Picture]


def shop_episode(rng: random.Random) -> Episode:
    """A case, solved."""
    case = draw_case(rng)
    messages: list[Message] = [{"role": "system", "content": _system(rng, case)}]
    pictures: list[Picture] = []
    used: set[str] = set()
    for turn in case.turns:
        content: list[dict[str, str]] = []
        if turn.picture is not None:
            pictures.append(turn.picture)
            content.append({"type": "image"})
        if turn.text:
            content.append({"type": "text", "text": turn.text})
        messages.append({"role": "user", "content": content})
        used |= _play(rng, case, turn, messages)
    return Episode(messages, _tools(rng, used), pictures)


def _play(rng: random.Random, case: Case, turn: Turn, messages: list[Message]) -> set[str]:
    """Append the turn's steps and simulated results to ``messages``; return the names of the tools used."""
    used: set[str] = set()
    solution = solve(case, turn, turn.intent)
    step = next(solution)
    while True:
        calls = [{"type": "function", "function": {"name": c.name, "arguments": c.args}} for c in step.calls]
        messages.append({"role": "assistant", "content": step.text, "tool_calls": calls})
        if not calls:
            return used
        results = tuple(simulate(rng, case, turn, call) for call in step.calls)
        for call, result in zip(step.calls, results, strict=True):
            used.add(call.name)
            messages.append({"role": "tool", "name": call.name, "content": shown(result)})
        step = solution.send(results)


def _system(rng: random.Random, case: Case) -> str:
    draw = rng.random()
    if draw < 0.25:
        return SYSTEM
    extra = SHOP_SYSTEM if draw < 0.75 else rng.choice(OTHER_SYSTEMS).replace("<shop>", case.shop)
    return f"{SYSTEM}\n{extra}"


def _tools(rng: random.Random, used: set[str]) -> list[dict[str, Any]]:
    tools = list(TOOLS)
    if rng.random() < 0.15:
        tools = [t for t in tools if t["function"]["name"] in used or rng.random() < 0.6]
    if rng.random() < 0.15:
        tools += rng.sample(DISTRACTORS, rng.randint(1, 2))
    if rng.random() < 0.5:
        rng.shuffle(tools)
    return tools


def shown(result: Any) -> str:
    """A tool's result as the agent shows it to a model."""
    if isinstance(result, Hits):
        if not result.found:
            return "no passage found"
        return "\n".join(f"[{number}] {section.title}\n{section.text}" for number, section in result.found)
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def simulate(rng: random.Random, case: Case, turn: Turn, call: Call) -> Any:
    """What the tool would return: parsed JSON, `Hits` or text."""
    if rng.random() < 0.015 and call.name in ("lookup_order", "track_parcel", "find_product", "search_knowledge"):
        failures = (
            "failed: ConnectionError: no answer",
            "failed: TimeoutError: ",
            "timed out after 60 s",
            "failed: KeyError: 'data'",
        )
        return f"error: {call.name} {rng.choice(failures)}"
    value = next(iter(call.args.values()), "")
    if call.name == "read_text":
        lines = turn.picture.lines if turn.picture else ()
        return "\n".join(lines) or "no text found in the picture"
    if call.name == "lookup_order":
        return case.orders.get(value, f"error: there is no order {value}")
    if call.name == "track_parcel":
        return case.parcels.get(value, f"error: there is no parcel {value}")
    if call.name == "find_product":
        return case.products.get(value, f"error: there is no product {value}")
    if call.name == "search_knowledge":
        return _search(rng, case, turn, value)
    if call.name == "today":
        weekday = rng.choice(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])
        return f"20{rng.randint(25, 39)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}, {weekday}"
    return calculated(value)


def calculated(expression: str) -> str:
    """The result of ``a op b`` as the tool `calculate` gives it."""
    left, sign, right = expression.split()
    a, b = int(left), int(right)
    return f"{a + b if sign == '+' else a - b if sign == '-' else a * b if sign == '*' else a / b:.10g}"


def _search(rng: random.Random, case: Case, turn: Turn, query: str) -> Hits:
    """Three passages; those that matter are there with the odds of a good search."""
    topics = (p.RETURN_WINDOW, p.EXCEPTIONS) if query == RETURN_QUERY else (turn.topic,)
    gold = [s for t in topics if (s := section_on(case, t)) is not None and rng.random() < 0.985]
    rest = [s for s in case.sections if s not in gold and s not in [section_on(case, t) for t in topics]]
    found: list[Section] = [*gold, *rng.sample(rest, min(3 - len(gold), len(rest)))]
    if rng.random() < 0.5:
        rng.shuffle(found)
    return Hits(tuple(enumerate(found, 1)))


# --- drills -----------------------------------------------------------------------------------------------------------


def _word(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.5:
        return order_id(rng) if draw < 0.35 else tracking_number(rng)
    if draw < 0.7:
        return p.item(rng)
    return p.price(rng) if draw < 0.85 else str(rng.randint(0, 9999))


def repeat_drill(rng: random.Random, _: Case | None = None) -> Episode:
    """Say something again."""
    text = " ".join(_word(rng) for _ in range(rng.randint(1, 4)))
    return _drill(f"Repeat: {text}", text)


def value_drill(rng: random.Random, _: Case | None = None) -> Episode:
    """Find the value of a key in lines or in JSON."""
    keys = rng.sample(
        ("Order", "Total", "Date", "Ref", "Tracking", "item", "price", "status", "place", "name", "code", "days"),
        rng.randint(3, 6),
    )
    values = {key: _word(rng) for key in keys}
    text = (
        json.dumps(values, ensure_ascii=False)
        if rng.random() < 0.5
        else "\n".join(f"{k} {v}" for k, v in values.items())
    )
    key = rng.choice(keys)
    return _drill(f"{text}\n{key}?", values[key])


def passage_drill(rng: random.Random, _: Case | None = None) -> Episode:
    """Copy the sentence that answers a question out of numbered passages."""
    topics = rng.sample((p.RETURN_WINDOW, p.EXCEPTIONS, *p.TOPICS), 3)
    passages, gold = [], rng.randrange(3)
    for index, topic in enumerate(topics, 1):
        answer = p.fill(rng, p.phrase(rng, topic.says, False), topic.numbers)
        if index == gold + 1:
            wanted = f"{answer} [{index}]"
        text = f"{answer} {p.phrase(rng, p.SENTENCES['fillers'], False)}" if rng.random() < 0.3 else answer
        passages.append(f"[{index}] {topic.document}\n{text}")
    question = p.phrase(rng, topics[gold].asked, False)
    return _drill("\n".join(passages) + f"\n{question}", wanted)


def compare_drill(rng: random.Random, _: Case | None = None) -> Episode:
    """Pick a limit and a number of days out of text, and write their difference as a sum."""
    limit, days = rng.choice(p.RETURN_WINDOW.numbers), rng.randint(0, 150)
    says = p.fill(rng, p.phrase(rng, p.RETURN_WINDOW.says, False), (limit,))
    record = json.dumps(
        {"item": p.item(rng), "price": p.price(rng), "status": "delivered", "days_since_delivery": days}
    )
    return _drill(f"{record}\n{says}", f"{limit} - {days}")


def caption_drill(rng: random.Random, picture: Picture) -> Episode:
    """Say what a picture shows."""
    caption = {"receipt": "a receipt", "label": "a parcel label", "unrelated": "something else"}.get(picture.kind)
    if caption is None:
        caption = f"a {picture.fields['color']} {picture.fields['product']}"
    content = [{"type": "image"}, {"type": "text", "text": "What is in the picture?"}]
    return Episode([{"role": "user", "content": content}, {"role": "assistant", "content": caption}], [], [picture])


def _drill(question: str, answer: str) -> Episode:
    return Episode([{"role": "user", "content": question}, {"role": "assistant", "content": answer}], [], [])


def _nonsense(rng: random.Random, low: int, high: int) -> str:
    """Words in no order, codes among them: nothing in it can be guessed, so it must be copied."""
    return " ".join(
        rng.choice(p.VOCABULARY) if rng.random() < 0.7 else _word(rng) for _ in range(rng.randint(low, high))
    )


def long_repeat_drill(rng: random.Random) -> Episode:
    """Say nonsense again."""
    text = _nonsense(rng, 6, 40)
    return _drill(f"Repeat: {text}", text)


def long_value_drill(rng: random.Random) -> Episode:
    """Find the values of several keys, one after the other; keys and values are nonsense."""
    keys = rng.sample(p.VOCABULARY, rng.randint(3, 8))
    values = {key: _nonsense(rng, 1, 4) for key in keys}
    draw = rng.random()
    if draw < 0.4:
        text = json.dumps(values, ensure_ascii=False)
    else:
        text = "\n".join(f"{key}{': ' if draw < 0.7 else ' '}{value}" for key, value in values.items())
    return _rounds(text, [(f"{key}?", values[key]) for key in rng.sample(keys, rng.randint(2, len(keys)))])


def long_passage_drill(rng: random.Random) -> Episode:
    """Quote numbered passages of nonsense, by number or by heading."""
    passages = [(rng.choice(p.VOCABULARY), _nonsense(rng, 4, 12)) for _ in range(rng.randint(3, 5))]
    text = "\n".join(f"[{number}] {head}\n{body}." for number, (head, body) in enumerate(passages, 1))
    asked = rng.sample(range(len(passages)), rng.randint(2, len(passages)))
    by_number = rng.random() < 0.5
    return _rounds(
        text, [(f"[{i + 1}]?" if by_number else f"{passages[i][0]}?", f"{passages[i][1]}. [{i + 1}]") for i in asked]
    )


def _rounds(text: str, rounds: list[tuple[str, str]]) -> Episode:
    messages: list[Message] = []
    for question, answer in rounds:
        messages.append({"role": "user", "content": f"{text}\n{question}" if not messages else question})
        messages.append({"role": "assistant", "content": answer})
    return Episode(messages, [], [])


def policy_drill(rng: random.Random) -> Episode:
    """Answer several questions from numbered passages, in the words of the passages."""
    topics = rng.sample((p.RETURN_WINDOW, p.EXCEPTIONS, *p.TOPICS), rng.randint(4, 7))
    *found, missing = topics
    passages, rounds = [], []
    for number, topic in enumerate(found, 1):
        answer = p.fill(rng, p.phrase(rng, topic.says, False), topic.numbers)
        heading = p.phrase(rng, topic.headings, False)
        body = f"{answer} {p.phrase(rng, p.SENTENCES['fillers'], False)}" if rng.random() < 0.4 else answer
        passages.append(f"[{number}] {topic.document} > {heading}\n{body}")
        rounds.append((p.phrase(rng, topic.asked, False), f"{answer} [{number}]"))
    rounds.append((p.phrase(rng, missing.asked, False), NOT_IN_POLICIES))
    return _rounds("\n".join(passages), rng.sample(rounds, rng.randint(2, 4)))


POLICY_DRILLS: tuple[Callable[[random.Random], Episode], ...] = (
    policy_drill,
    policy_drill,
    long_value_drill,
    compare_drill,
)

LONG_DRILLS: tuple[Callable[[random.Random], Episode], ...] = (
    long_repeat_drill, long_value_drill, long_value_drill, long_passage_drill, passage_drill, compare_drill,
)  # fmt: skip
"""With tens of copied tokens in each, so that copying is learnt for every token and not for digits alone."""

DRILLS: tuple[Callable[[random.Random], Episode], ...] = (repeat_drill, value_drill, passage_drill, compare_drill)
