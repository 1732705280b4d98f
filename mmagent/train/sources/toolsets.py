"""Generated dialogues over generated tools: call one, ask for what is missing, or say that none fits. It knows words,
no real service."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import Field

from mmagent.train.sample import Draw, Message, Sample, Tool, assistant, result, system, user
from mmagent.train.shop.episodes import SYSTEM
from mmagent.train.sources._names import cased, word_lists
from mmagent.train.sources._values import DAYS, Values

NO_TOOL = "I have no tool for that."
"""What is said where no tool that is offered fits."""
FAILURES = (
    "ConnectionError: no answer",
    "TimeoutError: took too long",
    "PermissionError: not allowed",
    "KeyError: 'id'",
)
_JSON = {"count": "integer", "amount": "number", "flag": "boolean"}
_WITH = {
    "person": ("for {v}",), "place": ("in {v}", "at {v}"), "date": ("on {v}", "for {v}"), "clock": ("at {v}",),
    "mail": ("to {v}",), "title": ("called {v}", "about {v}"), "code": ("number {v}", "with the id {v}", "{v}"),
    "count": ("for {v} {l}",), "amount": ("for {v}",),
}  # fmt: skip
"""How a value is said where its parameter need not be named."""
_NAMED = ("{l} {v}", "with {l} {v}", "the {l} is {v}", "{l}: {v}", "{v} as {l}", "{l} should be {v}")


@dataclass(frozen=True)
class Parameter:
    """What a generated tool takes."""

    name: str
    kind: str
    required: bool
    options: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """As people say it."""
        return self.name.replace("_", " ").removesuffix(" id")


@dataclass(frozen=True)
class Generated:
    """A tool: what is done to what."""

    verb: str
    noun: str
    parameters: tuple[Parameter, ...]
    name: str
    cases: tuple[str, str]
    """Of the tool's name and of its parameters'."""

    def signature(self) -> Tool:
        """As chat templates take it."""
        properties = {cased(p.name, self.cases[1]): _schema(p) for p in self.parameters}
        required = [cased(p.name, self.cases[1]) for p in self.parameters if p.required]
        parameters = {"type": "object", "properties": properties, "required": required}
        return {"type": "function", "function": {"name": self.name, "description": "", "parameters": parameters}}

    def arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """The call's, in the signature's order."""
        return {cased(p.name, self.cases[1]): given[p.name] for p in self.parameters if p.name in given}


def toolsets(held_out: bool = False, max_characters: Annotated[int, Field(ge=100)] = 500) -> Draw:
    """Requests to toolsets that no other sample has.

    Args:
        held_out: Whether to draw from the nouns that training never sees, rather than from the others.
        max_characters: How long a conversation goes on, without its signatures; a request is never cut.
    """
    nouns = [noun for place, noun in enumerate(word_lists()["nouns"]) if (place % 6 == 5) == held_out]

    def draw(rng: random.Random) -> Sample:
        today = date(2024, 1, 1) + timedelta(rng.randrange(1500)) if rng.random() < 0.4 else None
        tools = _toolset(rng, nouns)
        values = Values(rng, today)
        line = "" if today is None else f"\nToday is {today.isoformat()}, {DAYS[today.weekday()]}."
        messages = [system(SYSTEM + line)]
        left = rng.randint(max_characters // 3, max_characters)
        while left > 0:
            said = _round(rng, values, tools, nouns)
            left -= sum(30 + len(str(m["content"])) + len(str(m.get("tool_calls", ""))) // 2 for m in said)
            messages += said
        return Sample(messages, [tool.signature() for tool in tools])

    return draw


# --- tools ------------------------------------------------------------------------------------------------------------


def _toolset(rng: random.Random, nouns: list[str]) -> list[Generated]:
    """Two to six tools, of few nouns and few verbs, so that both must be read."""
    words = word_lists()
    picked = rng.sample(nouns, rng.randint(1, 4))
    verbs = rng.sample([*words["verbs"]], 3) + rng.sample([*words["asking"]], 1)
    pairs = [(verb, noun) for verb in verbs for noun in picked]
    case = rng.choices(("snake", "camel", "pascal"), (4, 2, 1))[0], rng.choices(("snake", "camel"), (4, 1))[0]
    shape = rng.choices(("{v}_{n}", "{n}_{v}", "{n}.{v}"), (8, 2, 1))[0]
    chosen = rng.sample(pairs, min(rng.randint(2, 6), len(pairs)))
    return [_tool(rng, verb, noun, shape, case) for verb, noun in chosen]


def _tool(rng: random.Random, verb: str, noun: str, shape: str, case: tuple[str, str]) -> Generated:
    parameters = [_parameter(rng, verb in word_lists()["asking"])]
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        other = _parameter(rng)
        if all(other.name != p.name and other.kind != p.kind for p in parameters):
            parameters.append(other)
    if rng.random() < 0.5:
        rng.shuffle(parameters)
    name = ".".join(cased(part, case[0]) for part in shape.format(v=verb, n=noun).split("."))
    return Generated(verb, noun, tuple(parameters), name, case)


def _parameter(rng: random.Random, identifies: bool = False) -> Parameter:
    words = word_lists()
    if not identifies and rng.random() < 0.22:
        name = rng.choice([*words["enums"]])
        options = rng.sample(words["enums"][name], rng.randint(2, len(words["enums"][name])))
        return Parameter(name, name, rng.random() < 0.5, tuple(options))
    kind = "code" if identifies and rng.random() < 0.6 else rng.choice([*words["labels"]])
    name = Values(rng).nonsense() if rng.random() < 0.06 else rng.choice(words["labels"][kind])
    return Parameter(name, kind, kind != "flag" and (identifies or rng.random() < 0.75))


def _schema(parameter: Parameter) -> dict[str, Any]:
    if parameter.options:
        return {"type": "string", "enum": list(parameter.options)}
    quoted = {"x-quoted": True} if parameter.kind in ("code", "mail") else {}
    return {"type": _JSON.get(parameter.kind, "string"), **quoted}


# --- dialogues --------------------------------------------------------------------------------------------------------


def _round(rng: random.Random, values: Values, tools: list[Generated], nouns: list[str]) -> list[Message]:
    """One request, to its answer."""
    if rng.random() < 0.14:
        return _unfit(rng, values, tools, nouns)
    tool = rng.choice(tools)
    given = {
        p: _drawn(rng, values, p)
        for p in tool.parameters
        if p.required or rng.random() < (0.4 if p.kind != "flag" else 0.5)
    }
    missing = [p for p in given if p.required and rng.random() < 0.35] if rng.random() < 0.4 else []
    asks = tool.verb in word_lists()["asking"]
    fields = _fields(rng)
    field = rng.choice(fields) if asks and rng.random() < 0.6 else ""
    said = {p: spoken for p, (_, spoken) in given.items() if p not in missing}
    messages = [user(_request(rng, tool.verb, tool.noun, said, field))]
    if missing:
        messages.append(assistant(_question(missing)))
        messages.append(user(_reply(rng, {p: given[p][1] for p in missing})))
    arguments = tool.arguments({p.name: value for p, (value, _) in given.items()})
    messages.append(assistant("", (tool.name, arguments)))
    return messages + _outcome(rng, values, tool, fields, field)


def _unfit(rng: random.Random, values: Values, tools: list[Generated], nouns: list[str]) -> list[Message]:
    """A request for which there is no tool: another noun, or another verb with the noun of one that is there."""
    words, near = word_lists(), rng.choice(tools)
    verb, noun = near.verb, rng.choice([n for n in nouns if n not in {tool.noun for tool in tools}])
    if rng.random() < 0.5:
        there = {tool.verb for tool in tools if tool.noun == near.noun}
        asks = not there.isdisjoint(words["asking"])
        others = [v for v in (*words["verbs"], *(() if asks else words["asking"])) if v not in there]
        verb, noun = rng.choice(others), near.noun
    parameters = [_parameter(rng) for _ in range(rng.randint(0, 2))]
    said = {p: _drawn(rng, values, p)[1] for p in parameters}
    return [user(_request(rng, verb, noun, said, "")), assistant(NO_TOOL)]


def _drawn(rng: random.Random, values: Values, parameter: Parameter) -> tuple[Any, str]:
    if parameter.kind == "flag":
        value = rng.random() < 0.7
        return value, "yes" if value else "no"
    return values.draw(parameter.kind, list(parameter.options))


def _request(rng: random.Random, verb: str, noun: str, said: dict[Parameter, str], field: str) -> str:
    """What the user says: the thing to do, then the values in any order."""
    words = word_lists()
    named = rng.choice(words["nouns"][noun])
    asked = rng.choice(words["verbs"].get(verb) or words["asking"][verb])
    article = rng.choice(("the", "a" if named[0] not in "aeiou" else "an"))
    order = rng.sample(list(said), len(said))
    parts = [_part(rng, parameter, said[parameter]) for parameter in order]
    about = rng.choice((", ", " ")) if rng.random() < 0.5 else " "
    values = about.join(parts)
    if field:
        label = field.replace("_", " ")
        opened = rng.choice(("What is the {f} of the {n}", "Tell me the {f} of the {n}", "I need the {f} of the {n}"))
        text = opened.format(f=label, n=named)
        return f"{text} {values}".strip() + ("?" if text.startswith("What") else "")
    opened = rng.choice((
        "{v} {a} {n}", "{v} {a} {n}", "please {v} {a} {n}", "can you {v} {a} {n}", "I want to {v} {a} {n}",
        "could you {v} {a} {n} for me", "I'd like to {v} {a} {n}", "{v} {n}",
    ))  # fmt: skip
    text = f"{opened.format(v=asked, a=article, n=named)} {values}".strip()
    text = text[0].upper() + text[1:] if rng.random() < 0.8 else text
    return text + ("?" if opened.startswith(("can", "could")) else rng.choice((".", "", "")))


def _part(rng: random.Random, parameter: Parameter, value: str) -> str:
    """A value, with its parameter's name where it would not be clear without."""
    label = parameter.label
    if parameter.kind == "flag":
        plain = (
            rng.choice((f"with {label}", label)) if value == "yes" else rng.choice((f"without {label}", f"not {label}"))
        )
        return plain if rng.random() < 0.7 else f"{label}: {value}"
    short = _WITH.get(parameter.kind, ("{v}", "{v} {l}"))
    return rng.choice(short if rng.random() < 0.5 else _NAMED).format(v=value, l=label)


def _question(missing: list[Parameter]) -> str:
    labels = [f"the {parameter.label}" for parameter in missing]
    if len(labels) == 1:
        return f"What is {labels[0]}?"
    return f"What are {', '.join(labels[:-1])} and {labels[-1]}?"


def _reply(rng: random.Random, said: dict[Parameter, str]) -> str:
    if len(said) == 1 and rng.random() < 0.6:
        (value,) = said.values()
        return rng.choice(("{v}", "{v}.", "It's {v}", "{v}, please", "Sorry, {v}")).format(v=value)
    return ", ".join(f"{parameter.label} {value}" for parameter, value in said.items())


def _fields(rng: random.Random) -> list[str]:
    return rng.sample([*word_lists()["fields"]], rng.randint(2, 4))


def _outcome(rng: random.Random, values: Values, tool: Generated, fields: list[str], field: str) -> list[Message]:
    """The tool's result, and the answer that states what it says word for word."""
    draw = rng.random()
    if draw < 0.08:
        failure = rng.choice(FAILURES)
        return [result(tool.name, f"error: {tool.name} failed: {failure}"), assistant(f"That failed: {failure}.")]
    if draw < 0.14:
        noun = tool.noun.replace("_", " ")
        reason = rng.choice((f"there is no such {noun}", f"the {noun} is {values.nonsense()}", "not allowed here"))
        return [result(tool.name, f"error: {reason}"), assistant(f"That failed: {reason}.")]
    kinds = word_lists()["fields"]
    row = {name: values.draw(kinds[name])[0] for name in fields}
    told = [field] if field else fields[:2]
    facts = " and ".join(f"the {name.replace('_', ' ')} is {_plain(row[name])}" for name in told)
    text = json.dumps(row, ensure_ascii=False, separators=rng.choice(((",", ":"), (", ", ": "))))
    return [result(tool.name, text), assistant(f"{facts[0].upper()}{facts[1:]}." if field else f"Done: {facts}.")]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
