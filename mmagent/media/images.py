"""Bytes of a picture become upright RGB pixels, or a refusal. Sizes are checked in the header, before any decoding.

It reads no files and keeps nothing. Only the decoder of the sniffed type is tried, and what decoders say never
reaches the user.
"""

from __future__ import annotations

import ctypes
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

from mmagent.errors import MediaError
from mmagent.media.limits import check_bytes, check_size, refusal
from mmagent.media.sniff import PICTURE_FORMATS, sniff_picture
from mmagent.settings import Settings, settings

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

ORIENTATION = 0x0112  # EXIF 2.3, 4.6.4 A
TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF 6.0, section 15


@dataclass(frozen=True)
class ImageInfo:
    """What is known of a picture that can be decoded."""

    mime_type: str
    width: int
    """Pixels, after EXIF rotation."""
    height: int
    """Pixels, after EXIF rotation."""


def check_image(data: bytes, name: str = "the picture", limits: Settings | None = None) -> ImageInfo:
    """Decode a picture once, to know that it can be decoded.

    Args:
        data: The file.
        name: What to call it in error messages.
        limits: The limits to hold; the process's settings by default.

    Raises:
        MediaError: It is no picture, or a damaged one.
        LimitError: It is larger than a limit.
    """
    image = decode_image(data, name, limits)
    return ImageInfo(sniff_picture(data, name), image.width, image.height)


def decode_image(data: bytes, name: str = "the picture", limits: Settings | None = None) -> PILImage:
    """A picture's pixels: RGB, upright by EXIF, transparency over white, the first frame of an animation.

    Args:
        data: The file.
        name: What to call it in error messages.
        limits: The limits to hold; the process's settings by default.

    Raises:
        MediaError: It is no picture, or a damaged one.
        LimitError: It is larger than a limit.
    """
    limits = limits or settings()
    check_bytes(len(data), name, limits)
    mime_type = sniff_picture(data, name)
    with _decoder_errors(name, PICTURE_FORMATS[mime_type]):
        image = _open(data, PICTURE_FORMATS[mime_type], name, limits)
        check_size(image.width, image.height, name, limits)
        _check_tiles(image, name, limits)
        image.load()
    return to_rgb(image, name)


def to_rgb(image: PILImage, name: str = "the picture") -> PILImage:
    """A picture of any mode in RGB, upright by its EXIF data, transparency over white.

    16-bit greys keep their range; 32-bit greys (``I``, ``F``), which have none, go from their darkest to their
    brightest value.

    Raises:
        MediaError: Its pixels cannot be read.
    """
    with _decoder_errors(name, image.format or image.mode):
        image.load()
        upright = _upright(image)
        if upright.mode.startswith("I;16"):
            upright = upright.convert("I").point(lambda value: value * (1 / 257)).convert("L")
        elif upright.mode in ("I", "F"):
            upright = _stretch(upright)
        transparent = upright.has_transparency_data
        rgb = _over_white(upright.convert("RGBA")) if transparent else upright.convert("RGB")
        rgb.info.clear()  # a stale EXIF orientation would turn it once more
        return rgb


def _open(data: bytes, picture_format: str, name: str, limits: Settings) -> PILImage:
    """The picture with its header read. `PIL.Image.open` would refuse large ones in its own words, before we can."""
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  (importing a plugin registers its decoder)

    Image.preinit()  # registers the other four
    _silence_decoders()
    factory, _ = Image.OPEN[picture_format]
    try:
        return factory(BytesIO(data), "")
    except Image.DecompressionBombError as error:  # a GIF's frame may be far larger than its header says
        found = f"of more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
        raise refusal(name, found, limits.max_image_pixels, "max_image_pixels") from error


@lru_cache(maxsize=1)
def _silence_decoders() -> None:
    """Keep Pillow's log and libtiff's errors off the terminal; Pillow raises what matters anyway."""
    from PIL import _imaging

    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with suppress(AttributeError, OSError):  # where libtiff is linked into Pillow, it cannot be reached
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _check_tiles(image: PILImage, name: str, limits: Settings) -> None:
    """A small TIFF may declare tiles of gigabytes, which its decoder allocates whole."""
    tags = getattr(image, "tag_v2", {})
    if TILE_WIDTH in tags and TILE_LENGTH in tags:
        check_size(int(tags[TILE_WIDTH]), int(tags[TILE_LENGTH]), f"a tile of {name}", limits)


def _upright(image: PILImage) -> PILImage:
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata is no reason to refuse good pixels
        orientation = None
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _stretch(image: PILImage) -> PILImage:
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError("pixels that are no numbers")
    scale = 255 / (high - low) if high > low else 0.0
    return image.convert("F").point(lambda value: value * scale + -low * scale).convert("L")


def _over_white(image: PILImage) -> PILImage:
    from PIL import Image

    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


@contextmanager
def _decoder_errors(name: str, picture_format: str) -> Iterator[None]:
    """Whatever a decoder raises on hostile bytes becomes one line; what it warns of is not shown."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    except MediaError:
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, MemoryError ...
        message = f"{name} is a damaged or unsupported {picture_format} picture; save it again or take another one"
        raise MediaError(message) from error
