"""Draws things of plain shapes and colours, as scenes and as NLVR's three boxes. It knows pixels, no questions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from mmagent.train.draw import strokes
from mmagent.train.draw.strokes import RGB, shade, vary
from mmagent.train.sample import Mark

COLORS: dict[str, RGB] = {
    "red": (214, 40, 40), "blue": (30, 90, 210), "green": (35, 150, 60), "yellow": (246, 208, 30),
    "purple": (130, 50, 170), "orange": (243, 130, 20), "brown": (125, 80, 45), "cyan": (40, 195, 205),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "heart", "moon")
SIZES = {"small": (0.055, 0.075), "large": (0.115, 0.15)}
"""Half the width of a thing, as a share of the picture's side."""


@dataclass(frozen=True)
class Thing:
    """Something in a scene."""

    size: str
    color: str
    shape: str
    x: float
    y: float
    """Its middle, as shares of the picture's sides."""
    half: float
    """Half its width, likewise."""

    @property
    def name(self) -> str:
        """``large red circle``."""
        return f"{self.size} {self.color} {self.shape}"


def draw_scene(rng: random.Random, things: Sequence[Thing]) -> tuple[Image.Image, tuple[Mark, ...]]:
    """A picture of things, 240 to 384 pixels a side, and where they are."""
    side = rng.randint(240, 384)
    ground = rng.choice(((235, 235, 235), (200, 200, 205), (60, 60, 66), (250, 250, 250), (170, 160, 150)))
    image = Image.new("RGB", (2 * side, 2 * side), vary(rng, ground, 10))
    if rng.random() < 0.3:
        image = strokes.gradient((2 * side, 2 * side), vary(rng, ground, 10), shade(ground, rng.uniform(0.8, 1.0)))
    pen = ImageDraw.Draw(image)
    marks = []
    for thing in things:
        x, y, half = thing.x * 2 * side, thing.y * 2 * side, thing.half * 2 * side
        _thing(rng, pen, thing, x, y, half)
        marks.append(Mark(thing.name, ((x - half) / 2, (y - half) / 2, (x + half) / 2, (y + half) / 2)))
    small = image.reduce(2)
    return (strokes.worn(rng, small) if rng.random() < 0.3 else small), tuple(marks)


def _thing(rng: random.Random, pen: ImageDraw.ImageDraw, thing: Thing, x: float, y: float, half: float) -> None:
    color = vary(rng, COLORS[thing.color], 14)
    line = shade(color, 0.6) if rng.random() < 0.5 else color
    if thing.shape == "circle":
        pen.ellipse((x - half, y - half, x + half, y + half), color, line, 3)
    elif thing.shape == "moon":
        points = _arc(x, y, half, 60, 300) + _arc(x + half * 0.55, y, half * 0.86, 282, 78)
        pen.polygon(points, color, line, 3)
    else:
        pen.polygon([(x + half * a, y + half * b) for a, b in _POINTS[thing.shape]], color, line, 3)


def _arc(x: float, y: float, radius: float, first: int, last: int) -> list[tuple[float, float]]:
    step = 10 if last > first else -10
    angles = [math.radians(angle) for angle in range(first, last + step, step)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def _star() -> list[tuple[float, float]]:
    radii = [1.0, 0.42] * 5
    turns = [math.radians(36 * index - 90) for index in range(10)]
    return [(radius * math.cos(turn), radius * math.sin(turn)) for radius, turn in zip(radii, turns, strict=True)]


def _heart() -> list[tuple[float, float]]:
    turns = [math.radians(angle) for angle in range(0, 360, 12)]
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
        for t in turns
    ]


_POINTS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -1), (0.98, 0.85), (-0.98, 0.85)],
    "diamond": [(0, -1), (0.75, 0), (0, 1), (-0.75, 0)],
    "cross": [(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35), (0.35, 1), (-0.35, 1),
              (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)],
    "star": _star(),
    "heart": _heart(),
}  # fmt: skip


# --- NLVR -------------------------------------------------------------------------------------------------------------

BOX, GAP, STRIP = 100, 50, (400, 100)
"""Pixels of a box's side, between two boxes, and of the whole picture."""
BOX_GREY: RGB = (211, 211, 211)
ITEM_COLORS: dict[str, RGB] = {"yellow": (255, 255, 0), "black": (0, 0, 0), "blue": (0, 153, 255)}
NAMES = {"Yellow": "yellow", "Black": "black", "#0099ff": "blue"}
"""The files' colours → words."""
ITEM_SIZES = {10: "small", 20: "medium", 30: "large"}


def draw_boxes(boxes: Sequence[Sequence[dict[str, Any]]]) -> tuple[Image.Image, tuple[Mark, ...]]:
    """NLVR's picture of a structured representation, 400 × 100, and where each item is."""
    image = Image.new("RGB", STRIP, (128, 128, 128))
    pen = ImageDraw.Draw(image)
    for index in range(3):
        left = index * (BOX + GAP)
        pen.rectangle((left, 0, left + BOX - 1, BOX - 1), fill=BOX_GREY)
        for item in boxes[index]:
            x, y, size = left + item["x_loc"], item["y_loc"], item["size"]
            color = ITEM_COLORS[NAMES[item["color"]]]
            if item["type"] == "circle":
                pen.ellipse((x, y, x + size - 1, y + size - 1), fill=color)
            elif item["type"] == "triangle":
                pen.polygon([(x, y + size - 1), (x + size - 1, y + size - 1), (x + size / 2, y)], fill=color)
            else:
                pen.rectangle((x, y, x + size - 1, y + size - 1), fill=color)
    return image, item_marks(boxes)


def item_marks(boxes: Sequence[Sequence[dict[str, Any]]]) -> tuple[Mark, ...]:
    """Where each item of a structured representation is in its picture."""
    marks = []
    for index, box in enumerate(boxes):
        left = index * (BOX + GAP)
        for item in box:
            x, y, size = left + item["x_loc"], item["y_loc"], item["size"]
            name = f"{ITEM_SIZES.get(size, 'medium')} {NAMES[item['color']]} {item['type']}"
            marks.append(Mark(name, (x, y, x + size, y + size)))
    return tuple(marks)
