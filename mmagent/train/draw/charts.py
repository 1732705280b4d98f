"""Draws bar, line and pie charts of a few named values. It knows numbers and pixels, no questions.

Every value is printed beside its bar, point or name, so that a chart can be read and not only guessed.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from mmagent.train.draw import strokes
from mmagent.train.draw.fonts import Face, pick_face
from mmagent.train.draw.papers import HIGH, SIDE, WIDE, Paper
from mmagent.train.draw.strokes import RGB, any_color, distance, shade, vary
from mmagent.train.sample import Mark
from mmagent.train.shop import phrases as p

ChartKind = Literal["bars", "rows", "line", "pie"]
CHARTS: tuple[ChartKind, ...] = ("bars", "rows", "line", "pie")

_SUBJECTS = ("Sales", "Visitors", "Returns", "Orders", "Stock", "Hours", "Calls", "Rain", "Votes", "Parcels", "Points")
_PERIODS = ("2023", "2024", "2025", "2026", "in May", "by day", "by team", "by city", "in Q1", "in Q3", "this week")
_NAMES: tuple[tuple[str, ...], ...] = (
    ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    p.MONTHS,
    tuple(name for name in p.CITIES if len(name) < 6),
    p.FIRST_NAMES,
    ("A", "B", "C", "D", "E", "F"),
    ("North", "South", "East", "West", "Mid", "Home"),
    ("Lamp", "Mug", "Chair", "Clock", "Shirt", "Tent", "Rug", "Desk", "Hat", "Belt"),
    ("2020", "2021", "2022", "2023", "2024", "2025"),
    ("Q1", "Q2", "Q3", "Q4"),
)
_IN_ORDER = (0, 1, 7, 8)
"""Of the names, those that go on from each other."""
_COLORS: tuple[RGB, ...] = (
    (214, 60, 55), (40, 110, 200), (60, 160, 80), (245, 190, 50), (130, 80, 170), (240, 130, 40), (40, 165, 175),
    (150, 100, 60), (230, 120, 170), (110, 120, 130),
)  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A chart before it is drawn."""

    kind: ChartKind
    title: str
    values: dict[str, int]
    """Name → value, no value twice, as they stand from left to right or from top to bottom."""


@dataclass(frozen=True)
class _Look:
    face: Face
    small: int
    """Size of names and values."""
    large: int
    """Size of the title."""
    ink: RGB
    colors: list[RGB]


def draw_chart(rng: random.Random, kind: ChartKind | None = None) -> Chart:
    """A chart's title and 3 to 6 values, at random."""
    chosen: ChartKind = rng.choice(CHARTS) if kind is None else kind
    group = rng.randrange(len(_NAMES))
    count = rng.randint(3, min(len(_NAMES[group]), 5 if chosen == "pie" else 6))
    if group in _IN_ORDER:
        first = rng.randint(0, len(_NAMES[group]) - count)
        names = list(_NAMES[group][first : first + count])
    else:
        names = rng.sample(_NAMES[group], count)
    most = rng.choice((20, 100, 100, 500))
    values = rng.sample(range(1 if most < 100 else most // 20, most), count)
    return Chart(chosen, f"{rng.choice(_SUBJECTS)} {rng.choice(_PERIODS)}", dict(zip(names, values, strict=True)))


def draw_chart_paper(rng: random.Random, chart: Chart, *, plain: bool = False) -> tuple[Image.Image, tuple[Mark, ...]]:
    """A picture of a chart, 320 to 560 pixels a side, and its characters.

    Args:
        rng: The only source of chance.
        chart: What it shows.
        plain: Not worn.
    """
    size = rng.randint(320, 560), rng.randint(320, 480)
    ground = vary(rng, rng.choice(((255, 255, 255), (250, 248, 240), (240, 244, 250), (28, 30, 36))), 4)
    paper, look = Paper(size, ground), _look(rng, chart, size, ground)
    top = round(1.9 * look.large)
    share = rng.choice((0.5, 0.5, 0.0))
    paper.write(12 + share * (size[0] - 24), top * 0.68, chart.title, look.face, look.large, look.ink, share)
    {"bars": _bars, "rows": _rows, "line": _line, "pie": _pie}[chart.kind](rng, paper, chart, look, top)
    return (paper.image if plain else strokes.worn(rng, paper.image)), tuple(paper.marks)


def _look(rng: random.Random, chart: Chart, size: tuple[int, int], ground: RGB) -> _Look:
    face = pick_face(rng)
    smallest = max(HIGH * size[1] / SIDE / face.capital, WIDE * size[0] / SIDE / face.pitch)
    each = (size[0] - 24) / len(chart.values) if chart.kind in ("bars", "line") else size[0] / 4
    fitting = 0.92 * each * 32 / max(face.width(32, name) for name in (*chart.values, "000"))
    small = math.ceil(min(smallest * rng.uniform(1, 1.6), max(fitting, 0.85 * smallest)))
    large = min(round(small * rng.uniform(1.0, 1.5)), int((size[0] - 24) * 32 / face.width(32, chart.title)))
    ink = any_color(rng, 0, 70) if sum(ground) > 400 else any_color(rng, 210, 255)
    usable = [color for color in _COLORS if distance(color, ground) > 90]
    colors = rng.sample(usable, len(chart.values))
    if chart.kind != "pie" and rng.random() < 0.5:
        colors = [colors[0]] * len(colors)
    return _Look(face, small, large, ink, [vary(rng, color) for color in colors])


def _bars(rng: random.Random, paper: Paper, chart: Chart, look: _Look, top: int) -> None:
    width, height = paper.image.size
    floor, ceiling = height - 2 * look.small, top + 1.3 * look.small
    step, scale = (width - 24) / len(chart.values), (floor - ceiling) / max(chart.values.values())
    thick = step * rng.uniform(0.3, 0.42)
    _grid(rng, paper, look, top, floor)
    for index, (name, value) in enumerate(chart.values.items()):
        middle, y = 12 + (index + 0.5) * step, floor - value * scale
        paper.draw.rectangle((middle - thick, min(y, floor - 1), middle + thick, floor), fill=look.colors[index])
        paper.write(middle, y - 0.3 * look.small, str(value), look.face, look.small, look.ink, 0.5)
        paper.write(middle, floor + 1.2 * look.small, name, look.face, look.small, look.ink, 0.5)


def _rows(rng: random.Random, paper: Paper, chart: Chart, look: _Look, top: int) -> None:
    width, height = paper.image.size
    left = 18 + max(look.face.width(look.small, name) for name in chart.values)
    right = width - 18 - look.face.width(look.small, "000")
    step, scale = (height - top - 12) / len(chart.values), (right - left) / max(chart.values.values())
    thick, share = step * rng.uniform(0.28, 0.42), rng.choice((0.0, 1.0))
    paper.draw.line((left, top, left, height - 10), fill=look.ink, width=rng.choice((1, 2)))
    for index, (name, value) in enumerate(chart.values.items()):
        middle = top + (index + 0.5) * step
        base = middle + look.face.capital * look.small / 2
        paper.draw.rectangle((left, middle - thick, left + value * scale, middle + thick), fill=look.colors[index])
        paper.write(10 + share * (left - 18), base, name, look.face, look.small, look.ink, share)
        paper.write(left + value * scale + 6, base, str(value), look.face, look.small, look.ink)


def _line(rng: random.Random, paper: Paper, chart: Chart, look: _Look, top: int) -> None:
    width, height = paper.image.size
    floor, ceiling = height - 2 * look.small, top + 1.6 * look.small
    low, high = min(chart.values.values()), max(chart.values.values())
    ground = floor - 1.7 * look.small
    step, scale = (width - 24) / len(chart.values), (ground - ceiling) / (high - low)
    values = list(chart.values.values())
    points = [(12 + (index + 0.5) * step, ground - (value - low) * scale) for index, value in enumerate(values)]
    _grid(rng, paper, look, top, floor)
    paper.draw.line(points, fill=look.colors[0], width=rng.randint(2, 5), joint="curve")
    dot = rng.randint(3, 6)
    for index, ((x, y), (name, value)) in enumerate(zip(points, chart.values.items(), strict=True)):
        paper.draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=look.colors[0])
        is_low = all(value < beside for beside in (*values[max(0, index - 1) : index], *values[index + 1 : index + 2]))
        base = y + (1.4 if is_low else -0.5) * look.small  # off the line
        paper.write(x, base, str(value), look.face, look.small, look.ink, 0.5)
        paper.write(x, floor + 1.2 * look.small, name, look.face, look.small, look.ink, 0.5)


def _pie(rng: random.Random, paper: Paper, chart: Chart, look: _Look, top: int) -> None:
    width, height = paper.image.size
    text = max(look.face.width(look.small, f"{name} {value}") for name, value in chart.values.items())
    box = look.small
    across = min(width - 36 - box - text - 12, height - top - 12)
    legend_left = rng.random() < 0.3
    left = width - 12 - across if legend_left else 12.0
    upper, angle, whole = top + (height - top - across) / 2, rng.uniform(0, 360), sum(chart.values.values())
    pitch = min((height - top - 12) / len(chart.values), box * rng.uniform(1.6, 2.6))
    x = 12 if legend_left else left + across + 16
    y = top + (height - top - pitch * len(chart.values)) / 2
    for index, (name, value) in enumerate(chart.values.items()):
        turn, color = 360 * value / whole, look.colors[index]
        place = (left, upper, left + across, upper + across)
        paper.draw.pieslice(place, angle, angle + turn, fill=color, outline=look.ink)
        paper.draw.rectangle((x, y + (pitch - box) / 2, x + 0.8 * box, y + (pitch + box) / 2 - 1), fill=color)
        base = y + pitch / 2 + look.face.capital * look.small / 2
        paper.write(x + 1.1 * box, base, f"{name} {value}", look.face, look.small, look.ink)
        angle, y = angle + turn, y + pitch


def _grid(rng: random.Random, paper: Paper, look: _Look, top: float, floor: float) -> None:
    """The axis, and now and then lines behind."""
    if rng.random() < 0.4:
        dull = shade((128, 128, 128), 1.4 if sum(look.ink) < 300 else 0.6)
        for index in range(4):
            y = top + (floor - top) * index / 4
            paper.draw.line((10, y, paper.image.width - 10, y), fill=dull, width=1)
    paper.draw.line((10, floor, paper.image.width - 10, floor), fill=look.ink, width=rng.choice((1, 2)))
