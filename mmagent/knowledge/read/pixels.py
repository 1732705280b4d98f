"""What a hit shows or lets hear: the pixels of a page, picture or frame, a part of them, and a span of sound."""

from __future__ import annotations

import io
import wave
from contextlib import closing
from typing import TYPE_CHECKING

from mmagent.errors import InputError
from mmagent.knowledge.extract import Box
from mmagent.settings import Settings, settings

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

PAGE_DPI = 150
MAX_CLIP = 600.0
"""Seconds of sound that are cut out at most."""
_MARK = (220, 30, 30)
_SCALE = 32_767


def pixels(
    data: bytes, mime_type: str, *, page: int | None = None, t0: float | None = None, limits: Settings | None = None
) -> PILImage:
    """What is to be seen of a document, upright, in RGB.

    Args:
        data: The document.
        mime_type: What it is.
        page: Of a PDF or TIFF, from 1; None is the first.
        t0: Of a video, in seconds; None is its beginning.
        limits: The limits to hold; the process's settings by default.

    Raises:
        InputError: There is nothing to be seen, or no such page, or it cannot be decoded.
    """
    limits = limits or settings()
    if mime_type == "application/pdf":
        return _page(data, page or 1)
    if mime_type == "image/tiff" and (page or 1) > 1:
        from mmagent.knowledge.read.picture import tiff_pages

        found = next(tiff_pages(data, limits, limits.max_index_pages, only=page), None)
        if found is None:
            raise InputError(f"there is no page {page} in it")
        return found
    if mime_type.startswith("image/"):
        from mmagent.media.images import decode_image

        return decode_image(data, "it", limits)
    if mime_type.startswith("video/"):
        from mmagent.knowledge.read.video import frame_at

        return frame_at(data, t0 or 0.0, limits)
    raise InputError(f"nothing is to be seen of {mime_type}; only PDF, pictures and videos are shown")


def crop(picture: PILImage, box: Box) -> PILImage:
    """The part of a picture in a box, at least one pixel of it."""
    left, top, right, bottom = _in_pixels(picture, box)
    return picture.crop((left, top, right, bottom))


def outline(picture: PILImage, box: Box) -> PILImage:
    """A copy of a picture with a frame around a box."""
    from PIL import ImageDraw

    copy = picture.convert("RGB") if picture.mode != "RGB" else picture.copy()
    left, top, right, bottom = _in_pixels(picture, box)
    width = max(2, round(max(picture.size) / 400))
    around = (max(0, left - width), max(0, top - width), right + width - 1, bottom + width - 1)
    ImageDraw.Draw(copy).rectangle(around, outline=_MARK, width=width)
    return copy


def clip(data: bytes, t0: float, t1: float) -> bytes:
    """The sound of a recording or video from ``t0`` to ``t1`` seconds: a WAV file, 16 kHz, mono, 16 bits.

    Raises:
        InputError: There is no sound there, or it cannot be decoded.
    """
    import numpy as np

    from mmagent.media.sound import RATE, waveform

    pieces = list(waveform(data, "it", t0=max(0.0, t0), t1=min(t1, max(0.0, t0) + MAX_CLIP)))
    if not pieces:
        raise InputError(f"there is no sound from {t0:g} to {t1:g} seconds in it")
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(RATE)
        made.writeframes((np.concatenate(pieces) * _SCALE).astype("<i2").tobytes())
    return file.getvalue()


def _page(data: bytes, number: int) -> PILImage:
    from mmagent.knowledge.read.pdf import one_at_a_time, opened
    from mmagent.knowledge.read.pdf_page import render

    with one_at_a_time, opened(data) as document:
        if not 1 <= number <= len(document):
            raise InputError(f"there is no page {number} in it; it has {len(document)}")
        try:
            with closing(document[number - 1]) as page:
                return render(page, PAGE_DPI)
        except Exception as error:  # PDFium's errors on a damaged page
            raise InputError(f"page {number} of it is damaged and cannot be shown") from error


def _in_pixels(picture: PILImage, box: Box) -> tuple[int, int, int, int]:
    """A box in pixels: within the picture, and not empty."""
    width, height = picture.size
    left = min(max(int(box[0] * width), 0), width - 1)
    top = min(max(int(box[1] * height), 0), height - 1)
    return (
        left,
        top,
        max(left + 1, min(width, round(box[2] * width))),
        max(top + 1, min(height, round(box[3] * height))),
    )
