"""Other names in a dialogue, in place of those that its words tell. It knows turns and texts, no set of dialogues."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Free(NamedTuple):
    """An argument of a call whose value could be any other of its parameter's."""

    turn: int
    parameter: str
    value: str


def collect(pool: dict[str, dict[str, None]], free: Iterable[Free]) -> None:
    """Add values to those that are known of each parameter."""
    for _, parameter, value in free:
        pool.setdefault(parameter, {})[value] = None


def swapped_names(
    rng: random.Random, dialogue: dict[str, Any], free: Iterable[Free], pool: dict[str, list[str]]
) -> dict[str, Any]:
    """The dialogue with other names in place of those that its words tell before the call, wherever they stand."""
    swaps: dict[str, str] = {}
    for turn, parameter, value in free:
        before = " ".join(said["text"] for said in dialogue["turns"][:turn]).lower()
        if value.lower() in before and parameter in pool:
            swaps.setdefault(value.lower(), rng.choice(pool[parameter]))
    if not swaps:
        return dialogue
    longest_first = sorted(swaps, key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, longest_first)) + r")(?!\w)", re.IGNORECASE)
    return _mapped(dialogue, lambda said: pattern.sub(lambda match: swaps[match[0].lower()], said))


def _mapped(dialogue: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The dialogue with its words, arguments and results changed."""
    turns = []
    for turn in dialogue["turns"]:
        calls = [
            call
            | {"arguments": {key: change(value) for key, value in call["arguments"].items()}}
            | {"results": [{key: change(str(v)) for key, v in row.items()} for row in call.get("results") or ()]}
            for call in turn.get("calls", ())
        ]
        turns.append(turn | {"text": change(turn["text"])} | ({"calls": calls} if calls else {}))
    return dialogue | {"turns": turns}
