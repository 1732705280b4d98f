"""The text in a picture: pieces, rows, columns, pictures that lie on their side, and an engine that is silent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from mmagent.errors import MediaError
from mmagent.media import ocr
from mmagent.media.images import decode_image
from mmagent.media.ocr import Line, alphabet, engine, read_lines, recognise, rows_of, scale_of


def drawn(*lines: tuple[int, int, str], size: tuple[int, int] = (640, 320)) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    for x, y, text in lines:
        ImageDraw.Draw(picture).text((x, y), text, "black", ImageFont.load_default(28))
    return picture


LETTER = drawn((40, 40, "Your order A-20417"), (40, 110, "was sent on Monday"), (40, 180, "by parcel service"))
WORDS = ["Your order A-20417", "was sent on Monday", "by parcel service"]


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_picture_is_read_whichever_way_it_lies(turn: int) -> None:
    picture = LETTER.rotate(turn, expand=True)
    lines = read_lines(picture)
    assert [line.text for line in lines] == WORDS
    for line, y in zip(lines, (40, 110, 180), strict=True):
        left, top, right, bottom = upright(line, turn)
        assert abs(left * 640 - 40) < 12 and abs(top * 320 - y) < 14
        assert right * 640 > 200 and 20 < (bottom - top) * 320 < 60


def upright(line: Line, turn: int) -> tuple[float, float, float, float]:
    """The box in the picture before it was turned."""
    for _ in range(turn // 90):
        left, top, right, bottom = line.box
        line = Line(line.text, (1 - bottom, left, 1 - top, right))
    return line.box


def test_columns_are_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [piece("A title across the page", 0.1, 0.05, 0.9)]
    for row in range(5):
        pieces += [
            piece(f"the left column {row}", 0.1, 0.15 + row / 20, 0.48),
            piece(f"the right column {row}", 0.52, 0.15 + row / 20, 0.9),
        ]
    pieces += [piece("A note below", 0.1, 0.6, 0.8)]
    monkeypatch.setattr(ocr, "recognise", lambda _: pieces)
    texts = [line.text for line in read_lines(Image.new("RGB", (100, 100)))]
    columns = [*(f"the left column {row}" for row in range(5)), *(f"the right column {row}" for row in range(5))]
    assert texts == ["A title across the page", *columns, "A note below"]


def test_the_rows_of_a_table_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = []
    for row in range(6):
        pieces += [piece(f"item {row}", 0.1, 0.1 + row / 10, 0.5), piece(f"{row}.90", 0.8, 0.1 + row / 10, 0.88)]
    monkeypatch.setattr(ocr, "recognise", lambda _: pieces)
    lines = read_lines(Image.new("RGB", (100, 100)))
    assert [line.text for line in lines] == [f"item {row} {row}.90" for row in range(6)]
    assert lines[0].box == (0.1, 0.1, 0.88, 0.13)


def piece(text: str, left: float, top: float, right: float) -> dict[str, Any]:
    return {"text": text, "box": [left, top, right, top + 0.03], "confidence": 0.99}


def test_an_empty_picture_has_no_lines() -> None:
    assert recognise(Image.new("RGB", (1, 1))) == []
    assert read_lines(Image.new("RGB", (300, 40), "white")) == []
    assert rows_of([]) == []


def test_what_can_be_read_is_known() -> None:
    engine.cache_clear()  # as in a process that has read nothing yet
    assert set("Aaäß中の€") <= alphabet()
    assert not set("жعא한") & alphabet()


def test_small_pictures_are_enlarged_and_large_ones_reduced() -> None:
    assert scale_of(320, 200) == 2.0
    assert scale_of(1000, 500) == 1.28
    width, height = 8000, 6000
    scale = scale_of(width, height)
    assert width * scale <= 2000 and width * height * scale**2 <= 2_000_001


def test_a_failing_engine_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("Traceback\n  much of it")

    monkeypatch.setattr(ocr, "engine", lambda: fail)
    with pytest.raises(MediaError, match=r"^the text of this picture could not be read$"):
        recognise(LETTER)


def test_a_scan_in_two_columns_is_read_column_by_column(shared_data: Path) -> None:
    file = shared_data / "docs_docling" / "tiff" / "sources" / "2206.01062.tif"
    text = " ".join(line.text for line in read_lines(decode_image(file.read_bytes())))
    assert "Accurate document layout analysis is a key requirement for high- quality PDF document conversion" in text


def test_the_engine_is_made_once_and_its_log_is_silent() -> None:
    code = (
        "import logging; from mmagent.media.ocr import engine; assert engine() is engine();"
        "print(logging.getLogger('RapidOCR').level == logging.CRITICAL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("True", "")
