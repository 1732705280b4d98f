"""How a call of a tool runs: retries, turns taken, threads that hang, contexts, labels of media, and large output."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from mmagent.agent.tools import AnyTool, Progress, Tool, ToolContext, ToolResult, tool
from mmagent.agent.tools.calls import FIRST_PAUSE, perform
from mmagent.agent.tools.gate import Gate
from mmagent.agent.tools.results import Outcome
from mmagent.agent.tools.workers import MAX_IDLE, in_thread
from mmagent.content import Image
from mmagent.errors import ToolError
from mmagent.media import BlobStore


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which took any time."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr("mmagent.agent.tools.calls.asyncio.sleep", pause)
    return made


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Hung threads wait for this, so that none outlives its test."""
    event = threading.Event()
    yield event
    event.set()


async def done(
    one: AnyTool | Callable[..., Any],
    blobs: BlobStore,
    context: ToolContext[Any] | None = None,
    timeout: float = 30,
    **args: Any,
) -> Outcome:
    made = one if isinstance(one, Tool) else tool(one)
    return await perform(made, args, context or ToolContext(call_id="c1"), blobs, timeout)


def words(outcome: Outcome) -> str:
    return "".join(block["text"] for block in outcome.content if block["type"] == "text")


# Retries


def failing(times: int, error: Exception, **options: Any) -> tuple[AnyTool, list[int]]:
    tries: list[int] = []

    @tool(**options)
    async def flaky() -> str:
        """Fails at first."""
        tries.append(len(tries))
        if len(tries) <= times:
            raise error
        return "at last"

    return flaky, tries


async def test_a_crash_is_tried_again_after_a_pause_that_doubles(blobs: BlobStore, pauses: list[float]) -> None:
    flaky, tries = failing(2, OSError("gone"), effect="read", retries=3)
    assert words(await done(flaky, blobs)) == "at last"
    assert (len(tries), pauses) == (3, [FIRST_PAUSE, 2 * FIRST_PAUSE])


async def test_the_last_crash_is_told(blobs: BlobStore, pauses: list[float]) -> None:
    flaky, tries = failing(9, OSError("gone"), effect="idempotent", retries=1)
    outcome = await done(flaky, blobs)
    assert (outcome.error, outcome.crashed, len(tries)) == ("flaky failed: OSError: gone", True, 2)


async def test_what_a_tool_says_is_no_crash(blobs: BlobStore, pauses: list[float]) -> None:
    flaky, tries = failing(9, ToolError("no such order"), effect="read", retries=3)
    assert (await done(flaky, blobs)).error == "no such order"
    assert (len(tries), pauses) == (1, [])


async def test_a_timeout_is_tried_again(blobs: BlobStore, pauses: list[float]) -> None:
    tries: list[int] = []

    @tool(effect="read", retries=1)
    async def slow() -> str:
        """Slow at first."""
        tries.append(1)
        if len(tries) == 1:
            await asyncio.Event().wait()
        return "now"

    assert words(await done(slow, blobs, timeout=0.02)) == "now"


# Turns taken


async def test_no_more_than_so_many_calls_run_at_once(blobs: BlobStore) -> None:
    running: list[int] = []
    most: list[int] = []

    @tool(concurrency=2)
    async def work() -> None:
        """Work."""
        running.append(1)
        most.append(len(running))
        for _ in range(5):
            await asyncio.sleep(0)
        running.pop()

    await asyncio.gather(*(done(work, blobs) for _ in range(9)))
    assert (max(most), len(most)) == (2, 9)


def test_a_place_is_shared_by_event_loops_in_threads() -> None:
    gate = Gate(1)
    inside: list[int] = []
    most: list[int] = []

    async def enter() -> None:
        for _ in range(50):
            async with gate:
                inside.append(1)
                most.append(len(inside))
                await asyncio.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=lambda: asyncio.run(enter())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (max(most), len(most)) == (1, 200)


async def test_whoever_stops_waiting_gives_the_place_on() -> None:
    gate = Gate(1)
    async with gate:
        waiting = asyncio.create_task(gate.__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    async with asyncio.timeout(10), gate:
        pass


async def test_a_call_that_timed_out_counts_no_more(blobs: BlobStore, released: threading.Event) -> None:
    hang: list[bool] = [True]

    @tool(concurrency=1)
    def work() -> str:
        """Hangs at first."""
        if hang.pop() if hang else False:
            released.wait(30)
        return "done"

    assert (await done(work, blobs, timeout=0.02)).error == "work timed out after 0.02 s"
    assert words(await done(work, blobs)) == "done"


# Threads


async def test_threads_are_used_again(blobs: BlobStore) -> None:
    @tool
    def where() -> str:
        """Where it runs."""
        return str(threading.get_ident())

    seen = {words(await done(where, blobs)) for _ in range(20)}
    assert len(seen) <= MAX_IDLE


async def test_threads_that_hang_are_in_nobodys_way(blobs: BlobStore, released: threading.Event) -> None:
    @tool
    def hang() -> None:
        """Hang."""
        released.wait(60)

    @tool
    def quick() -> str:
        """Quick."""
        return "quick"

    late = await asyncio.gather(*(done(hang, blobs, timeout=0.02) for _ in range(3 * MAX_IDLE)))
    assert all(outcome.crashed for outcome in late)
    assert words(await done(quick, blobs)) == "quick"


def test_a_process_ends_though_a_thread_hangs() -> None:
    code = (
        "import asyncio, threading\n"
        "from mmagent.agent.tools.workers import in_thread\n"
        "async def main():\n"
        "    task = asyncio.create_task(in_thread(threading.Event().wait))\n"
        "    await asyncio.sleep(0)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


async def test_a_thread_sees_the_context_of_its_caller() -> None:
    import contextvars

    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    name.set("caller")
    assert await in_thread(name.get) == "caller"


async def test_a_plain_function_may_return_a_coroutine(blobs: BlobStore) -> None:
    async def inner() -> str:
        return "inside"

    def outer() -> Any:
        """A decorator of somebody's."""
        return inner()

    assert words(await done(outer, blobs)) == "inside"


# The context


async def test_the_context_says_which_call_it_is_and_when_it_is_over(blobs: BlobStore) -> None:
    seen: list[ToolContext[Any]] = []

    def look(ctx: ToolContext[dict[str, int]]) -> str:
        """Look."""
        seen.append(ctx)
        return f"{ctx.call_id} {ctx.idempotency_key} {ctx.deps['a']} {ctx.session} {ctx.cancelled.is_set()}"

    given: ToolContext[Any] = ToolContext(call_id="c7", idempotency_key="k7", deps={"a": 1}, session="work")
    assert words(await done(look, blobs, given)) == "c7 k7 1 work False"
    assert seen[0].cancelled.is_set()
    assert not given.cancelled.is_set()


async def test_a_thread_learns_that_nobody_waits_any_more(blobs: BlobStore) -> None:
    stopped = threading.Event()

    def work(ctx: ToolContext) -> None:
        """Work until told to stop."""
        if ctx.cancelled.wait(30):
            stopped.set()

    assert (await done(work, blobs, timeout=0.02)).crashed
    assert await asyncio.to_thread(stopped.wait, 30)


async def test_progress_is_told_in_the_thread_of_the_event_loop(blobs: BlobStore) -> None:
    told: list[tuple[Progress, int]] = []

    def sync(ctx: ToolContext) -> None:
        """From a thread."""
        ctx.progress("half\ud83d", 0.5)
        ctx.progress("more than all", 7)
        ctx.progress("no number", float("nan"))

    async def direct(ctx: ToolContext) -> None:
        """From the loop."""
        ctx.progress("here")

    context = ToolContext[Any](on_progress=lambda progress: told.append((progress, threading.get_ident())))
    await done(sync, blobs, context)
    await done(direct, blobs, context)
    assert [progress for progress, _ in told] == [
        Progress("half?", 0.5),
        Progress("more than all", 1.0),
        Progress("no number", None),
        Progress("here", None),
    ]
    assert {thread for _, thread in told} == {threading.get_ident()}


async def test_progress_without_end_fills_no_memory_and_none_comes_late(blobs: BlobStore) -> None:
    told: list[Progress] = []
    stop = threading.Event()

    def flood(ctx: ToolContext) -> None:
        """Tell without end."""
        while not stop.is_set():
            ctx.progress("again")

    assert (await done(flood, blobs, ToolContext(on_progress=told.append), timeout=0.05)).crashed
    before = len(told)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(told) == before
    stop.set()


# Media


async def test_media_say_which_call_gave_them(blobs: BlobStore) -> None:
    @tool
    def chart() -> Any:
        """Two charts."""
        return ["two charts", PIL.Image.new("RGB", (4, 3), "red"), Image(PIL.Image.new("RGB", (2, 2)))]

    old: Any = {"type": "image", "file_id": "sha256:" + "0" * 64, "extras": {"label": "chart 4"}}
    outcome = await done(chart, blobs, ToolContext(call_id="c9", pictures=(old,)))
    first, second = (block.get("extras") for block in outcome.content if block["type"] == "image")
    assert first == {"width": 4, "height": 3, "name": "the picture", "call_id": "c9", "label": "chart 5"}
    assert second == {"width": 2, "height": 2, "name": "the picture", "call_id": "c9", "label": "chart 6"}


async def test_many_calls_at_once_never_swap_pictures(blobs: BlobStore) -> None:
    @tool
    def sync(shade: int) -> Any:
        """A picture of a shade, from a thread."""
        return [f"shade {shade}", PIL.Image.new("L", (8, 8), shade)]

    @tool
    async def later(shade: int) -> Any:
        """The same, from the loop."""
        await asyncio.sleep(0)
        return ToolResult([PIL.Image.new("L", (8, 8), shade), f"shade {shade}"])

    context = ToolContext[Any]()

    async def one(shade: int) -> tuple[str, str]:
        from dataclasses import replace

        made = sync if shade % 2 else later
        outcome = await done(made, blobs, replace(context, call_id=f"c{shade}"), shade=shade)
        picture: Any = next(block for block in outcome.content if block["type"] == "image")
        assert picture["extras"]["call_id"] == f"c{shade}"
        assert blobs.open_image(picture["file_id"]).getpixel((0, 0)) == (shade, shade, shade)
        assert words(outcome) == f"shade {shade}"
        return made.name, picture["extras"]["label"]

    labels = await asyncio.gather(*map(one, range(60)))
    assert len(set(labels)) == 60


async def test_a_flood_of_pictures_is_refused(blobs: BlobStore) -> None:
    def flood() -> Any:
        """Too many."""
        return [PIL.Image.new("L", (1, 1), shade) for shade in range(21)]

    outcome = await done(flood, blobs)
    assert outcome.error is not None and outcome.crashed
    assert outcome.error.startswith("flood failed: LimitError: there are more than 20 pictures and files in it")


# Large output


@pytest.mark.parametrize(
    ("value", "start", "total"),
    [
        ("x" * 100_000_000, "xxx", 100_000_000),
        (["x" * 1_000_000] * 60, '["xxx', 60 * 1_000_004),
        ({"rows": [{"a": 1}] * 40_000}, '{"rows": [{"a": 1}, {"a": 1}', 10 + 40_000 * 10),
        ([7] * 150_000, "[7, 7, 7", 150_000 * 3),
    ],
)
async def test_large_output_is_cut_before_it_is_copied(value: Any, start: str, total: int, blobs: BlobStore) -> None:
    def large() -> Any:
        """Large."""
        return value

    import tracemalloc

    tracemalloc.start()
    outcome = await done(large, blobs, timeout=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.cut and words(outcome).startswith(start)
    assert words(outcome).endswith(f"\n[cut: this is the beginning, 20000 of {total} characters]")
    assert len(words(outcome)) < 20_100
    assert peak < 1150_000


async def test_bytes_of_any_size_are_shown_by_what_they_are(blobs: BlobStore) -> None:
    def unknown() -> bytes:
        """Nothing known."""
        return bytes(30_000_000)

    def log() -> bytes:
        """A log."""
        return b"line\n" * 1_000_000

    assert (await done(unknown, blobs)).error == (
        "unknown failed: MediaError: 30,000,000 bytes of unknown type cannot be shown; "
        "return text, a picture or a document"
    )
    assert words(await done(log, blobs)).endswith("[cut: this is the beginning, 20000 of 5000000 characters]")


@pytest.mark.parametrize("stubborn", [True, False])
async def test_a_tool_that_will_not_end_holds_nobody_up(stubborn: bool, tmp_path: Path) -> None:
    started, over = asyncio.Event(), asyncio.Event()

    @tool(effect="read")
    async def hold() -> str:
        started.set()
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                if not stubborn:
                    raise
        return ""

    context = ToolContext(blobs=BlobStore(tmp_path))
    call = asyncio.create_task(perform(hold, {}, context, BlobStore(tmp_path), 60))
    await started.wait()
    began = asyncio.get_running_loop().time()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert asyncio.get_running_loop().time() - began < 2  # ten times what it may take
    late = await perform(hold, {}, context, BlobStore(tmp_path), 0.01)
    assert late.error == "hold timed out after 0.01 s"
    over.set()
    await asyncio.sleep(0)
