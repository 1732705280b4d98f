"""Files by the hash of their content: each is stored once, and never changed. It knows nothing of conversations."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmagent.content import Audio, Document, Media, MediaBlock, Video
from mmagent.errors import MediaError, NotFound, StoreError
from mmagent.media.audio import check_stream
from mmagent.media.images import check_image, decode_image
from mmagent.media.sniff import sniff_document
from mmagent.media.source import read_source
from mmagent.settings import Settings, settings

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

logger = logging.getLogger(__name__)

FILE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_TEMPORARY = ".tmp-"


class BlobStore:
    """A folder of files, each under the SHA-256 of its content. Safe for many threads and processes at once.

    Args:
        root: The folder; it is created when something is first stored.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def admit(self, media: Media, limits: Settings | None = None) -> MediaBlock:
        """Check a file and store its bytes as they are (a ``PIL.Image`` or an array as PNG).

        Args:
            media: The file. What it is, its content says; names are not heeded.
            limits: The limits to hold; the process's settings by default.

        Returns:
            An ``image``, ``audio``, ``video`` or ``file`` block. Its ``extras`` have ``name``, for a picture ``width``
            and ``height`` (upright pixels), and for a recording or video ``seconds``, where its header says it.

        Raises:
            NotFound: There is no such file.
            MediaError: It is not what it is given as, or damaged.
            LimitError: It is larger or longer than a limit.
            StoreError: It cannot be written.
        """
        limits = limits or settings()
        extras: dict[str, Any]
        kind: Literal["image", "audio", "video", "file"]
        if isinstance(media, Audio | Video):
            what = "recording" if isinstance(media, Audio) else "video"
            kind = "audio" if isinstance(media, Audio) else "video"
            name, data = read_source(media.source, limits, what)
            stream = check_stream(data, name, limits, what)
            mime_type, extras = stream.mime_type, {} if stream.seconds is None else {"seconds": stream.seconds}
        elif isinstance(media, Document):
            kind, extras = "file", {}
            name, data = read_source(media.source, limits, "document")
            mime_type = sniff_document(data, name)
        else:
            kind = "image"
            name, data = read_source(media.source, limits)
            info = check_image(data, name, limits)
            mime_type, extras = info.mime_type, {"width": info.width, "height": info.height}
        file_id = self.put(data, mime_type)
        return {"type": kind, "file_id": file_id, "mime_type": mime_type, "extras": {**extras, "name": name}}

    def put(self, data: bytes, mime_type: str) -> str:
        """Store bytes and return their file id. It either happens whole or not at all, and survives a power cut.

        Args:
            data: The file, already checked.
            mime_type: Its type, for the log; blocks carry it, the store does not.

        Raises:
            StoreError: They cannot be written.
        """
        file_id = "sha256:" + hashlib.sha256(data).hexdigest()
        path = self.path(file_id)
        try:
            if not _renewed(path, data):
                _write_atomically(path, data)
                logger.debug("stored %s (%s, %d bytes)", file_id, mime_type, len(data))
        except OSError as error:
            reason = f"a file cannot be stored in {self.root} ({error.strerror})"
            raise StoreError(f"{reason}; free some space or set {Settings.variable('data_dir')}") from error
        return file_id

    def get(self, file_id: str) -> bytes:
        """The bytes of a file, checked against their hash.

        Raises:
            MediaError: ``file_id`` is malformed.
            NotFound: There is no such file.
            StoreError: The file cannot be read, or is not what was stored.
        """
        path = self.path(file_id)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"{file_id} is not in {self.root}; give the file again") from error
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
        if "sha256:" + hashlib.sha256(data).hexdigest() != file_id:
            raise StoreError(f"{path} is damaged: its content is not what was stored; give the file again")
        return data

    def open_image(self, file_id: str, limits: Settings | None = None) -> PILImage:
        """A stored picture's pixels: RGB, upright, the first frame of an animation.

        Raises:
            MediaError: ``file_id`` is malformed, or its content is no picture.
            NotFound, StoreError: As `get`.
        """
        return decode_image(self.get(file_id), file_id, limits)

    def sweep(self, keep: Callable[[str], bool], before: float) -> tuple[int, int]:
        """Remove files that nobody needs, and what interrupted writes left.

        Args:
            keep: Says of a file's id whether it is needed.
            before: What was put at this time (in seconds since 1970) or later stays too: somebody may be about to
                refer to it.

        Returns:
            How many files are gone, and how many bytes they had.

        Raises:
            StoreError: A file cannot be removed.
        """
        files = size = 0
        try:
            for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
                file_id = f"sha256:{path.name}"
                if keep(file_id) if _is_file_id(file_id) else not path.name.startswith(_TEMPORARY):
                    continue
                with suppress(FileNotFoundError):  # another process sweeps too
                    if (stat := path.stat()).st_mtime < before and _removed(path, before):
                        files, size = files + 1, size + stat.st_size
        except OSError as error:
            raise StoreError(f"{self.root} cannot be swept ({error}); check its permissions") from error
        return files, size

    def path(self, file_id: str) -> Path:
        """Where a file is, or would be.

        Raises:
            MediaError: ``file_id`` is malformed; nothing but 64 hexadecimal digits ever becomes part of a path.
        """
        if not _is_file_id(file_id):
            raise MediaError(f"{str(file_id)[:80]!r} is no file id; one reads sha256: and 64 hexadecimal digits")
        digest = file_id.removeprefix("sha256:")
        return self.root / digest[:2] / digest

    def __contains__(self, file_id: object) -> bool:
        return _is_file_id(file_id) and self.path(str(file_id)).is_file()


def _is_file_id(value: object) -> bool:
    return isinstance(value, str) and FILE_ID.fullmatch(value) is not None


def _renewed(path: Path, data: bytes) -> bool:
    """Whether the file is there whole; it counts as put now, which `sweep` sees."""
    try:
        if path.read_bytes() != data:  # a damaged copy is replaced
            return False
        os.utime(path)
    except FileNotFoundError:  # maybe swept this moment
        return False
    return True


def _removed(path: Path, before: float) -> bool:
    """Remove a file, unless it is put just now: out of the way first, so that whoever puts it then writes it anew."""
    aside = path if path.name.startswith(_TEMPORARY) else path.with_name(_TEMPORARY + path.name)
    os.replace(path, aside)
    if aside.stat().st_mtime >= before:
        os.replace(aside, path)
        return False
    aside.unlink()
    return True


def _write_atomically(path: Path, data: bytes) -> None:
    """Write beside the place, flush to disk, then rename: readers see the whole file or none."""
    changed = [path.parent]
    for folder in path.parents:
        if folder.is_dir():
            break
        changed.append(folder.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    for folder in changed:
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Make the names in it durable, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
