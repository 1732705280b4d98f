"""Reading a picture's text: real receipts, drawn ones, rows in order, and no noise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from mmagent import Image as Picture
from mmagent import ToolContext, ToolError, ToolResult
from mmagent.media import BlobStore
from mmagent.media.ocr import rows_of
from mmagent.tools.read_text import read_text


def read(folder: Path, picture: Path | Image.Image) -> ToolResult:
    store = BlobStore(folder)
    return read_text(ToolContext(pictures=(store.admit(Picture(picture)),), blobs=store))


def drawn_receipt() -> Image.Image:
    picture = Image.new("RGB", (400, 300), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    for y, (left, right) in enumerate([("Lamp House", ""), ("Order A-20417", ""), ("Desk lamp", "49.90")]):
        draw.text((30, 40 + 60 * y), left, "black", font)
        draw.text((300, 40 + 60 * y), right, "black", font)
    return picture


def test_a_drawn_receipt_is_read_row_by_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = read(tmp_path, drawn_receipt())
    assert result.content == "Lamp House\nOrder A-20417\nDesk lamp 49.90"
    price = result.data["lines"][-1]
    left, top, right, bottom = price["box"]
    assert price["text"] == "49.90" and 0.5 < price["confidence"] <= 1
    assert 0.70 < left < 0.78 and 0.50 < top < 0.56 and 0.85 < right < 0.92 and 0.58 < bottom < 0.65
    assert json.loads(json.dumps(result.data)) == result.data
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [(1, 1), (300, 200), (10, 600), (1200, 4)])
def test_a_picture_without_text_says_so(size: tuple[int, int], tmp_path: Path) -> None:
    result = read(tmp_path, Image.new("RGB", size, "white"))
    assert result == ToolResult(content="no text found in the picture", data={"lines": []})


def test_no_picture_and_a_wrong_number_are_told_to_the_model(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="there is no picture in this conversation"):
        read_text(ToolContext())
    store = BlobStore(tmp_path)
    with pytest.raises(ToolError, match="there is no picture 2"):
        read_text(ToolContext(pictures=(store.admit(Picture(drawn_receipt())),), blobs=store), image=2)


def test_a_failing_reader_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("Traceback\n  much of it")

    monkeypatch.setattr("mmagent.media.ocr.engine", lambda: fail)
    with pytest.raises(ToolError, match=r"the text of this picture could not be read$"):
        read(tmp_path, drawn_receipt())


def test_rows_are_boxes_whose_centres_overlap_left_to_right() -> None:
    def line(text: str, *box: float) -> dict[str, object]:
        return {"text": text, "box": list(box)}

    skewed = [
        line("9.90", 0.8, 0.115, 0.9, 0.155),
        line("Lamp", 0.1, 0.10, 0.3, 0.14),
        line("Total", 0.1, 0.15, 0.3, 0.19),
        line("tall logo", 0.5, 0.30, 0.6, 0.60),
        line("beside its top", 0.1, 0.31, 0.4, 0.35),
    ]
    rows = [[part["text"] for part in row] for row in rows_of(skewed)]
    assert rows == [["Lamp", "9.90"], ["Total"], ["beside its top"], ["tall logo"]]


@pytest.mark.parametrize("number", ["000", "001", "040"])
def test_real_receipts_give_company_date_and_total(number: str, tmp_path: Path, shared_data: Path) -> None:
    receipts = shared_data / "receipts_sroie"
    text = plain(read(tmp_path, receipts / "img" / f"{number}.jpg").content)
    expected = json.loads((receipts / "key" / f"{number}.json").read_text())
    assert [key for key in ("company", "date", "total") if plain(expected[key]) not in text] == []


def plain(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())
