"""Draws each product of the shop around the origin of a pen's frame: knows shapes, not where they are put."""

from __future__ import annotations

import random
from collections.abc import Callable

from mmagent.train.draw.strokes import RGB, Pen, round_points, shade

_METAL, _DARK, _PALE = (165, 168, 175), (60, 60, 66), (235, 235, 230)


def _edge(paint: RGB) -> RGB:
    return shade(paint, 0.55) if sum(paint) > 180 else (105, 105, 112)


def _lamp(rng: random.Random, pen: Pen, paint: RGB) -> None:
    top, low, edge = rng.uniform(0.28, 0.4), rng.uniform(0.6, 0.72), _edge(paint)
    pen.box(-0.06, -0.1, 0.06, 0.85, _METAL, _DARK)
    pen.ellipse(0, 0.88, 0.42, 0.11, shade(paint, 0.85), edge)
    pen.polygon([(-low, 0), (low, 0), (low * 0.75, 0.16), (-low * 0.75, 0.16)], (255, 244, 180))
    pen.polygon([(-top, -0.95), (top, -0.95), (low, 0), (-low, 0)], paint, edge)
    pen.polygon(
        [(-top * 0.6, -0.9), (-top * 0.2, -0.9), (-low * 0.25, -0.05), (-low * 0.65, -0.05)], shade(paint, 1.25)
    )
    pen.line([(low * 0.6, 0), (low * 0.6, 0.25)], _DARK, 0.02)


def _mug(rng: random.Random, pen: Pen, paint: RGB) -> None:
    edge, low = _edge(paint), rng.uniform(0.48, 0.58)
    pen.line(round_points(0.42, 0.05, 0.42, 0.38, -100, 100), edge, 0.2)
    pen.line(round_points(0.42, 0.05, 0.42, 0.38, -100, 100), paint, 0.15)
    rim = round_points(-0.1, -0.62, 0.6, 0.14, 0, -180)
    pen.polygon([*rim, *round_points(-0.1, 0.75, low, 0.14, 180, 0)], paint, edge)
    pen.ellipse(-0.1, -0.62, 0.6, 0.14, shade(paint, 1.3), edge)
    pen.ellipse(-0.1, -0.6, 0.5, 0.09, (84, 50, 30))
    pen.box(-0.55, -0.3, -0.43, 0.6, shade(paint, 1.35))
    if rng.random() < 0.4:
        for x in (-0.3, 0.0):
            pen.line([(x, -0.78), (x + 0.06, -0.85), (x, -0.92), (x + 0.06, -1)], (205, 205, 210), 0.03)


def _chair(rng: random.Random, pen: Pen, paint: RGB) -> None:
    edge, wood = _edge(paint), rng.choice(((120, 80, 45), (70, 50, 40), (150, 110, 70)))
    for x in (-0.4, 0.4):
        pen.line([(x, 0), (x, 0.8)], shade(wood, 0.75), 0.07)
    for x in (-0.45, 0.45):
        pen.line([(x, -0.95), (x, 0.1)], wood, 0.09)
    if rng.random() < 0.5:
        pen.box(-0.47, -0.92, 0.47, -0.2, paint, edge)
        pen.box(-0.38, -0.84, -0.2, -0.28, shade(paint, 1.25))
    else:
        for y in (-0.9, -0.6, -0.3):
            pen.box(-0.47, y, 0.47, y + 0.18, paint, edge)
    for x in (-0.55, 0.55):
        pen.line([(x, 0.3), (x * 1.04, 0.97)], wood, 0.09)
    pen.polygon([(-0.48, 0.02), (0.48, 0.02), (0.64, 0.28), (-0.64, 0.28)], shade(paint, 1.12), edge)
    pen.box(-0.64, 0.28, 0.64, 0.4, shade(paint, 0.8), edge)


def _backpack(rng: random.Random, pen: Pen, paint: RGB) -> None:
    edge, dark, trim = _edge(paint), shade(paint, 0.75), rng.choice((_METAL, _PALE, _DARK))
    pen.line(round_points(0, -0.82, 0.17, 0.16, 180, 360), edge, 0.07)
    for side in (-1, 1):
        pen.line([(side * 0.5, -0.5), (side * 0.82, -0.1), (side * 0.74, 0.65)], _DARK, 0.09)
        pen.blob([(side * 0.5, 0.2), (side * 0.76, 0.3), (side * 0.76, 0.8), (side * 0.5, 0.88)], dark, edge)
    body = [
        (-0.6, 0.85),
        (-0.62, 0),
        (-0.55, -0.55),
        (-0.25, -0.82),
        (0.25, -0.82),
        (0.55, -0.55),
        (0.62, 0),
        (0.6, 0.85),
    ]
    pen.blob([*body, (0, 0.95)], paint, edge)
    pen.line(round_points(0, -0.15, 0.48, 0.5, 190, 350), trim, 0.035)
    pen.line([(0.3, -0.53), (0.3, -0.38)], trim, 0.05)
    pen.blob([(-0.42, 0.1), (0.42, 0.1), (0.46, 0.5), (0.4, 0.84), (-0.4, 0.84), (-0.46, 0.5)], dark, edge)
    pen.line([(-0.36, 0.25), (0.36, 0.25)], trim, 0.035)


def _kettle(rng: random.Random, pen: Pen, paint: RGB) -> None:
    edge = _edge(paint)
    pen.line(round_points(0.05, -0.3, 0.48, 0.62, 190, 350), _DARK, rng.uniform(0.09, 0.13))
    pen.polygon([(-0.4, 0.25), (-0.92, -0.38), (-0.72, -0.44), (-0.3, -0.12)], shade(paint, 0.85), edge)
    body = [(-0.62, 0.8), (-0.66, 0.45), (-0.5, 0), (-0.3, -0.3), (0.4, -0.3), (0.6, 0), (0.76, 0.45), (0.72, 0.8)]
    pen.blob(body, paint, edge)
    pen.box(-0.64, 0.76, 0.74, 0.88, _METAL, _DARK)
    pen.ellipse(0.05, -0.34, 0.36, 0.09, shade(paint, 0.8), edge)
    pen.ellipse(0.05, -0.46, 0.09, 0.08, _DARK)
    pen.blob([(-0.42, 0.5), (-0.36, 0.15), (-0.22, -0.1), (-0.2, 0.15), (-0.28, 0.55)], shade(paint, 1.35))


def _clock(rng: random.Random, pen: Pen, paint: RGB) -> None:
    edge, alarm = _edge(paint), rng.random() < 0.4
    if alarm:
        for side in (-1, 1):
            pen.line([(side * 0.5, 0.6), (side * 0.7, 0.95)], _DARK, 0.12)
            pen.ellipse(side * 0.5, -0.75, 0.28, 0.2, shade(paint, 0.85), edge)
    size = 0.82 if alarm else 0.95
    pen.ellipse(0, 0, size, size, paint, edge)
    pen.ellipse(0, 0, size * 0.78, size * 0.78, (252, 252, 248), edge)
    for hour in range(12):
        outer, inner = (round_points(0, 0, size * far, size * far, 30 * hour, 30 * hour)[0] for far in (0.7, 0.58))
        pen.line([inner, outer], _DARK, 0.03 if hour % 3 else 0.06)
    for length, width in ((0.38, 0.07), (0.58, 0.045)):
        turn = rng.uniform(0, 360)
        pen.line([(0, 0), round_points(0, 0, size * length, size * length, turn, turn)[0]], (25, 25, 30), width)
    pen.ellipse(0, 0, 0.06, 0.06, paint)


def _shirt(rng: random.Random, pen: Pen, paint: RGB) -> None:
    edge, dark = _edge(paint), shade(paint, 0.82)
    for side in (-1, 1):
        sleeve = [(side * 0.45, -0.78), (side * 0.98, -0.25), (side * 0.72, 0.02), (side * 0.45, -0.2)]
        pen.polygon(sleeve, dark, edge)
    pen.polygon([(-0.5, -0.78), (0.5, -0.78), (0.54, 0.9), (-0.54, 0.9)], paint, edge)
    pen.polygon(round_points(0, -0.79, 0.26, 0.26, 0, 180), dark, edge)
    style = rng.choice(("plain", "stripe", "pocket", "buttons"))
    if style == "stripe":
        pen.box(-0.5, -0.15, 0.5, 0.1, shade(paint, 1.5) if sum(paint) < 600 else dark)
    elif style == "pocket":
        pen.box(0.12, -0.3, 0.38, 0, dark, edge)
    elif style == "buttons":
        pen.line([(0, -0.52), (0, 0.88)], edge, 0.02)
        for y in (-0.4, -0.1, 0.2, 0.5):
            pen.ellipse(0, y, 0.035, 0.035, _PALE, _DARK)


def _shoe(rng: random.Random, pen: Pen, paint: RGB) -> None:
    edge, lace = _edge(paint), _PALE if sum(paint) < 600 else _DARK
    upper = [(-0.92, 0.4), (-0.9, -0.1), (-0.82, -0.5), (-0.6, -0.42), (-0.32, -0.5), (0.05, -0.12), (0.5, 0.02)]
    pen.blob([*upper, (0.86, 0.16), (0.95, 0.42), (0, 0.48)], paint, edge)
    pen.blob([(0.5, 0.05), (0.84, 0.17), (0.93, 0.4), (0.55, 0.42)], shade(paint, 0.8), edge)
    pen.ellipse(-0.57, -0.44, 0.25, 0.09, shade(paint, 0.55))
    pen.polygon([(-0.98, 0.36), (1.0, 0.36), (1.0, 0.5), (0.92, 0.58), (-0.94, 0.58)], (250, 250, 246), (120, 120, 120))
    for step in range(4):
        x, y = -0.26 + 0.15 * step, -0.38 + 0.125 * step
        pen.line([(x, y), (x - 0.16, y + 0.14)], lace, 0.05)
    if rng.random() < 0.6:
        pen.line([(-0.55, 0.25), (-0.2, 0.15), (0.05, -0.02)], lace, 0.07)


def _umbrella(rng: random.Random, pen: Pen, paint: RGB) -> None:
    edge, wood = _edge(paint), rng.choice(((110, 70, 40), _DARK))
    pen.line([(0, -0.95), (0, 0.75)], wood, 0.06)
    pen.line(round_points(-0.15, 0.75, 0.15, 0.18, 0, 180), wood, 0.08)
    edges = (-1.0, -0.5, 0.0, 0.5, 1.0)
    scallops = [point for right in edges[:0:-1] for point in round_points(right - 0.25, 0.05, 0.25, 0.14, 0, -180)]
    pen.polygon([*round_points(0, 0.05, 1.0, 0.88, 180, 360), *scallops], paint, edge)
    light = [*round_points(0, 0.05, 0.5, 0.88, 180, 270), *round_points(-0.25, 0.05, 0.25, 0.14, 0, -180)]
    pen.polygon(light, shade(paint, 1.2 if sum(paint) < 600 else 0.9))
    for rib in (0.5, 0.0):
        pen.line(round_points(0, 0.05, rib, 0.88, 180, 270), edge, 0.02)
        pen.line(round_points(0, 0.05, rib, 0.88, 270, 360), edge, 0.02)


def _bottle(rng: random.Random, pen: Pen, paint: RGB) -> None:
    edge, wide = _edge(paint), rng.uniform(0.3, 0.38)
    neck = [(0.13, -0.72), (0.13, -0.5), (wide * 0.9, -0.3), (wide, -0.1), (wide, 0.88), (wide * 0.8, 0.96)]
    pen.polygon([*neck, *((-x, y) for x, y in reversed(neck))], paint, edge)
    pen.box(-0.17, -0.95, 0.17, -0.7, rng.choice((_DARK, _METAL)), (40, 40, 40))
    pen.box(-wide, 0.1, wide, 0.55, _PALE if sum(paint) < 600 else shade(paint, 0.7), edge)
    pen.line([(-wide * 0.5, 0.25), (wide * 0.5, 0.25)], _DARK, 0.04)
    pen.line([(-wide * 0.5, 0.4), (wide * 0.2, 0.4)], _METAL, 0.04)
    pen.line([(-wide * 0.65, -0.2), (-wide * 0.65, 0.03)], shade(paint, 1.5), 0.07)


SHAPES: dict[str, Callable[[random.Random, Pen, RGB], None]] = {
    "lamp": _lamp,
    "mug": _mug,
    "chair": _chair,
    "backpack": _backpack,
    "kettle": _kettle,
    "clock": _clock,
    "shirt": _shirt,
    "shoe": _shoe,
    "umbrella": _umbrella,
    "bottle": _bottle,
}
"""What draws each product: called with rng, a pen and the product's paint."""
