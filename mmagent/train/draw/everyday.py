"""Draws pictures that have nothing to do with a shop, 320-560 pixels a side: knows nothing of receipts or products."""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from mmagent.train.draw import strokes
from mmagent.train.draw.strokes import COLORS, RGB, Pen, any_color, font, round_points, shade, vary


def _size(rng: random.Random, low: int = 320, high: int = 480) -> tuple[int, int]:
    return rng.randint(low, high), rng.randint(low, high)


def _sky(rng: random.Random) -> tuple[Image.Image, Pen]:
    """A day's sky of 2 x size, and a pen over it whose frame is the whole picture."""
    width, height = _size(rng)
    top, low = rng.choice(
        (((90, 160, 235), (200, 228, 250)), ((250, 150, 90), (255, 220, 150)), ((150, 160, 175), (215, 220, 226)))
    )
    image = strokes.gradient((width * 2, height * 2), vary(rng, top), vary(rng, low))
    return image, Pen(image, (width, height), max(width, height))


def _landscape(rng: random.Random) -> Image.Image:
    image, pen = _sky(rng)
    pen.ellipse(rng.uniform(-0.7, 0.7), rng.uniform(-0.75, -0.4), 0.15, 0.15, (255, 225, 90))
    peaks = [
        (-1.2 + 0.35 * step + rng.uniform(-0.1, 0.1), rng.uniform(-0.5, 0.1) if step % 2 else 0.3) for step in range(8)
    ]
    pen.polygon([*peaks, (1.3, 1), (-1.3, 1)], vary(rng, (120, 125, 150)))
    for y, color in ((0.25, (90, 150, 80)), (0.55, (60, 120, 55))):
        hills = [(-1.6 + 0.4 * step, y + rng.uniform(-0.12, 0.12)) for step in range(9)]
        pen.blob([(-2, 2), *hills, (2, 2)], vary(rng, color))
    for _ in range(rng.randint(0, 5)):
        x, y = rng.uniform(-0.9, 0.9), rng.uniform(0.4, 0.8)
        pen.box(x - 0.02, y - 0.1, x + 0.02, y + 0.1, (95, 65, 40))
        pen.polygon([(x - 0.13, y - 0.05), (x + 0.13, y - 0.05), (x, y - 0.4)], vary(rng, (30, 90, 50)))
    return image.reduce(2)


def _seaside(rng: random.Random) -> Image.Image:
    image, pen = _sky(rng)
    sea = vary(rng, (30, 105, 165))
    pen.box(-1.2, rng.uniform(-0.2, 0.1), 1.2, 1.2, sea)
    for _ in range(14):
        x, y = rng.uniform(-1, 0.8), rng.uniform(0.15, 0.95)
        pen.line([(x, y), (x + 0.1, y - 0.03), (x + 0.2, y)], shade(sea, 1.4), 0.02)
    x = rng.uniform(-0.4, 0.4)
    pen.polygon([(x, -0.6), (x, 0.05), (x + 0.4, 0.05)], (250, 250, 245), (160, 160, 160))
    pen.polygon([(x - 0.05, -0.45), (x - 0.05, 0.05), (x - 0.3, 0.05)], any_color(rng, 90, 250))
    pen.polygon([(x - 0.42, 0.1), (x + 0.5, 0.1), (x + 0.35, 0.28), (x - 0.28, 0.28)], any_color(rng, 40, 180))
    return image.reduce(2)


def _night(rng: random.Random) -> Image.Image:
    size = _size(rng)
    image = strokes.gradient(size, (8, 10, 35), vary(rng, (40, 40, 90)))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(50, 150)):
        x, y, wide = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.choice((0.6, 1, 1.6))
        draw.ellipse((x - wide, y - wide, x + wide, y + wide), fill=(255, 255, rng.randint(190, 255)))
    pen = Pen(image, (size[0] * rng.uniform(0.25, 0.75), size[1] * rng.uniform(0.2, 0.5)), rng.uniform(30, 60))
    pen.ellipse(0, 0, 1, 1, (250, 245, 215))
    pen.ellipse(rng.uniform(0.3, 0.6), -0.15, 0.9, 0.9, (20, 22, 55))
    base = Pen(image, (0, size[1]), size[0])
    for step in range(9 if rng.random() < 0.5 else 0):
        base.box(step / 9, -rng.uniform(0.1, 0.4), step / 9 + 0.1, 0, (12, 12, 20))
    return image


def _canvas(rng: random.Random, wall: RGB) -> tuple[Image.Image, Pen]:
    """A backdrop of 2 x size, and a pen for a subject somewhere in its middle."""
    width, height = _size(rng)
    image = strokes.backdrop(rng, (width, height), wall).resize((2 * width, 2 * height), Image.Resampling.NEAREST)
    centre = (width * rng.uniform(0.85, 1.15), height * rng.uniform(0.85, 1.15))
    return image, Pen(
        image, centre, min(width, height) * rng.uniform(0.6, 0.85), rng.uniform(-6, 6), rng.random() < 0.5
    )


def _pet(rng: random.Random) -> Image.Image:
    image, pen = _canvas(rng, any_color(rng, 150, 240))
    fur, cat = (
        vary(rng, rng.choice(((200, 130, 60), (120, 85, 60), (110, 110, 115), (60, 55, 55), (225, 200, 160)))),
        rng.random() < 0.5,
    )
    edge = shade(fur, 0.6)
    pen.blob([(-0.5, 1.2), (-0.45, 0.5), (0.45, 0.5), (0.5, 1.2)], fur, edge)
    for side in (-1, 1):
        if cat:
            pen.polygon([(side * 0.6, -0.2), (side * 0.55, -0.95), (side * 0.12, -0.5)], fur, edge)
            pen.polygon([(side * 0.5, -0.4), (side * 0.5, -0.78), (side * 0.25, -0.52)], (235, 160, 160))
    pen.ellipse(0, 0, 0.66, 0.6, fur, edge)
    for side in (-1, 1):
        if not cat:
            pen.blob([(side * 0.45, -0.5), (side * 0.8, -0.3), (side * 0.85, 0.3), (side * 0.6, 0.25)], edge)
        pen.ellipse(side * 0.25, -0.1, 0.1, 0.12, (250, 250, 240) if not cat else (170, 210, 80), (30, 30, 30))
        pen.ellipse(side * 0.25, -0.1, 0.04, 0.1 if cat else 0.05, (10, 10, 10))
        for y in (0.2, 0.28, 0.36) if cat else ():
            pen.line([(side * 0.2, 0.27), (side * 0.75, y * 1.6 - 0.2)], (245, 245, 245), 0.015)
    if not cat:
        pen.ellipse(0, 0.28, 0.3, 0.24, shade(fur, 1.4))
    pen.ellipse(0, 0.18, 0.09, 0.07, (40, 25, 25))
    pen.line([(-0.15, 0.3), (0, 0.38), (0.15, 0.3)], (60, 30, 30), 0.03)
    return image.reduce(2)


def _fish(rng: random.Random) -> Image.Image:
    image, pen = _canvas(rng, vary(rng, (60, 140, 190)))
    skin = any_color(rng, 90, 255)
    edge = shade(skin, 0.6)
    pen.polygon([(0.5, 0), (1, -0.42), (0.9, 0), (1, 0.42)], edge)
    pen.blob([(-0.8, 0), (-0.4, -0.36), (0.1, -0.38), (0.62, 0), (0.1, 0.38), (-0.4, 0.36)], skin, edge)
    pen.polygon([(-0.25, -0.36), (0.3, -0.6), (0.3, -0.32)], edge)
    for x in (-0.15, 0.1, 0.3):
        pen.line(round_points(x, 0, 0.08, 0.22, -70, 70), shade(skin, 1.4), 0.05)
    pen.ellipse(-0.52, -0.08, 0.09, 0.09, (255, 255, 255), (20, 20, 20))
    pen.ellipse(-0.53, -0.08, 0.04, 0.04, (0, 0, 0))
    for _ in range(6):
        pen.ellipse(rng.uniform(-1, -0.7), rng.uniform(-0.9, 0.2), 0.05, 0.05, (215, 240, 250), (120, 180, 220))
    return image.reduce(2)


def _car(rng: random.Random) -> Image.Image:
    image, pen = _canvas(rng, vary(rng, (160, 200, 230)))
    paint = any_color(rng, 20, 240)
    pen.box(-4, 0.3, 4, 4, (95, 95, 100))
    pen.polygon([(-0.55, -0.05), (-0.35, -0.45), (0.3, -0.45), (0.6, -0.05)], paint, shade(paint, 0.5))
    for left, right in ((-0.44, -0.03), (0.03, 0.47)):
        pen.polygon(
            [(left, -0.06), (max(left, -0.31), -0.38), (min(right, 0.26), -0.38), (right, -0.06)], (190, 220, 235)
        )
    pen.blob(
        [(-0.98, 0.1), (-0.9, -0.05), (0, -0.08), (0.85, -0.02), (0.98, 0.15), (0.95, 0.32), (-0.95, 0.32)],
        paint,
        shade(paint, 0.5),
    )
    for x in (-0.55, 0.55):
        pen.ellipse(x, 0.32, 0.2, 0.2, (25, 25, 28))
        pen.ellipse(x, 0.32, 0.1, 0.1, (180, 180, 185))
    pen.ellipse(0.92, 0.1, 0.05, 0.06, (255, 240, 150))
    return image.reduce(2)


def _house(rng: random.Random) -> Image.Image:
    image, pen = _sky(rng)
    wall, roof = any_color(rng, 140, 245), rng.choice(((160, 60, 45), (90, 60, 50), (70, 75, 90)))
    pen.box(-1.2, 0.55, 1.2, 1.2, vary(rng, (95, 160, 80)))
    pen.box(-0.5, -0.1, 0.5, 0.65, wall, shade(wall, 0.6))
    pen.box(0.2, -0.6, 0.32, -0.2, shade(roof, 0.7))
    pen.polygon([(-0.62, -0.1), (0, -0.65), (0.62, -0.1)], roof, shade(roof, 0.6))
    pen.box(-0.1, 0.25, 0.12, 0.65, shade(roof, 0.7), (40, 30, 30))
    for x in (-0.38, 0.24):
        pen.box(x, 0.05, x + 0.18, 0.25, (175, 215, 240), (250, 250, 250))
    pen.box(-0.86, 0.2, -0.8, 0.62, (95, 65, 40))
    pen.ellipse(-0.83, 0.1, 0.18, 0.26, vary(rng, (50, 125, 60)))
    return image.reduce(2)


def _chart(rng: random.Random) -> Image.Image:
    width, height = size = rng.randint(400, 560), rng.randint(320, 420)
    image = Image.new("RGB", size, (255, 255, 255))
    draw, ink = ImageDraw.Draw(image), (50, 50, 55)
    title = rng.choice(("Rainfall by month", "Population", "Temperature", "Votes", "Energy use", "Visitors"))
    draw.text((width / 2, 12), title, fill=ink, font=font("", 20), anchor="ma")
    left, floor, count = 56, height - 46, rng.randint(4, 9)
    for y in range(60, floor, 40):
        draw.line((left, y, width - 20, y), fill=(215, 215, 220))
        draw.text((left - 8, y), str((floor - y) // 4), fill=ink, font=font("", 13), anchor="rm")
    step = (width - 30 - left) / count
    tops = [rng.uniform(60, floor - 20) for _ in range(count)]
    color = any_color(rng, 20, 200)
    if rng.random() < 0.5:
        for index, top in enumerate(tops):
            draw.rectangle((left + step * (index + 0.2), top, left + step * (index + 0.8), floor), fill=color)
    else:
        for lane in range(rng.randint(1, 3)):
            points = [
                (left + step * (index + 0.5), (top + 70 * lane) % (floor - 60) + 60) for index, top in enumerate(tops)
            ]
            draw.line(points, fill=color[lane:] + color[:lane], width=3)
    draw.line([(left, 50), (left, floor), (width - 20, floor)], fill=ink, width=2)
    return image


def _pie(rng: random.Random) -> Image.Image:
    image, pen = _canvas(rng, (250, 250, 250))
    cuts = sorted(rng.uniform(0, 360) for _ in range(rng.randint(3, 6)))
    for start, end in zip(cuts, [*cuts[1:], cuts[0] + 360], strict=True):
        pen.polygon([(0, 0), *round_points(0, 0, 0.85, 0.85, start, end)], any_color(rng, 60, 240), (255, 255, 255))
    return image.reduce(2)


def _chess(rng: random.Random) -> Image.Image:
    side = rng.randint(320, 480) // 8 * 8
    dark, light = rng.choice(
        (((120, 80, 50), (235, 215, 180)), ((60, 110, 70), (238, 238, 210)), ((40, 40, 40), (235, 235, 235)))
    )
    image, cell = Image.new("RGB", (side, side), light), side // 8
    draw = ImageDraw.Draw(image)
    for row in range(8):
        for column in range(8):
            x, y = column * cell, row * cell
            if (row + column) % 2:
                draw.rectangle((x, y, x + cell - 1, y + cell - 1), fill=dark)
            if rng.random() < 0.25:
                man = (245, 240, 230) if row > 3 else (20, 20, 20)
                draw.ellipse(
                    (x + cell * 0.25, y + cell * 0.45, x + cell * 0.75, y + cell * 0.9), fill=man, outline=(90, 90, 90)
                )
                draw.ellipse(
                    (x + cell * 0.35, y + cell * 0.15, x + cell * 0.65, y + cell * 0.5), fill=man, outline=(90, 90, 90)
                )
    return image


def _static(rng: random.Random) -> Image.Image:
    size, grain = _size(rng), rng.choice((4, 8, 40, 400))
    cells = (max(2, size[0] // grain), max(2, size[1] // grain)) if grain < 400 else (4, 4)
    image = Image.frombytes("RGB", cells, rng.randbytes(3 * cells[0] * cells[1]))
    return image.resize(size, rng.choice((Image.Resampling.NEAREST, Image.Resampling.BILINEAR)))


def _abstract(rng: random.Random) -> Image.Image:
    image, pen = _canvas(rng, any_color(rng))
    for _ in range(rng.randint(6, 16)):
        x, y, r = rng.uniform(-1.1, 1.1), rng.uniform(-1.1, 1.1), rng.uniform(0.1, 0.5)
        turn, corners = rng.uniform(0, 360), rng.choice((3, 4, 40))
        points = [round_points(x, y, r, r, turn + 360 * k / corners, 0)[0] for k in range(corners)]
        pen.polygon(points, any_color(rng))
    return image.reduce(2)


def _smiley(rng: random.Random) -> Image.Image:
    image, pen = _canvas(rng, any_color(rng, 60, 240))
    skin = rng.choice(((255, 215, 60), (245, 205, 170), (190, 135, 95), (120, 80, 55)))
    pen.ellipse(0, 0, 0.85, 0.9, vary(rng, skin), shade(skin, 0.6))
    if rng.random() < 0.5:
        pen.polygon(round_points(0, -0.05, 0.88, 0.95, 200, 340), any_color(rng, 20, 130))
    for side in (-1, 1):
        pen.ellipse(side * 0.32, -0.15, 0.11, 0.15, (255, 255, 255), (60, 50, 40))
        pen.ellipse(side * 0.32, -0.12, 0.06, 0.08, (30, 25, 20))
    bend = rng.choice((1, 1, -1))
    mouth = round_points(0, 0.4 if bend > 0 else 0.65, 0.4, 0.28, 20 * bend, 160 * bend)
    pen.line(mouth, (150, 40, 45), 0.07)
    return image.reduce(2)


def _map(rng: random.Random) -> Image.Image:
    image, pen = _canvas(rng, (240, 236, 222))
    pen.box(-3, -3, 3, 3, (240, 236, 222))
    for color in ((190, 225, 180), (165, 205, 235)):
        x, y = rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8)
        pen.blob(
            [
                (x + rng.uniform(0.3, 0.6) * dx, y + rng.uniform(0.3, 0.6) * dy)
                for dx, dy in round_points(0, 0, 1, 1, 0, 320)[::6]
            ],
            color,
        )
    for _ in range(rng.randint(6, 11)):
        across, bend = rng.uniform(-1, 1), rng.uniform(-0.5, 0.5)
        road = [(-1.6, across), (0, across + bend / 3), (1.6, across + bend)]
        road = road if rng.random() < 0.5 else [(y, x) for x, y in road]
        pen.line(road, (205, 195, 180), 0.08)
        pen.line(road, rng.choice(((255, 255, 255), (255, 225, 130))), 0.05)
    x, y = rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.6)
    pen.polygon([(x, y), (x - 0.13, y - 0.25), (x + 0.13, y - 0.25)], (210, 40, 40))
    pen.ellipse(x, y - 0.3, 0.15, 0.15, (210, 40, 40))
    pen.ellipse(x, y - 0.3, 0.06, 0.06, (255, 255, 255))
    return image.reduce(2)


def _flag(rng: random.Random) -> Image.Image:
    width, height = size = rng.randint(400, 520), rng.randint(320, 360)
    image, colors = Image.new("RGB", size, (255, 255, 255)), [rng.choice(list(COLORS.values())) for _ in range(3)]
    draw, kind = ImageDraw.Draw(image), rng.choice(("across", "down", "cross", "disc"))
    for index, color in enumerate(colors if kind in ("across", "down") else colors[:1]):
        if kind == "down":
            draw.rectangle((width * index // 3, 0, width * (index + 1) // 3, height), fill=color)
        else:
            draw.rectangle(
                (0, height * index // 3, width, height if kind != "across" else height * (index + 1) // 3), fill=color
            )
    if kind == "cross":
        draw.rectangle((width * 0.3, 0, width * 0.42, height), fill=(255, 255, 255))
        draw.rectangle((0, height * 0.42, width, height * 0.58), fill=(255, 255, 255))
    elif kind == "disc":
        draw.ellipse((width / 2 - 90, height / 2 - 90, width / 2 + 90, height / 2 + 90), fill=shade(colors[0], 1.8))
    return image


_WORDS = (
    *("the", "of", "and", "river", "old", "stone", "walked", "slowly", "under", "bright", "morning", "while", "birds"),
    *("sang", "over", "quiet", "fields", "nobody", "knew", "why", "a", "she", "letters", "between", "window", "I"),
)


def _page(rng: random.Random) -> Image.Image:
    width, height = size = rng.randint(400, 520), rng.randint(480, 640)
    image, family = Image.new("RGB", size, (254, 253, 248)), strokes.pick_family(rng)
    draw, small, y = ImageDraw.Draw(image), rng.randint(12, 16), 40
    draw.text((40, y - 14), "Chapter " + str(rng.randint(1, 30)), fill=(20, 20, 20), font=font(family, small + 8))
    y += 36
    while y < height - 40:
        words = " ".join(rng.choices(_WORDS, k=30))
        last = rng.random() < 0.12
        length = int((width - 80) / (small * 0.56) * (rng.uniform(0.3, 0.8) if last else 1))
        draw.text(
            (40, y), words[:length], fill=(30, 30, 30), font=strokes.fit(family, small, words[:length], width - 76)
        )
        y += int(small * (2.2 if last else 1.45))
    return image


def _code(rng: random.Random) -> Image.Image:
    height = rng.randint(360, 480)
    image = Image.new("RGB", (rng.randint(440, 560), height), rng.choice(((30, 32, 40), (40, 42, 54), (250, 250, 250))))
    draw, inks, y, depth = ImageDraw.Draw(image), [any_color(rng, 110, 190) for _ in range(4)], 16, 0
    while y < height - 20:
        x: float = 20 + 24 * depth
        for _ in range(rng.randint(1, 5)):
            word = rng.choice(
                ("def", "return", "self.", "for", "x =", "if not", "value", "()", "import", "None:", "[i]", "# note")
            )
            draw.text((x, y), word, fill=rng.choice(inks), font=font("", 15))
            x += font("", 15).getlength(word + " ")
        y += 20
        depth = max(0, min(4, depth + rng.choice((-1, 0, 0, 1))))
    return image


def _plant(rng: random.Random) -> Image.Image:
    image, pen = _canvas(rng, any_color(rng, 160, 235))
    pen.line([(0, 0), (0.05, 0.95)], (60, 130, 60), 0.07)
    for side in (-1, 1):
        pen.blob(
            [(0.03, 0.75), (side * 0.35, 0.4), (side * 0.6, 0.42), (side * 0.4, 0.62)], (70, 150, 70), (40, 90, 40)
        )
    petals, color = rng.randint(5, 9), any_color(rng, 110, 255)
    for petal in range(petals):
        x, y = round_points(0, -0.3, 0.36, 0.36, 360 * petal / petals, 0)[0]
        pen.ellipse(x, y, 0.24, 0.24, color, shade(color, 0.7))
    pen.ellipse(0, -0.3, 0.22, 0.22, (250, 200, 50), (150, 110, 20))
    return image.reduce(2)


SCENES: tuple[Callable[[random.Random], Image.Image], ...] = (
    _landscape,
    _seaside,
    _night,
    _pet,
    _fish,
    _car,
    _house,
    _chart,
    _pie,
    _chess,
    _static,
    _abstract,
    _smiley,
    _map,
    _flag,
    _page,
    _code,
    _plant,
)
"""What `unrelated` draws from: one function for each family of pictures."""
