"""Tools that are generators: parts in their order, progress on the way, and an end that is heeded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from mmagent.agent.tools import Progress, ToolContext, ToolResult, tool
from mmagent.agent.tools.calls import perform
from mmagent.agent.tools.results import Outcome
from mmagent.errors import ToolError
from mmagent.media import BlobStore


async def done(
    one: Any, tmp_path: Path, told: list[Progress] | None = None, *, timeout: float = 30, **args: Any
) -> Outcome:
    context = ToolContext[Any](on_progress=None if told is None else told.append)
    return await perform(tool(one), args, context, BlobStore(tmp_path), timeout)


def shown(outcome: Outcome) -> list[str]:
    return [block["text"] if block["type"] == "text" else block["type"] for block in outcome.content]


async def test_parts_are_shown_in_order_and_progress_is_told(tmp_path: Path) -> None:
    def report(rows: int) -> Generator[Any, None, str]:
        """A report."""
        for row in range(rows):
            yield Progress(f"row {row}", row / rows)
            yield f"row {row}"
        yield PIL.Image.new("RGB", (2, 2))
        return "the end"

    async def later(rows: int) -> AsyncIterator[Any]:
        """The same."""
        for row in range(rows):
            yield Progress(f"row {row}", row / rows)
            yield f"row {row}"
        yield PIL.Image.new("RGB", (2, 2))
        yield "the end"

    for made in (report, later):
        told: list[Progress] = []
        assert shown(await done(made, tmp_path, told, rows=2)) == ["row 0\nrow 1", "image", "the end"]
        assert told == [Progress("row 0", 0.0), Progress("row 1", 0.5)]


async def test_what_a_generator_gives_may_be_nothing_or_have_data(tmp_path: Path) -> None:
    def nothing() -> Iterator[Any]:
        """Progress only."""
        yield Progress("working")

    def data() -> Iterator[Any]:
        """Data."""
        yield ToolResult("shown", data={"a": 1})
        yield "more"

    assert shown(await done(nothing, tmp_path)) == ["done"]
    outcome = await done(data, tmp_path)
    assert (shown(outcome), outcome.data) == (["shown\nmore"], {"a": 1})


@pytest.mark.parametrize(
    ("error", "why", "crashed"),
    [(ToolError("no more"), "no more", False), (KeyError("row"), "broken failed: KeyError: 'row'", True)],
)
async def test_a_generator_that_fails_has_failed(error: Exception, why: str, crashed: bool, tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        """Broken."""
        yield "a part"
        raise error

    async def broken_later() -> AsyncIterator[str]:
        """Broken too."""
        yield "a part"
        raise error

    outcome = await done(broken, tmp_path)
    assert (outcome.error, outcome.crashed) == (why, crashed)
    outcome = await done(broken_later, tmp_path)
    assert (outcome.error, outcome.crashed) == (why.replace("broken", "broken_later"), crashed)


async def test_a_generator_that_is_late_is_closed(tmp_path: Path) -> None:
    closed = threading.Event()
    go_on = threading.Event()

    def slow() -> Iterator[str]:
        """Slow."""
        try:
            yield "a part"
            go_on.wait(30)
            yield "another part, after the time"
            raise AssertionError("nobody asks for more")
        finally:
            closed.set()

    outcome = await done(slow, tmp_path, timeout=0.05)
    assert outcome.error == "slow timed out after 0.05 s"
    go_on.set()
    assert await asyncio.to_thread(closed.wait, 30)


@pytest.mark.parametrize("how", ["late", "cancelled"])
async def test_an_async_generator_is_closed_at_once(how: str, tmp_path: Path) -> None:
    closed: list[bool] = []
    started = asyncio.Event()

    async def slow() -> AsyncIterator[str]:
        """Slow."""
        try:
            yield "a part"
            started.set()
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    if how == "late":
        assert (await done(slow, tmp_path, timeout=0.05)).crashed
    else:
        task = asyncio.create_task(done(slow, tmp_path))
        await started.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    assert closed == [True]


async def test_a_generator_without_end_is_stopped_and_fills_no_memory(tmp_path: Path) -> None:
    closed = threading.Event()

    def endless() -> Iterator[str]:
        """Endless."""
        try:
            while True:
                yield "more and more"
        finally:
            closed.set()

    assert (await done(endless, tmp_path, timeout=0.1)).error == "endless timed out after 0.1 s"
    assert await asyncio.to_thread(closed.wait, 30)


async def test_one_that_does_not_heed_its_timeout_is_left_alone(tmp_path: Path) -> None:
    released = asyncio.Event()

    async def deaf() -> Any:
        """Waits, whoever cancels it."""
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    async def parts() -> AsyncIterator[str]:
        """Deaf between its parts."""
        yield "first"
        yield await deaf()

    def plain() -> Any:
        """A plain function that returns what is deaf."""
        return deaf()

    async def slow_end() -> AsyncIterator[str]:
        """Deaf in its clean-up."""
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            await deaf()

    giving_up = asyncio.get_running_loop().call_later(10, released.set)
    for made in (parts, plain, slow_end):
        outcome = await done(made, tmp_path, timeout=0.02)
        assert outcome.error == f"{made.__name__} timed out after 0.02 s"
        assert not released.is_set()
    giving_up.cancel()
    released.set()
