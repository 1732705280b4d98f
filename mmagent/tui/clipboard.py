"""The clipboard of the machine, by the programs that it has for it. It knows no screen.

What is copied also goes to the terminal itself (OSC 52, by Textual), which works over SSH where the terminal allows it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from mmagent.errors import InputError

_SECONDS = 3
_PICTURES: tuple[tuple[str, ...], ...] = (
    ("wl-paste", "--no-newline", "--type", "image/png"),
    ("xclip", "-selection", "clipboard", "-t", "image/png", "-o"),
    ("pngpaste", "-"),
)
_TEXTS: tuple[tuple[str, ...], ...] = (
    ("wl-paste", "--no-newline"),
    ("xclip", "-selection", "clipboard", "-o"),
    ("pbpaste",),
)
_COPIES: tuple[tuple[str, ...], ...] = (("wl-copy",), ("xclip", "-selection", "clipboard"), ("pbcopy",))


def read() -> bytes | str:
    """The picture in the clipboard, as PNG, or else its text.

    Raises:
        InputError: There is neither, or no program to ask.
    """
    from mmagent.settings import settings

    for command in _PICTURES:
        data = _asked(command)
        if data and data.startswith(b"\x89PNG"):
            if len(data) > settings().max_image_bytes:
                raise InputError(
                    f"the picture in the clipboard has {len(data) / 1e6:.0f} MB, too many; make it smaller"
                )
            return data
    for command in _TEXTS:
        if data := _asked(command):
            return data.decode("utf-8", "replace")
    if not any(shutil.which(command[0]) for command in (*_PICTURES, *_TEXTS)):
        need = "pngpaste" if sys.platform == "darwin" else "wl-clipboard or xclip"
        raise InputError(
            f"no program here reads the clipboard; install {need}, or attach the file by its path: /attach FILE"
        )
    raise InputError("the clipboard is empty, or what is in it is no picture and no text")


def write(text: str) -> None:
    """Put a text there, where a program can; nothing is said where none can."""
    for command in _COPIES:
        if shutil.which(command[0]):
            try:
                subprocess.run(command, input=text.encode(), timeout=_SECONDS, check=True, capture_output=True)
            except (OSError, subprocess.SubprocessError):
                continue
            return


def _asked(command: tuple[str, ...]) -> bytes:
    if not shutil.which(command[0]):
        return b""
    try:
        return subprocess.run(command, timeout=_SECONDS, check=True, capture_output=True).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
