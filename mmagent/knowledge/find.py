"""Finds the files to take in, and reads their bytes as they are at one moment. It knows nothing of what is in them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmagent.errors import InputError, NotFound
from mmagent.settings import Settings

_SETTLED_SECONDS = 2.0
"""A file changed so shortly before it was read may change again without a new time of change."""


@dataclass
class Found:
    """What stands at the given paths."""

    files: dict[Path, str] = field(default_factory=dict)
    """File to uri."""
    folders: list[Path] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Uri and reason of what cannot be taken in."""


def find(paths: Iterable[Path]) -> Found:
    """The files at paths, folders searched through; hidden ones are passed over, links out of a folder refused.

    Raises:
        NotFound: A path does not exist.
    """
    found = Found()
    for given in paths:
        path = given.expanduser().absolute()
        if not os.path.exists(path):  # unlike Path.exists, False for any name that cannot be one
            raise NotFound(f"there is no file or folder {given}; check the path")
        path = path.resolve()
        folder = path.is_dir()
        if folder:
            found.folders.append(path)
        for file in _walk(path, found) if folder else [path]:
            uri = file.relative_to(path).as_posix() if folder else str(file)
            if reason := _refusal(file, path if folder else None):
                found.skipped.append((os.fsencode(uri).decode("utf-8", "replace"), reason))
            else:
                found.files.setdefault(file, uri)
    return found


def _walk(folder: Path, found: Found) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        found.skipped.append((str(error.filename), f"it cannot be read ({error.strerror}); check its permissions"))

    for root, folders, files in os.walk(folder, onerror=refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _refusal(file: Path, folder: Path | None) -> str:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    if not file.is_file():
        return "it is not a file"
    if folder and file.is_symlink() and not file.resolve().is_relative_to(folder):
        return "it is a link to a file outside the folder; give that file itself"
    return ""


def stamp_of(file: Path) -> str:
    """Size, time of change and identity of a file: while they are the same, so is its content.

    Raises:
        InputError: It cannot be looked at.
    """
    with _explained():
        found = file.stat()
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def read_bytes(file: Path, max_bytes: int, field: str) -> tuple[bytes, str]:
    """A file's content and its stamp, which is empty where the file may still be changing.

    Args:
        file: The file.
        max_bytes: The limit.
        field: The setting that changes the limit.

    Raises:
        InputError: It cannot be read, is larger than the limit, or is being written to; the message is the reason.
    """
    with _explained(), file.open("rb") as opened:
        before = os.fstat(opened.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise InputError("it is not a file")
        if before.st_size > max_bytes:
            limit = Settings.variable(field)
            raise InputError(f"it has {before.st_size:,} bytes and the limit is {max_bytes:,}; {limit} changes it")
        data = opened.read(max_bytes + 1)
        after = os.fstat(opened.fileno())
    if len(data) != before.st_size or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise InputError("it is being written to; add it again when that is done")
    settled = time.time() - after.st_mtime > _SETTLED_SECONDS
    return data, stamp_of(file) if settled else ""


class _explained:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if isinstance(error, OSError):
            reason = f"it cannot be read ({error.strerror or error}); check its permissions"
            raise InputError(reason) from error
