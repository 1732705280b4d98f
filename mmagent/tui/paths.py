"""Paths as people give them to a terminal: typed by half, dropped, pasted. It knows the file system only."""

from __future__ import annotations

import os
import re
import shlex
from collections import deque
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlparse

MOST_COMPLETIONS = 8
MOST_SEEN, DEEPEST = 5_000, 4
"""Names that are looked at, and how many folders deep."""
_DULL = {"node_modules", "__pycache__", "venv", "build", "dist", "site-packages"}
_MEDIA = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".wav", ".mp3", ".ogg", ".opus", ".flac",
          ".m4a", ".mp4", ".mov", ".mkv", ".webm")  # fmt: skip


def pasted_path(text: str) -> Path | None:
    """The file that a paste names, as terminals write what is dropped on them: quoted, escaped or as an address.

    A path to a picture or recording that is not here counts too: the complaint about it is more help than the text.
    """
    try:
        return _pasted_path(text.strip())
    except (OSError, ValueError, RuntimeError):  # too long, no address, nobody's home, a folder that cannot be read
        return None


def _pasted_path(text: str) -> Path | None:
    if not text or "\n" in text or len(text) > 4096:
        return None
    if text.startswith("file://"):
        text = unquote(urlparse(text).path)
    else:
        try:
            parts = shlex.split(text)
        except ValueError:
            parts = [text]
        text = text if os.path.exists(text) else parts[0] if len(parts) == 1 else ""
    if not text.startswith(("/", "~/", "./", "../")) and not re.match(r"[A-Za-z]:\\", text):
        return None
    path = Path(text).expanduser()
    return path if path.suffix.lower() in _MEDIA or path.is_file() else None


def paths(word: str) -> list[str]:
    """What a path that begins so may become, also in the folders below: pictures, recordings and folders come first.

    Folders end with a slash.
    """
    folder, slash, name = word.rpartition("/")
    try:
        root = Path(f"{folder}/" if slash else ".").expanduser()
    except RuntimeError:  # there is no such user
        return []
    found: list[tuple[bool, bool, int, str]] = []
    waiting, seen = deque([(0, root, folder + slash)]), 0
    while waiting and seen < MOST_SEEN:
        depth, place, shown = waiting.popleft()
        for entry in _entries(place):
            seen += 1
            hidden = entry.name.startswith(".")
            if hidden and not name.startswith("."):
                continue
            inside = _is_folder(entry)
            if name.lower() in entry.name.lower():
                other = not (inside or entry.name.lower().endswith(_MEDIA))
                begins = entry.name.lower().startswith(name.lower())
                found.append((other, not begins, depth, shown + entry.name + ("/" if inside else "")))
            if (
                inside
                and name
                and not hidden
                and depth < DEEPEST
                and entry.name not in _DULL
                and not entry.is_symlink()
            ):
                waiting.append((depth + 1, place / entry.name, f"{shown}{entry.name}/"))
    return [shown for *_, shown in sorted(found)][:MOST_COMPLETIONS]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(islice(entries, MOST_SEEN), key=lambda entry: entry.name)
    except (OSError, ValueError):  # it cannot be read, or is no path
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and entry.is_dir())
    except OSError:
        return False
