"""Draws documents and tells where each of their characters stands. It knows rows and pixels, not who asks.

Whatever the look, a document can be read where its picture is squeezed to `SIDE` pixels a side: capitals are at least
`HIGH` pixels high there, and characters at least `WIDE` pixels wide on average.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from mmagent.train.draw import strokes
from mmagent.train.draw.fonts import Face, pick_face
from mmagent.train.draw.forms import Form, Kind, Row
from mmagent.train.draw.strokes import RGB, any_color, shade, vary
from mmagent.train.sample import Box, Mark

SIDE = 384
HIGH = 9.0
WIDE = 6.3
TURN = 3.0
"""Degrees that a document is turned at most."""

_SIZES: dict[Kind, tuple[tuple[int, int, int, int], ...]] = {  # widths from, to; heights from, to
    "receipt": ((320, 440, 440, 620),),
    "invoice": ((400, 540, 460, 620),),
    "screen": ((320, 400, 500, 640), (500, 640, 380, 480)),
    "label": ((440, 620, 340, 480),),
}
_HEIGHTS = {"band": 1.6, "head": 1.45, "strong": 1.1, "rule": 0.5, "bars": 1.4, "button": 1.5}
"""Of rows, where a row of text has 1."""
_SCALES = {"band": 1.3, "head": 1.35, "strong": 1.1}
"""Of letters, where those of a row of text have 1; they shrink to the width there is."""
_PAPERS: tuple[RGB, ...] = ((255, 255, 255), (250, 250, 248), (255, 252, 240), (252, 246, 226), (238, 242, 248))
_DARK: tuple[RGB, ...] = ((24, 24, 28), (18, 26, 40), (32, 28, 40), (10, 10, 10))
_ACCENTS: tuple[RGB, ...] = (
    (15, 15, 15), (190, 30, 35), (25, 60, 140), (20, 110, 70), (80, 40, 20), (120, 40, 140), (0, 110, 130),
    (200, 90, 20), (60, 70, 90),
)  # fmt: skip


class Paper:
    """A sheet that is written on, character by character."""

    def __init__(self, size: tuple[int, int], tint: RGB) -> None:
        self.image = Image.new("RGB", size, tint)
        self.draw = ImageDraw.Draw(self.image)
        self.marks: list[Mark] = []

    def write(self, x: float, y: float, text: str, face: Face, size: int, ink: RGB, place: float = 0.0) -> None:
        """Text on the baseline y; of its width, the share ``place`` stands left of x (0.5 centres it)."""
        x -= place * face.width(size, text)
        for char in text:
            glyph = face.glyph(size, char)
            if glyph.ink is not None:
                left, top = round(x) + glyph.left, round(y) + glyph.top
                self.image.paste(ink, (left, top), glyph.ink)
                self.marks.append(Mark(char, (left, top, left + glyph.ink.width, top + glyph.ink.height)))
            x += glyph.advance


@dataclass(frozen=True)
class _Look:
    """What one document looks like."""

    kind: Kind
    paper: RGB
    ink: RGB
    accent: RGB
    face: Face
    bold: Face
    """Of heads and bands."""
    place: str
    """``spread`` at both edges, ``close`` to each other, ``column`` with the right ones at one place, or ``middle``."""
    head: float
    """Where heads stand: 0 left, 0.5 middle."""
    dash: int


def draw_paper(rng: random.Random, form: Form, *, plain: bool = False) -> tuple[Image.Image, tuple[Mark, ...]]:
    """A picture of a document, 320 to 640 pixels a side, and its characters.

    Args:
        rng: The only source of chance.
        form: What stands on it.
        plain: Neither turned nor worn.
    """
    narrow, wide, low, high = rng.choice(_SIZES[form.kind])
    size = rng.randint(narrow, wide), rng.randint(low, high)
    margin = 0 if form.kind == "screen" else rng.randint(2, round(0.05 * min(size)))
    look = _look(rng, form.kind)
    paper = Paper((size[0] - 2 * margin, size[1] - 2 * margin), look.paper)
    _lay(rng, paper, form.rows, look, size)
    image, marks = _placed(rng, paper, size, 0.0 if plain or rng.random() < 0.45 else rng.uniform(-TURN, TURN))
    return (image if plain else strokes.worn(rng, image)), marks


def _look(rng: random.Random, kind: Kind) -> _Look:
    dark = kind == "screen" and rng.random() < 0.3
    if dark:
        paper, ink, accent = rng.choice(_DARK), any_color(rng, 205, 255), shade(rng.choice(_ACCENTS[1:]), 1.3)
    else:
        faded = rng.choice((30, 60, 95))
        paper, ink, accent = vary(rng, rng.choice(_PAPERS), 4), any_color(rng, 0, faded), rng.choice(_ACCENTS)
    face = pick_face(rng)
    places = {"label": ("close", "close", "spread"), "screen": ("spread", "close", "column")}
    return _Look(
        kind,
        paper,
        ink,
        vary(rng, accent),
        face,
        pick_face(rng) if rng.random() < 0.4 else face,
        rng.choice(places.get(kind, ("spread", "spread", "spread", "close", "column", "middle"))),
        rng.choice((0.0, 0.5, 0.5) if kind == "receipt" else (0.0, 0.0, 0.5)),
        rng.choice((0, 0, 3, 6)),
    )


def _lay(rng: random.Random, paper: Paper, rows: tuple[Row, ...], look: _Look, size: tuple[int, int]) -> None:
    """Write the rows from top to bottom, in letters between the smallest that can be read and the largest that fit."""
    width, height = paper.image.size
    border = rng.randint(2, 5) if look.kind == "label" else 0
    pad = border + round(width * rng.uniform(0.035, 0.08))
    top = border if rows[0].role == "band" else pad // 2
    heights = [_HEIGHTS.get(row.role, 1.0) for row in rows]
    room = height - top - pad // 2 - border
    high = room / sum(heights)
    line = _letters(rng, rows, look, size, width - 2 * pad, high)
    pitch = min(high, max(line * rng.uniform(1.25, 1.7), high * rng.uniform(0.7, 1.0)))
    y = top + (0 if rows[0].role == "band" else rng.random() ** 2 * (room - pitch * sum(heights)))
    if border:
        paper.draw.rectangle((0, 0, width - 1, height - 1), outline=look.ink, width=border)
    for row, tall in zip(rows, heights, strict=True):
        place = (pad, y, width - pad, y + tall * pitch)
        if row.text:
            _write(rng, paper, row, look, line, place)
        elif row.role == "rule":
            _rule(paper, look, place)
        else:
            _bars(rng, paper, look, place)
        y += tall * pitch


def _letters(
    rng: random.Random, rows: tuple[Row, ...], look: _Look, size: tuple[int, int], width: float, pitch: float
) -> int:
    """The size of a row of text."""
    face = look.face
    longest = max(face.width(32, f"{row.left}  {row.right}" if row.right else row.left) / 32 for row in rows)
    largest = min(0.62 * pitch / face.capital, width / longest, 34)
    smallest = max(HIGH * size[1] / SIDE / face.capital, WIDE * size[0] / SIDE / face.pitch)
    return math.ceil(min(largest, smallest + rng.random() * max(0.0, largest - smallest)))


def _write(rng: random.Random, paper: Paper, row: Row, look: _Look, line: int, place: Box) -> None:
    left, top, right, bottom = place
    scale = _SCALES.get(row.role, 1.0)
    face = look.bold if scale > 1 else look.face
    letters = round(line * scale)
    while letters > line and face.width(letters, row.text) > right - left:
        letters -= 1
    if face.width(letters, row.text) > right - left:
        face = look.face
    ink, base = look.ink, (top + bottom) / 2 + face.capital * letters / 2
    if row.role == "band":
        paper.draw.rectangle((0, top if top > 8 else 0, paper.image.width, bottom - 3), fill=look.accent)
        ink = _on(look.accent)
    elif row.role == "button":
        paper.draw.rounded_rectangle((left, top + 3, right, bottom - 3), 8, fill=look.accent)
        return paper.write((left + right) / 2, base, row.text, face, letters, _on(look.accent), 0.5)
    elif row.role == "strong" and rng.random() < 0.3 and look.paper[0] > 128:
        ink = shade(look.accent, 0.8)
    if not row.right:
        share = look.head if row.role in ("head", "band") or look.place == "middle" else 0.0
        paper.write(left + share * (right - left), base, row.left, face, letters, ink, share)
    else:
        _write_pair(paper, row, look.place, face, letters, ink, (left, base, right))


def _write_pair(
    paper: Paper, row: Row, place: str, face: Face, letters: int, ink: RGB, where: tuple[float, float, float]
) -> None:
    left, base, right = where
    if place == "middle":
        return paper.write((left + right) / 2, base, row.text, face, letters, ink, 0.5)
    paper.write(left, base, row.left, face, letters, ink)
    after = left + face.width(letters, row.left + " ")
    beside = right - face.width(letters, row.right)
    column = min(beside, max(after, left + 0.55 * (right - left)))
    x = {"spread": beside, "close": min(after, beside), "column": column}[place]
    paper.write(max(x, min(after, beside)), base, row.right, face, letters, ink)


def _on(color: RGB) -> RGB:
    """An ink that can be read on a colour."""
    return (255, 255, 255) if sum(color) < 420 else (0, 0, 0)


def _rule(paper: Paper, look: _Look, place: Box) -> None:
    left, y, right = round(place[0]), round((place[1] + place[3]) / 2), round(place[2])
    if look.kind == "label":
        left, right = 0, paper.image.width
    dash = look.dash if look.kind != "screen" else 0
    faint = tuple((3 * one + 2 * other) // 5 for one, other in zip(look.ink, look.paper, strict=True))
    for x in range(left, right, 2 * dash) if dash else (left,):
        paper.draw.line((x, y, x + dash if dash else right, y), fill=faint, width=2 if look.kind == "label" else 1)


def _bars(rng: random.Random, paper: Paper, look: _Look, place: Box) -> None:
    left, top, right, bottom = (round(edge) for edge in place)
    strokes.bars(rng, paper.draw, (left, top + 4, right - rng.randint(0, (right - left) // 3), bottom - 4), look.ink, 2)


def _placed(
    rng: random.Random, paper: Paper, size: tuple[int, int], degrees: float
) -> tuple[Image.Image, tuple[Mark, ...]]:
    """The paper in the middle of a picture, turned as far as no character leaves it, and where its marks are then."""
    inside = paper.image.width, paper.image.height
    ground = Image.new("RGB", size, any_color(rng, 40, 200))
    if inside != size:
        ground = strokes.backdrop(rng, size, any_color(rng, 60, 190))
    while True:
        turned = tuple(Mark(mark.name, _turned(mark.box, inside, size, degrees)) for mark in paper.marks)
        if not degrees or all(_is_inside(mark.box, size) for mark in turned):
            break
        degrees = degrees / 2 if abs(degrees) > 0.4 else 0.0
    if not degrees:
        ground.paste(paper.image, ((size[0] - inside[0]) // 2, (size[1] - inside[1]) // 2))
        return ground, turned
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = size[0] / 2, size[1] / 2
    back = (cos, sin, inside[0] / 2 - cos * x - sin * y, -sin, cos, inside[1] / 2 + sin * x - cos * y)
    corners = [(u, v, u, v) for u, v in ((0, 0), (inside[0], 0), inside, (0, inside[1]))]
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon([_turned(corner, inside, size, degrees)[:2] for corner in corners], fill=255)
    turned_image = paper.image.transform(size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
    ground.paste(turned_image, (0, 0), mask)
    return ground, turned


def _turned(box: Box, inside: tuple[int, int], size: tuple[int, int], degrees: float) -> Box:
    """A box of the paper in the picture: its middle is moved, its size kept."""
    left, top, right, bottom = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    dx, dy = (left + right - inside[0]) / 2, (top + bottom - inside[1]) / 2
    x, y = size[0] / 2 + cos * dx - sin * dy, size[1] / 2 + sin * dx + cos * dy
    half, tall = (right - left) / 2, (bottom - top) / 2
    return x - half, y - tall, x + half, y + tall


def _is_inside(box: Box, size: tuple[int, int]) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
