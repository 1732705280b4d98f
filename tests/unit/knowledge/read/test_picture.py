"""Pictures: their words with places, the pages of a TIFF, and what is refused."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract, Picture
from mmagent.knowledge.read import Options
from mmagent.knowledge.read.picture import read_picture
from mmagent.knowledge.read.pixels import pixels
from mmagent.settings import Settings


def read(data: bytes, **changed: Any) -> Extract:
    return read_picture(data, "a", Options.of(Settings(**{"ocr": False, **changed})))


def drawn(words: str, size: tuple[int, int] = (480, 160)) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).text((40, 50), words, "black", ImageFont.load_default(36))
    return picture


def saved(form: str, *pictures: Image.Image) -> bytes:
    file = io.BytesIO()
    more: dict[str, Any] = {"save_all": True, "append_images": pictures[1:]} if len(pictures) > 1 else {}
    pictures[0].save(file, form, **more)
    return file.getvalue()


def test_a_picture_has_its_words_with_boxes() -> None:
    extract = read(saved("PNG", drawn("Order A-20417")), ocr=True)
    (mark,) = extract.marks
    assert extract.text == "Order A-20417" and (mark.start, mark.end, mark.page) == (0, 13, None)
    left, top, right, bottom = mark.box or (0, 0, 0, 0)
    assert abs(left * 480 - 40) < 12 and 0.2 < top < 0.45 and 0.5 < right < 0.8 and 0.45 < bottom < 0.75
    assert extract.pictures == [Picture("image")] and extract.mime_type == "image/png"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_is_a_picture_to_look_at(form: str) -> None:
    data = saved(form, Image.new("RGB", (30, 20), "red"))
    extract = read(data)
    assert (extract.text, extract.marks, extract.pictures) == ("", [], [Picture("image")])
    assert pixels(data, extract.mime_type).size == (30, 20)


def test_the_pages_of_a_tiff_are_pages() -> None:
    data = saved("TIFF", drawn("first page"), drawn("second page"), Image.new("L", (50, 40)))
    extract = read(data, ocr=True)
    assert extract.text == "first page\n\nsecond page"
    assert [(mark.page, extract.text[mark.start : mark.end]) for mark in extract.marks] == [
        (1, "first page"),
        (2, "second page"),
    ]
    assert [(one.kind, one.page) for one in extract.pictures] == [("page", 1), ("page", 2), ("page", 3)]
    assert pixels(data, "image/tiff", page=3).size == (50, 40) and pixels(data, "image/tiff").size == (480, 160)
    with pytest.raises(InputError, match="there is no page 4 in it"):
        pixels(data, "image/tiff", page=4)


def test_of_an_animation_it_is_the_first_frame() -> None:
    data = saved("GIF", Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue"))
    assert read(data).pictures == [Picture("image")]
    assert pixels(data, "image/gif").getpixel((4, 4)) == (255, 0, 0)


def test_limits_hold_on_every_page() -> None:
    data = saved("TIFF", Image.new("L", (10, 10)), Image.new("L", (300, 300)))
    with pytest.raises(InputError, match=r"page 2 is 300 x 300 .*max_image_pixels is 50,000"):
        read(data, max_image_pixels=50_000)
    with pytest.raises(InputError, match=r"more than 1 pages and the limit is 1; MMAGENT_MAX_INDEX_PAGES"):
        read(data, max_index_pages=1)
    with pytest.raises(InputError, match=r"it is 300 x 300"):
        read(saved("PNG", Image.new("L", (300, 300))), max_image_pixels=50_000)


def test_pages_without_time_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.knowledge.read.picture.OCR_SHARE", -1.0)
    extract = read(saved("TIFF", drawn("one"), drawn("two"), drawn("three")), ocr=True)
    assert extract.text == "one" and len(extract.pictures) == 3
    assert extract.notes == ["from page 2 on there was no time to look for text; MMAGENT_INDEX_TIMEOUT gives more"]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damaged_pictures_give_an_extract_or_a_reason(form: str) -> None:
    chance = random.Random(form)
    frames = [Image.effect_noise((24, 16), 60).convert("RGB") for _ in range(2 if form == "TIFF" else 1)]
    good = saved(form, *frames)
    refused = 0
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        try:
            read(bytes(data))
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    "folder", ["photos_misc_qa/eval_images", "docs_docling/webp/sources", "docs_docling/tiff/sources"]
)
def test_real_pictures_are_taken(folder: str, shared_data: Path) -> None:
    paths = sorted((shared_data / folder).iterdir())
    assert paths
    for path in paths:
        pages = 2 if path.suffix == ".tif" else 0
        assert read(path.read_bytes()).pictures == (
            [Picture("page", page=number + 1) for number in range(pages)] or [Picture("image")]
        )
