"""Shop cases played against simulated tools, as conversations. It knows results and wordings, no chat template.

What is trained on is what the agent builds at run time: results and instructions read as they do there.
"""

from __future__ import annotations

import json
import random
from typing import Any

from mmagent.train.sample import Message, Sample, Shown, Tool, assistant, result, system, user
from mmagent.train.shop import phrases as p
from mmagent.train.shop import pictures
from mmagent.train.shop.cases import draw_case
from mmagent.train.shop.tools import SHOP_TOOLS, TOOLS, draw_distractors, name_of, signature
from mmagent.train.shop.world import RETURN_QUERY, Call, Case, Hits, Section, Turn, section_on, solve

__all__ = ["SHOP_SYSTEM", "SYSTEM", "TOOLS", "calculated", "shop_episode", "shown", "signature", "simulate"]

SYSTEM = "Plan, call tools, then answer from what they return and cite passages like [1]."
SHOP_SYSTEM = "You answer the customers of a shop."
OTHER_SYSTEMS = (
    "You answer the customers of <shop>.", "You work for <shop>. Be short.",
    "You are the assistant of <shop>. Be polite.", "Answer the customers of <shop> in one sentence.",
)  # fmt: skip


def shop_episode(rng: random.Random, distractors: float = 0.4, longer: float = 0.5) -> Sample:
    """A case, solved; those shares are offered tools that nothing needs, and go on with other questions."""
    case = draw_case(rng, more=rng.choice((1, 1, 2)) if rng.random() < longer else 0)
    messages = [system(_system(rng, case))]
    drawn: list[Shown] = []
    used: set[str] = set()
    cited: list[Section] = []
    for turn in case.turns:
        if turn.picture is not None:
            drawn.append(pictures.shown(rng, turn.picture))
        messages.append(user(turn.text, images=1 if turn.picture else 0))
        used |= _play(rng, case, turn, messages, cited)
    return Sample(messages, _tools(rng, used, draw_distractors(rng, distractors, of_trade=declines(case))), drawn)


def declines(case: Case) -> bool:
    """Whether a customer asks for something that is no business of the shop, which another trade's tool might do."""
    return any(turn.intent in ("elsewhere", "beyond") for turn in case.turns)


def _play(rng: random.Random, case: Case, turn: Turn, messages: list[Message], cited: list[Section]) -> set[str]:
    """Append the turn's steps and simulated results to ``messages``; return the names of the tools used."""
    used: set[str] = set()
    solution = solve(case, turn, turn.intent)
    step = next(solution)
    while True:
        messages.append(assistant(step.text, *((call.name, call.args) for call in step.calls)))
        if not step.calls:
            return used
        results = tuple(simulate(rng, case, turn, call, cited) for call in step.calls)
        for call, outcome in zip(step.calls, results, strict=True):
            used.add(call.name)
            messages.append(result(call.name, shown(outcome)))
        step = solution.send(results)


def _system(rng: random.Random, case: Case) -> str:
    draw = rng.random()
    if draw < 0.25:
        return SYSTEM
    extra = SHOP_SYSTEM if draw < 0.75 else rng.choice(OTHER_SYSTEMS).replace("<shop>", case.shop)
    return f"{SYSTEM}\n{extra}"


def _tools(rng: random.Random, used: set[str], distractors: list[Tool]) -> list[Tool]:
    tools = list(TOOLS)
    if rng.random() < 0.15:
        kept = rng.choice(SHOP_TOOLS)  # that it is a shop must show
        tools = [t for t in tools if t is kept or name_of(t) in used or rng.random() < 0.6]
    tools += distractors
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


def simulate(rng: random.Random, case: Case, turn: Turn, call: Call, cited: list[Section]) -> Any:
    """What the tool would return: parsed JSON, `Hits` or text. Passages are added to those ``cited`` before."""
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
        return _search(rng, case, turn, value, cited)
    if call.name == "today":
        weekday = rng.choice(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])
        return f"20{rng.randint(25, 39)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}, {weekday}"
    return calculated(value)


def calculated(expression: str) -> str:
    """The result of ``a op b`` as the tool `calculate` gives it."""
    left, sign, right = expression.split()
    a, b = int(left), int(right)
    return f"{a + b if sign == '+' else a - b if sign == '-' else a * b if sign == '*' else a / b:.10g}"


def _search(rng: random.Random, case: Case, turn: Turn, query: str, cited: list[Section]) -> Hits:
    """Three passages; those that matter are there with the odds of a good search, beside some that are like them."""
    topics = (p.RETURN_WINDOW, p.EXCEPTIONS) if query == RETURN_QUERY else (turn.topic,)
    gold = [s for t in topics if (s := section_on(case, t)) is not None and rng.random() < 0.985]
    rest = [s for s in case.sections if s not in gold and s not in [section_on(case, t) for t in topics]]
    wanted = set(query.lower().rstrip("?.!").split())
    near = {id(s): len(wanted & set(f"{s.title} {s.text}".lower().split())) + rng.uniform(0, 3) for s in rest}
    documents = {topic.document for topic in topics if topic is not None}
    rest.sort(key=lambda s: -near[id(s)] - 2 * (s.document in documents))
    found: list[Section] = [*gold, *rest[: 3 - len(gold)]]
    if rng.random() < 0.3:
        rng.shuffle(found)
    cited += [section for section in found if section not in cited]
    return Hits(tuple((cited.index(section) + 1, section) for section in found))
