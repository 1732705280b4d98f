"""Where media come from: a path, bytes or a ``PIL.Image`` become a name and bounded bytes. No file is decoded here."""

from __future__ import annotations

import os
import stat
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent.content import Source
from mmagent.errors import MediaError, NotFound
from mmagent.media.images import to_rgb
from mmagent.media.limits import check_bytes, check_size
from mmagent.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MAX_NAME = 80
"""Characters of a file's name that are kept for messages and history."""


def read_source(source: Source, limits: Settings) -> tuple[str, bytes]:
    """A name to call the picture by, and its bytes; at most ``max_image_bytes`` + 1 of them are ever read.

    Args:
        source: A path, the bytes of a file, or a ``PIL.Image``, which becomes an upright RGB PNG.
        limits: ``max_image_bytes``, and for a ``PIL.Image`` also ``max_image_side`` and ``max_image_pixels``.

    Raises:
        NotFound: There is no such file.
        MediaError: It is a folder, a device, unreadable, or no source at all.
        LimitError: It is too large.
    """
    from PIL import Image

    if isinstance(source, bytes):
        name, data = "the picture", source
    elif isinstance(source, str | os.PathLike):
        name, data = _printable(os.path.basename(source) or str(source)), _read_file(Path(source), limits)
    elif isinstance(source, Image.Image):
        name, data = "the picture", _to_png(source, limits)
    else:
        raise MediaError(f"a {type(source).__name__} is no picture; give a path, bytes or a PIL.Image")
    check_bytes(len(data), name, limits)
    return name, data


def _read_file(path: Path, limits: Settings) -> bytes:
    shown = _printable(str(path), 300)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{shown} is a folder; give one picture file of it")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{shown} is a device or pipe; give a picture file")
        check_bytes(status.st_size, _printable(path.name), limits)
        with path.open("rb") as file:
            return file.read(limits.max_image_bytes + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the path
        raise NotFound(f"there is no file {shown}; check the path") from error
    except OSError as error:
        raise MediaError(f"{shown} cannot be read ({error.strerror}); check the path and its permissions") from error


def _to_png(image: PILImage, limits: Settings) -> bytes:
    check_size(image.width, image.height, "the picture", limits)
    file = BytesIO()
    to_rgb(image, "the picture").save(file, format="PNG")
    return file.getvalue()


def _printable(name: str, length: int = MAX_NAME) -> str:
    """The name in one line: hostile names hold newlines, escape codes and bytes that are no text."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name[-length:])
