"""What a turn may use: model calls and time. It knows numbers and the clock; who uses them is the loop's affair."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mmagent.errors import TurnError
from mmagent.settings import Settings


@dataclass
class Budget:
    """What a turn may use, and with it the turns of the agents that it asks."""

    limit: int
    """Model calls."""
    steps: int = 0
    """Of these, how many were made."""


class Clock:
    """The time that a turn has, and with it the turns of the agents that it asks. It stands while people think."""

    timeout: asyncio.Timeout | None = None
    _waiting = 0
    _left = 0.0

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Stop it, until nobody is waited for any more."""
        loop, when = asyncio.get_running_loop(), self.timeout.when() if self.timeout else None
        if self.timeout and not self._waiting and when is not None:
            self._left = when - loop.time()
            self.timeout.reschedule(None)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if self.timeout and not self._waiting and not self.timeout.expired():
                self.timeout.reschedule(loop.time() + self._left)


def limit(reached: str, setting: str) -> TurnError:
    """The error of a turn that reached a limit."""
    variable = Settings.variable(setting)
    return TurnError(f"there was no answer {reached}; ask for less at once or raise {setting} ({variable})")
