"""Pictures in a terminal: by its own graphics where it has any, else two pixels to a cell. It knows pixels, no files.

Which graphics a terminal speaks has to be asked before the app takes the keyboard, so `prepare` comes first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.widgets import Static

from mmagent.cli.printable import printable

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from mmagent.tui.background import Background

COLUMNS, ROWS = 60, 18
"""A picture takes no more cells."""
_SPEAKING = ("kitty", "iterm", "wezterm", "ghostty", "konsole", "mintty", "foot", "contour")
_graphics: Any = None


def prepare(how: str) -> None:
    """Ask the terminal what it can draw, once, before the app starts.

    Args:
        how: ``auto`` asks those that are known to draw and are not at the other end of a line; ``graphics`` asks any;
            ``blocks`` and ``none`` ask nothing.
    """
    global _graphics
    _graphics = None
    names = " ".join(os.environ.get(name, "") for name in ("TERM", "TERM_PROGRAM", "LC_TERMINAL")).lower()
    far = any(name in os.environ for name in ("SSH_CONNECTION", "TMUX", "STY"))
    if how == "graphics" or (how == "auto" and not far and any(name in names for name in _SPEAKING)):
        from textual_image import renderable, widget

        if renderable.Image in (renderable.TGPImage, renderable.SixelImage):
            _graphics = widget.Image


def blocks(picture: PILImage, columns: int = COLUMNS, rows: int = ROWS) -> Text:
    """A picture as half blocks, two pixels to a cell, in at most so many cells."""
    width, height = picture.size
    scale = min(columns / width, 2 * rows / height, 1.0)
    size = max(1, round(width * scale)), max(2, round(height * scale / 2) * 2)
    small = picture.convert("RGB").resize(size)
    pixels = small.load()
    assert pixels is not None
    text = Text(no_wrap=True)
    for y in range(0, size[1], 2):
        for x in range(size[0]):
            upper, lower = (f"#{r:02x}{g:02x}{b:02x}" for r, g, b in (_rgb(pixels[x, y]), _rgb(pixels[x, y + 1])))
            text.append("▀", f"{upper} on {lower}")
        if y + 2 < size[1]:
            text.append("\n")
    return text


def _rgb(pixel: Any) -> tuple[int, int, int]:
    return pixel  # type: ignore[no-any-return]


class Picture(Static):
    """A picture that is decoded in the background, and a line that says what it is.

    Args:
        background: Where it is decoded.
        load: Gives the pixels; may take its time, may raise.
        caption: The line; shown alone where the picture cannot be.
        rows: At most.
    """

    def __init__(
        self, background: Background, load: Callable[[], PILImage], caption: str, rows: int = ROWS, how: str = "auto"
    ) -> None:
        caption = printable(caption)
        super().__init__(Text(caption, style="dim"), classes="picture")
        self._background, self._load, self._caption, self._rows, self._how = background, load, caption, rows, how

    def on_mount(self) -> None:
        """Begin to decode."""
        if self._how != "none":
            self.run_worker(self._show(), exit_on_error=False)

    async def _show(self) -> None:
        from mmagent.errors import MMAgentError

        columns = max(8, min(COLUMNS, self.app.size.width - 8))
        try:
            if _graphics is not None:
                picture = await self._background.call(self._small)
                drawn = _graphics(picture)
                drawn.styles.height, drawn.styles.width = self._rows, "auto"
                await self.mount(drawn)
            else:
                drawn = await self._background.call(lambda: blocks(self._load(), columns, self._rows))
                self.update(Text("\n", no_wrap=True).join([drawn, Text(self._caption, style="dim")]))
        except MMAgentError as error:
            self.update(Text(printable(f"{self._caption} ({error})"), style="dim"))

    def _small(self) -> PILImage:
        picture = self._load()
        picture.thumbnail((1024, 1024))
        return picture
