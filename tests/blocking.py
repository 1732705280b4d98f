"""A check for calls that block an event loop: nobody else's turn goes on meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LONGEST_SECONDS = 0.1
_WAITED = Path("/proc/thread-self/schedstat")


@pytest.fixture
def no_blocking(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fails a test in which a callback, or a task between two awaits, kept an event loop longer than 0.1 s.

    The time that the thread waited for a processor does not count. What was too long is in the list, and goes from
    there if the test takes it out.
    """
    blocked: list[str] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began, waited = time.monotonic(), _waited()
        run(handle)
        seconds = time.monotonic() - began
        if seconds > LONGEST_SECONDS and (seconds := seconds - (_waited() - waited)) > LONGEST_SECONDS:
            blocked.append(f"{handle!r} took {seconds:.3f} s")

    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    yield blocked
    assert not blocked, "the event loop was blocked: " + "; ".join(blocked)


def _waited() -> float:
    """Seconds that this thread has waited for a processor; 0 where the system does not tell."""
    try:
        return int(_WAITED.read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
