"""Pictures that look as photographs do: grain, blur, shade, clutter. It knows no things and draws nothing to be named.

Photographs cannot be generated, but what tells them from drawings can: no flat colour anywhere, edges of all sharpness.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from mmagent.train.draw import everyday

Pixels = NDArray[np.float32]
SIDE = 200
"""Pixels of a side before the picture is brought to its size."""
BICUBIC = Image.Resampling.BICUBIC
_DRAWN = ("_landscape", "_seaside", "_night", "_pet", "_fish", "_car", "_house", "_smiley", "_map", "_plant", "_chess")
SCENES = tuple(scene for scene in everyday.SCENES if scene.__name__ in _DRAWN)
"""Drawn scenes of the open world; charts, pages and shapes are left out, for these are not beyond a small model."""


def photo(rng: random.Random) -> Image.Image:
    """A picture of 240 to 480 pixels a side that nobody could name."""
    image = rng.choice(KINDS)(rng)
    if rng.random() < 0.35:  # something in front of it
        image.paste(*_cut(rng, rng.choice(KINDS)(rng)))
    if rng.random() < 0.5:
        image = ImageChops.multiply(image, _cloud(rng, 1, 190, 255))
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.0 if rng.random() < 0.1 else 0.5, 1.3))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.4))
    size = (rng.randint(240, 480), rng.randint(240, 480))
    image = image.resize(size, BICUBIC)
    return _jpeg(rng, _grain(rng, image)) if rng.random() < 0.7 else image


def _noise(rng: random.Random, cells: int, channels: int = 3) -> Image.Image:
    mode = "RGB" if channels == 3 else "L"
    return Image.frombytes(mode, (cells, cells), rng.randbytes(channels * cells * cells)).resize((SIDE, SIDE), BICUBIC)


def _octaves(rng: random.Random, finest: int = 128, fall: float = 0.55) -> Pixels:
    """Noise with as much detail as nature has: ``[S, S]`` from 0 to 1."""
    total, weight, cells = np.zeros((SIDE, SIDE), np.float32), 1.0, rng.choice((2, 3, 4))
    while cells <= finest:
        total += weight * np.asarray(_noise(rng, cells, 1), np.float32)
        weight, cells = weight * fall, cells * 2
    total -= total.min()
    return total / max(1.0, float(total.max()))


def _color(rng: random.Random) -> tuple[int, int, int]:
    """A colour as photographs have them: mostly muted."""
    grey, spread = rng.randint(25, 225), rng.choice((15, 35, 80))
    red, green, blue = (min(255, max(0, grey + rng.randint(-spread, spread))) for _ in range(3))
    return red, green, blue


def _wall(rng: random.Random) -> tuple[int, int, int]:
    return rng.choice(((255, 255, 255), (252, 250, 246), (20, 20, 22), _color(rng)))


def _mapped(heights: Pixels, colors: list[tuple[int, int, int]]) -> Image.Image:
    """Heights from 0 to 1 in colours that go over into each other."""
    at = np.linspace(0, 1, len(colors))
    channels = [np.interp(heights, at, [color[c] for color in colors]) for c in range(3)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def _cloud(rng: random.Random, channels: int, low: int, high: int) -> Image.Image:
    image = _noise(rng, rng.choice((2, 3, 4)), channels).point(lambda v: low + v * (high - low) // 255)
    return image.convert("RGB")


def _ground(rng: random.Random) -> Image.Image:
    """Earth, stone, clouds, water, leaves: detail at every size."""
    heights = _octaves(rng, fall=rng.uniform(0.45, 0.8))
    return _mapped(heights, [_color(rng) for _ in range(rng.randint(3, 6))])


def _fur(rng: random.Random) -> Image.Image:
    """Hair, grass or wood: detail in one direction."""
    along = rng.choice((6, 10, 16))
    fine = Image.frombytes("L", (along, SIDE), rng.randbytes(along * SIDE)).resize((SIDE, SIDE), BICUBIC)
    lines = np.asarray(fine, np.float32) / 510
    heights = ((lines + _octaves(rng, 32) * 0.8) / 1.3).astype(np.float32)
    image = _mapped(heights, [_color(rng) for _ in range(rng.randint(2, 4))])
    return image.rotate(rng.uniform(0, 360), BICUBIC).crop((40, 40, SIDE - 40, SIDE - 40)).resize((SIDE, SIDE), BICUBIC)


def _lights(rng: random.Random) -> Image.Image:
    """What is far behind a subject: discs of light, out of focus."""
    image = _cloud(rng, 3, 0, rng.randint(60, 200))
    glow = Image.new("RGB", (SIDE, SIDE))
    draw = ImageDraw.Draw(glow)
    for _ in range(rng.randint(8, 50)):
        x, y, r = rng.uniform(0, SIDE), rng.uniform(0, SIDE), rng.uniform(3, 34)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_color(rng))
    return ImageChops.screen(image, glow.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 6))))


def _bodies(rng: random.Random) -> Image.Image:
    """Round things with light from one side before a blurred wall, as of people, animals and fruit."""
    if rng.random() < 0.35:  # as in a studio: the light is uneven, the wall is not
        image = ImageChops.multiply(Image.new("RGB", (SIDE, SIDE), _wall(rng)), _cloud(rng, 1, 235, 255))
    else:
        image = rng.choice((_ground, _lights, _crowd))(rng).filter(ImageFilter.BoxBlur(rng.uniform(1, 8)))
    for _ in range(rng.randint(1, 4)):
        mask = Image.new("L", (SIDE, SIDE))
        x, y, r = rng.uniform(0.1, 0.9) * SIDE, rng.uniform(0.1, 0.9) * SIDE, rng.uniform(16, 70)
        corners = [(x + r * rng.uniform(-1, 1), y + r * rng.uniform(-1, 1)) for _ in range(rng.randint(4, 8))]
        draw = ImageDraw.Draw(mask)
        draw.polygon(corners, fill=255)
        draw.ellipse((x - r * 0.7, y - r, x + r * 0.7, y + r), fill=255)
        skin = rng.choice((_fur, _ground, _ground))(rng)
        mask = mask.filter(ImageFilter.BoxBlur(6)).point(lambda v: 255 if v > 110 else v)
        image.paste(ImageChops.multiply(skin, _cloud(rng, 1, 60, 255)), (0, 0), mask)
    return image


def _crowd(rng: random.Random) -> Image.Image:
    """Many edges of all directions and depths: streets, shelves, leaves."""
    image = _ground(rng)
    for layer in range(3):
        draw = ImageDraw.Draw(image)
        for _ in range(rng.randint(10, 40)):
            x, y, w, h = rng.uniform(-20, SIDE), rng.uniform(-20, SIDE), rng.uniform(2, 60), rng.uniform(2, 90)
            turn = rng.uniform(-12, 12)
            draw.polygon([(x, y), (x + w, y + turn), (x + w + turn, y + h), (x + turn, y + h - turn)], fill=_color(rng))
        image = image.filter(ImageFilter.BoxBlur(1.6 - 0.7 * layer)) if layer < 2 else image
    return ImageChops.multiply(image, _cloud(rng, 1, 70, 255))


def _view(rng: random.Random) -> Image.Image:
    """Sky over ground: the horizon is an uneven line, what is far is pale."""
    image, ridge = _mapped(_octaves(rng, 16), [_color(rng) for _ in range(2)]), _octaves(rng, 64)
    for depth in range(rng.randint(1, 4)):
        rise = SIDE * (0.3 + 0.17 * depth) + ridge[SIDE // 5 * depth] * rng.uniform(10, 110)
        below = np.arange(SIDE)[:, None] > rise[None, :]
        image.paste(rng.choice((_ground, _crowd))(rng), (0, 0), Image.fromarray((below * 255).astype(np.uint8)))
    return image


def _scene(rng: random.Random) -> Image.Image:
    """A drawn scene, given the light and the detail of a photograph."""
    image = rng.choice(SCENES)(rng).convert("RGB").resize((SIDE, SIDE), BICUBIC)
    detail = _mapped(_octaves(rng, fall=0.75), [(90, 90, 90), (255, 255, 255)])
    return ImageChops.multiply(image, detail).filter(ImageFilter.BoxBlur(rng.uniform(0, 1.5)))


def _collage(rng: random.Random) -> Image.Image:
    """Several in one, side by side."""
    image, x, y = _ground(rng), rng.randint(50, 150), rng.randint(50, 150)
    for box in ((0, 0, x, y), (x, 0, SIDE, y), (0, y, x, SIDE), (x, y, SIDE, SIDE)):
        part = rng.choice((_ground, _fur, _lights))(rng)
        image.paste(part.resize((box[2] - box[0], box[3] - box[1])), box[:2])
    return image


KINDS: tuple[Callable[[random.Random], Image.Image], ...] = (
    _ground, _fur, _lights, _bodies, _bodies, _crowd, _view, _view, _scene, _collage,
)  # fmt: skip


def _cut(rng: random.Random, image: Image.Image) -> tuple[Image.Image, tuple[int, int], Image.Image]:
    """What stands in front: the picture, its place and its shape."""
    mask = Image.fromarray((_octaves(rng, rng.choice((4, 16, 64))) * 255).astype(np.uint8))
    level = rng.randint(110, 190)
    return image, (0, 0), mask.point(lambda v: min(255, max(0, (v - level) * 12)))


def _grain(rng: random.Random, image: Image.Image) -> Image.Image:
    width, height = image.size
    bits = np.frombuffer(rng.randbytes(width * height), np.uint8) >> rng.choice((3, 4, 5))
    grain = Image.fromarray(bits.reshape(height, width))
    return ImageChops.subtract(image, Image.merge("RGB", (grain, grain, grain)))


def _jpeg(rng: random.Random, image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=rng.randint(40, 92))
    return Image.open(file).convert("RGB")
