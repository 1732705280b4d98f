"""The text in a picture, by RapidOCR on the CPU with the models inside its package. It knows no files and no tools."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import median
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

from mmagent.errors import MediaError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MIN_SIDE, MAX_WIDTH, MAX_PIXELS = 1280, 2000, 2_000_000
"""Smaller pictures are enlarged, up to twice, and larger ones reduced: small print is read and reading stays quick."""

MAX_THREADS = 4
UNLIMITED = 100_000

SURE = 0.85
"""Mean confidence below which text may stand on its head: upright text of a page is read with 0.9 and more."""
_COLUMN, _COLUMN_CHARS, _COLUMN_LINES = 0.15, 15, 3
"""A column of text has lines of at least this share of the width and so many characters, and at least so many lines.
What stands beside each other on a receipt or form is shorter, and belongs together."""
_GUTTERS, _DEEPEST = tuple(step / 100 for step in range(15, 86)), 8
"""Where columns may end, as shares of the width; how often what was parted is parted again."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares (0 to 1) of the width and height."""

_one_at_a_time = Lock()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text in a picture."""

    text: str
    box: Box


def recognise(picture: PILImage) -> list[dict[str, Any]]:
    """The pieces of text in an RGB picture.

    Returns:
        For each ``text``, ``box`` (left, top, right, bottom, from 0 to 1) and ``confidence`` (0 to 1).

    Raises:
        MediaError: The picture could not be read.
    """
    import numpy as np
    from PIL.Image import Resampling

    scale = scale_of(*picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    pixels = np.asarray(picture.resize(size, Resampling.BICUBIC))  # [height, width, RGB]
    with _one_at_a_time:
        reader = engine()
        try:
            found = reader(np.ascontiguousarray(pixels[:, :, ::-1]))
        except Exception as error:  # its messages are tracebacks of the runtime inside
            raise MediaError("the text of this picture could not be read") from error
    if not found.txts:
        return []
    corners = found.boxes / np.array(size)  # [pieces, 4 corners, x and y]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).clip(0, 1).round(4)
    return [
        {"text": text.strip(), "box": box.tolist(), "confidence": round(float(score), 3)}
        for text, box, score in zip(found.txts, boxes, found.scores, strict=True)
        if text.strip()
    ]


def read_lines(picture: PILImage) -> list[Line]:
    """The lines of text in an RGB picture in reading order, column by column, whichever way up the text is.

    Raises:
        MediaError: The picture could not be read.
    """
    turn, pieces = _upright(picture)
    return [
        Line(" ".join(piece["text"] for piece in row), _turned_back(_around(piece["box"] for piece in row), turn))
        for block in _blocks(pieces)
        for row in rows_of(block)
    ]


def alphabet() -> frozenset[str]:
    """The characters that can be read: Latin, Chinese and Japanese ones, no Cyrillic, Arabic or Korean ones."""
    with _one_at_a_time:
        reader = engine()
        if reader.text_rec is None:  # loaded by the first picture with text in it
            import numpy as np
            from PIL import Image, ImageDraw, ImageFont

            picture = Image.new("RGB", (200, 80), "white")
            ImageDraw.Draw(picture).text((20, 15), "A 123", "black", ImageFont.load_default(size=40))
            reader(np.asarray(picture))
        return frozenset(reader.text_rec.postprocess_op.character)


def rows_of(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Pieces of text in reading order: those whose vertical centres lie within each other's height are one row."""
    rows: list[list[dict[str, Any]]] = []
    for line in sorted(lines, key=_centre):
        if rows and _beside(rows[-1][-1], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [sorted(row, key=lambda line: line["box"][0]) for row in rows]


def scale_of(width: int, height: int) -> float:
    """By how much to enlarge or reduce a picture before reading it."""
    if max(width, height) < MIN_SIDE:
        return min(2.0, MIN_SIDE / max(width, height))
    return min(1.0, MAX_WIDTH / width, sqrt(MAX_PIXELS / (width * height)))


@lru_cache(maxsize=1)
def engine() -> Any:
    """The one RapidOCR of this process. Given its models' paths, it never looks for a download.

    Scanned receipts of 460 x 1000 pixels take 1.3 s on two idle cores. The angle classifier is left out: it cost
    time, and word recall on six of them fell from 0.93 to 0.92.
    """
    import rapidocr

    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.min_side_len": 1,
            "Global.max_side_len": UNLIMITED,
            "Det.model_path": packaged_model("det"),
            "Det.limit_type": "max",
            "Det.limit_side_len": UNLIMITED,
            "Rec.model_path": packaged_model("rec"),
            "Rec.rec_img_shape": [3, 48, 160],
            "EngineConfig.onnxruntime.intra_op_num_threads": min(MAX_THREADS, os.cpu_count() or 1),
        }
    )


def packaged_model(task: str) -> str:
    """The path of a model inside RapidOCR's package: ``det`` finds text, ``rec`` reads it.

    Raises:
        MediaError: The package came without it.
    """
    import rapidocr

    found = sorted((Path(rapidocr.__file__).parent / "models").glob(f"*_{task}_*.onnx"))
    if not found:
        raise MediaError(
            f"RapidOCR has no {task} model inside; install it again: pip install --force-reinstall rapidocr"
        )
    return str(found[0])


def _centre(line: dict[str, Any]) -> float:
    return float(line["box"][1] + line["box"][3]) / 2


def _beside(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["box"][1] < _centre(other) < one["box"][3] and other["box"][1] < _centre(one) < other["box"][3])


def _upright(picture: PILImage) -> tuple[int, list[dict[str, Any]]]:
    """By how many degrees to turn a picture (anticlockwise) for its text to be upright, and the pieces then.

    Tall pieces are read as lines that run down the page; so looking at it twice, once upside down, is looking at it
    from all four sides.
    """
    pieces, turn = recognise(picture), 0
    if pieces and _confidence(pieces) < SURE:
        from PIL.Image import Transpose

        other = recognise(picture.transpose(Transpose.ROTATE_180))
        if _confidence(other) > _confidence(pieces):
            pieces, turn = other, 180
    width, height = picture.size
    tall = sum(len(piece["text"]) for piece in pieces if _is_tall(piece["box"], width, height))
    if 2 * tall > sum(len(piece["text"]) for piece in pieces):
        pieces, turn = [{**piece, "box": list(_turned_back(piece["box"], 270))} for piece in pieces], turn + 90
    return turn, pieces


def _confidence(pieces: list[dict[str, Any]]) -> float:
    chars = sum(len(piece["text"]) for piece in pieces)
    return sum(len(piece["text"]) * float(piece["confidence"]) for piece in pieces) / chars if chars else 0.0


def _is_tall(box: list[float], width: int, height: int) -> bool:
    return (box[3] - box[1]) * height > 1.5 * (box[2] - box[0]) * width


def _turned_back(box: Iterable[float], turn: int) -> Box:
    """A box of a picture that was turned anticlockwise, in the picture as it was."""
    left, top, right, bottom = box
    if turn == 90:
        left, top, right, bottom = 1 - bottom, left, 1 - top, right
    elif turn == 180:
        left, top, right, bottom = 1 - right, 1 - bottom, 1 - left, 1 - top
    elif turn == 270:
        left, top, right, bottom = top, 1 - right, bottom, 1 - left
    return round(left, 4), round(top, 4), round(right, 4), round(bottom, 4)


def _around(boxes: Iterable[Iterable[float]]) -> Box:
    """The box around boxes."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _blocks(pieces: list[dict[str, Any]], depth: int = 0) -> list[list[dict[str, Any]]]:
    """Pieces of text, parted into blocks in reading order: at the gutter that most of them stand beside.

    What stands side by side is parted only where both sides look like columns of text: a table's rows stay together.
    """
    ordered = sorted(pieces, key=_centre)
    beside: tuple[int, int, float] = (0, 0, 0.0)
    for gutter in _GUTTERS if depth < _DEEPEST else ():
        for start, end in _clear_of(ordered, gutter):
            if end - start > beside[1] - beside[0] and all(map(_is_column, _sides(ordered[start:end], gutter))):
                beside = (start, end, gutter)
    start, end, gutter = beside
    if not end:
        return [ordered] if ordered else []
    parts = (ordered[:start], *_sides(ordered[start:end], gutter), ordered[end:])
    return [block for part in parts for block in _blocks(part, depth + 1)]


def _clear_of(ordered: list[dict[str, Any]], gutter: float) -> list[tuple[int, int]]:
    """The runs of pieces, from top to bottom, that do not cross a vertical line."""
    crossing = [index for index, piece in enumerate(ordered) if piece["box"][0] < gutter < piece["box"][2]]
    ends = [-1, *crossing, len(ordered)]
    return [(one + 1, other) for one, other in pairwise(ends)]


def _sides(pieces: list[dict[str, Any]], gutter: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    left = [piece for piece in pieces if piece["box"][2] <= gutter]
    return left, [piece for piece in pieces if piece["box"][2] > gutter]


def _is_column(pieces: list[dict[str, Any]]) -> bool:
    if len(pieces) < _COLUMN_LINES:
        return False
    width = median(piece["box"][2] - piece["box"][0] for piece in pieces)
    return width >= _COLUMN and median(len(piece["text"]) for piece in pieces) >= _COLUMN_CHARS
