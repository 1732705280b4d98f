"""Reads pictures: the words in them, line by line with their places, and the pictures themselves to look at."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING

from mmagent.errors import InputError, MediaError
from mmagent.knowledge.extract import Extract, Mark, Picture
from mmagent.knowledge.read import refused
from mmagent.media.images import TILE_LENGTH, TILE_WIDTH, decode_image, to_rgb
from mmagent.media.limits import check_size
from mmagent.media.sniff import sniff_picture

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from mmagent.knowledge.read import Options
    from mmagent.settings import Settings

TIFF = "image/tiff"
OCR_SHARE = 0.7
"""Of the time that reading one document may take: after it, pages are no longer looked at for text."""


def read_picture(data: bytes, name: str, options: Options) -> Extract:
    """Reads a picture; a TIFF may have several, its pages. Of an animation it is the first frame.

    Raises:
        InputError: It is no picture, damaged, or larger than a limit; the message is the reason.
    """
    mime_type = sniff_picture(data, "it")
    until = monotonic() + OCR_SHARE * options.limits.index_timeout
    if mime_type != TIFF:
        return _extract([decode_image(data, "it", options.limits)], mime_type, options, until)
    return _extract(tiff_pages(data, options.limits, options.max_index_pages), mime_type, options, until)


def tiff_pages(data: bytes, limits: Settings, most: int, only: int | None = None) -> Iterator[PILImage]:
    """The pages of a TIFF in RGB.

    Args:
        data: The file.
        limits: Of pictures.
        most: How many pages there may be.
        only: The one to decode, from 1; None is all of them.

    Raises:
        InputError: There are more pages, one is larger than a limit, or the first cannot be decoded.
    """
    number = 0
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            from PIL import TiffImagePlugin

            image = TiffImagePlugin.TiffImageFile(BytesIO(data), "")
            while True:
                if number >= most:
                    raise refused(f"more than {most:,} pages", "max_index_pages", most)
                number += 1
                if only in (None, number):
                    check_size(image.width, image.height, f"page {number}", limits)
                    tags = image.tag_v2
                    if TILE_WIDTH in tags and TILE_LENGTH in tags:  # its decoder allocates a tile whole
                        check_size(int(tags[TILE_WIDTH]), int(tags[TILE_LENGTH]), f"a tile of page {number}", limits)
                    yield to_rgb(image, "it")
                    if only:
                        return
                try:
                    image.seek(number)
                except EOFError:
                    return
    except InputError:
        raise
    except Exception as error:  # decoders raise anything
        raise MediaError(f"it is a damaged TIFF picture at page {number}; save it again or take another one") from error


def _extract(pages: list[PILImage] | Iterator[PILImage], mime_type: str, options: Options, until: float) -> Extract:
    parts: list[str] = []
    marks: list[Mark] = []
    notes: list[str] = []
    position = count = late = 0
    for count, page in enumerate(pages, start=1):
        if not options.ocr:
            continue
        if count > 1 and monotonic() > until:
            late = late or count
            continue
        for line in _lines(page, count, notes):
            gap = "" if not parts else "\n\n" if marks[-1].page != count else "\n"
            position += len(gap)
            marks.append(Mark(position, position + len(line[0]), page=count, box=line[1]))
            parts += [gap, line[0]]
            position += len(line[0])
    if late:
        notes.append(f"from page {late} on there was no time to look for text; MMAGENT_INDEX_TIMEOUT gives more")
    if count == 1:  # a picture has no pages
        marks = [Mark(mark.start, mark.end, box=mark.box) for mark in marks]
        pictures = [Picture("image")]
    else:
        pictures = [Picture("page", page=number) for number in range(1, count + 1)]
    return Extract("".join(parts), mime_type, marks=marks, pictures=pictures, notes=notes)


def _lines(page: PILImage, number: int, notes: list[str]) -> list[tuple[str, tuple[float, float, float, float]]]:
    from mmagent.media.ocr import read_lines

    try:
        return [(line.text, line.box) for line in read_lines(page)]
    except MediaError:
        notes.append(f"page {number} could not be looked at for text")
        return []
