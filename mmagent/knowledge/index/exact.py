"""Every vector of a space is compared: no approximation, and nothing to build. It knows nothing of how scores are made.

What is held follows the truth: when its version changes, only what is new is read, in pieces, and what is gone is
dropped. Searches never wait for each other; one that sees a new version brings the others up to date.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from mmagent.errors import InputError, StoreError
from mmagent.knowledge.index.scan import Block, has_kernel, make_block, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmagent.knowledge.index import Vectors

__all__ = ["ExactIndex", "checked", "contained"]

_PIECE = 4096
"""Rows that are read at a time."""
_ATTEMPTS = 5
_MOST_LENGTH = 100.0


@dataclass(frozen=True)
class _Held:
    """What one search sees; never changed."""

    version: object
    blocks: tuple[tuple[Block, int], ...]
    numbers: NDArray[np.int64]
    """Ascending."""
    slots: NDArray[np.int64]
    """Of each of the numbers."""
    dimension: int


class ExactIndex:
    """The exact top k by cosine, of all units or of any selection. Safe for threads.

    It takes 3 bytes a number and 40 a row where the kernel was compiled, else 4; scan.py says how and why it is exact.

    Args:
        vectors: The truth. Vectors of length 1; the cosines are of their float16 values.
        kernel: Use the compiled kernel where there is one; numpy gives the same, bit for bit.

    Raises:
        InputError: The query is not a vector of finite numbers (any search).
        StoreError: The query's dimension is not that of the space, or a stored vector is not finite (any search).
    """

    def __init__(self, vectors: Vectors, *, kernel: bool = True) -> None:
        self._vectors = vectors
        self._kernel = kernel and has_kernel()
        self._guard = Lock()
        self._held: _Held | None = None

    def search(
        self, vector: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """The numbers of the ``k`` units nearest to a vector, each with its cosine, nearest first, ties by number."""
        held = self._current()
        query = checked(vector, held.dimension)
        if k < 1 or not len(held.numbers):
            return []
        slots = None if among is None else _slots(held, among)
        return nearest(held.blocks, query, k, slots) if slots is None or len(slots) else []

    def _current(self) -> _Held:
        held, version = self._held, self._vectors.version
        if held is not None and held.version == version:
            return held
        with self._guard:
            for _ in range(_ATTEMPTS):
                version = self._vectors.version  # before the numbers: what comes between is seen next time
                if self._held is None or self._held.version != version:
                    try:
                        self._held = self._refreshed(version)
                    except StoreError:
                        if self._vectors.version == version:
                            raise
                        continue  # a unit went away since its number was read
                return self._held
        raise StoreError("the store changes faster than it can be read; stop what writes to it and search again")

    def _refreshed(self, version: object) -> _Held:
        import numpy as np

        numbers = np.asarray(self._vectors.numbers(), dtype=np.int64)
        held = self._held
        known = held.numbers if held else numbers[:0]
        filling = _Filling(self._kernel, held.dimension if held else 0)
        gone = ~contained(known, numbers)
        if held is not None:
            filling.take(held.blocks, known[gone])
        new = numbers[~contained(numbers, known)]
        for first in range(0, len(new), _PIECE):
            piece = new[first : first + _PIECE]
            rows = self._vectors.rows(piece)
            if rows.ndim != 2 or len(rows) != len(piece):
                raise StoreError(f"the store gave vectors of shape {rows.shape} for {len(piece)} units; verify it")
            filling.add(piece, rows)
        return filling.held(version)


class _Filling:
    """Blocks in the making. Rows are written only where no search reads: behind those that count."""

    def __init__(self, kernel: bool, dimension: int) -> None:
        self._kernel, self._dimension = kernel, dimension
        self._blocks: list[tuple[Block, int]] = []

    def take(self, blocks: tuple[tuple[Block, int], ...], gone: NDArray[np.int64]) -> None:
        """Takes blocks over as they are, or what is left of them."""
        import numpy as np

        for block, rows in blocks:
            kept = np.flatnonzero(~contained(block.numbers[:rows], gone))
            if len(kept) == rows:
                self._blocks.append((block, rows))
                continue
            for first in range(0, len(kept), _PIECE):
                piece = kept[first : first + _PIECE]
                self.add(block.numbers[piece], block.halves(piece))

    def add(self, numbers: NDArray[np.int64], halves: NDArray[np.float16]) -> None:
        """Adds rows to the last block, and to new ones."""
        self._dimension = self._dimension or halves.shape[1]
        if halves.shape[1] != self._dimension:
            raise StoreError(
                f"the store has vectors of {self._dimension} and of {halves.shape[1]} numbers in one space; rebuild it"
            )
        while len(numbers):
            if not self._blocks or self._blocks[-1][1] == 1 << self._blocks[-1][0].shift:
                self._blocks.append((make_block(self._dimension, kernel=self._kernel), 0))
            block, rows = self._blocks[-1]
            room = (1 << block.shift) - rows
            block.put(rows, numbers[:room], halves[:room])
            self._blocks[-1] = (block, rows + len(numbers[:room]))
            numbers, halves = numbers[room:], halves[room:]

    def held(self, version: object) -> _Held:
        """What searches see from now on."""
        import numpy as np

        nothing = [np.empty(0, dtype=np.int64)]
        numbers = np.concatenate([*nothing, *(block.numbers[:rows] for block, rows in self._blocks)])
        slots = np.concatenate(
            [*nothing, *((at << block.shift) + np.arange(rows) for at, (block, rows) in enumerate(self._blocks))]
        )
        if (numbers[1:] < numbers[:-1]).any():
            order = numbers.argsort()
            numbers, slots = numbers[order], slots[order]
        return _Held(version, tuple(self._blocks), numbers, slots, self._dimension if len(numbers) else 0)


def checked(vector: Any, dimension: int = 0) -> NDArray[np.float32]:
    """A query as ``[D]`` float32 that can be compared with vectors of a dimension (0: of any).

    Raises:
        InputError: It is not a vector of finite numbers, or far from length 1.
        StoreError: It is of another dimension.
    """
    import numpy as np

    query = np.ascontiguousarray(vector, dtype=np.float32)
    if query.ndim != 1 or not query.size:
        raise InputError(f"a query's vector has one axis, not the shape {query.shape}; give one vector at a time")
    if not np.isfinite(query).all():
        raise InputError("the query's vector has numbers that are not finite; look at the embedder that made it")
    if (length := float(np.linalg.norm(query))) > _MOST_LENGTH:
        raise InputError(f"the query's vector has length {length:.3g} and not 1; have the embedder normalise it")
    if dimension and len(query) != dimension:
        raise StoreError(
            f"the query's vector has {len(query)} numbers and those of the store have {dimension}: it is from another "
            "embedder; open the store with the one that it was made with, or rebuild it"
        )
    return query


def contained(these: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these ``[N]`` are among others."""
    import numpy as np

    if not len(ascending):
        return np.zeros(len(these), dtype=np.bool_)
    places = ascending.searchsorted(these)
    places[places == len(ascending)] = 0
    found: NDArray[np.bool_] = ascending[places] == these
    return found


def _slots(held: _Held, among: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Where these are, those that are not left out; None if they are all."""
    import numpy as np

    wanted = np.asarray(among, dtype=np.int64)
    if (wanted[1:] <= wanted[:-1]).any():
        wanted = np.unique(wanted)
    places = held.numbers.searchsorted(wanted)
    places[places == len(held.numbers)] = 0
    places = places[held.numbers[places] == wanted]
    return None if len(places) == len(held.numbers) else np.sort(held.slots[places])
