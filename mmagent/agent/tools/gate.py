"""At most so many at once, first come first served, in all threads and event loops of a process. It knows no tools."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from types import TracebackType


class Gate:
    """An asynchronous context manager with ``places`` for tasks. (An `asyncio.Semaphore` serves one loop only.)"""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            with self._lock:
                waiting = place in self._waiting
                if waiting:
                    self._waiting.remove(place)
            if not waiting:  # the place came at the same moment
                self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                place = self._waiting.popleft()
            try:
                place.get_loop().call_soon_threadsafe(_give, place)
            except RuntimeError:  # its loop is closed: the next one gets the place
                continue
            return


def _give(place: asyncio.Future[None]) -> None:
    if not place.done():
        place.set_result(None)
