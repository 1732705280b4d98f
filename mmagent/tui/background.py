"""A thread with an event loop of its own, for everything that may take time. It knows no widgets and no agent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Runs coroutines beside the screen, so that nothing they do can make a key wait."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.busy = 0
        """Functions that run now."""
        self._thread = threading.Thread(target=self._run, name="mmagent-background", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait in the screen's loop for a coroutine of this one."""
        return await asyncio.wrap_future(self.submit(work))

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Wait in the screen's loop for a function that blocks, in a thread of its own."""

        def counted() -> T:
            self.busy += 1
            try:
                return function(*args)
            finally:
                self.busy -= 1

        async def work() -> T:
            return await asyncio.to_thread(counted)

        return await self.run(work())

    def close(self, seconds: float = 2.0) -> None:
        """Cancel what still runs and wait a moment for it to end."""

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=seconds)
            self.loop.stop()

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(end(), self.loop)
            self._thread.join(seconds + 1)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
