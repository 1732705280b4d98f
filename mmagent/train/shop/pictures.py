"""Pixels of the shop world's pictures, with what stands where. It knows how each kind is drawn, not what is asked."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image

from mmagent.train.draw import pictures, strokes
from mmagent.train.draw.products import SHAPES
from mmagent.train.draw.strokes import COLORS, Pen, any_color, shade, vary
from mmagent.train.sample import Mark, Shown
from mmagent.train.shop.world import Picture

Thing = tuple[str, str]
"""Colour and product."""


def render(rng: random.Random, picture: Picture) -> Image.Image:
    """The pixels of a picture of the shop world."""
    return _drawn(rng, picture)[0]


def _drawn(rng: random.Random, picture: Picture) -> pictures.Drawn:
    if picture.kind == "receipt":
        return pictures.receipt(rng, **picture.fields)
    if picture.kind == "label":
        return pictures.parcel_label(rng, **picture.fields)
    if picture.kind == "product":
        return pictures.product_photo(rng, **picture.fields), ()
    return pictures.unrelated(rng), ()


def shown(rng: random.Random, picture: Picture) -> Shown:
    """A picture of the shop world as training takes it; of products, half are drawn with their place known."""
    if picture.kind == "product" and rng.random() < 0.5:
        return photo(rng, [(picture.fields["color"], picture.fields["product"])])
    return Shown(*_drawn(rng, picture), caption(picture))


def caption(picture: Picture) -> str:
    """A sentence that tells a picture from others; empty for what has nothing to do with the shop."""
    fields = picture.fields
    if picture.kind == "receipt":
        order = f", order {picture.code}" if picture.code else ""
        return f"a receipt of {fields['shop']}{order}, total {fields['total']}"
    if picture.kind == "label":
        return f"a parcel label of {fields['carrier']}, tracking {picture.code}, to {fields['to'].splitlines()[0]}"
    return an(f"{fields['color']} {fields['product']}") if picture.kind == "product" else ""


def photo(rng: random.Random, things: Sequence[Thing]) -> Shown:
    """One to three products side by side before some background, each with its place; left to right as given."""
    width, height = rng.randint(320, 480), rng.randint(320, 480)
    paints = [vary(rng, COLORS[color]) for color, _ in things]
    wall = any_color(rng, 40, 250)
    while min(strokes.distance(wall, paint) for paint in paints) < 110:
        wall = any_color(rng, 30, 255)
    image = strokes.backdrop(rng, (width, height), wall).resize((2 * width, 2 * height), Image.Resampling.NEAREST)
    cell = 2 * width / len(things)
    marks = []
    for index, ((color, product), paint) in enumerate(zip(things, paints, strict=True)):
        half = min(cell, 2 * height) / 2 * rng.uniform(0.62, 0.9)
        x = cell * (index + 0.5) + rng.uniform(-1, 1) * max(0.0, cell / 2 - half * 1.05)
        y = height + rng.uniform(-1, 1) * max(0.0, height - half * 1.05)
        if rng.random() < 0.6:
            Pen(image, (x, y + half * 0.95), half).ellipse(0, 0, 0.75, 0.1, shade(wall, 0.7))
        SHAPES[product](rng, Pen(image, (x, y), half, rng.uniform(-9, 9), rng.random() < 0.5), paint)
        box = (max(0.0, x - half) / 2, max(0.0, y - half) / 2, min(width, (x + half) / 2), min(height, (y + half) / 2))
        marks.append(Mark(f"{color} {product}", box))
    names = [an(mark.name) for mark in marks]
    return Shown(strokes.worn(rng, image.reduce(2)), tuple(marks), listed(names))


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def an(name: str) -> str:
    """A name with its article."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
