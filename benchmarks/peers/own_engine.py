"""mmagent's engine through its `Network` port, a bare loop: a row, its tokens, argmax. Nothing is guessed ahead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

import mmagent
from benchmarks.peers.system import Greedy
from mmagent.engine.decoder.network import Network, Part, open_network
from mmagent.engine.load import load


def versions() -> str:
    """What this runs on."""
    return f"mmagent {mmagent.__version__}"


def open_system(folder: Path, form: str, threads: int) -> OwnEngine:
    """``int8``, ``bfloat16`` or ``float32``."""
    torch.set_num_threads(threads)
    return OwnEngine(open_network(load(folder, "cpu", form)))


class OwnEngine(Greedy):
    """A `System`."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._row = network.row()
        self._next = 0

    def prefill(self, ids: Sequence[int]) -> None:
        """See `System`."""
        self._next = int(self._read(ids).argmax())

    def logits(self, ids: Sequence[int]) -> bytes:
        """See `System`."""
        return self._read(ids).numpy().tobytes()

    def _read(self, ids: Sequence[int]) -> torch.Tensor:
        """A new sequence, in the chunks that the scheduler would make of it."""
        self._row = self._network.row()
        step = self._network.chunk
        return [self._forward(ids[start : start + step]) for start in range(0, len(ids), step)][-1]

    def _forward(self, ids: Sequence[int]) -> torch.Tensor:
        return self._network.run([Part(self._row, ids)])[0][-1]
