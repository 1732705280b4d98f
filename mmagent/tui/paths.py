"""Paths as people give them to a terminal: typed by half, dropped, pasted. It knows the file system only."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlparse

MOST_COMPLETIONS = 8
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
    """What a path that begins so may become; folders end with a slash."""
    folder, _, name = word.rpartition("/")
    found = []
    try:
        root = Path(f"{folder}/" if folder or word.startswith("/") else ".").expanduser()
        with os.scandir(root) as entries:
            for entry in entries:
                if name.lower() in entry.name.lower() and (name.startswith(".") or not entry.name.startswith(".")):
                    shown = f"{folder}/{entry.name}" if folder or word.startswith("/") else entry.name
                    begins = entry.name.lower().startswith(name.lower())
                    found.append((not begins, shown + ("/" if entry.is_dir() else "")))
                if len(found) > 500:
                    break
    except (OSError, ValueError, RuntimeError):  # it cannot be read, is no path, or there is no such user
        return []
    return [shown for _, shown in sorted(found)][:MOST_COMPLETIONS]
