"""Draws the pictures of the shop's world and of the world around it: knows what each kind looks like, not who asks.

Every function is deterministic: the same `random.Random` state and the same words give the same pixels
(on machines with the same fonts; Pillow's own font is always there, DejaVu joins in where it is installed).
Words are ASCII: Pillow's own font has nothing beyond it. And RapidOCR often reads the letter O in a number as 0.
"""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw

from mmagent.errors import InputError
from mmagent.train.draw import strokes
from mmagent.train.draw.everyday import SCENES
from mmagent.train.draw.products import SHAPES
from mmagent.train.draw.strokes import COLORS, RGB, Font, Pen, any_color, shade, vary
from mmagent.train.sample import Mark

__all__ = ["COLORS", "PRODUCTS", "SCENES", "parcel_label", "product_photo", "receipt", "unrelated"]

PRODUCTS: tuple[str, ...] = tuple(SHAPES)
"""The kinds of product that `product_photo` can draw."""

_TOTALS = ("Total", "TOTAL", "Amount due", "Sum", "Total EUR")
_THANKS = ("Thank you!", "Thanks for your visit", "See you soon", "Goods sold as seen", "Keep this receipt")
_BANNERS: tuple[RGB, ...] = ((15, 15, 15), (190, 30, 35), (25, 60, 140), (235, 180, 20), (20, 110, 70), (80, 40, 20))
_BOXES: tuple[RGB, ...] = ((176, 132, 86), (190, 148, 104), (160, 118, 74), (120, 122, 128), (205, 205, 205))
_PAPERS: tuple[RGB, ...] = ((255, 255, 255), (250, 250, 248), (255, 252, 240), (252, 246, 226), (244, 246, 250))

Drawn = tuple[Image.Image, tuple[Mark, ...]]
"""A picture, and where its characters stand."""


class _Sheet:
    """A sheet of paper that is written from top to bottom in one font and one ink, between a left and a right edge."""

    def __init__(self, rng: random.Random, size: tuple[int, int], pad: int, tint: RGB) -> None:
        self.paper = Image.new("RGB", size, tint)
        self.draw = ImageDraw.Draw(self.paper)
        self.rng, self.family, self.ink = rng, strokes.pick_family(rng), any_color(rng, 0, 50)
        self.left, self.right, self.y = pad, size[0] - pad, pad
        self.marks: list[Mark] = []

    def write(
        self, x: float, y: float, text: str, size: int, anchor: str, width: float, ink: RGB | None = None
    ) -> None:
        """Text at most `width` pixels wide, smaller than `size` where it must be."""
        fitted = strokes.fit(self.family, size, text, width)
        self._put(x, y, text, fitted, anchor, ink or self.ink)

    def row(self, first: str, last: str, size: int, pitch: int) -> None:
        """Two texts of one size on the next row, at the left edge and at the right edge, well apart."""
        room = self.right - self.left - 3 * size
        fitted = strokes.fit(self.family, size, first + last, room)
        self._put(self.left, self.y, first, fitted, "la", self.ink)
        self._put(self.right, self.y, last, fitted, "ra", self.ink)
        self.y += pitch

    def _put(self, x: float, y: float, text: str, face: Font, anchor: str, ink: RGB) -> None:
        self.draw.text((x, y), text, fill=ink, font=face, anchor=anchor)
        x -= {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * face.getlength(text)
        for index, char in enumerate(text):
            if not char.isspace():
                start = x + face.getlength(text[:index])
                left, top, right, bottom = face.getbbox(char, anchor=f"l{anchor[1]}")
                self.marks.append(Mark(char, (start + left, y + top, start + right, y + bottom)))

    def rule(self) -> None:
        """A line across, solid or dashed."""
        dash = self.rng.choice((0, 0, 4, 8))
        for x in range(self.left, self.right, 2 * dash) if dash else (self.left,):
            self.draw.line((x, self.y, x + dash if dash else self.right, self.y), fill=self.ink, width=1)
        self.y += 10

    def lay(self, background: RGB, size: tuple[int, int]) -> Drawn:
        """The sheet on a background of that size, a little tilted and worn."""
        ground = strokes.backdrop(self.rng, size, background)
        image, degrees = strokes.tilted(self.rng, self.paper, ground, 1.5)
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

        def moved(mark: Mark) -> Mark:
            left, top, right, bottom = mark.box
            x, y = (left + right - self.paper.width) / 2, (top + bottom - self.paper.height) / 2
            middle, down = size[0] / 2 + x * cos + y * sin, size[1] / 2 - x * sin + y * cos
            half, tall = (right - left) / 2, (bottom - top) / 2
            return Mark(mark.name, (middle - half, down - tall, middle + half, down + tall))

        return strokes.worn(self.rng, image), tuple(map(moved, self.marks))


def receipt(
    rng: random.Random,
    *,
    shop: str,
    order_id: str,
    date: str,
    lines: list[tuple[str, str]],
    total: str,
    label: str = "Order",
) -> Drawn:
    """A till receipt, 380-460 x 520-680 pixels, and where its characters stand.

    Args:
        rng: the only source of chance.
        shop: the name at the top.
        order_id: the number that stands at the right of `label`; empty for a receipt that shows none.
        date: the date as printed.
        lines: each item's name and its price as printed; up to 12 stay readable.
        total: the total as printed.
        label: the word before the number as printed, such as "Order", "Order no" or "Ref:".
    """
    width, height, margin = rng.randint(380, 460), rng.randint(520, 680), rng.randint(6, 22)
    sheet = _Sheet(rng, (width - 2 * margin, height - 2 * margin), rng.randint(18, 34), rng.choice(_PAPERS))
    middle, bottom = sheet.paper.width / 2, sheet.paper.height
    sheet.write(middle, sheet.y, shop, rng.randint(26, 36), "ma", sheet.right - sheet.left)
    sheet.y += rng.randint(48, 58)
    pitch = min(rng.randint(32, 54), (bottom - sheet.y - rng.randint(84, 110)) // (len(lines) + 4))
    size = max(12, min(rng.randint(17, 22), pitch * 7 // 10))

    facts = [(label, order_id)] if order_id else []
    facts.insert(0 if rng.random() < 0.25 else len(facts), ("Date", date))
    totals = [(rng.choice(_TOTALS), total)]
    for block, larger in ((facts, 0), (lines, 0), (totals, 2)):
        sheet.rule()
        for first, last in block:
            sheet.row(first, last, size + larger, pitch)
    if rng.random() < 0.8:
        sheet.write(middle, bottom - 76, rng.choice(_THANKS), 16, "ma", sheet.right - sheet.left)
    if rng.random() < 0.5:
        edge = rng.randint(sheet.left, sheet.paper.width // 3)
        strokes.bars(rng, sheet.draw, (edge, bottom - 46, sheet.paper.width - edge, bottom - 14), sheet.ink, 2)
    return sheet.lay(any_color(rng, 60, 190), (width, height))


def parcel_label(rng: random.Random, *, carrier: str, tracking: str, to: str, date: str) -> Drawn:
    """A shipping label, 520-640 x 360-440 pixels, and where its characters stand.

    Args:
        rng: the only source of chance.
        carrier: the name on the banner.
        tracking: the number below the barcode.
        to: the address, its lines (at most 4) parted by newlines.
        date: the date as printed.
    """
    width, height, margin = rng.randint(520, 640), rng.randint(360, 440), rng.randint(8, 24)
    border, banner, color = rng.randint(4, 8), rng.randint(54, 70), vary(rng, rng.choice(_BANNERS))
    sheet = _Sheet(rng, (width - 2 * margin, height - 2 * margin), border + 16, rng.choice(_PAPERS[:3]))
    draw, ink, left, right = sheet.draw, sheet.ink, sheet.left, sheet.right
    wide, high = sheet.paper.size
    draw.rectangle((0, 0, wide - 1, high - 1), outline=ink, width=border)
    draw.rectangle((border, border, wide - border - 1, banner), fill=color)
    light = (255, 255, 255) if sum(color) < 400 else (0, 0, 0)
    sheet.write(left, (banner + border) / 2, carrier, 34, "lm", right - left - 150, light)
    sheet.write(right, (banner + border) / 2, date, 18, "rm", 130, light)

    sheet.write(left, banner + 12, rng.choice(("TO", "To", "Ship to", "Deliver to")), 15, "la", 120)
    sheet.y = banner + 34
    for line in to.split("\n")[:4]:
        sheet.write(left, sheet.y, line, 18, "la", (right - left) * 0.62)
        sheet.y += 24
    if rng.random() < 0.5:
        _matrix(rng, draw, right - 84, banner + 14, ink)
    top, bottom = max(sheet.y + 4, banner + 104), high - border - 52
    draw.line((border, top, wide - border, top), fill=ink, width=3)
    strokes.bars(rng, draw, (left, top + 12, right, bottom), ink, rng.choice((2, 3)))
    word = rng.choice(("Tracking", "Tracking:", "Tracking no", "TRACKING", "Tracking number"))
    sheet.write(left, bottom + 28, word, 18, "lm", (right - left) * 0.35)
    sheet.write(right, bottom + 28, tracking, rng.randint(24, 28), "rm", (right - left) * 0.55)
    return sheet.lay(vary(rng, rng.choice(_BOXES)), (width, height))


def _matrix(rng: random.Random, draw: ImageDraw.ImageDraw, left: int, top: int, ink: RGB) -> None:
    """A square of 14 x 14 random cells of 6 pixels, as carriers print beside the address."""
    for row in range(14):
        bits = rng.getrandbits(14) | (1 if row in (0, 13) else 0)
        for column in range(14):
            if bits >> column & 1 or column == 0 or row == 13:
                x, y = left + 6 * column, top + 6 * row
                draw.rectangle((x, y, x + 5, y + 5), fill=ink)


def product_photo(rng: random.Random, *, product: str, color: str) -> Image.Image:
    """A product in a colour before some background, a square of 320-480 pixels or nearly so.

    Raises:
        InputError: the product is not in `PRODUCTS`, or the colour not in `COLORS`.
    """
    for name, known in ((product, tuple(SHAPES)), (color, tuple(COLORS))):
        if name not in known:
            raise InputError(f"{name!r} cannot be drawn; choose one of {', '.join(known)}")
    paint = vary(rng, COLORS[color])
    width = rng.randint(320, 480)
    height = min(480, max(320, round(width * rng.uniform(0.92, 1.08))))
    wall = any_color(rng, 70, 235)
    while strokes.distance(wall, paint) < 130:
        wall = any_color(rng, 40, 250)
    image = strokes.backdrop(rng, (width, height), wall).resize((2 * width, 2 * height), Image.Resampling.NEAREST)
    scale = min(width, height) * rng.uniform(0.62, 0.88)
    slack = [max(0.0, side - scale * 1.06) for side in (width, height)]
    centre = (width + rng.uniform(-1, 1) * slack[0], height + rng.uniform(-1, 1) * slack[1])
    shadow = Pen(image, (centre[0], centre[1] + scale * 0.95), scale)
    if rng.random() < 0.7:
        shadow.ellipse(0, 0, 0.75, 0.1, shade(wall, 0.7))
    SHAPES[product](rng, Pen(image, centre, scale, rng.uniform(-9, 9), rng.random() < 0.5), paint)
    return strokes.worn(rng, image.reduce(2))


def unrelated(rng: random.Random) -> Image.Image:
    """A picture that has nothing to do with a shop: a landscape, an animal, a chart, a page of text, and so on."""
    return strokes.worn(rng, rng.choice(SCENES)(rng))
