"""What `benchmarks.agent_loop` and `benchmarks.storage` ask of an agent framework. It knows none.

Each has a module of its own beside this one, with a model that plays the `SCRIPT` here in process and one tool, which
calls `look_up` here. Nothing waits for a network, so what is left is the framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

ANSWER = "It is done."
PROMPT = "You are a helpful assistant."
DESCRIPTION = "Look something up by its number."


class Script:
    """What the model says next: so many calls of the tool in each step, then the answer."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._calls = 0
        self.looked_up = 0
        """How often the tool ran since `play`."""

    def play(self, steps: Sequence[int]) -> None:
        """Begin a turn whose steps make so many calls."""
        self._steps, self.looked_up = list(reversed(steps)), 0

    def next(self) -> list[tuple[str, int]]:
        """The calls of the next step, by id and argument; none: it is time for the answer."""
        if not self._steps:
            return []
        first, self._calls = self._calls + 1, self._calls + self._steps.pop()
        return [(f"call_{number}", number) for number in range(first, self._calls + 1)]


SCRIPT = Script()


def look_up(number: int) -> str:
    """What every tool does."""
    SCRIPT.looked_up += 1
    return f"Number {number} is on shelf {number % 7}, and there are {number % 11} of it."


class Conversation(Protocol):
    """One session of an agent."""

    async def ask(self, question: str, picture: bytes | None = None) -> str:
        """One turn about a question and a PNG: the answer."""


class Agents(Protocol):
    """An agent with its store."""

    def conversation(self, name: str) -> Conversation:
        """A new session of that name."""

    def size(self) -> int:
        """Bytes of all files that it keeps; stores are closed first."""


def versions(module: str) -> str:
    """Names and versions of what a framework's module runs on. Raises whatever its imports raise."""
    return cast(str, import_module(f"benchmarks.peers.{module}").versions())


def open_agents(module: str, form: str, folder: Path) -> Agents:
    """An agent that is ready to be asked.

    Args:
        module: The framework's module beside this one; each has ``versions`` and ``open_agents``.
        form: What keeps its sessions and what kind its tool is, in the framework's own words.
        folder: Where it keeps them; empty.
    """
    return cast(Agents, import_module(f"benchmarks.peers.{module}").open_agents(form, folder))


def bytes_in(folder: Path) -> int:
    """The sizes of all files in a folder, together."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
