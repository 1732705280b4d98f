"""Digits drawn on small pictures, with questions that only the picture answers. It knows no tools and no plans.

Small enough that a network of a million parameters learns it from nothing in minutes; what it cannot do is be guessed.
"""

from __future__ import annotations

import random
from itertools import combinations

from PIL import Image, ImageDraw

from mmagent.errors import ConfigurationError
from mmagent.train.draw.strokes import COLORS, RGB, Font, any_color, distance, fit, font, pick_family, vary, worn
from mmagent.train.sample import Draw, Mark, Message, Sample, Shown, assistant, user

PLACES = ("top left", "top right", "bottom left", "bottom right")
ORDER = 10
"""Pixels of 64 by which one digit stands further left than another, for the question which does."""
_CONTRAST = 150
"""Between inks and paper, of 441."""
_LIGHTER = 80
"""Of 255, by which the paper of a number is lighter or darker than its ink."""
_WORDS = ("", "one", "two", "three", "four")


def digits(length: int = 3, side: int = 64, scattered: bool = False, questions: int = 1) -> Draw:
    """A number to read, or digits here and there with questions on colour, name, place and count.

    Args:
        length: Digits of a number; of scattered ones there are two to that many.
        side: Pixels of the square picture.
        scattered: Digits of different colours in different places, none twice, instead of a number.
        questions: Of scattered digits, about each picture.

    Raises:
        ConfigurationError: The length does not fit.
    """
    if not (2 <= length <= len(_WORDS) - 1 if scattered else 1 <= length <= 8):
        raise ConfigurationError(f"length is {length}; give 1 to 8, or 2 to {len(_WORDS) - 1} for scattered digits")

    def draw(rng: random.Random) -> Sample:
        if scattered:
            return _things(rng, rng.randint(2, length), side, questions)
        number = "".join(rng.choices("0123456789", k=length))
        shown = _number(rng, number, side)
        return Sample([user("What number is this?", images=1), assistant(number)], [], [shown])

    return draw


def _number(rng: random.Random, number: str, side: int) -> Shown:
    family = pick_family(rng)
    face = fit(family, round(side * rng.uniform(0.36, 0.52)), number, side * 0.9)
    ink, paper = any_color(rng), any_color(rng)
    while abs(_light(ink) - _light(paper)) < _LIGHTER:
        ink, paper = any_color(rng), any_color(rng)
    image = Image.new("RGB", (side, side), paper)
    left, top, right, bottom = face.getbbox(number)
    x = rng.uniform(0.03 * side, 0.97 * side - (right - left)) - left
    y = rng.uniform(0.06 * side, 0.94 * side - (bottom - top)) - top
    pen = ImageDraw.Draw(image)
    marks = []
    for index, digit in enumerate(number):
        marks.append(_write(pen, digit, face, (x + face.getlength(number[:index]), y), ink))
    return Shown(worn(rng, image), tuple(marks), f"the number {number}")


def _things(rng: random.Random, count: int, side: int, questions: int) -> Sample:
    """Digits in quarters of a picture, and questions about them."""
    names, colors = rng.sample("0123456789", count), rng.sample(sorted(COLORS), count)
    inks = [vary(rng, COLORS[color]) for color in colors]
    image = Image.new("RGB", (side, side), _paper(rng, inks))
    pen, family, marks, half = ImageDraw.Draw(image), pick_family(rng), [], side / 2
    quarters = rng.sample(range(4), count)
    for quarter, name, ink in zip(quarters, names, inks, strict=True):
        face = font(family, round(side * rng.uniform(0.3, 0.42)))
        left, top, right, bottom = face.getbbox(name)
        x = half * (quarter % 2) + rng.uniform(0, max(0.0, half - (right - left))) - left
        y = half * (quarter // 2) + rng.uniform(0, max(0.0, half - (bottom - top))) - top
        marks.append(_write(pen, name, face, (x, y), ink))
    messages: list[Message] = []
    places = [PLACES[quarter] for quarter in quarters]
    for question, answer in _asked(rng, marks, colors, places, side)[:questions]:
        messages += [user(question, images=0 if messages else 1), assistant(answer)]
    caption = " and ".join(f"a {color} {name}" for color, name in zip(colors, names, strict=True))
    things = [Mark(color, mark.box) for color, mark in zip(colors, marks, strict=True)]
    return Sample(messages, [], [Shown(worn(rng, image), (*marks, *things), caption)])


def _asked(
    rng: random.Random, marks: list[Mark], colors: list[str], places: list[str], side: int
) -> list[tuple[str, str]]:
    """Questions and answers about digits: one of each kind in any order, then more."""
    attributes = [(f"What color is at the {place}?", color) for place, color in zip(places, colors, strict=True)]
    names = [(f"Which digit is at the {place}?", mark.name) for place, mark in zip(places, marks, strict=True)]
    relations = []
    for one, other in (rng.sample(pair, 2) for pair in combinations(marks, 2)):
        if abs(_left(one, other)) * 64 >= ORDER * side:
            answer = "yes" if _left(one, other) > 0 else "no"
            relations.append((f"Is the {one.name} left of the {other.name}?", answer))
    count = [("How many digits are there?", _WORDS[len(marks)])]
    kinds = [rng.sample(kind, len(kind)) for kind in rng.sample([attributes, names, relations, count], 4)]
    rest = [asked for kind in kinds for asked in kind[1:]]
    return [kind[0] for kind in kinds if kind] + rng.sample(rest, len(rest))


def _left(one: Mark, other: Mark) -> float:
    """How far the middle of one stands left of the other's."""
    return (other.box[0] + other.box[2] - one.box[0] - one.box[2]) / 2


def _write(pen: ImageDraw.ImageDraw, digit: str, face: Font, place: tuple[float, float], ink: RGB) -> Mark:
    pen.text(place, digit, fill=ink, font=face)
    left, top, right, bottom = face.getbbox(digit)
    return Mark(digit, (place[0] + left, place[1] + top, place[0] + right, place[1] + bottom))


def _light(color: RGB) -> float:
    return 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]


def _paper(rng: random.Random, inks: list[RGB]) -> RGB:
    """A colour that every ink stands out from, as far as there is one."""
    tried = [any_color(rng) for _ in range(24)]
    clear = [paper for paper in tried if min(distance(paper, ink) for ink in inks) >= _CONTRAST]
    return clear[0] if clear else max(tried, key=lambda paper: min(distance(paper, ink) for ink in inks))
