"""Keys and values of `TorchNetwork`: each row has tensors of its own, or a slot in those that decode steps run over. It
knows places in memory, no tokens.

A CUDA graph reads and writes fixed addresses, so rows that decode together stand side by side: slot ``s`` of ``keys``
is a row's view for as long as it runs. A row that is forked or kept for later leaves with a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import ref

import torch

_LEAST = 256
"""Positions of the smallest row."""


@dataclass(frozen=True)
class CacheShape:
    """What all rows of a network have in common."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    def zeros(self, capacity: int, slots: int | None = None) -> torch.Tensor:
        """Keys or values ``[layers, (slots,) kv_heads, capacity, head_dim]``.

        Zeros, because positions that nobody sees are still multiplied, by 0.
        """
        outer = (self.layers,) if slots is None else (self.layers, slots)
        shape = (*outer, self.kv_heads, capacity, self.head_dim)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)


class TorchRow:
    """Keys and values ``[layers, kv_heads, capacity, head_dim]`` of one sequence."""

    def __init__(self, shape: CacheShape, capacity: int = 0) -> None:
        self._shape = shape
        self.keys, self.values = shape.zeros(capacity), shape.zeros(capacity)
        self.length = 0
        """Positions that are filled; a smaller number forgets those after it."""
        self.slots: Slots | None = None
        self.slot = 0
        """Which one of `slots`, where it has one."""

    @property
    def capacity(self) -> int:
        """Positions that there is room for."""
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.keys.nbytes + self.values.nbytes

    def fork(self, length: int) -> TorchRow:
        """A copy of the first ``length`` positions."""
        copy = TorchRow(self._shape)
        copy.take(self, length)
        return copy

    def detached(self) -> TorchRow:
        """The same row in tensors of its own, no larger than it needs; its slot is free."""
        if self.slots is None:
            return self
        copy = self.fork(self.length)
        self.slots.release(self)
        return copy

    def take(self, other: TorchRow, length: int) -> None:
        """Become a copy of the first ``length`` positions of another row."""
        self.keys, self.values = other.keys[:, :, :length].clone(), other.values[:, :, :length].clone()
        self.length = length

    def reserve(self, capacity: int) -> None:
        """Make room for that many positions; the room at least doubles."""
        if capacity <= self.capacity:
            return
        if self.slots is not None:
            self.slots.reserve(capacity)
            return
        keys, values = self.keys, self.values
        capacity = max(capacity, 2 * self.capacity, _LEAST)
        self.keys, self.values = self._shape.zeros(capacity), self._shape.zeros(capacity)
        self.keys[:, :, : self.length] = keys[:, :, : self.length]
        self.values[:, :, : self.length] = values[:, :, : self.length]


class Slots:
    """Tensors that hold the rows of a decode step; they grow with the rows, by powers of two.

    Args:
        shape: Of the rows.
        limit: Rows at most.
    """

    def __init__(self, shape: CacheShape, limit: int) -> None:
        self._shape, self.limit = shape, limit
        self.keys, self.values = shape.zeros(_LEAST, 1), shape.zeros(_LEAST, 1)
        """``[layers, slots, kv_heads, capacity, head_dim]``."""
        self.moves = 0
        """How often the tensors were replaced: what remembers their addresses is then of no use."""
        self._rows: list[ref[TorchRow] | None] = [None]

    @property
    def count(self) -> int:
        """Slots that there are."""
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        """Positions of each; the last one is never a row's, so that idle slots have where to write."""
        return self.keys.shape[3]

    def place(self, rows: Sequence[TorchRow], more: int) -> int:
        """Give each row a slot, and room for ``more`` positions.

        Returns:
            How many slots from the first on hold all these rows: a power of two, or all.
        """
        self.reserve(max(row.length for row in rows) + more)
        enough = power_of_two(len(rows))
        for row in rows:
            if row.slots is None:
                self._enter(row, self._vacant(rows))
            elif row.slot >= enough and (lower := self._free(enough)) is not None:
                self.release(row)
                self._enter(row, lower)
        return min(power_of_two(max(row.slot for row in rows) + 1), self.count)

    def release(self, row: TorchRow) -> None:
        """Take a row's slot away; its view stays readable until another row comes."""
        self._rows[row.slot] = None
        row.slots = None

    def reserve(self, capacity: int) -> None:
        """Make room for that many positions in each slot."""
        if capacity >= self.capacity:
            self._resize(self.count, power_of_two(capacity + 1))

    def _enter(self, row: TorchRow, slot: int) -> None:
        self.keys[:, slot, :, : row.length] = row.keys[:, :, : row.length]
        self.values[:, slot, :, : row.length] = row.values[:, :, : row.length]
        self._rows[slot] = ref(row)
        row.slots, row.slot = self, slot
        self._show(row)

    def _show(self, row: TorchRow) -> None:
        row.keys, row.values = self.keys[:, row.slot], self.values[:, row.slot]

    def _row(self, slot: int) -> TorchRow | None:
        row = self._rows[slot]
        return None if row is None else row()

    def _free(self, below: int) -> int | None:
        return next((slot for slot in range(min(below, self.count)) if self._row(slot) is None), None)

    def _vacant(self, rows: Sequence[TorchRow]) -> int:
        """A free slot; where there is none, a new one, and at the limit that of a row that is not to run now."""
        if (slot := self._free(self.count)) is not None:
            return slot
        if self.count < self.limit:
            self._resize(min(2 * self.count, self.limit), self.capacity)
            return self._vacant(rows)
        waiting = next(row for row in map(self._row, range(self.count)) if row is not None and row not in rows)
        self.release(waiting)
        waiting.take(waiting, waiting.length)
        return waiting.slot

    def _resize(self, count: int, capacity: int) -> None:
        self.keys, self.values = self._resized(self.keys, count, capacity), self._resized(self.values, count, capacity)
        self._rows += [None] * (count - len(self._rows))
        self.moves += 1
        for row in filter(None, map(self._row, range(count))):
            self._show(row)

    def _resized(self, old: torch.Tensor, count: int, capacity: int) -> torch.Tensor:
        new = self._shape.zeros(capacity, count)
        new[:, : old.shape[1], :, : old.shape[3]] = old
        return new


def power_of_two(number: int) -> int:
    """The least one that is not smaller."""
    return 1 << max(number - 1, 0).bit_length()
