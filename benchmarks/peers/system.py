"""What `benchmarks.decode` asks of a system. It knows no system: each has a module of its own beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

CONTEXT = 1024
"""Tokens that a system must have room for: prompt and what follows it."""


class System(Protocol):
    """One network in one number format, greedy, one sequence, no end token."""

    def prefill(self, ids: Sequence[int]) -> None:
        """Forget what was, run the network on ``ids``, and choose the next token."""

    def decode(self, count: int) -> list[int]:
        """Run the chosen token, choose the next, ``count`` times: the tokens chosen, one pass of the network each."""

    def logits(self, ids: Sequence[int]) -> bytes:
        """After ``ids``, as little-endian float32 of the vocabulary's size."""


class Greedy(Protocol):
    """The bare loop of a system that has a pass: ``_forward`` gives the logits ``[V]`` of the last of some tokens."""

    _next: int

    def _forward(self, ids: Sequence[int]) -> Any: ...

    def decode(self, count: int) -> list[int]:
        """See `System`."""
        tokens = []
        for _ in range(count):
            self._next = int(self._forward([self._next]).argmax())
            tokens.append(self._next)
        return tokens


def versions(module: str) -> str:
    """Names and versions of what a system's module runs on. Raises whatever its imports raise."""
    return cast(str, import_module(f"benchmarks.peers.{module}").versions())


def open_system(module: str, folder: Path, form: str, threads: int) -> System:
    """A system that is ready to run.

    Args:
        module: Its module's name beside this one; each has ``versions`` and ``open_system``.
        folder: A `checkpoint`.
        form: The number format, in the system's own words.
        threads: That compute.
    """
    return cast(System, import_module(f"benchmarks.peers.{module}").open_system(folder, form, threads))
