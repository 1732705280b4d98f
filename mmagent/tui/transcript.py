"""The conversation on the screen: a window of it, so that its length costs nothing. It knows items and their views."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import MountError
from textual.widgets import Static

if TYPE_CHECKING:
    from mmagent.tui.items import Item
    from mmagent.tui.story import Story
    from mmagent.tui.views import ItemView

WELCOME = Text.assemble(
    ("mmagent\n\n", "bold"),
    "Ask something, and see each step of the answer.\n\n",
    ("@name ", "bold"), " adds a picture or recording, as dropping it here does\n",
    ("/     ", "bold"), " all commands; /knowledge DIR answers from documents\n",
    ("Ctrl-R", "bold"), " speak; edit what is heard before it is sent\n",
    ("Ctrl-L", "bold"), " conversations of before, to find and go on with\n",
    ("Esc   ", "bold"), " stops an answer\n",
    ("F1    ", "bold"), " help\n",
)  # fmt: skip
WINDOW = 24
"""Items that are shown of a conversation that is opened, and more where they do not fill the screen."""
STEP = 30
"""Items that come when its edge is reached."""
MOST = 120
"""Items on the screen at once."""


class Transcript(VerticalScroll, can_focus=True):
    """The items from `first` to `last`; it follows what is written until somebody scrolls up.

    Args:
        results: Which tool results are open.
    """

    def __init__(self, results: str) -> None:
        super().__init__(id="transcript")
        self.results, self.thoughts = results, False
        self.first = self.last = self._told = 0
        self._moving = False
        self._welcome, self._before = Static(WELCOME, id="welcome"), Static(id="earlier")
        self._lock = asyncio.Lock()
        """One change after the other."""

    @cached_property
    def story(self) -> Story:
        """The conversation; events and views are imported with it, after the first picture."""
        from mmagent.tui.story import Story

        return Story()

    def compose(self) -> ComposeResult:
        """What to begin with, while there is nothing else."""
        yield from (self._welcome, self._before)

    def on_mount(self) -> None:
        """Follow from the beginning."""
        self._before.display = False
        self.anchor()

    async def open(self, story: Story) -> None:
        """Show another conversation, from its end."""
        await self._change(self._open(story))

    async def _change(self, change: Coroutine[Any, Any, None]) -> None:
        """One after the other, and none more once it is taken off the screen."""
        async with self._lock:
            if not self.is_attached:
                change.close()
                return
            try:
                await change
            except MountError:
                if self.is_attached and self.app.is_running:
                    raise

    async def _open(self, story: Story) -> None:
        self.story = story
        self.first = self.last = max(0, len(story.items) - WINDOW)
        async with self.batch():
            await self.remove_children(self._views())
            await self._reach(len(story.items))
        self._told = self.last
        self.anchor()
        self.scroll_end(animate=False)
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        """Show earlier items where there is room."""
        if self.first and self.max_scroll_y <= 0 and not self._moving:
            self._moving = True
            self.call_next(self._earlier)

    async def update(self, changed: Iterable[Item]) -> None:
        """Show what is new or has changed, as far as it is in the window."""
        await self._change(self._update(changed))

    async def _update(self, changed: Iterable[Item]) -> None:
        views = {id(view.item): view for view in self._views()}
        there = len(self.story.items)  # more may come while these are shown
        for item in {id(item): item for item in changed}.values():
            if (view := views.get(id(item))) is not None:
                await view.show()
        if self._follows and there - self.first > 2 * MOST:
            await self._open(self.story)
            return
        room = self._follows or self.last - self.first < MOST
        if room and self._told <= self.last < there:
            await self._reach(there)
            if self._follows and self.last - self.first > MOST:
                await self._forget_first(self.last - self.first - WINDOW)
        self._told = there

    async def follow(self) -> None:
        """Go to the end, and follow it from now on."""
        if self.last < len(self.story.items):
            await self.open(self.story)
        self.anchor()
        self.scroll_end(animate=False)

    def watch_scroll_y(self, old: float, new: float) -> None:
        """At an edge of the window, it moves."""
        super().watch_scroll_y(old, new)
        if self._moving or not self.is_attached:
            return
        if new <= 0 < old and self.first > 0:
            self._moving = True
            self.call_next(self._earlier)
        elif new >= self.max_scroll_y > 0 and new > old and self.last < len(self.story.items):
            self._moving = True
            self.call_next(self._later)

    async def set_results(self, results: str) -> None:
        """Open or fold all tool results."""
        self.results = results
        from mmagent.tui.views import CallView

        for view in self.query(CallView):
            view.chosen = True
            await view.fold(results == "always")

    async def set_thoughts(self, unfolded: bool) -> None:
        """Open or fold all thoughts."""
        self.thoughts = unfolded
        from mmagent.tui.views import ThoughtView

        for view in self.query(ThoughtView):
            await view.fold(unfolded)

    @property
    def _follows(self) -> bool:
        """Whether nobody has scrolled up."""
        return not self._anchor_released

    def _views(self) -> list[ItemView]:
        from mmagent.tui.views import ItemView

        return list(self.query_children(ItemView))

    def _made(self, items: Sequence[Item]) -> list[ItemView]:
        from mmagent.tui.views import view_of

        return [view_of(item, self.results, thoughts=self.thoughts) for item in items]

    async def _reach(self, last: int) -> None:
        """Show items up to one."""
        new = self.story.items[self.last : last]
        self.last = last
        await self.mount_all(self._made(new))
        self._edges()

    async def _forget_first(self, count: int) -> None:
        self.first += count
        await self.remove_children(self._views()[:count])

    async def _earlier(self) -> None:
        """Show items before the first, and forget as many of the last."""
        async with self._lock:
            views = self._views()
            count = min(STEP, self.first)
            new = self.story.items[self.first - count : self.first]
            self.first -= count
            await self.mount_all(self._made(new), before=views[0])
            await self.remove_children(views[max(0, MOST - count) :])
            self.last = min(self.last, self.first + MOST)
            self._edges()
            self._keep(views[0])
            if self._follows:
                self.call_after_refresh(self._fill)

    async def _later(self) -> None:
        """Show items after the last, and forget as many of the first."""
        async with self._lock:
            seen = self._views()[-1]
            place = seen.virtual_region.y - self.scroll_y
            await self._reach(min(len(self.story.items), self.last + STEP))
            if (over := self.last - self.first - MOST) > 0:
                await self._forget_first(over)
            self._keep(seen, place)

    def _keep(self, seen: ItemView, place: float = 0.0) -> None:
        """A view that was in sight stays where it was, so many rows from the top."""

        def scroll() -> None:
            if not self._follows:
                self.scroll_to(y=max(1, seen.virtual_region.y - place), animate=False, force=True)
            self._moving = False

        self.call_after_refresh(scroll)

    def _edges(self) -> None:
        """Say how much there is before."""
        self._welcome.display = not self.story.items
        self._before.display = bool(self.first)
        self._before.update(Text(f"▲ {self.first:,} earlier; scroll up", style="dim"))
