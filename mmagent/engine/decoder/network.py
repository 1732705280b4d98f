"""The port of a decoder that runs: a ragged batch in, logits out. It knows token ids and rows, no prompts and no text.

Three implementations: `NativeNetwork` (our kernels, CPU), `TorchNetwork` (plain torch operations: CUDA graphs, and CPUs
without those instructions), `ModuleNetwork` (the module's own forward, for all families that the other two don't know).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from mmagent.engine.load import Loaded


class Row(Protocol):
    """Keys and values of one sequence."""

    length: int
    """Positions that are filled; a smaller number forgets those after it."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""

    def fork(self, length: int) -> Row:
        """A copy of the first ``length`` positions."""

    def detached(self) -> Row:
        """The same row to keep, without the place that it takes among running ones; this one is done with."""


@dataclass(frozen=True)
class Insets:
    """What a sequence has beside its tokens: features of pictures, their positions, and who sees them."""

    places: torch.Tensor
    """Positions ``[N]`` of the placeholders, ascending."""
    features: torch.Tensor
    """What stands there in place of embeddings, ``[N, D]``."""
    deep: tuple[torch.Tensor, ...] = ()
    """Added to the hidden states after each of the first layers, ``[N, D]`` each (DeepStack, arXiv 2406.04334)."""
    turns: torch.Tensor | None = None
    """Rotary positions ``[3, L]`` (time, height, width) where they are not 0, 1, 2 ..."""
    ends: torch.Tensor | None = None
    """First position ``[L]`` that a token does not see, where that is not the next one (pictures seen as a whole)."""
    pictures: tuple[tuple[int, Any], ...] = ()
    """Where each picture starts, and its `Features`: what `ModuleNetwork` takes."""

    @property
    def shift(self) -> int:
        """Rotary position of the tokens after the last given one, less their place."""
        return 0 if self.turns is None else int(self.turns.max()) + 1 - self.turns.shape[1]


@dataclass(frozen=True)
class Part:
    """Tokens that follow those in a row."""

    row: Any
    tokens: Sequence[int]
    wanted: int = 1
    """Logits of that many last tokens."""
    insets: Insets | None = None


class Network(Protocol):
    """A decoder that runs. Not safe for threads: one thread drives it."""

    chunk: int
    """Tokens in one pass that keep a cancellation waiting for some 50 ms at most."""
    reuses: bool
    """Whether rows may be forked, cut, and go on in later prompts."""
    batches: bool
    """Whether several parts are one pass; else they are run one after the other."""
    whole_pictures: bool
    """Whether each token of a picture sees the whole picture, so that pictures are run in one piece."""
    guesses: int
    """Guessed tokens that are worth verifying in one pass; 0 where a guess could change the text."""

    def row(self) -> Any:
        """An empty row."""

    def run(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        """Append the tokens of each part to its row; the last logits ``[wanted, V]`` of each, float32.

        No two parts are of the same row. What a part gets does not depend on the others, nor on how a sequence was cut
        into parts: exactly so for `NativeNetwork`.
        """


def open_network(loaded: Loaded, *, release: bool = False) -> Network:
    """The fastest way to run a network's decoder here.

    Args:
        loaded: The network.
        release: Let the module's own decoder weights go once they are copied; it cannot run by itself afterwards.
    """
    from mmagent.engine.decoder.blocks import read_blocks

    dtype = loaded.decoder_dtype or str(loaded.dtype).removeprefix("torch.")
    blocks = read_blocks(loaded.model)
    if blocks is None:
        from mmagent.engine.decoder.module import ModuleNetwork

        return ModuleNetwork(loaded.model, loaded.device, loaded.dtype)
    from mmagent.engine.decoder.native import NativeNetwork, native_dtypes

    if loaded.device.type == "cpu" and dtype in native_dtypes():
        return NativeNetwork(blocks, dtype, release=release)
    from mmagent.engine.decoder.fused import TorchNetwork

    network = TorchNetwork(blocks, device=loaded.device, dtype=dtype)
    if release:
        for block in blocks.layers:
            block.release()
    return network
