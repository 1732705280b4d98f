"""Finds the files to take in, and reads their bytes as they are at one moment. It knows nothing of what is in them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmagent.errors import InputError, NotFound
from mmagent.media.sniff import SNIFF_BYTES
from mmagent.settings import Settings

CHANGING = "it is being written to; add it again when that is done"
_LINK = "it is a link out of the folder; give what it points to itself"
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
    unread: list[Path] = field(default_factory=list)
    """Folders that could not be looked into."""


def find(paths: Iterable[Path], without: Path | None = None) -> Found:
    """The files at paths, folders searched through; hidden ones are passed over, links out of a folder refused.

    Args:
        paths: Files and folders.
        without: A folder that is passed over too.

    Raises:
        NotFound: A path does not exist.
    """
    found = Found()
    for given in paths:
        path = absolute(given)
        if not os.path.exists(path):  # unlike Path.exists, False for any name that cannot be one
            raise NotFound(f"there is no file or folder {given}; check the path")
        path = Path("/" + str(path.resolve()).lstrip("/")) if os.name == "posix" else path.resolve()
        folder = path.is_dir()
        if folder:
            found.folders.append(path)
        for file in _walk(path, found, without) if folder else [path]:
            uri = file.relative_to(path).as_posix() if folder else str(file)
            if reason := _refusal(file, path if folder else None):
                found.skipped.append((os.fsencode(uri).decode("utf-8", "replace"), reason))
            else:
                found.files.setdefault(file, uri)
    return found


def _walk(folder: Path, found: Found, without: Path | None) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        found.skipped.append((str(error.filename), f"it cannot be read ({error.strerror}); check its permissions"))
        found.unread.append(Path(error.filename))

    for root, folders, files in os.walk(folder, onerror=refused):
        shown = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in shown if not os.path.islink(Path(root, name)) and Path(root, name) != without]
        for name in shown:
            if os.path.islink(Path(root, name)) and not Path(root, name).resolve().is_relative_to(folder):
                found.skipped.append((Path(root, name).relative_to(folder).as_posix(), _LINK))
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _refusal(file: Path, folder: Path | None) -> str:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    if not file.is_file():
        return "it is not a file"
    if folder and file.is_symlink() and not file.resolve().is_relative_to(folder):
        return _LINK
    return ""


def stamp_of(file: Path) -> str:
    """Size, time of change and identity of a file: while they are the same, so is its content.

    Raises:
        InputError: It cannot be looked at.
    """
    with _explained():
        found = file.stat()
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def absolute(path: Path) -> Path:
    """A path from the root, ``~`` and ``~name`` resolved; what cannot be a path of anything stays what it is."""
    try:
        return path.expanduser().absolute()
    except RuntimeError:  # there is no such user
        return path.absolute()


def places_of(given: Path, known: Collection[str]) -> set[str]:
    """The paths that a file or folder may be known by: a link is itself where it was taken in as one."""
    here = absolute(given)
    itself = os.path.join(os.path.realpath(here.parent), here.name)
    return {itself} if itself in known else {os.path.realpath(here)}


def read_bytes(file: Path, limit: Callable[[bytes], tuple[int, str]], within: Path | None = None) -> tuple[bytes, str]:
    """A file's content and its stamp, which is empty where the file may still be changing.

    Args:
        file: The file.
        limit: From its first bytes to how many it may have, and the setting that changes that.
        within: The folder that it has to be in, whatever links lead to it.

    Raises:
        InputError: It cannot be read, is too large, elsewhere, or being written to; the message is the reason.
    """
    with _explained(), os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as opened:
        before = os.fstat(opened.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise InputError("it is not a file")
        if within is not None and not _place_of(opened.fileno(), file).is_relative_to(within):
            raise InputError(_LINK)
        head = opened.read(SNIFF_BYTES)
        max_bytes, setting = limit(head)
        if before.st_size > max_bytes:
            variable = Settings.variable(setting)
            raise InputError(f"it has {before.st_size:,} bytes and the limit is {max_bytes:,}; {variable} changes it")
        data = head + opened.read(max_bytes + 1 - len(head))
        after = os.fstat(opened.fileno())
    if len(data) != before.st_size or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise InputError(CHANGING)
    settled = time.time() - after.st_mtime > _SETTLED_SECONDS
    return data, stamp_of(file) if settled else ""


def _place_of(descriptor: int, file: Path) -> Path:
    """Where an open file really is; where the system does not say, where its name leads to now."""
    link = f"/proc/self/fd/{descriptor}"
    return Path(os.path.realpath(link if os.path.exists(link) else file))


class _explained:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if isinstance(error, OSError):
            reason = f"it cannot be read ({error.strerror or error}); check its permissions"
            raise InputError(reason) from error
