"""One token for each of several rows at once, at fixed addresses: what a CUDA graph records and replays. It knows slots
and shapes, no prompts and no features.

`DecodeStep.step` is the whole computation over static tensors and runs anywhere; on CUDA it is recorded once for each
number of slots and each bucket of lengths, and from then on replayed: one launch instead of some hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F

from mmagent.engine.decoder import fused_ops
from mmagent.engine.decoder.blocks import Blocks
from mmagent.engine.decoder.fused_rows import Slots, TorchRow, power_of_two
from mmagent.engine.decoder.fused_weights import FusedWeights

_LEAST_BUCKET = 256


class Angles:
    """Cosines and sines of rotary positions ``0 .. size``, by kind of rotation; grows when asked for more.

    Args:
        blocks: The decoder.
        device: Where they are wanted.
    """

    def __init__(self, blocks: Blocks, device: torch.device) -> None:
        self._blocks, self._device = blocks, device
        self.table = self.of(torch.arange(1024))
        """``[size, kinds, 2, head_dim / 2]``, float32."""

    def of(self, positions: torch.Tensor) -> torch.Tensor:
        """Those of positions ``[L]``, or ``[3, L]`` (time, height, width): ``[L, kinds, 2, head_dim / 2]``."""
        kinds = [torch.stack(self._blocks.angles(positions, kind), dim=1) for kind in self._blocks.rotations]
        return torch.stack(kinds, dim=1).to(self._device)

    def reserve(self, size: int) -> None:
        """Know the positions below ``size``."""
        if size > len(self.table):
            self.table = self.of(torch.arange(power_of_two(size)))


class DecodeStep:
    """Runs one token of each row.

    Args:
        blocks: The decoder.
        weights: Its weights.
        slots: Where rows are put.
        angles: Shared with whoever prefills.
        kernels: A module with the five functions of `fused_ops`.
        record: Whether to record CUDA graphs.
    """

    def __init__(
        self,
        blocks: Blocks,
        weights: FusedWeights,
        slots: Slots,
        angles: Angles,
        *,
        kernels: ModuleType = fused_ops,
        record: bool,
    ) -> None:
        self._blocks, self._weights, self.slots, self._angles = blocks, weights, slots, angles
        self.kernels, self._record = kernels, record
        self._inputs = torch.zeros(4, slots.limit, dtype=torch.int64, device=slots.keys.device)
        """Of each slot: token, place, end of what it sees, rotary position."""
        self.graphs: dict[tuple[int, int], tuple[Any, torch.Tensor]] = {}
        """By number of slots and bucket: what was recorded, and the logits that it writes."""
        self._stamp: tuple[int, int] = (0, 0)
        self._memory: Any = None  # one pool for all graphs: no two run at once

    def run(self, rows: Sequence[TorchRow], tokens: Sequence[int], shifts: Sequence[int]) -> torch.Tensor:
        """Append a token to each row.

        Args:
            rows: At most as many as there may be slots; no two are the same.
            tokens: One for each.
            shifts: Rotary position of each token, less its place.

        Returns:
            Logits ``[rows, V]``, float32, on the device; nothing here waits for them.
        """
        count = self.slots.place(rows, 1)
        turns = [row.length + shift for row, shift in zip(rows, shifts, strict=True)]
        self._angles.reserve(max(turns) + 1)
        idle = (0, self.slots.capacity - 1, 1, 0)
        table = [idle] * count
        for row, token, turn in zip(rows, tokens, turns, strict=True):
            table[row.slot] = (token, row.length, row.length + 1, turn)
        # from memory that is not pinned: the driver has read it when this returns, and waits for nothing
        self._inputs[:, :count].copy_(torch.tensor(table).t().contiguous(), non_blocking=True)
        longest = max(row.length for row in rows) + 1
        bucket = min(max(power_of_two(longest), _LEAST_BUCKET), self.slots.capacity)
        logits = self._replay(count, bucket) if self._record else self.step(count, bucket)
        for row in rows:
            row.length += 1
        return torch.stack([logits[row.slot] for row in rows]).float()  # a copy: the next replay writes over them

    def step(self, count: int, bucket: int) -> torch.Tensor:
        """Logits ``[count, V]`` of the first slots; launches work and reads nothing back.

        Args:
            count: Slots.
            bucket: No row is longer, the new token included.
        """
        blocks, weights, kernels = self._blocks, self._weights, self.kernels
        tokens, places, ends, turns = self._inputs[:, :count]
        x = F.embedding(tokens, weights.embeddings)  # [n, hidden_size]
        if weights.embedding_scale != 1:
            x *= weights.embedding_scale
        angles = self._angles.table.index_select(0, turns)  # [n, kinds, 2, head_dim / 2]
        for index, layer in enumerate(weights.layers):
            keys, values = self.slots.keys[index, :count], self.slots.values[index, :count]
            qkv = kernels.project(x, layer.norm, layer.qkv, blocks.eps)
            turned = angles[:, layer.rotation]
            q = kernels.turn_and_store(qkv, layer, turned, keys, values, places, blocks.eps)
            mixed = kernels.attend(q, keys, values, ends, layer.window, bucket, blocks.scale)
            kernels.add(x, mixed, layer.out, layer.after_attention, blocks.eps)
            inner = kernels.gated(x, layer.mlp_norm, layer.gate_up, blocks.activation, blocks.eps)
            kernels.add(x, inner, layer.down, layer.after_mlp, blocks.eps)
        logits: torch.Tensor = kernels.project(x, weights.norm, weights.head, blocks.eps)
        return logits

    def _replay(self, count: int, bucket: int) -> torch.Tensor:
        """The graph's own output tensor: it holds until the next replay."""
        stamp = (self.slots.moves, len(self._angles.table))
        if stamp != self._stamp:
            self.graphs.clear()
            self._stamp = stamp
        if (count, bucket) not in self.graphs:
            self.graphs[count, bucket] = self._recorded(count, bucket)
        graph, logits = self.graphs[count, bucket]
        graph.replay()
        return logits

    def _recorded(self, count: int, bucket: int) -> tuple[Any, torch.Tensor]:
        """Run the step once, so that libraries and kernels are ready, and record it.

        Running it again, recorded, only writes the same keys and values to the same places.
        """
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.step(count, bucket)
        torch.cuda.current_stream().wait_stream(stream)
        self._memory = self._memory or torch.cuda.graph_pool_handle()
        # other threads may use the device meanwhile, for pictures say
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            logits = self.step(count, bucket)
        return graph, logits
