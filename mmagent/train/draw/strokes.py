"""Pens, fonts, backgrounds and wear for drawn pictures: knows shapes and pixels, never what a picture is for.

Everything random comes from the `random.Random` that the caller passes, so one seed gives one picture.
"""

from __future__ import annotations

import functools
import io
import math
import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

RGB = tuple[int, int, int]
Point = tuple[float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

COLORS: dict[str, RGB] = {
    "red": (205, 35, 40),
    "blue": (35, 85, 200),
    "green": (40, 150, 65),
    "yellow": (245, 210, 40),
    "black": (38, 38, 42),
    "white": (244, 244, 240),
    "orange": (240, 130, 25),
    "purple": (125, 55, 165),
}
"""The colour names a product can have, each with the RGB value in its middle; `vary` spreads it."""

_DEJAVU = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono-Bold.ttf")


def shade(color: RGB, factor: float) -> RGB:
    """The colour darkened (factor below 1) or moved towards white (factor 1 to 2)."""
    if factor <= 1:
        return _rgb(channel * factor for channel in color)
    return _rgb(channel + (255 - channel) * (factor - 1) for channel in color)


def vary(rng: random.Random, color: RGB, spread: int = 9) -> RGB:
    """A neighbour of the colour: a little lighter or darker, each channel moved by at most `spread`."""
    light = rng.uniform(0.88, 1.08)
    return _rgb(channel * light + rng.uniform(-spread, spread) for channel in color)


def any_color(rng: random.Random, low: int = 0, high: int = 255) -> RGB:
    """A random colour with each channel from low to high."""
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def distance(one: RGB, other: RGB) -> float:
    """How far apart two colours are, 0 to 441."""
    return math.dist(one, other)


def _rgb(channels: Iterable[float]) -> RGB:
    red, green, blue = (min(255, max(0, round(channel))) for channel in channels)
    return red, green, blue


@functools.cache
def _families() -> tuple[str, ...]:
    found = [""]  # Pillow's own font, always there
    for name in _DEJAVU:
        try:
            ImageFont.truetype(name, 12)
        except OSError:
            continue
        found.append(name)
    return tuple(found)


@functools.cache
def font(family: str, size: int) -> Font:
    """The font of a family at a size in pixels; the family "" is the one that Pillow brings along."""
    return ImageFont.truetype(family, size, layout_engine=ImageFont.Layout.BASIC) if family else _bundled(size)


def _bundled(size: int) -> Font:
    return ImageFont.load_default(size)


def pick_family(rng: random.Random) -> str:
    """A font family of this machine; takes the same one draw from rng however many there are."""
    families = _families()
    return families[int(rng.random() * len(families))]


def fit(family: str, size: int, text: str, width: float) -> Font:
    """The largest font of the family, at most `size`, in which the text is no wider than `width` pixels."""
    while size > 8 and font(family, size).getlength(text) > width:
        size -= 1
    return font(family, size)


class Pen:
    """Draws in a unit frame (x right, y down, the subject within -1..1) that is placed, scaled, tilted and mirrored."""

    def __init__(
        self, image: Image.Image, centre: Point, scale: float, tilt: float = 0.0, mirror: bool = False
    ) -> None:
        """Put the frame's origin at `centre`, one unit being `scale` pixels, tilted by `tilt` degrees."""
        self._draw = ImageDraw.Draw(image)
        self._centre = centre
        self._scale = scale
        self._cos, self._sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
        self._sign = -1 if mirror else 1

    def at(self, points: Iterable[Point]) -> list[Point]:
        """The pixels of points of the unit frame."""
        (left, top), scale = self._centre, self._scale
        placed = []
        for x, y in points:
            x *= self._sign
            placed.append(
                (left + scale * (x * self._cos - y * self._sin), top + scale * (x * self._sin + y * self._cos))
            )
        return placed

    def polygon(self, points: Sequence[Point], fill: RGB, edge: RGB | None = None, width: float = 0.025) -> None:
        """A filled polygon, with an outline `width` units wide where `edge` is given."""
        placed = self.at(points)
        self._draw.polygon(placed, fill=fill)
        if edge is not None:
            self._draw.line([*placed, placed[0], placed[1]], fill=edge, width=self._width(width), joint="curve")

    def blob(self, points: Sequence[Point], fill: RGB, edge: RGB | None = None) -> None:
        """A filled closed curve that passes smoothly through the points."""
        self.polygon(smooth(points), fill, edge)

    def box(self, left: float, top: float, right: float, bottom: float, fill: RGB, edge: RGB | None = None) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill, edge)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: RGB, edge: RGB | None = None) -> None:
        """A filled ellipse around (x, y)."""
        self.polygon(round_points(x, y, rx, ry), fill, edge)

    def line(self, points: Sequence[Point], fill: RGB, width: float = 0.04) -> None:
        """A line through the points with round ends and joints, `width` units wide."""
        placed, thick = self.at(points), self._width(width)
        self._draw.line(placed, fill=fill, width=thick, joint="curve")
        for x, y in (placed[0], placed[-1]):
            self._draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=fill)

    def _width(self, width: float) -> int:
        return max(1, round(width * self._scale))


def round_points(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360) -> list[Point]:
    """Points along an ellipse from angle `start` to `end` in degrees (0 is right, 90 is down)."""
    steps = max(6, round(abs(end - start) / 9))
    angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


def smooth(points: Sequence[Point], steps: int = 6) -> list[Point]:
    """A closed Catmull-Rom curve through the points."""
    count, curve = len(points), []
    for index in range(count):
        p0, p1, p2, p3 = (points[(index + offset) % count] for offset in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            curve.append((_spline(p0[0], p1[0], p2[0], p3[0], t), _spline(p0[1], p1[1], p2[1], p3[1], t)))
    return curve


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def gradient(size: tuple[int, int], top: RGB, bottom: RGB) -> Image.Image:
    """A picture that goes from one colour at the top to another at the bottom."""
    strip = Image.new("RGB", (1, 2), top)
    strip.putpixel((0, 1), bottom)
    column = strip.resize((1, size[1]), Image.Resampling.BILINEAR)
    return column.resize(size, Image.Resampling.NEAREST)


def backdrop(rng: random.Random, size: tuple[int, int], color: RGB) -> Image.Image:
    """A place to put a thing: a plain, graded or patterned wall, or a wall behind a table, around the given colour."""
    kind = rng.choice(("plain", "gradient", "table", "stripes", "dots", "checks"))
    if kind == "gradient":
        return gradient(size, shade(color, rng.uniform(1.1, 1.5)), shade(color, rng.uniform(0.75, 0.95)))
    image = Image.new("RGB", size, color)
    draw = ImageDraw.Draw(image)
    other = shade(color, rng.choice((0.9, 1.25)))
    width, height = size
    step = rng.randint(width // 16, width // 7)
    if kind == "table":
        edge = round(height * rng.uniform(0.6, 0.78))
        draw.rectangle((0, edge, width, height), fill=shade(color, rng.choice((0.72, 0.82, 1.4))))
    elif kind == "stripes":
        for x in range(0, width, 2 * step):
            draw.rectangle((x, 0, x + step, height), fill=other)
    elif kind in ("dots", "checks"):
        for row, y in enumerate(range(0, height, step)):
            for x in range((row % 2) * step, width, 2 * step):
                place = (x, y, x + step // (1 if kind == "checks" else 3), y + step // (1 if kind == "checks" else 3))
                (draw.rectangle if kind == "checks" else draw.ellipse)(place, fill=other)
    return image


def bars(rng: random.Random, draw: ImageDraw.ImageDraw, place: tuple[int, int, int, int], ink: RGB, unit: int) -> None:
    """A barcode that fills the place (left, top, right, bottom), its thinnest bar `unit` pixels wide."""
    x, top, right, bottom = place
    while x < right:
        bar = unit * rng.choice((1, 1, 2, 3))
        draw.rectangle((x, top, min(right, x + bar - 1), bottom), fill=ink)
        x += bar + unit * rng.choice((1, 1, 2))


def tilted(
    rng: random.Random, paper: Image.Image, background: Image.Image, degrees: float
) -> tuple[Image.Image, float]:
    """The paper laid on the middle of the background, half the time turned by at most the degrees either way.

    Returns:
        The picture, and by how many degrees the paper was turned against the clock.
    """
    mask, angle = None, 0.0
    if rng.random() < 0.5:
        angle = rng.uniform(-degrees, degrees)
        mask = Image.new("1", paper.size, 1).rotate(angle, expand=True)
        paper = paper.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    background.paste(paper, ((background.width - paper.width) // 2, (background.height - paper.height) // 2), mask)
    return background, angle


def worn(rng: random.Random, image: Image.Image) -> Image.Image:
    """The picture as a phone might have taken it: at random a little uneven light, blur, noise or JPEG loss."""
    steps: tuple[tuple[float, Callable[[random.Random, Image.Image], Image.Image]], ...] = (
        (0.3, _light),
        (0.15, _blur),
        (0.4, _noise),
        (0.3, _jpeg),
    )
    for chance, step in steps:
        if rng.random() < chance:
            image = step(rng, image)
    return image


def _light(rng: random.Random, image: Image.Image) -> Image.Image:
    low = rng.randint(190, 235)
    light = gradient(image.size, *rng.sample(((255, 255, 255), (low, low, low)), 2))
    return ImageChops.multiply(image, light)


def _blur(rng: random.Random, image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0.15, 0.5)))


def _noise(rng: random.Random, image: Image.Image) -> Image.Image:
    bits = np.frombuffer(np.random.default_rng(rng.getrandbits(32)).bytes(image.width * image.height), np.uint8)
    grain = Image.fromarray((bits >> rng.choice((3, 4))).reshape(image.height, image.width))
    return ImageChops.subtract(image, Image.merge("RGB", (grain, grain, grain)))


def _jpeg(rng: random.Random, image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=rng.randint(55, 90))
    return Image.open(buffer).convert("RGB")
