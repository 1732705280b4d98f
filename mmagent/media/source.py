"""Where media come from: a path, bytes or pixels become a name and bounded bytes. No picture is decoded here."""

from __future__ import annotations

import os
import stat
import sys
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mmagent.content import Audio, Document, Image, Media, Source, Video
from mmagent.errors import MediaError, NotFound
from mmagent.media.audio import has_video
from mmagent.media.images import to_rgb
from mmagent.media.limits import check_bytes, check_size, max_bytes
from mmagent.media.sniff import CONTAINERS, SNIFF_BYTES, is_plain_text, sniff
from mmagent.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MAX_NAME = 80
"""Characters of a file's name that are kept for messages and history."""


def read_source(source: Source, limits: Settings, kind: str = "picture") -> tuple[str, bytes]:
    """A name to call a file by, and its bytes; never more than one beyond the limit of its kind are read.

    Args:
        source: A path, the bytes of a file, or, for a picture, a ``PIL.Image`` or an array of numpy's, which become
            an upright RGB PNG.
        limits: The limit of the kind; for pixels also ``max_image_side`` and ``max_image_pixels``.
        kind: What it is to be, a key of `BYTES`.

    Raises:
        NotFound: There is no such file.
        MediaError: It is a folder, a device, unreadable, or no source at all.
        LimitError: It is too large.
    """
    if isinstance(source, bytes):
        name, data = f"the {kind}", source
    elif isinstance(source, str | os.PathLike):
        name, data = _printable(os.path.basename(source) or str(source)), _read_file(Path(source), limits, kind)
    elif kind in ("picture", "file") and (image := _pixels(source, limits)):
        name, data = "the picture", _to_png(image, limits)
    else:
        pixels = ", bytes or a PIL.Image" if kind == "picture" else " or bytes"
        raise MediaError(f"a {type(source).__name__} is no {kind}; give a path{pixels}")
    check_bytes(len(data), name, limits, kind)
    return name, data


def recognise(source: bytes | Path, limits: Settings) -> Media | str:
    """What a file is by its first bytes: media to admit, or the text in it.

    Raises:
        NotFound: There is no such file.
        MediaError: It is a folder, unreadable, or of no type that is known.
        LimitError: It is too large.
    """
    if isinstance(source, bytes):
        name, head = f"{len(source):,} bytes", source[:SNIFF_BYTES]
    else:
        name, head = _printable(source.name), _read_file(source, limits, "file", SNIFF_BYTES)
    mime_type = sniff(head) or ""
    if mime_type in CONTAINERS:
        data = source if isinstance(source, bytes) else _read_file(source, limits, "video")
        return Video(source) if has_video(data) else Audio(source)
    if kind := {"image": Image, "audio": Audio, "video": Video}.get(mime_type.partition("/")[0]):
        return kind(source)
    if mime_type in ("application/pdf", "application/zip"):
        return Document(source)
    data = source if isinstance(source, bytes) else _read_file(source, limits, "document")
    if mime_type or not is_plain_text(data):
        raise MediaError(
            f"{name} of {mime_type or 'unknown'} type cannot be shown; return text, a picture or a document"
        )
    check_bytes(len(data), name, limits, "document")
    return data.decode("utf-8")


def open_file(source: bytes | str | os.PathLike[str] | IO[bytes], limits: Settings, kind: str) -> tuple[str, IO[bytes]]:
    """A name to call a file by, and the open file, which can be sought in; close it after use.

    Args:
        source: Its bytes, its path, or the file opened for reading bytes, of which no more than one byte beyond the
            largest limit is read, from where it stands.
        limits: What an open file may hold. The size of other sources is for the caller to check.
        kind: What it is to be, a key of `BYTES`.

    Raises:
        NotFound: There is no such file.
        MediaError: It is a folder, a device, unreadable, or no source at all.
        LimitError: It is an open file that is too large.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return f"the {kind}", BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return _printable(os.path.basename(source) or str(source)), _open(Path(source), kind)
    if not callable(read := getattr(source, "read", None)):
        raise MediaError(f"a {type(source).__name__} is no {kind}; give a path, bytes, an open file or an array")
    name = _printable(os.path.basename(str(getattr(source, "name", "")))) or f"the {kind}"
    try:
        data = read(max_bytes("file", limits) + 1)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise MediaError(f"{name} cannot be read; open it again") from error
    if not isinstance(data, bytes | bytearray):
        raise MediaError(f"{name} is opened as text; open it for reading bytes ('rb')")
    check_bytes(len(data), name, limits, "file")
    return name, BytesIO(data)


def _read_file(path: Path, limits: Settings, kind: str, size: int | None = None) -> bytes:
    """The file, or its first ``size`` bytes."""
    with _open(path, kind) as file:
        if size is None:
            check_bytes(os.fstat(file.fileno()).st_size, _printable(path.name), limits, kind)
        try:
            return file.read(size or max_bytes(kind, limits) + 1)
        except OSError as error:
            raise _unreadable(path, error) from error


def _open(path: Path, kind: str) -> IO[bytes]:
    """A regular file, open; a pipe is not waited for."""
    shown = _printable(str(path), 300)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(f"{shown} is a folder; give one {kind}{' file' if kind == 'picture' else ''} of it")
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{shown} is a device or pipe; give a {kind}{' file' if kind == 'picture' else ''}")
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the path
        raise NotFound(f"there is no file {shown}; check the path") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> MediaError:
    shown = _printable(str(path), 300)
    return MediaError(f"{shown} cannot be read ({error.strerror}); check the path and its permissions")


def _pixels(source: Any, limits: Settings) -> PILImage | None:
    """A ``PIL.Image``, also from an array of numpy's: bytes, or numbers from 0 to 1, in grey, RGB or RGBA."""
    from PIL import Image as Pillow

    if isinstance(source, Pillow.Image):
        return source
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(source, numpy.ndarray):
        return None
    if source.ndim not in (2, 3) or source.size == 0 or (source.ndim == 3 and source.shape[2] not in (1, 3, 4)):
        raise MediaError(f"an array of shape {source.shape} is no picture; give [height, width] or [height, width, 3]")
    check_size(source.shape[1], source.shape[0], "the picture", limits)
    pixels = source[:, :, 0] if source.ndim == 3 and source.shape[2] == 1 else source
    if pixels.dtype.kind == "f":
        if not (numpy.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise MediaError("the picture's numbers are not all from 0 to 1; scale them, or give bytes (uint8)")
        pixels = (pixels * 255).round().astype(numpy.uint8)
    elif pixels.dtype.kind == "b":
        pixels = pixels.astype(numpy.uint8) * 255
    elif pixels.dtype != numpy.uint8:
        raise MediaError(f"an array of {pixels.dtype} is no picture; give bytes (uint8), or numbers from 0 to 1")
    return Pillow.fromarray(numpy.ascontiguousarray(pixels))


def _to_png(image: PILImage, limits: Settings) -> bytes:
    check_size(image.width, image.height, "the picture", limits)
    file = BytesIO()
    to_rgb(image, "the picture").save(file, format="PNG")
    return file.getvalue()


def _printable(name: str, length: int = MAX_NAME) -> str:
    """The name in one line: hostile names hold newlines, escape codes and bytes that are no text."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name[-length:])
