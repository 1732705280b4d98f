"""Numbers drawn on small pictures, with questions that only the picture answers. It knows no tools and no plans.

Small enough that a network of a million parameters learns it from nothing in minutes; what it cannot do is be guessed.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Annotated

from PIL import Image, ImageDraw
from pydantic import Field

from mmagent.errors import ConfigurationError
from mmagent.train.draw.strokes import COLORS, RGB, any_color, fit, pick_family, vary, worn
from mmagent.train.sample import Count, Draw, Mark, Message, Sample, Shown, assistant, user

LONGEST = 8
_COUNTS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight")
_LIGHTER = 80
"""Of 255, by which the paper is lighter or darker than the ink at least."""


def digits(length: int = 3, side: Annotated[int, Field(ge=16)] = 64, questions: Count = 1) -> Draw:
    """A number to read; with more questions also its colour, how many digits it has, and what stands beside what.

    Args:
        length: Digits of a number; with more questions there are one to that many, none twice.
        side: Pixels of the square picture.
        questions: About each picture, at most 4, in any order.

    Raises:
        ConfigurationError: The length does not fit.
    """
    if not 1 <= length <= LONGEST:
        raise ConfigurationError(f"length is {length}; give 1 to {LONGEST}")

    def draw(rng: random.Random) -> Sample:
        if questions == 1:
            number = "".join(rng.choices("0123456789", k=length))
            shown = _drawn(rng, number, any_color(rng), side)
            return Sample([user("What number is this?", images=1), assistant(number)], [], [shown])
        number = "".join(rng.sample("0123456789", rng.randint(1, length)))
        color = rng.choice(sorted(COLORS))
        asked = _asked(rng, number, color)
        messages: list[Message] = []
        for question, answer in rng.sample(asked, min(questions, len(asked))):
            messages += [user(question, images=0 if messages else 1), assistant(answer)]
        return Sample(messages, [], [_drawn(rng, number, vary(rng, COLORS[color]), side)])

    return draw


def _asked(rng: random.Random, number: str, color: str) -> list[tuple[str, str]]:
    """Questions and answers: reading, attribute, count and, where there are neighbours, relation."""
    asked = [("What number is this?", number), ("What color is it?", color), ("How many digits?", _COUNTS[len(number)])]
    if len(number) > 1:
        one, other = rng.choice(list(pairwise(number)))
        asked.append(rng.choice([(f"What is right of {one}?", other), (f"What is left of {other}?", one)]))
    return asked


def _drawn(rng: random.Random, number: str, ink: RGB, side: int) -> Shown:
    family = pick_family(rng)
    face = fit(family, round(side * rng.uniform(0.36, 0.52)), number, side * 0.9)
    image = Image.new("RGB", (side, side), _paper(rng, ink))
    left, top, right, bottom = face.getbbox(number)
    x = rng.uniform(0.03 * side, 0.97 * side - (right - left)) - left
    y = rng.uniform(0.06 * side, 0.94 * side - (bottom - top)) - top
    pen, marks = ImageDraw.Draw(image), []
    for index, digit in enumerate(number):
        start = x + face.getlength(number[:index])
        pen.text((start, y), digit, fill=ink, font=face)
        box = face.getbbox(digit)
        marks.append(Mark(digit, (start + box[0], y + box[1], start + box[2], y + box[3])))
    return Shown(worn(rng, image), tuple(marks), f"the number {number}")


def _paper(rng: random.Random, ink: RGB) -> RGB:
    """A colour that the ink stands out from."""
    while True:
        paper = any_color(rng)
        if abs(_light(paper) - _light(ink)) >= _LIGHTER:
            return paper


def _light(color: RGB) -> float:
    return 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]
