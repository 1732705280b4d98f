"""Markdown that grows while it is shown. It knows text that nobody vouches for, no events.

A code fence is highlighted once, when it is closed: highlighting an open one at each piece costs the square of its
length.
"""

from __future__ import annotations

import asyncio

from textual.containers import VerticalGroup
from textual.content import Content
from textual.widgets import Markdown
from textual.widgets._markdown import MarkdownBlock, MarkdownFence

from mmagent.cli.printable import printable

BLOCKS = 12
"""Paragraphs, lists, fences of a section, from which on another one is begun."""


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


class Section(Markdown):
    """Some blocks of a text. Links are only told of."""

    def __init__(self) -> None:
        super().__init__(open_links=False)

    def get_block_class(self, block_name: str) -> type[MarkdownBlock]:
        """Fences stay plain while they are open."""
        return PlainFence if block_name in ("fence", "code_block") else super().get_block_class(block_name)

    def finish(self, *, more: bool) -> None:
        """Highlight the fences that are closed: all but the last block, and that too where nothing more comes."""
        last = self.children[-1] if self.children else None
        for fence in self.query(PlainFence):
            if not more or (fence is not last and last not in fence.ancestors):
                fence.finish()

    async def without_last(self) -> str:
        """Take the last block out, and give its source."""
        last = self.children[-1]
        assert isinstance(last, MarkdownBlock)
        await last.remove()
        return "".join(self.source.splitlines(keepends=True)[last.source_range[0] :])


class GrowingMarkdown(VerticalGroup):
    """A text of which more may come. Control characters are shown, never obeyed.

    It grows in its last section only: what stands before is laid out once, however long the text becomes.
    """

    def __init__(self) -> None:
        self._given = ""
        self._lock = asyncio.Lock()
        """One change after the other."""
        super().__init__()

    async def show(self, text: str, *, more: bool) -> None:
        """Show the text; where it goes on from what is there, only what is new is read.

        Args:
            text: All of it.
            more: Whether it may still grow.
        """
        async with self._lock:
            await self._show(text, more)

    async def _show(self, text: str, more: bool) -> None:
        if more and text.endswith("\r"):  # a line's end that has come by half
            text = text[:-1]
        if text.strip() == self._given.strip():  # a text is stripped once it is whole
            text = self._given
        elif not text.startswith(self._given):
            await self.remove_children()
            self._given = ""
        if not self.children:
            await self.mount(Section())
        sections = list(self.query_children(Section))
        if not sections:  # it is being taken off the screen
            return
        section = sections[-1]
        if len(text) > len(self._given):
            await section.append(printable(text[len(self._given) :]))
            self._given = text
        section.finish(more=more)
        if more and len(section.children) > BLOCKS:
            following = Section()
            with self.app.batch_update():
                source = await section.without_last()
                await self.mount(following)
                await following.append(source)
