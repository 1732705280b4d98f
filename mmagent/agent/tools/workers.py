"""Threads for calls that block. A call that nobody waits for any more holds up no other, nor the end of the process."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
_Job: TypeAlias = Callable[[], None]

MAX_IDLE = 8
"""Threads that are kept for the next call; there are as many as there are calls at once."""
_idle: list[SimpleQueue[_Job]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a forked process has none of its parent's threads


async def in_thread(function: Callable[[], T], name: str = "mmagent") -> T:
    """Call a function in a daemon thread, which is left behind if this is cancelled.

    Args:
        function: The function; it sees the caller's context variables.
        name: What the thread is called meanwhile.
    """
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()

    def report(value: Any, error: BaseException | None) -> None:
        if not finished.done():
            finished.set_result((value, error))

    def work() -> None:
        threading.current_thread().name = name
        value, error = None, None
        try:
            value = context.run(function)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(report, value, error)

    _start(work)
    value, error = await finished
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def _start(job: _Job) -> None:
    try:
        _idle.pop().put(job)
    except IndexError:
        threading.Thread(target=_live, args=(job,), daemon=True).start()


def _live(job: _Job) -> None:
    """A thread's life: one job after the other, until there are enough idle threads without it."""
    jobs: SimpleQueue[_Job] = SimpleQueue()
    while True:
        job()
        del job  # and with it what it was given
        if len(_idle) >= MAX_IDLE:
            return
        _idle.append(jobs)
        job = jobs.get()
