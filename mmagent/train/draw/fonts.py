"""The fonts of this machine, character by character: knows glyphs and their ink, nothing of what is written.

Pillow's own font is always there. Fonts of the system, of the user and of installed Python packages join in, each at
several widths, so that one family teaches more than one hand.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "~/Library/Fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "%WINDIR%/Fonts",
)
_PACKAGES = ("captcha", "cv2", "fpdf", "matplotlib", "pygame", "reportlab", "wordcloud")
"""Python packages that are known to bring fonts along."""
_ENDINGS = (".ttf", ".otf", ".woff", ".woff2")
_LARGEST = 2 << 20
"""Bytes of a file: what is larger is full of scripts that are not drawn here, and slow to open."""
_MOST = 200
"""Fonts that are used of a machine."""
_WIDTHS = (0.85, 1.0, 1.0, 1.15)
_PROBE = "AOag058$"
_SPACE = 0.28
"""Width of a space at size 1, at least: a narrower one cannot be told from none in small print."""
_REFERENCE = 32
"""Pixels at which a face is measured."""
_INKED = [0] * 41 + [255] * 215
"""Of each grey level, whether it is ink."""


@dataclass(frozen=True)
class Glyph:
    """A character as ink."""

    ink: Image.Image | None
    """How much ink is where, ``L``, cut to the ink; None for a space."""
    left: int
    """From the pen to the ink, in pixels."""
    top: int
    """From the baseline to the ink's top; negative is above."""
    advance: float
    """From the pen to the next character's pen."""


@dataclass(frozen=True)
class Face:
    """A font of this machine at a width."""

    path: str
    """The file; empty for the font that Pillow brings along."""
    stretch: float = 1.0
    """How much wider than the font was made."""

    def glyph(self, size: int, char: str) -> Glyph:
        """A character at a size in pixels."""
        return _glyph(self.path, size, self.stretch, char)

    def width(self, size: int, text: str) -> float:
        """How wide a text is in pixels."""
        return sum(self.glyph(size, char).advance for char in text)

    @property
    def capital(self) -> float:
        """The height of a capital letter at size 1."""
        return _measured(self)[0]

    @property
    def pitch(self) -> float:
        """The mean width of a character at size 1."""
        return _measured(self)[1]


@functools.cache
def faces() -> tuple[Face, ...]:
    """All faces of this machine, Pillow's own first."""
    paths = ["", *(path for path in _files() if _is_usable(path))]
    return tuple(Face(path, width) for path in paths[: _MOST + 1] for width in _WIDTHS)


def pick_face(rng: random.Random) -> Face:
    """A face, at random; takes the same one draw from rng however many there are."""
    found = faces()
    return found[int(rng.random() * len(found))]


def _files() -> list[str]:
    found = {path.name: path for folder in _folders() for path in _fonts_in(folder)}
    return [str(found[name]) for name in sorted(found)]


def _folders() -> Iterator[Path]:
    for folder in _FOLDERS:
        yield Path(os.path.expandvars(folder)).expanduser()
    for name in _PACKAGES:
        if (spec := importlib.util.find_spec(name)) is not None:
            yield from map(Path, spec.submodule_search_locations or ())


def _fonts_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.stat().st_size <= _LARGEST]


def _is_usable(path: str) -> bool:
    """Whether the font has its own shape for letters, digits and signs."""
    try:
        font = ImageFont.truetype(path, _REFERENCE, layout_engine=ImageFont.Layout.BASIC)
        shapes = {bytes(font.getmask(char)) for char in (*_PROBE, "\U0010ffff")}
        return len(shapes) == len(_PROBE) + 1 and 0.4 < -font.getbbox("H", anchor="ls")[1] / _REFERENCE < 1.1
    except (OSError, ValueError):
        return False


@functools.lru_cache(maxsize=64)
def _font(path: str, size: int) -> Font:
    if path:
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=30_000)
def _glyph(path: str, size: int, stretch: float, char: str) -> Glyph:
    font = _font(path, size)
    advance = max(font.getlength(char), _SPACE * size if char == " " else 0.0) * stretch
    left, top, right, bottom = (int(edge) for edge in font.getbbox(char, anchor="ls"))
    if right <= left or bottom <= top:
        return Glyph(None, 0, 0, advance)
    cell = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(cell).text((1 - left, 1 - top), char, fill=255, font=font, anchor="ls")
    if stretch != 1:
        cell = cell.resize((max(1, round(cell.width * stretch)), cell.height), Image.Resampling.BOX)
    box = cell.getbbox()
    if box is None:
        return Glyph(None, 0, 0, advance)
    return Glyph(cell.crop(box), round((left - 1) * stretch) + box[0], top - 1 + box[1], advance)


@functools.cache
def _measured(face: Face) -> tuple[float, float]:
    usual = string.ascii_letters + string.digits
    return -face.glyph(_REFERENCE, "H").top / _REFERENCE, face.width(_REFERENCE, usual) / len(usual) / _REFERENCE
