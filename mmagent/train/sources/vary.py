"""The same dialogue with other values: what a call copies from the user, and an answer from a result, is exchanged for
values that stand at the same place of other dialogues. It knows messages, no files.

A few dozen dialogues are soon known by heart, card numbers and all. With every value exchanged, copying is what helps.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from mmagent.train.sample import Message, Tool

Place = tuple[str, str, str]
"""Of a value: the tool, ``argument`` or ``result``, and its name there."""
Change = Callable[[str], str]
SHORTEST = 2
"""Characters of a value that is exchanged."""


class Values:
    """What was seen at each place."""

    def __init__(self) -> None:
        self._seen: dict[Place, list[str]] = {}

    def add(self, messages: list[Message], tools: list[Tool]) -> None:
        """See a dialogue's values; where a tool takes one of a few, it is all of these."""
        options = {
            (tool["function"]["name"], "argument", name): schema["enum"]
            for tool in tools
            for name, schema in tool["function"]["parameters"].get("properties", {}).items()
            if isinstance(schema, dict) and schema.get("enum")
        }
        for place, value in _copied(messages):
            seen = self._seen.setdefault(place, [])
            there = dict.fromkeys((value, *options.get(place, ())))
            seen += [other for other in there if other not in seen and _is_exchangeable(other)]

    def exchange(self, messages: list[Message], rng: random.Random) -> list[Message]:
        """The dialogue with other values, each the same wherever it stands."""
        new: dict[str, str] = {}
        for place, value in _copied(messages):
            if value not in new:
                new[value] = self._draw(place, value, rng)
        if not new:
            return messages
        longest_first = sorted(new, key=len, reverse=True)
        pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, longest_first))})(?!\w)")

        def change(text: str) -> str:
            return pattern.sub(lambda found: new[found[1]], text)

        return [_changed(message, change) for message in messages]

    def _draw(self, place: Place, value: str, rng: random.Random) -> str:
        drawn = rng.choice(self._seen.get(place, [value]))
        if place[1] == "argument":  # numbers of cards and orders: any digits will do
            drawn = re.sub(r"\d", lambda _: str(rng.randrange(10)), drawn)
        return drawn


def _copied(messages: list[Message]) -> Iterator[tuple[Place, str]]:
    """The values that calls copy from what the user said before, and answers from results before."""
    asked = ""
    for index, message in enumerate(messages):
        if message["role"] == "user":
            asked += "\n" + _words(message)
        for call in message.get("tool_calls", ()):
            function = call["function"]
            for name, value in function["arguments"].items():
                if _is_exchangeable(value) and value in asked:
                    yield (function["name"], "argument", name), value
        if message["role"] == "tool":
            answers = "\n".join(_words(later) for later in messages[index:] if later["role"] == "assistant")
            for name, value in _fields(_words(message)).items():
                if _is_exchangeable(value) and value in answers:
                    yield (message["name"], "result", name), value


def _is_exchangeable(value: Any) -> bool:
    return isinstance(value, str) and len(value) >= SHORTEST and json.dumps(value, ensure_ascii=False) == f'"{value}"'


def _fields(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _words(message: Message) -> str:
    content = message["content"]
    return content if isinstance(content, str) else " ".join(block.get("text", "") for block in content)


def _changed(message: Message, change: Change) -> Message:
    """A message with its words and the values of its calls changed."""
    content = message["content"]
    if isinstance(content, str):
        made = message | {"content": change(content)}
    else:
        made = message | {"content": [b | {"text": change(b["text"])} if "text" in b else b for b in content]}
    if calls := message.get("tool_calls"):
        functions = [call["function"] for call in calls]
        changed = [function | {"arguments": _deep(function["arguments"], change)} for function in functions]
        made["tool_calls"] = [call | {"function": f} for call, f in zip(calls, changed, strict=True)]
    return made


def _deep(value: Any, change: Change) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_deep(item, change) for item in value]
    return {key: _deep(item, change) for key, item in value.items()} if isinstance(value, dict) else value
