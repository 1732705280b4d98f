"""Markdown that grows while it is shown. It knows text that nobody vouches for, no events.

A code fence is highlighted once, when it is closed: highlighting an open one at each piece costs the square of its
length.
"""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Markdown
from textual.widgets._markdown import MarkdownBlock, MarkdownFence

from mmagent.cli.printable import printable


class PlainFence(MarkdownFence):
    """Code as it comes, without colours until `finish`."""

    finished = False

    @classmethod
    def highlight(cls, code: str, language: str, ansi: bool = False, dark: bool = False) -> Content:
        """The code itself."""
        return Content(code)

    def finish(self) -> None:
        """The code is whole: give it its colours."""
        if not self.finished:
            self.finished = True
            self.notify_style_update()

    def notify_style_update(self) -> None:
        """Colours follow the theme, where there are any."""
        if not self.finished:
            return
        ansi, dark = self.app.native_ansi_color, self.app.current_theme.dark
        self._highlighted_code = MarkdownFence.highlight(self.code, self.lexer, ansi=ansi, dark=dark)
        self.set_content(self._highlighted_code)


class GrowingMarkdown(Markdown):
    """A text of which more may come. Control characters are shown, never obeyed; links are only told of."""

    def __init__(self) -> None:
        self._given = ""
        super().__init__(open_links=False)

    def get_block_class(self, block_name: str) -> type[MarkdownBlock]:
        """Fences stay plain while they are open."""
        return PlainFence if block_name in ("fence", "code_block") else super().get_block_class(block_name)

    async def show(self, text: str, *, more: bool) -> None:
        """Show the text; where it goes on from what is there, only what is new is read.

        Args:
            text: All of it.
            more: Whether it may still grow.
        """
        if more and text.endswith("\r"):  # a line's end that has come by half
            text = text[:-1]
        if not text.startswith(self._given):
            await self.update("")
            self._given = ""
        if len(text) > len(self._given):
            await self.append(printable(text[len(self._given) :]))
            self._given = text
        self._finish(more=more)

    def _finish(self, *, more: bool) -> None:
        """Highlight the fences that are closed: all but the last block, and that too where nothing more comes."""
        blocks = list(self.children)
        last = blocks[-1] if blocks else None
        for fence in self.query(PlainFence):
            if not more or (fence is not last and last not in fence.ancestors):
                fence.finish()
