"""Sentences that are true or false of three boxes of items, in the manner of NLVR's. It knows structures, no pixels.

The ways of saying things were read off NLVR's development sentences; what is true is computed from the structure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from mmagent.train.draw.blocks import BOX, NAMES

Item: TypeAlias = dict[str, Any]
Boxes: TypeAlias = Sequence[Sequence[Item]]
Truth: TypeAlias = Callable[[Boxes], bool]
Claim: TypeAlias = tuple[str, Truth]
Rule: TypeAlias = Callable[[int], bool]
Fits: TypeAlias = Callable[[Item], bool]
COLORS = ("yellow", "black", "blue")
SHAPES = ("circle", "square", "triangle")
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven")


@dataclass(frozen=True)
class Count:
    """How many are claimed."""

    words: str
    plural: bool
    holds: Callable[[int], bool]


def count(rng: random.Random, most: int = 3) -> Count:
    """A claim on a number: ``at least two``."""
    number = rng.randint(1, most)
    said = rng.choice((WORDS[number], str(number)))
    return rng.choice(
        (
            Count("a", False, lambda n: n >= 1),
            Count("no", False, lambda n: n == 0),
            Count(said, number > 1, lambda n: n == number if said.isdigit() else n >= number),
            Count(f"exactly {said}", number > 1, lambda n: n == number),
            Count(f"only {said}", number > 1, lambda n: n == number),
            Count(f"at least {said}", number > 1, lambda n: n >= number),
        )
    )


def there(rng: random.Random, many: Count, noun: str, rest: str = "") -> str:
    """``there are two towers with ...``"""
    return f"there {'are' if many.plural else 'is'} {many.words} {plural(noun) if many.plural else noun}{rest}"


def plural(noun: str) -> str:
    """``boxes``, ``towers``."""
    return noun + ("es" if noun.endswith("x") else "s")


def color_of(item: Item) -> str:
    """Its colour's word."""
    return NAMES[item["color"]]


def upward(box: Sequence[Item]) -> list[str]:
    """The colours of a tower, from the base."""
    return [color_of(item) for item in sorted(box, key=lambda item: -int(item["y_loc"]))]


def touches(item: Item, side: str) -> bool:
    """Whether an item touches a side of its box: left, right, top, bottom, any, corner."""
    x, y, size = item["x_loc"], item["y_loc"], item["size"]
    sides: dict[str, bool] = {"left": x <= 0, "right": x + size >= BOX, "top": y <= 0, "bottom": y + size >= BOX}
    if side == "any":
        return any(sides.values())
    if side == "corner":
        return (sides["left"] or sides["right"]) and (sides["top"] or sides["bottom"])
    return sides[side]


# --- towers: what is claimed of one -----------------------------------------------------------------------------------

Tower: TypeAlias = "tuple[str, Callable[[list[str]], bool]]"


def tower(rng: random.Random) -> Tower:
    """What follows ``a tower``, and whether it holds of colours from the base."""
    return rng.choice(_TOWERS)(rng)


def _having(rng: random.Random) -> str:
    return rng.choice((" with", " with", " with", " having", " that has", " which has"))


def _end(rng: random.Random) -> Tower:
    color, top = rng.choice(COLORS), rng.random() < 0.5
    place = "at the top" if top else rng.choice(("at the base", "at the bottom", "at base"))
    words = f"{_having(rng)} {rng.choice(('a', '1', 'a'))} {color} block {place}"
    return words, lambda t: t[-1 if top else 0] == color


def _over(rng: random.Random) -> Tower:
    upper, lower = rng.choice(COLORS), rng.choice(COLORS)
    words = rng.choice(("over", "above", "on top of", "on"))
    return (
        f"{_having(rng)} a {upper} block {words} a {lower} block",
        lambda t: any(pair == (lower, upper) for pair in pairwise(t)),
    )


def _height(rng: random.Random) -> Tower:
    blocks = rng.randint(1, 4)
    said = rng.choice((WORDS[blocks], WORDS[blocks], str(blocks)))
    noun = "block" if blocks == 1 else "blocks"
    words: str
    holds: Rule
    words, holds = rng.choice(
        (
            (f"{said} {noun}", lambda n: n == blocks),
            (f"exactly {said} {noun}", lambda n: n == blocks),
            (f"only {said} {noun}", lambda n: n == blocks),
            (f"at least {said} {noun}", lambda n: n >= blocks),
            (f"more than {said} {noun}", lambda n: n > blocks),
        )
    )
    return f"{_having(rng)} {words}", lambda t: holds(len(t))


def _height_and_end(rng: random.Random) -> Tower:
    first, second = _height(rng), _end(rng)
    joined = first[0] + rng.choice((second[0], " and" + second[0].replace(" with", "").replace(" having", "")))
    if " that has" in joined or " which has" in joined:
        joined = first[0] + second[0].replace(" that has", " having").replace(" which has", " having")
    return joined, lambda t: first[1](t) and second[1](t)


def _colored(rng: random.Random) -> Tower:
    color, blocks = rng.choice(COLORS), rng.randint(1, 3)
    said = rng.choice((WORDS[blocks], str(blocks)))
    noun = "block" if blocks == 1 else "blocks"
    words: str
    holds: Rule
    words, holds = rng.choice(
        (
            (f"{said} {color} {noun}", lambda n: n == blocks if blocks > 1 else n >= 1),
            (f"exactly {said} {color} {noun}", lambda n: n == blocks),
            (f"only {said} {color} {noun}", lambda n: n == blocks),
            (f"at least {said} {color} {noun}", lambda n: n >= blocks),
        )
    )
    return f"{_having(rng)} {words}", lambda t: holds(t.count(color))


def _mixed(rng: random.Random) -> Tower:
    one, two = rng.sample(COLORS, 2)
    words: str
    holds: Callable[[list[str]], bool]
    words, holds = rng.choice(
        (
            (f" with only {one} blocks", lambda t: set(t) == {one}),
            (f" with only {one} and {two} blocks", lambda t: set(t) == {one, two}),
            (f" with a {one} block and a {two} block", lambda t: {one, two} <= set(t)),
            (f" that contains {one} blocks", lambda t: one in t),
            (" that has only one color", lambda t: len(set(t)) == 1),
            (" with blocks of all 3 colors", lambda t: len(set(t)) == 3),
            (" where all the blocks are of same color", lambda t: len(set(t)) == 1),
            (f" with 2 {one} blocks stacked together", lambda t: (one, one) in set(pairwise(t))),
            (f" where the second block is {one}", lambda t: len(t) > 1 and t[1] == one),
        )
    )
    return words, holds


_TOWERS: tuple[Callable[[random.Random], Tower], ...] = (
    _end, _end, _end, _end, _over, _over, _height, _height, _height_and_end, _height_and_end, _colored, _colored,
    _mixed,
)  # fmt: skip


def _some_towers(rng: random.Random) -> Claim:
    many, (words, holds) = count(rng), tower(rng)
    noun = "tower"
    text = there(rng, many, noun, words.replace(" has", " have") if many.plural and rng.random() < 0.4 else words)
    return text, lambda boxes: many.holds(sum(holds(upward(box)) for box in boxes))


def _block_of_a_tower(rng: random.Random) -> Claim:
    many, color, top = count(rng, 3), rng.choice(COLORS), rng.random() < 0.5
    words, holds = _height(rng) if rng.random() < 0.5 else ("", lambda t: True)
    text = there(rng, many, f"{color} block", f" as the {'top' if top else 'base'} of a tower{words}")
    return text, lambda boxes: many.holds(sum(holds(t) and t[-1 if top else 0] == color for t in map(upward, boxes)))


def _block_over_block(rng: random.Random) -> Claim:
    words, holds = _over(rng)
    text = words.split(" ", 2)[2] if not words.startswith((" that", " which")) else words.split(" ", 3)[3]
    lead, least = rng.choice((("there is", 1), ("there is at least", 1)))
    return f"{lead} {text}", lambda boxes: sum(holds(upward(box)) for box in boxes) >= least


def _the_tower(rng: random.Random) -> Claim:
    blocks, color, top = rng.randint(1, 4), rng.choice(COLORS), rng.random() < 0.5
    place = "top" if top else "base"
    text = rng.choice(
        (
            f"the tower with {WORDS[blocks]} blocks has a {color} block at the {place}",
            f"the {place} of the {WORDS[blocks]} blocks tower is {color}",
        )
    )
    return text, lambda boxes: any(len(t) == blocks and t[-1 if top else 0] == color for t in map(upward, boxes))


def _all_towers(rng: random.Random) -> Claim:
    color = rng.choice(COLORS)
    return rng.choice(
        (
            (f"all towers contain a {color} block", lambda boxes: all(color in upward(box) for box in boxes)),
            (f"all 3 towers have at least 1 {color} block", lambda boxes: all(color in upward(box) for box in boxes)),
            (f"at least two of the towers have {color} bases", lambda b: sum(upward(x)[0] == color for x in b) >= 2),
            (f"two of the three towers has a {color} base", lambda b: sum(upward(x)[0] == color for x in b) == 2),
            (f"one tower has a {color} base", lambda b: sum(upward(x)[0] == color for x in b) >= 1),
            ("there are at least two towers with the same height", lambda b: len({len(x) for x in b}) < 3),
            ("there are only two towers which has the same base color", lambda b: len({upward(x)[0] for x in b}) == 2),
        )
    )


def _blocks(rng: random.Random) -> Claim:
    many, color = count(rng, 5), rng.choice(COLORS)
    return there(rng, many, f"{color} block"), lambda boxes: many.holds(sum(upward(b).count(color) for b in boxes))


# --- items ------------------------------------------------------------------------------------------------------------


def items(rng: random.Random) -> tuple[str, Callable[[Item], bool]]:
    """A noun for items, and which it means."""
    color = rng.choice((*COLORS, ""))
    shape = rng.choice((*SHAPES, ""))
    noun = shape or rng.choice(("item", "object", "item"))
    size = rng.choice(("", "", "", "", "", "small ", "big "))
    sizes = {"small ": (10,), "big ": (30,), "": (10, 20, 30)}[size]
    return (
        f"{size}{color} {noun}".replace("  ", " ").strip(),
        lambda item: (
            (not color or color_of(item) == color) and (not shape or item["type"] == shape) and item["size"] in sizes
        ),
    )


def place(rng: random.Random) -> tuple[str, Callable[[Item], bool]]:
    """Where items are claimed to be."""
    side = rng.choice(("any", "any", "any", "none", "none", "bottom", "bottom", "corner", "right", "left", "top", ""))
    closely = rng.choice(("closely ", ""))
    words = {
        "any": rng.choice((" touching the edge", " touching an edge", " touching the wall", " touching any edge")),
        "none": rng.choice((" not touching any edge", " not touching the edge", " not touching the wall")),
        "bottom": rng.choice((f" {closely}touching the bottom of a box", " touching the base")),
        "corner": f" {closely}touching a corner of a box",
        "right": f" {closely}touching right wall of a box",
        "left": f" {closely}touching left wall of a box",
        "top": f" {closely}touching the top of a box",
        "": "",
    }[side]
    if side == "none":
        return words, lambda item: not touches(item, "any")
    return words, (lambda item: touches(item, side)) if side else (lambda item: True)


def _some_items(rng: random.Random) -> Claim:
    many, (noun, means), (where, there_is) = count(rng, 5), items(rng), place(rng)
    text = there(rng, many, noun, where)
    return text, lambda boxes: many.holds(sum(means(i) and there_is(i) for box in boxes for i in box))


def _all_items(rng: random.Random) -> Claim:
    (noun, means), (where, there_is) = items(rng), place(rng)
    where, there_is = (where, there_is) if where else (" touching the edge", lambda item: touches(item, "any"))
    are = where.strip()
    none = rng.random() < 0.3 and not are.startswith("not")
    text = f"none of the {plural(noun)} are {are}" if none else f"{rng.choice(('all ', ''))}{plural(noun)} are {are}"

    def holds(boxes: Boxes) -> bool:
        meant = [there_is(item) for box in boxes for item in box if means(item)]
        return not any(meant) if none else bool(meant) and all(meant)

    return text, holds


def _same_box(rng: random.Random) -> Claim:
    noun, means = items(rng)
    text = f"all {plural(noun)} are in the same box"
    return text, lambda boxes: sum(any(means(item) for item in box) for box in boxes) == 1


def colors(box: Sequence[Item]) -> set[str]:
    """Of the items of a box."""
    return set(map(color_of, box))


def highest(box: Sequence[Item]) -> str:
    """The colour of a box's highest item."""
    return color_of(min(box, key=lambda item: int(item["y_loc"])))


# --- boxes ------------------------------------------------------------------------------------------------------------


def box(rng: random.Random) -> tuple[str, Callable[[Sequence[Item]], bool]]:
    """What follows ``a box``, and whether it holds of one."""
    one, two = rng.sample(COLORS, 2)
    number = rng.randint(1, 7)
    said = rng.choice((WORDS[number], str(number)))
    noun = "item" if number == 1 else "items"
    first, second = items(rng), items(rng)
    few = rng.randint(1, 3)
    few_said = rng.choice((WORDS[few], str(few)))
    made: tuple[tuple[str, Callable[[Sequence[Item]], bool]], ...] = (
        (f" with {rng.choice(('', 'exactly ', 'only '))}{said} {noun}", lambda b: len(b) == number),
        (f" with only {one} items", lambda b: colors(b) == {one}),
        (f" with only {one} and {two} items", lambda b: colors(b) == {one, two}),
        (f" with items of only {one} and {two} color", lambda b: colors(b) == {one, two}),
        (f" with {said} {noun} of {one} and {two} color", lambda b: len(b) == number and colors(b) == {one, two}),
        (" with items of only one color", lambda b: len(colors(b)) == 1),
        (" with items of all 3 different colors", lambda b: len(colors(b)) == 3),
        (" with items of 2 different colors", lambda b: len(colors(b)) == 2),
        (f" with a {one} item on top", lambda b: highest(b) == one),
        (f" with {said} {noun} and a {one} item on top", lambda b: len(b) == number and highest(b) == one),
        (f" with a {first[0]} and a {second[0]}", lambda b: any(map(first[1], b)) and any(map(second[1], b))),
        (
            f" with a {first[0]} and no {plural(second[0])}",
            lambda b: any(map(first[1], b)) and not any(map(second[1], b)),
        ),
        (f" with {few_said} {plural(first[0]) if few > 1 else first[0]}", lambda b: sum(map(first[1], b)) == few),
        (f" with at least {few_said} {plural(first[0])}", lambda b: sum(map(first[1], b)) >= few),
    )  # fmt: skip
    return rng.choice(made)


def _some_boxes(rng: random.Random) -> Claim:
    many, (words, holds) = count(rng), box(rng)
    text = there(rng, many, rng.choice(("box", "box", "box", "grey box")), words)
    return text, lambda boxes: many.holds(sum(bool(one) and holds(one) for one in boxes))


def _one_of_the_boxes(rng: random.Random) -> Claim:
    number = rng.randint(1, 8)
    noun = f"{(*WORDS, 'eight')[number]} object{'s' if number > 1 else ''}"
    text = f"one of the grey {rng.choice(('square', 'box'))} {rng.choice(('contains', 'has'))} exactly {noun}"
    more, means = items(rng)
    if rng.random() < 0.35:
        ending = " which is " if number == 1 else " one of which is a "
        ending += more.split()[0] if number == 1 and more.split()[0] in COLORS else f"a {more}" if number == 1 else more
        only = more.split()[0] if number == 1 and more.split()[0] in COLORS else ""
        fits: Callable[[Item], bool] = (lambda item: color_of(item) == only) if only else means
        return text + ending, lambda boxes: any(len(b) == number and any(map(fits, b)) for b in boxes)
    return text, lambda boxes: any(len(b) == number for b in boxes)


def _each_box(rng: random.Random) -> Claim:
    (noun, means), least = items(rng), rng.randint(1, 2)
    where: str
    there_is: Fits
    where, there_is = rng.choice((("", lambda item: True), (" touching the edge", lambda item: touches(item, "any"))))
    lead = rng.choice(("each box has", "each grey box contains", "every box has", "all boxes have"))
    said = rng.choice((WORDS[least], str(least)))
    tail = f"{plural(noun) if least > 1 else noun}{where}"
    text = rng.choice((f"{lead} at least {said} {tail}", f"there is at least {said} {tail} in each box"))
    return text, lambda boxes: all(sum(means(i) and there_is(i) for i in b) >= least for b in boxes)


_OF_TOWERS: tuple[Callable[[random.Random], Claim], ...] = (
    _some_towers, _some_towers, _some_towers, _some_towers, _block_of_a_tower, _block_of_a_tower, _block_over_block,
    _the_tower, _all_towers, _blocks,
)  # fmt: skip
_OF_ITEMS: tuple[Callable[[random.Random], Claim], ...] = (
    _some_items, _some_items, _some_items, _all_items, _same_box, _some_boxes, _some_boxes, _one_of_the_boxes,
    _each_box,
)  # fmt: skip


def is_towers(boxes: Boxes) -> bool:
    """Whether the boxes hold towers of blocks."""
    return all(item["type"] == "square" and item["size"] == 20 and item["x_loc"] == 40 for b in boxes for item in b)


def common(rng: random.Random, towers: bool) -> Claim:
    """A sentence of the common sorts, and when it is true."""
    return rng.choice(_OF_TOWERS if towers else _OF_ITEMS)(rng)
