"""Names of tools and parameters, and how to say them otherwise. It knows words, no data set and no toolset."""

from __future__ import annotations

import random
import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def word_lists() -> dict[str, Any]:
    """What ``toolwords.toml`` has, by heading."""
    return tomllib.loads(files(__package__).joinpath("toolwords.toml").read_text(encoding="utf-8"))


def snake(name: str) -> str:
    """``FindRestaurants`` as ``find_restaurants``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def cased(name: str, case: str) -> str:
    """A name in snake case in another one: ``snake``, ``camel`` or ``pascal``."""
    if case == "snake":
        return name
    first, *rest = name.split("_")
    return (first if case == "camel" else first.capitalize()) + "".join(word.capitalize() for word in rest)


class Words:
    """Says every name as it is, in snake case."""

    def tool(self, name: str) -> str:
        """A tool's name."""
        return snake(name)

    def parameter(self, name: str) -> str:
        """A parameter's name, or a result's field."""
        return snake(name)

    def value(self, value: str) -> str:
        """A value of an enumeration."""
        return value


class OtherWords(Words):
    """Says names otherwise: synonyms of their words, other cases; the same name always in the same way.

    Args:
        rng: The dice.
        odds: How often a word that has synonyms is replaced.
    """

    def __init__(self, rng: random.Random, odds: float = 0.6) -> None:
        self._rng, self._odds = rng, odds
        self._tools = rng.choices(("snake", "camel", "pascal"), (3, 2, 1))[0]
        self._parameters = rng.choices(("snake", "camel"), (3, 1))[0]
        self._values_too = rng.random() < 0.5
        self._said: dict[tuple[str, str], str] = {}

    def tool(self, name: str) -> str:
        return self._once("tool", snake(name), self._tools)

    def parameter(self, name: str) -> str:
        return self._once("parameter", snake(name), self._parameters)

    def value(self, value: str) -> str:
        said = word_lists()["values"].get(value) if self._values_too else None
        if not said:
            return value
        return self._said.setdefault(("value", value), self._rng.choice(said))

    def _once(self, kind: str, name: str, case: str) -> str:
        """A name's other name; never one that another name has got."""
        if (kind, name) not in self._said:
            taken = {said for (of, _), said in self._said.items() if of == kind}
            said = cased(self._other(name, counted=kind == "parameter"), case)
            for further in (name, *(f"{name}_{number}" for number in range(2, 99))):
                if said not in taken:
                    break
                said = cased(further, case)
            self._said[kind, name] = said
        return self._said[kind, name]

    def _other(self, name: str, counted: bool) -> str:
        rng, synonyms = self._rng, word_lists()["synonyms"]
        if counted and (thing := name.removeprefix("number_of_")) != name:
            name = rng.choice((f"number_of_{thing}", f"num_{thing}", thing, f"{thing}_count", f"how_many_{thing}"))
        kept = {"check"} if counted else set()  # check_in is no verb
        words = name.split("_")
        replaced = [w in synonyms and w not in kept and rng.random() < self._odds for w in words]
        return "_".join(rng.choice(synonyms[w]) if other else w for w, other in zip(words, replaced, strict=True))
