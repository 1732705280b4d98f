"""Pictures for training: the same seed gives the same pixels, other words give other pixels, and OCR can read them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from mmagent.errors import InputError
from mmagent.train.draw.pictures import COLORS, PRODUCTS, SCENES, parcel_label, product_photo, receipt, unrelated

Draw = Callable[[random.Random], Image.Image]


def draw_receipt(rng: random.Random, order_id: str = "A-48213", label: str = "Order no") -> Image.Image:
    lines = [("Desk lamp", "24.90"), ("Mug", "7.50")]
    return receipt(
        rng, shop="North & Co", order_id=order_id, date="2026-11-03", lines=lines, total="32.40", label=label
    )[0]


def draw_label(rng: random.Random, tracking: str = "TRK-9920-114") -> Image.Image:
    return parcel_label(rng, carrier="Nordpost", tracking=tracking, to="Maya Lind\n14 Mill Lane", date="2026-11-03")[0]


def draw_product(rng: random.Random) -> Image.Image:
    return product_photo(rng, product="lamp", color="red")


KINDS = pytest.mark.parametrize("draw", [draw_receipt, draw_label, draw_product, unrelated])


@KINDS
def test_the_same_seed_gives_the_same_picture(draw: Draw) -> None:
    for seed in range(12):
        random.seed(seed)  # the global generator has no say
        first = draw(random.Random(seed))
        second = draw(random.Random(seed))
        assert first.mode == "RGB"
        assert first.size == second.size
        assert first.tobytes() == second.tobytes()


@KINDS
def test_another_seed_gives_another_picture(draw: Draw) -> None:
    assert len({draw(random.Random(seed)).tobytes() for seed in range(12)}) == 12


@pytest.mark.parametrize(
    ("draw", "widths", "heights"),
    [
        (draw_receipt, (380, 460), (520, 680)),
        (draw_label, (520, 640), (360, 440)),
        (draw_product, (320, 480), (320, 480)),
    ],
)
def test_sizes(draw: Draw, widths: tuple[int, int], heights: tuple[int, int]) -> None:
    for seed in range(20):
        image = draw(random.Random(seed))
        assert widths[0] <= image.width <= widths[1]
        assert heights[0] <= image.height <= heights[1]


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("color", COLORS)
def test_a_product_shows_its_color(product: str, color: str) -> None:
    pixels = np.asarray(product_photo(random.Random(7), product=product, color=color), np.int16)
    near = np.abs(pixels - np.array(COLORS[color], np.int16)).max(axis=2) < 60
    assert near.mean() > 0.03


def test_products_differ_from_each_other() -> None:
    small = {
        product: np.asarray(product_photo(random.Random(1), product=product, color="red").resize((32, 32)), np.int16)
        for product in PRODUCTS
    }
    assert len(small) == 10
    for one in PRODUCTS:
        for other in PRODUCTS:
            assert one == other or np.abs(small[one] - small[other]).mean() > 4


@pytest.mark.parametrize(("product", "color"), [("sofa", "red"), ("lamp", "mauve")])
def test_what_cannot_be_drawn_is_refused_with_the_choices(product: str, color: str) -> None:
    with pytest.raises(InputError, match=r"cannot be drawn; choose one of (lamp|red), (mug|blue)"):
        product_photo(random.Random(0), product=product, color=color)


def test_unrelated_pictures_come_from_many_families() -> None:
    assert len(SCENES) >= 10
    small = [np.asarray(scene(random.Random(3)).convert("RGB").resize((32, 32)), np.int16) for scene in SCENES]
    for index, one in enumerate(small):
        assert all(np.abs(one - other).mean() > 8 for other in small[:index])


def test_characters_are_marked_where_their_ink_is() -> None:
    lines = [("Desk lamp", "24.90")]
    words = "North&CoOrderLM-2041Date2026-11-03Desklamp24.90"
    for seed in range(8):
        image, marks = receipt(
            random.Random(seed), shop="North & Co", order_id="LM-2041", date="2026-11-03", lines=lines, total="24.90"
        )
        assert sorted("".join(mark.name for mark in marks)[:47]) == sorted(words)
        grey = np.asarray(image.convert("L"), np.int16)
        for mark in marks:
            left, top, right, bottom = (round(edge) for edge in mark.box)
            assert grey[top : bottom + 1, left : right + 1].min() < grey[top : bottom + 1].max() - 60, mark


def test_a_receipt_without_a_number_has_no_row_for_it() -> None:
    with_number = np.asarray(draw_receipt(random.Random(2)).convert("L"), np.int16)
    without = np.asarray(draw_receipt(random.Random(2), order_id="").convert("L"), np.int16)
    assert (with_number < 110).sum() > (without < 110).sum()


@pytest.fixture(scope="module")
def read() -> Iterator[Callable[[Image.Image], list[str]]]:
    """What RapidOCR reads in a picture, as boxes of text."""
    rapidocr = pytest.importorskip("rapidocr")
    import logging

    engine = rapidocr.RapidOCR()
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    yield lambda image: list(engine(np.asarray(image)[:, :, ::-1].copy()).txts or ())


def test_ocr_reads_the_order_number(read: Callable[[Image.Image], list[str]]) -> None:
    for seed, number in enumerate(("A-48213", "LM-2041", "2026-0931", "B7-1190-C")):
        assert number in read(draw_receipt(random.Random(seed), order_id=number))


def test_ocr_reads_the_tracking_number(read: Callable[[Image.Image], list[str]]) -> None:
    for seed, number in enumerate(("TRK-9920-114", "JD0146002871", "1Z4402871")):
        assert number in read(draw_label(random.Random(seed), tracking=number))


def test_a_receipt_without_a_number_reads_without_its_label(read: Callable[[Image.Image], list[str]]) -> None:
    texts = read(draw_receipt(random.Random(4), order_id="", label="Order no"))
    assert "Date" in texts
    assert not any("Order" in text for text in texts)
