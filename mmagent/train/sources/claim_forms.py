"""More ways in which people speak of three boxes, and sentences of all the ways. It knows structures, no pixels."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

from mmagent.train.sources.claims import (
    COLORS,
    SHAPES,
    WORDS,
    Boxes,
    Claim,
    Item,
    color_of,
    colors,
    common,
    count,
    highest,
    is_towers,
    items,
    plural,
    there,
    touches,
    upward,
)

WALLS = ("the wall", "the edge", "an edge", "the side", "any edge", "the wall")


def slip(rng: random.Random, text: str) -> str:
    """A sentence with one of the slips that people make."""
    word, wrong = rng.choice(_SLIPS)
    return text.replace(word, wrong, 1) if word in text else text[1:]


_SLIPS = (
    ("at least", "atleast"), ("a blue", "ablue"), ("square", "squere"), ("touching", "tocuhing"), ("circle", "cirlce"),
    ("blocks", "blccks"), ("color", "colour"), (" has ", " ha "), ("that contain", "than contain"),
    ("an edge", "a edge"),
)  # fmt: skip


def _number(rng: random.Random, number: int) -> str:
    return rng.choice((WORDS[number], str(number)))


def _noun(number: int, noun: str) -> str:
    return noun if number == 1 else plural(noun)


# --- towers -----------------------------------------------------------------------------------------------------------


def _which_tower(rng: random.Random) -> Claim:
    """A tower by a longer description."""
    one, two, three = rng.sample(COLORS, 3)
    blocks, few = rng.randint(1, 4), rng.randint(2, 3)
    number, some = _number(rng, blocks), _number(rng, few)
    rest: Callable[[list[str]], bool]
    words, rest = rng.choice(
        (
            (f"a {one} tower", lambda t: set(t) == {one}),
            (f"a {one} tower with only {number} {_noun(blocks, 'block')}", lambda t: t == [one] * blocks),
            (f"a tower with a {one} block and {some} {two} blocks", lambda t: one in t and t.count(two) == few),
            (f"a tower with a {one} block, a {two} block and a {three} block", lambda t: len(set(t)) == 3),
            ("a tower with blocks of all 3 colours", lambda t: len(set(t)) == 3),
            (
                f"a tower with exactly three blocks, and it has a {one} block and two {two} blocks",
                lambda t: sorted(t) == sorted([one, two, two]),
            ),
            (f"a tower that the second block from the base is {one}", lambda t: t[1:2] == [one]),
            (f"a tower with a {one} block below a {two} block", lambda t: (one, two) in pairwise(t)),
            (f"a tower with a {one} block below a {two} block at the top", lambda t: t[-2:] == [one, two]),
            (
                f"a tower with a {one} block below a different colored block",
                lambda t: any(lower == one != upper for lower, upper in pairwise(t)),
            ),
            (f"a tower that has {some} the same blocks color", lambda t: max(map(t.count, t)) == few),
            (f"a tower which has two {one} blocks as the base and second blocks", lambda t: t[:2] == [one, one]),
            (
                f"a {WORDS[blocks]} blocks tower that has only one color",
                lambda t: len(t) == blocks and len(set(t)) == 1,
            ),
            (
                f"a {WORDS[blocks]} blocks tower which has only one {one} block",
                lambda t: len(t) == blocks and t.count(one) == 1,
            ),
            (f"a tower, which has exactly {some} {one} blocks", lambda t: t.count(one) == few),
            (f"a tower with only one {rng.choice(('object', 'block'))} which is {one}", lambda t: t == [one]),
            (
                f"a tower with a four block which has a {one} block over a {two} block",
                lambda t: len(t) == 4 and (two, one) in pairwise(t),
            ),
        )
    )
    many = count(rng, 2)
    text = f"there is {words}" if rng.random() < 0.75 or many.plural else f"there is {many.words} {words[2:]}"
    holds = many.holds if not text.startswith("there is a ") else (lambda n: n >= 1)
    return text, lambda boxes: holds(sum(bool(rest(upward(box))) for box in boxes))


def _several_towers(rng: random.Random) -> Claim:
    one = rng.choice(COLORS)
    first, second = sorted(rng.sample(range(1, 5), 2))
    blocks = rng.randint(1, 3)
    number = _number(rng, blocks)
    made: tuple[Claim, ...] = (
        (
            f"there are two towers which has {WORDS[first]} and {WORDS[second]} blocks each",
            lambda b: {first, second} <= {len(box) for box in b},
        ),
        (
            f"there are two tower with different height and the base is {one}",
            lambda b: len({len(box) for box in b if upward(box)[0] == one}) > 1,
        ),
        (
            "there are two towers with more than one block where all the blocks are of same color",
            lambda b: sum(len(box) > 1 and len(colors(box)) == 1 for box in b) >= 2,
        ),
        (f"all towers contain {number} {one} {_noun(blocks, 'block')}", lambda b: _all(b, one, blocks)),
        (f"all 3 towers have at least {number} {one} {_noun(blocks, 'block')}", lambda b: _all(b, one, blocks)),
        (f"{one} block at the top", lambda b: any(upward(box)[-1] == one for box in b)),
        (
            f"the top of the two {WORDS[blocks + 1]} block towers are {one}",
            lambda b: [upward(box)[-1] for box in b if len(box) == blocks + 1] == [one] * 2,
        ),
        (f"there are two towers that has {one} block at the top", lambda b: sum(upward(x)[-1] == one for x in b) == 2),
        (f"there are 2 towers that contain {one} blocks", lambda b: sum(one in upward(x) for x in b) == 2),
    )
    return rng.choice(made)


def _all(boxes: Boxes, color: str, least: int) -> bool:
    return all(upward(box).count(color) >= least for box in boxes)


def _blocks_over(rng: random.Random) -> Claim:
    upper, lower = rng.choice(COLORS), rng.choice(COLORS)
    over = rng.choice(("above", "on", "over", "on top of"))
    lead, none = rng.choice(
        (("there is no", True), ("there is at least one", False), ("there is a", False), ("one tower has a", False))
    )
    noun = rng.choice(("block", "block", "object"))
    text = f"{lead} {upper} {noun} {over} a {lower} {noun}"
    return text, lambda boxes: any((lower, upper) in pairwise(upward(box)) for box in boxes) != none


def _base_of(rng: random.Random) -> Claim:
    blocks, color, top = rng.randint(1, 4), rng.choice(COLORS), rng.random() < 0.5
    end = -1 if top else 0
    text = f"the {'top' if top else 'base'} of {rng.choice(('a', 'the'))} {WORDS[blocks]} blocks tower is {color}"
    return text, lambda boxes: any(len(box) == blocks and upward(box)[end] == color for box in boxes)


# --- boxes and items --------------------------------------------------------------------------------------------------


def _which_box(rng: random.Random) -> Claim:
    """A box by a longer description."""
    one, two = rng.sample(COLORS, 2)
    (first, means_first), (second, means_second), (third, means_third) = items(rng), items(rng), items(rng)
    total, some, few = rng.randint(2, 6), rng.randint(1, 3), rng.randint(1, 3)
    number, said, less = _number(rng, total), _number(rng, some), _number(rng, few)
    kinds = _noun(few, second)

    def has(box: Sequence[Item], means: Callable[[Item], bool]) -> int:
        return sum(map(means, box))

    def of(box: Sequence[Item], color: str) -> int:
        return sum(color_of(item) == color for item in box)

    def walled(box: Sequence[Item], color: str) -> bool:
        return any(color_of(item) == color and touches(item, "any") for item in box)

    made: tuple[tuple[str, Callable[[Sequence[Item]], object]], ...] = (
        (f"with a {first} and {less} {kinds}", lambda b: has(b, means_first) and has(b, means_second) == few),
        (f"with a {first} and at least {less} {kinds}", lambda b: has(b, means_first) and has(b, means_second) >= few),
        (
            f"with a {first}, a {second} and a {third}",
            lambda b: has(b, means_first) and has(b, means_second) and has(b, means_third),
        ),
        (f"with {number} items and the {one} one is on top", lambda b: len(b) == total and highest(b) == one),
        (f"with {number} items and {rng.choice(('a ', ''))}{one} one on top",
         lambda b: len(b) == total and highest(b) == one),
        (f"with {number} items of all 3 different colors", lambda b: len(b) == total and len(colors(b)) == 3),
        (f"with only {number} items of {one} and {two} color", lambda b: len(b) == total and colors(b) == {one, two}),
        (f"with {number} items of only {one} and {two} colour", lambda b: len(b) == total and colors(b) == {one, two}),
        (f"with items of only {one} and {two} colour", lambda b: colors(b) == {one, two}),
        ("with all 3 colors", lambda b: len(colors(b)) == 3),
        (f"with all 3 colors and a {one} item on top", lambda b: len(colors(b)) == 3 and highest(b) == one),
        (f"with {said} {one} and {less} {two} {_noun(few, 'item')}",
         lambda b: of(b, one) == some and of(b, two) == few),
        (
            f"with exactly {said} {one} {_noun(some, 'item')} and at least {less} {two} {_noun(few, 'item')}",
            lambda b: of(b, one) == some and of(b, two) >= few,
        ),
        (f"with multiple items and the {less} are {one}", lambda b: len(b) > 1 and of(b, one) == few),
        (f"with {number} items and a {one} one touching the wall", lambda b: len(b) == total and walled(b, one)),
        (
            f"that has {number} items and the {said} are touching the side",
            lambda b: len(b) == total and sum(touches(i, "any") for i in b) == some,
        ),
        (
            f"with {less} {_noun(few, first)} not touching the wall",
            lambda b: sum(means_first(i) and not touches(i, "any") for i in b) == few,
        ),
        (f"with items of 2 different colors and a {first}", lambda b: len(colors(b)) == 2 and has(b, means_first)),
        (f"with a {first} closely touching a corner",
         lambda b: any(means_first(i) and touches(i, "corner") for i in b)),
        (
            f"with at least {less} {_noun(few, first)} touching the edge",
            lambda b: sum(means_first(i) and touches(i, "any") for i in b) >= few,
        ),
    )  # fmt: skip
    words, holds = rng.choice(made)
    if rng.random() < 0.6:
        return f"there is a box {words}", lambda boxes: any(b and holds(b) for b in boxes)
    many = count(rng)
    text = there(rng, many, rng.choice(("box", "grey box")), f" {words}")
    return text, lambda boxes: many.holds(sum(bool(b and holds(b)) for b in boxes))


def _one_box_has(rng: random.Random) -> Claim:
    (noun, means), some = items(rng), rng.randint(1, 3)
    text = f"one box has {_number(rng, some)} {_noun(some, noun)}"
    return text, lambda boxes: any(sum(map(means, box)) == some for box in boxes)


def _at_the_wall(rng: random.Random) -> Claim:
    """What touches the walls, of all boxes."""
    one, two, three = rng.sample(COLORS, 3)
    (noun, means), (more, means_more) = items(rng), items(rng)
    shape = rng.choice((*SHAPES, "item"))
    first, second = rng.randint(1, 4), rng.randint(1, 4)
    number, more_number = _number(rng, first), _number(rng, second)
    wall, bottom = rng.choice(WALLS), rng.choice((" of a box", ""))

    def at(boxes: Boxes, side: str = "any") -> list[Item]:
        return [item for box in boxes for item in box if touches(item, side)]

    def shades(boxes: Boxes) -> list[str]:
        return [color_of(item) for item in at(boxes)]

    made: tuple[tuple[str, Callable[[Boxes], object]], ...] = (
        (f"all 3 different colors are touching {wall}", lambda b: len(set(shades(b))) == 3),
        (f"there is only one color touching {wall}", lambda b: len(set(shades(b))) == 1),
        (
            f"only {number} {one} and {more_number} {two} {_noun(second, 'item')} are touching {wall}",
            lambda b: (shades(b).count(one), shades(b).count(two), shades(b).count(three)) == (first, second, 0),
        ),
        (f"there is {_an(noun)} touching {wall}", lambda b: any(map(means, at(b)))),
        (f"there is {_an(noun)} that is touching the corner", lambda b: any(map(means, at(b, "corner")))),
        (
            f"there is {_an(shape)} touching the corner that is not {one}",
            lambda b: any(shape in ("item", i["type"]) and color_of(i) != one for i in at(b, "corner")),
        ),
        (
            f"there is a {one} or {two} {shape} closely touching the bottom{bottom}",
            lambda b: any(shape in ("item", i["type"]) and color_of(i) != three for i in at(b, "bottom")),
        ),
        (
            f"there is at least {number} {_noun(first, noun)} closely touching a box corner",
            lambda b: sum(map(means, at(b, "corner"))) >= first,
        ),
        (
            f"at least one {noun} is not touching {wall}",
            lambda b: any(means(i) and not touches(i, "any") for box in b for i in box),
        ),
        (f"none of the {plural(noun)} are touching {wall}", lambda b: not any(map(means, at(b)))),
        (
            f"there are {number} {_noun(first, noun)} touching {wall} and at least one {more} touching {wall}",
            lambda b: sum(map(means, at(b))) == first and any(map(means_more, at(b))),
        ),
    )
    text, holds = rng.choice(made)
    return text, lambda boxes: bool(holds(boxes))


def _an(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _on_top(rng: random.Random) -> Claim:
    one, two = rng.choice(COLORS), rng.choice(COLORS)
    noun = rng.choice(("item", "square", "block"))
    made: tuple[Claim, ...] = (
        (f"there is a {one} item on top", lambda b: any(box and highest(box) == one for box in b)),
        (f"there is a {one} {noun} on top of other items", lambda b: any(len(x) > 1 and highest(x) == one for x in b)),
        (f"there is a {one} square touching the wall with a {two} square right on top of it",
         lambda b: any(upward(box)[:2] == [one, two] for box in b)),
    )  # fmt: skip
    return rng.choice(made)


_OF_TOWERS: tuple[Callable[[random.Random], Claim], ...] = (
    _which_tower, _which_tower, _which_tower, _several_towers, _blocks_over, _base_of, _which_box, _which_box,
    _at_the_wall, _on_top,
)  # fmt: skip
_OF_ITEMS: tuple[Callable[[random.Random], Claim], ...] = (_which_box, _which_box, _one_box_has, _at_the_wall)


def rarer(rng: random.Random, towers: bool) -> Claim:
    """A sentence, and when it is true."""
    return rng.choice(_OF_TOWERS if towers else _OF_ITEMS)(rng)


def claim(rng: random.Random, towers: bool) -> Claim:
    """A sentence, and when it is true."""
    text, holds = rarer(rng, towers) if rng.random() < 0.4 else common(rng, towers)
    text = text[0].upper() + text[1:] if rng.random() < 0.8 else text
    text = slip(rng, text) if rng.random() < 0.04 else text
    return text + ("." if rng.random() < 0.5 else ""), holds


def claim_that_is(rng: random.Random, boxes: Boxes, wanted: bool) -> str:
    """A sentence that is true, or false, of the boxes."""
    towers = is_towers(boxes)
    for _ in range(200):
        text, holds = claim(rng, towers)
        if holds(boxes) == wanted:
            return text
    return text if holds(boxes) == wanted else ("There is a box." if wanted else "There is no box.")
