"""The words of the shop world: what customers ask, what policies say. It knows text, no plans and no tools.

The words stand in ``phrases.toml`` and ``topics.toml``. Alternatives are written ``{a|b|c}``, nested as needed.
`phrase` draws one expansion; every eighth, by hash, is held out: training never draws it, evaluation nothing else.
"""

from __future__ import annotations

import random
import re
import tomllib
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, TypeAlias

_SIGN = re.compile(r"[{|}]")
Tree: TypeAlias = "tuple[str | tuple[Tree, ...], ...]"
"""A template: texts, and choices between templates, one after the other."""


@dataclass(frozen=True)
class Topic:
    """A subject that a shop's policies may have a section on."""

    document: str
    headings: str
    says: str
    """Alternatives of the sentence that answers; ``#`` is a number, ``@`` an item, ``%`` a price, ``~`` a city."""
    asked: str
    """Alternatives of the question."""
    numbers: tuple[int, ...] = (2, 3, 5, 7, 10, 14, 20, 21, 25, 28, 30, 40, 45, 60, 90, 100)


def _topic(values: dict[str, Any]) -> Topic:
    numbers = {"numbers": tuple(values["numbers"])} if "numbers" in values else {}
    return Topic(values["document"], values["headings"], values["says"], values["asked"], **numbers)


def read_words(name: str) -> dict[str, Any]:
    """The words in a file beside this one."""
    return tomllib.loads(files("mmagent.train.shop").joinpath(name).read_text(encoding="utf-8"))


_WORDS, _TOPICS = read_words("phrases.toml"), read_words("topics.toml")

RETURN_WINDOW, EXCEPTIONS = _topic(_TOPICS["return_window"]), _topic(_TOPICS["exceptions"])
TOPICS = tuple(map(_topic, _TOPICS["topics"]))
ITEMS, SHOPS, CITIES, CARRIERS = (tuple[str, ...](_WORDS[key]) for key in ("items", "shops", "cities", "carriers"))
MONTHS, STREETS = (tuple[str, ...](_WORDS[key]) for key in ("months", "streets"))
FIRST_NAMES, LAST_NAMES = (tuple[str, ...](_WORDS[key]) for key in ("first_names", "last_names"))
SENTENCES: dict[str, str] = _WORDS["sentences"]
"""Templates of what customers say, by name; ``<item>``, ``<object>``, ``<id>`` and ``<sum>`` are filled in later."""
VOCABULARY: tuple[str, ...] = tuple(
    sorted(set(re.findall(r"[A-Za-z]{2,}", " ".join((*ITEMS, *SENTENCES.values(), *(t.says for t in TOPICS))))))
)
"""The words of items, customers and policies."""
_SYLLABLES: list[str] = _WORDS["syllables"]


def expand(rng: random.Random, template: str) -> str:
    """One expansion of ``template``, at random."""
    return _speak(rng, _tree(template))


def _speak(rng: random.Random, tree: Tree) -> str:
    return "".join(part if isinstance(part, str) else _speak(rng, rng.choice(part)) for part in tree)


@lru_cache(4096)
def _tree(template: str) -> Tree:
    stack: list[list[list[Any]]] = [[[]]]  # open choices, each with its alternatives so far
    at = 0
    for sign in _SIGN.finditer(template):
        if text := template[at : sign.start()]:
            stack[-1][-1].append(text)
        at = sign.end()
        if sign.group() == "{":
            stack.append([[]])
        elif sign.group() == "|" and len(stack) > 1:
            stack[-1].append([])
        elif sign.group() == "|":
            stack[-1][-1].append("|")
        else:
            choice = tuple(tuple(alternative) for alternative in stack.pop())
            stack[-1][-1].append(choice)
    return (*stack[0][0], template[at:])


def is_held_out(text: str) -> bool:
    """Whether training must not see this expansion; case and signs make no other wording."""
    words = re.sub(r"\W+", " ", text.lower()).strip()
    return zlib.crc32(words.encode()) % 8 == 0


def phrase(rng: random.Random, template: str, held_out: bool) -> str:
    """An expansion on the wanted side of the split, or any where 400 draws find none."""
    for _ in range(400):
        drawn = expand(rng, template)
        if is_held_out(drawn) == held_out:
            break
    return drawn


def price(rng: random.Random) -> str:
    """An amount such as ``48.90 EUR``."""
    whole = rng.choice((rng.randint(1, 9), rng.randint(10, 99), rng.randint(100, 499)))
    return f"{whole}.{rng.choice(('00', '50', '90', '95', '99', '49'))} EUR"


def made_up(rng: random.Random) -> str:
    """A word that nobody has heard of."""
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3)))


def item(rng: random.Random) -> str:
    """The name of a product; now and then one that nobody has heard of, so that names are copied and not remembered."""
    if rng.random() < 0.15:
        name = made_up(rng)
        return name if rng.random() < 0.5 else f"{name} {rng.choice(ITEMS).split()[-1]}"
    return rng.choice(ITEMS)


def fill(rng: random.Random, text: str, numbers: tuple[int, ...]) -> str:
    """Put numbers, items, prices and cities in place of ``# @ % ~``."""

    def value(index: int, char: str) -> str:
        if char == "@":
            return item(rng)
        if char == "%":
            return price(rng)
        if char == "~":
            return rng.choice(CITIES)
        if char != "#":
            return char
        digits = (index and text[index - 1] in "0#") or text[index + 1 : index + 2] == "#"  # of a telephone number
        return str(rng.randint(1, 9)) if digits else str(rng.choice(numbers))

    return "".join(value(index, char) for index, char in enumerate(text))
