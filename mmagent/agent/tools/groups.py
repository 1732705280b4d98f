"""Which of many tools a model is told of: groups that it opens, and those whose words the question shares.

It knows tools' names and descriptions; it runs nothing and asks no model.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmagent.agent.tools import AnyTool, tool
from mmagent.errors import ConfigurationError

OPEN_TOOLS = "open_tools"
"""The tool that opens groups; it is there where there are lazy groups."""

_K1, _B = 1.2, 0.75  # Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009
_STEM = 5
"""Longer words count as their first letters too: "refunding" and "refunds" meet."""
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class ToolGroup:
    """Tools that belong together."""

    name: str
    """What the model opens it by."""
    tools: Sequence[Any]
    """Anything that ``Agent(tools=...)`` takes."""
    description: str
    """What they are for, in a line."""
    lazy: bool = True
    """Whether the model is told of the tools only once it has opened the group."""


def open_tools(groups: Mapping[str, ToolGroup], members: Mapping[str, Iterable[str]]) -> AnyTool:
    """The tool by which a model opens lazy groups. It only says what is there now; the toolbox shows it.

    Args:
        groups: The lazy groups by name.
        members: The names of the tools of each.

    Raises:
        ConfigurationError: A group has no name or description.
    """
    for group in groups.values():
        if not group.name.strip() or not group.description.strip():
            raise ConfigurationError(f"the tool group {group.name!r} needs a name and a description of one line")

    def act(groups: Any) -> str:
        found = ", ".join(name for group in groups for name in members[group])
        return f"there are now: {found}"

    act.__annotations__["groups"] = list[Literal[tuple(groups)]]  # type: ignore[misc]
    lines = "; ".join(f"{name}: {' '.join(group.description.split())}" for name, group in groups.items())
    act.__doc__ = f"Get more tools. Groups are {lines}."
    return tool(name=OPEN_TOOLS, effect="read", untrusted=False)(act)


def select(tools: Sequence[AnyTool], question: str, limit: int, always: Collection[str] = ()) -> list[str]:
    """The names of the tools that a question is most likely about, in the order given.

    They are ranked by the words that they share with the question (BM25); equals stay in their order.

    Args:
        tools: The tools.
        question: What the user says, in any language.
        limit: How many there may be, `always` included.
        always: The names of those that are chosen anyway.
    """
    texts = [_words(_text(one)) for one in tools]
    mean = sum(text.total() for text in texts) / max(len(texts), 1) or 1.0
    known = Counter(word for text in texts for word in text)
    weights = {
        word: count * math.log(1 + (len(texts) - known[word] + 0.5) / (known[word] + 0.5))
        for word, count in _words(question).items()
        if word in known
    }

    def score(index: int) -> float:
        text = texts[index]
        norm = _K1 * (1 - _B + _B * text.total() / mean)
        return sum(weight * text[word] * (_K1 + 1) / (text[word] + norm) for word, weight in weights.items())

    wanted = {index for index, one in enumerate(tools) if one.name in always}
    others = sorted((index for index in range(len(tools)) if index not in wanted), key=lambda at: (-score(at), at))
    wanted |= set(others[: max(limit - len(wanted), 0)])
    return [tools[index].name for index in sorted(wanted)]


def _text(one: AnyTool) -> str:
    """What is known of a tool; its name counts twice."""
    fields = one.parameters.get("properties", {})
    notes = [str(field.get("description", "")) for field in fields.values() if isinstance(field, Mapping)]
    return " ".join([one.name, one.name, one.description, *fields, *notes])


def _words(text: str) -> Counter[str]:
    """The words of a text, without case, accents and endings; pairs of characters where words are not spaced."""
    plain = unicodedata.normalize("NFKD", _CAMEL.sub(" ", text)).casefold()
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    plain = unicodedata.normalize("NFKC", plain).replace("_", " ")
    found: list[str] = []
    for run in _UNSPACED.findall(plain):
        found += [run[at : at + 2] for at in range(max(len(run) - 1, 1))]
    for word in re.findall(r"\w+", _UNSPACED.sub(" ", plain)):
        found += [word, f"{word[:_STEM]}-"] if len(word) > _STEM else [word, f"{word}-"]
    return Counter(found)
