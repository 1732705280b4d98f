"""Scenes of plain things, and questions on what is there, how many and where. It knows pictures and words, no network.

In the manner of CLEVR (Johnson et al., arXiv 1612.06890): every question has one answer, computed from the scene.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from mmagent.train.draw.blocks import COLORS, SHAPES, SIZES, Thing, draw_scene
from mmagent.train.sample import Count, Draw, Message, Sample, Share, Shown, assistant, system, user
from mmagent.train.shop.episodes import SYSTEM

Kind = Literal["attribute", "exists", "count", "relation", "compare", "describe"]


class Asked(NamedTuple):
    """A question on a scene."""

    kind: Kind
    question: str
    answer: str
    of_first: bool = False
    """Whether it asks for the colour or the shape of the thing that was to be asked about first."""


HELD_OUT = frozenset(
    {("red", "star"), ("blue", "cross"), ("green", "heart"), ("yellow", "moon"), ("purple", "circle"),
     ("orange", "diamond"), ("brown", "square"), ("cyan", "triangle")}
)  # fmt: skip
"""Combinations of colour and shape that training never draws."""
MARGIN = 0.08
"""How much further left, right, above or below something must be to be called so, as a share of the side."""
NEW_GROUP, ABSENT = 0.2, 0.2
"""Where a scene has something of `HELD_OUT`: how often a group is named by such a combination, and by one not there."""
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def scenes(
    held_out: bool = False, questions: Count = 6, most: Annotated[int, Field(ge=1, le=7)] = 7, instructed: Share = 0.2
) -> Draw:
    """Pictures of one to seven things.

    Args:
        held_out: Every scene has a combination of `HELD_OUT`, and is asked about it first; else none has.
        questions: On each picture.
        most: Things in a picture, at most.
        instructed: The share that begins with the agent's instructions, from 0 to 1.
    """

    def draw(rng: random.Random) -> Sample:
        things = invent(rng, rng.randint(1, most), held_out)
        image, marks = draw_scene(rng, things)
        asked = ask_about(rng, things, questions, things[0] if held_out else None)
        messages: list[Message] = [system(SYSTEM)] if rng.random() < instructed else []
        for number, one in enumerate(asked):
            messages += [user(one.question, images=number == 0), assistant(one.answer)]
        return Sample(messages, [], [Shown(image, marks, described(things))])

    return draw


def invent(rng: random.Random, count: int, held_out: bool) -> list[Thing]:
    """Things that do not overlap; the first is of `HELD_OUT` where that is wanted, and now and then another like it."""
    things: list[Thing] = []
    twice = held_out and rng.random() < 0.3
    palette = rng.sample(tuple(COLORS), rng.randint(2, len(COLORS)))
    forms = rng.sample(SHAPES, rng.randint(2, len(SHAPES)))
    for _ in range(200):
        if len(things) == count:
            break
        color, shape = rng.choice(palette), rng.choice(forms)
        if held_out and not things:
            color, shape = rng.choice(sorted(HELD_OUT))
        elif twice and len(things) == 1:
            color, shape = things[0].color, things[0].shape
        elif (color, shape) in HELD_OUT:
            continue
        size = rng.choice(tuple(SIZES))
        half = rng.uniform(*SIZES[size])
        x, y = rng.uniform(half + 0.02, 0.98 - half), rng.uniform(half + 0.02, 0.98 - half)
        if all(max(abs(x - t.x), abs(y - t.y)) > half + t.half + 0.015 for t in things):
            things.append(Thing(size, color, shape, x, y, half))
    return things


def ask_about(rng: random.Random, things: Sequence[Thing], count: int, first: Thing | None = None) -> list[Asked]:
    """That many different questions; the first is on one thing where that is given."""
    asked: list[Asked] = []
    if first is not None and (found := _attribute(rng, things, first)):
        asked.append(found)
    for _ in range(40 * count):
        if len(asked) >= count:
            break
        made = rng.choice(_KINDS)(rng, things)
        if made is not None and made.question not in [one.question for one in asked]:
            asked.append(made)
    return asked


# --- how things are named ---------------------------------------------------------------------------------------------


def names(thing: Thing, things: Sequence[Thing]) -> list[str]:
    """Names that mean this thing and no other, the shortest first."""
    tries = (thing.shape, f"{thing.color} thing", f"{thing.size} {thing.shape}", f"{thing.color} {thing.shape}",
             f"{thing.size} {thing.color} thing", thing.name)  # fmt: skip
    return [name for name in tries if sum(fits(name, other) for other in things) == 1]


def fits(name: str, thing: Thing) -> bool:
    """Whether a name's words hold of a thing."""
    return all(word in (thing.size, thing.color, thing.shape, "thing") for word in name.split())


def _named(rng: random.Random, things: Sequence[Thing], without: str = "") -> tuple[str, Thing] | None:
    """A thing and a name of it that does not say what is asked."""
    for thing in rng.sample(list(things), len(things)):
        known = [name for name in names(thing, things) if not _says(name, without)]
        if known:
            return rng.choice(known), thing
    return None


def _says(name: str, what: str) -> bool:
    known = {"color": COLORS, "shape": SHAPES, "size": SIZES}.get(what, ())
    return any(word in known for word in name.split())


def plural(noun: str) -> str:
    """``crosses``, ``stars``."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def _group(rng: random.Random, things: Sequence[Thing]) -> str:
    """A name of none, one or several things."""
    if is_new(things) and rng.random() < NEW_GROUP:
        return _new_group(rng, things, there=rng.random() >= ABSENT)
    thing = rng.choice(list(things))
    if rng.random() < 0.25:
        color, shape = rng.choice(tuple(COLORS)), rng.choice(SHAPES)
        color, shape = (color, shape) if (color, shape) not in HELD_OUT else (color, "thing")
        return rng.choice((f"{color} thing", shape, f"{color} {shape}"))
    return rng.choice(
        (f"{thing.color} thing", thing.shape, f"{thing.color} {thing.shape}", f"{thing.size} thing",
         f"{thing.size} {thing.color} thing", f"{thing.size} {thing.shape}")
    )  # fmt: skip


def is_new(things: Sequence[Thing]) -> bool:
    """Whether something of `HELD_OUT` is there."""
    return any((thing.color, thing.shape) in HELD_OUT for thing in things)


def _new_group(rng: random.Random, things: Sequence[Thing], *, there: bool) -> str:
    """A combination of `HELD_OUT` that is there, or one that is not."""
    shown = {(thing.color, thing.shape) for thing in things} & HELD_OUT
    return " ".join(rng.choice(sorted(shown if there else HELD_OUT - shown)))


# --- questions --------------------------------------------------------------------------------------------------------


def _attribute(rng: random.Random, things: Sequence[Thing], about: Thing | None = None) -> Asked | None:
    if about is None:
        what = rng.choice(("color", "color", "shape", "shape", "size"))
        named = _named(rng, things, what)
    else:
        what = rng.choice(("color", "shape"))
        known = [name for name in names(about, things) if not _says(name, what)]
        named = (rng.choice(known), about) if known else None
    if named is None:
        return None
    name, thing = named
    wordings = {
        "color": ("What colour is the {}?", "Which colour has the {}?", "The {} is of what colour?",
                  "What is the colour of the {}?", "Tell me the colour of the {}.", "colour of the {}?"),
        "shape": ("What shape is the {}?", "Which shape has the {}?", "The {} is of what shape?",
                  "What is the shape of the {}?", "Tell me the shape of the {}.", "shape of the {}?"),
        "size": ("How big is the {}?", "What size is the {}?", "Is the {} large or small?", "Which size has the {}?",
                 "Tell me the size of the {}.", "size of the {}?"),
    }[what]  # fmt: skip
    return Asked("attribute", rng.choice(wordings).format(name), str(getattr(thing, what)), about is not None)


def _exists(rng: random.Random, things: Sequence[Thing]) -> Asked:
    wanted = rng.random() < 0.5
    if is_new(things) and rng.random() < 0.5:
        group = _new_group(rng, things, there=wanted)
    else:
        for _ in range(20):
            group = _group(rng, things)
            if any(fits(group, thing) for thing in things) == wanted:
                break
    there = any(fits(group, thing) for thing in things)
    wording = rng.choice(
        ("Is there a {}?", "Do you see a {}?", "Can you see a {}?", "Does the picture show a {}?", "Any {}?", "A {}?")
    )
    text = wording.format(plural(group) if wording == "Any {}?" else group)
    text = text.replace(" a orange", " an orange").replace("A orange", "An orange")
    return Asked("exists", text, "yes" if there else "no")


def _count(rng: random.Random, things: Sequence[Thing]) -> Asked:
    known: dict[int, list[str]] = {}
    for group in ["thing", *(_group(rng, things) for _ in range(8))]:
        known.setdefault(sum(fits(group, thing) for thing in things), []).append(plural(group))
    for _ in range(3):
        one, two = _group(rng, things), _group(rng, things)
        number = sum(fits(one, thing) or fits(two, thing) for thing in things)
        known.setdefault(number, []).extend([f"{plural(one)} or {plural(two)}"] if one != two else [])
    number = rng.choice([number for number in sorted(known) if known[number]])
    many = rng.choice(known[number])
    wording = rng.choice(
        ("How many {} are there?", "How many {} do you see?", "Count the {}.", "What is the number of {}?",
         "How many {}?", "Tell me how many {} there are.")
    )  # fmt: skip
    return Asked("count", wording.format(many), str(number))


SIDES: dict[str, Callable[[Thing, Thing], bool]] = {
    "left of": lambda a, b: b.x - a.x > MARGIN,
    "right of": lambda a, b: a.x - b.x > MARGIN,
    "above": lambda a, b: b.y - a.y > MARGIN,
    "below": lambda a, b: a.y - b.y > MARGIN,
}
"""Whether the first thing is on that side of the second."""
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def _relation(rng: random.Random, things: Sequence[Thing]) -> Asked | None:
    if len(things) < 2:
        return None
    side = rng.choice(tuple(SIDES))
    one, two = rng.sample(list(things), 2)
    known = [names(thing, things) for thing in (one, two)]
    if not all(known):
        return None
    first, second = (rng.choice(found) for found in known)
    if rng.random() < 0.55:
        if not SIDES[side](one, two) and not SIDES[_OPPOSITE[side]](one, two):
            return None
        wording = rng.choice(("Is the {} {} the {}?", "Is the {} {} the {}?", "The {} is {} the {}, right?"))
        return Asked("relation", wording.format(first, side, second), "yes" if SIDES[side](one, two) else "no")
    beside = [thing for thing in things if thing is not two and SIDES[side](thing, two)]
    clear = all(SIDES[side](t, two) or SIDES[_OPPOSITE[side]](t, two) for t in things if t is not two)
    if not clear:
        return None
    if len(beside) == 1 and rng.random() < 0.6:
        what = rng.choice(("color", "shape"))
        asked = {"color": "What colour is the thing {} the {}?", "shape": "What shape is {} the {}?"}[what]
        return Asked("relation", asked.format(side, second), str(getattr(beside[0], what)))
    wording = rng.choice(("How many things are {} the {}?", "Count the things {} the {}."))
    return Asked("relation", wording.format(side, second), str(len(beside)))


def _extreme(rng: random.Random, things: Sequence[Thing]) -> Asked | None:
    word: str
    key: Callable[[Thing], float]
    word, key = rng.choice(
        (
            ("leftmost", lambda t: t.x),
            ("rightmost", lambda t: -t.x),
            ("highest", lambda t: t.y),
            ("lowest", lambda t: -t.y),
        )
    )
    ranked = sorted(things, key=key)
    if len(ranked) < 2 or abs(key(ranked[0]) - key(ranked[1])) < MARGIN:
        return None
    what = rng.choice(("color", "shape"))
    asked = {"color": "What colour is the {} thing?", "shape": "What shape is the {} thing?"}[what]
    return Asked("relation", asked.format(word), str(getattr(ranked[0], what)))


def _compare(rng: random.Random, things: Sequence[Thing]) -> Asked | None:
    word, wanted = rng.choice(("more", "fewer", "as many")), rng.random() < 0.5
    for _ in range(30):
        first, second = _group(rng, things), _group(rng, things)
        one, two = (sum(fits(group, thing) for thing in things) for group in (first, second))
        holds = {"more": one > two, "fewer": one < two, "as many": one == two}[word]
        if first != second and holds == wanted:
            break
    else:
        return None
    than = "as" if word == "as many" else "than"
    text = f"Are there {word} {plural(first)} {than} {plural(second)}?"
    return Asked("compare", text, "yes" if holds else "no")


def _describe(rng: random.Random, things: Sequence[Thing]) -> Asked:
    wording = rng.choice(("Describe the picture.", "What is in the picture?", "What do you see?", "List the things."))
    return Asked("describe", wording, described(things))


def described(things: Sequence[Thing]) -> str:
    """All things with rough places, row by row."""
    return ", ".join(f"a {thing.name} {where(thing)}" for thing in sorted(things, key=lambda t: (_third(t.y), t.x)))


def where(thing: Thing) -> str:
    """Its place in ninths of the picture."""
    row, column = ("top", "middle", "bottom")[_third(thing.y)], ("left", "centre", "right")[_third(thing.x)]
    return f"{row} {column}"


def _third(share: float) -> int:
    return min(2, int(3 * share))


_KINDS: tuple[Callable[[random.Random, Sequence[Thing]], Asked | None], ...] = (
    _attribute, _attribute, _attribute, _exists, _count, _count, _count, _relation, _relation, _extreme, _compare,
    _describe,
)  # fmt: skip
