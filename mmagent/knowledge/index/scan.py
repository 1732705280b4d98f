"""Rows of numbers and which of them are nearest to a query, exactly. It knows slots, no units and nothing that changes.

Rows lie in blocks that only grow at their end, so that who reads the first rows of one is never disturbed. A slot is
``block << shift | row``. Scores are dot products of float32 queries and float16 rows, summed in double in one fixed
order and rounded to float32: the same bits from the kernel (scan.cpp), from numpy, and on every machine.

Nothing is approximate. Both ways compare all rows roughly and know by how much that can be wrong; the k best of the
rough scores are scored exactly, which gives a floor that k rows reach, and so whoever could reach it is scored exactly.

The kernel holds a row x as ``scale * code`` of 8 bits a number, and first reads only the upper four; y is what either
stands for, ``r = |x - y|`` is kept with the row. The query q is ``t * d`` of 8 bits, or of up to 16 where all bits of a
row are read, with ``g = |q - t d|``. By Cauchy and Schwarz

    |q·x - t d·y|  =  |q·(x - y) + (q - t d)·y|  <=  |q| r + g (|x| + r)

and d·y is computed in integers. numpy holds float32, whose dot products of n numbers are off by less than
``n 2**-23 |q| |x|`` in whatever order they are summed (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_double, c_int32, c_int64, c_void_p
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.errors import StoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_DIMENSION", "Block", "best", "exact_scores", "has_kernel", "make_block", "nearest"]

MAX_DIMENSION = 65_536
"""Numbers of a vector; sums of codes stay within 32 bits."""
_BLOCK_BYTES, _BLOCK_ROWS = 8 << 20, 1 << 14
_STRIDE = 128
_LANES = 8
_SLACK, _TINY = 2.0**-20, 1e-28  # as in scan.cpp
_MOST_THREADS = 8


class Block(Protocol):
    """Rows of one space: room for ``1 << shift`` of them, of which others may read the first ones."""

    shift: int
    numbers: NDArray[np.int64]

    @property
    def longest(self) -> float:
        """No row is longer."""
        ...

    def put(self, at: int, numbers: NDArray[np.int64], halves: NDArray[np.float16]) -> None:
        """Rows ``[N, D]`` from row ``at`` on, which nobody may be reading."""
        ...

    def halves(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Rows ``[N, D]``."""
        ...


def has_kernel() -> bool:
    """Whether the compiled kernel is there; without it numpy finds the same, more slowly and in more memory."""
    return _library() is not None


def make_block(dimension: int, *, kernel: bool) -> Block:
    """An empty block.

    Raises:
        StoreError: Vectors are too long.
    """
    if not 1 <= dimension <= MAX_DIMENSION:
        raise StoreError(
            f"vectors of {dimension} numbers cannot be searched, only up to {MAX_DIMENSION}; use another embedder"
        )
    shift = min(_BLOCK_ROWS, max(1, _BLOCK_BYTES // dimension)).bit_length() - 1
    return _CodedBlock(dimension, shift) if kernel else _FloatBlock(dimension, shift)


def nearest(
    blocks: Sequence[tuple[Block, int]], query: NDArray[np.float32], k: int, slots: NDArray[np.int64] | None = None
) -> list[tuple[int, float]]:
    """Numbers and scores of the ``k`` nearest of the blocks' first rows, best first, equal ones by number.

    Args:
        blocks: At least one; each with how many rows of it count.
        query: ``[D]`` float32, contiguous and finite.
        k: At least 1.
        slots: Only these, each once.
    """
    if isinstance(blocks[0][0], _CodedBlock):
        return _nearest_coded(blocks, query, k, slots)
    return _nearest_float(blocks, query, k, slots)


def exact_scores(rows: NDArray[Any], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dot products ``[N]`` of rows ``[N, D]`` (float16, or float32 of such values) and a query ``[D]``."""
    import numpy as np

    width = -(-rows.shape[1] // _LANES)
    products = np.zeros((len(rows), width * _LANES))
    np.multiply(rows, query, out=products[:, : rows.shape[1]], dtype=np.float64)  # exact: 11 bits times 24
    products = products.reshape(len(rows), width, _LANES)
    sums = np.zeros((len(rows), _LANES))
    for part in range(width):  # the order of scan.cpp
        sums += products[:, part]
    sums = sums[:, :4] + sums[:, 4:]
    sums = sums[:, :2] + sums[:, 2:]
    total: NDArray[np.float32] = (sums[:, 0] + sums[:, 1]).astype(np.float32)
    return total


def best(numbers: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
    """The ``k`` highest scores with their numbers, highest first, equal ones by number."""
    import numpy as np

    order = np.lexsort((numbers, -scores))[:k]
    return list(zip(numbers[order].tolist(), scores[order].tolist(), strict=True))


class _CodedBlock:
    """What the kernel reads."""

    def __init__(self, dimension: int, shift: int) -> None:
        import numpy as np

        rows, self.shift, self.stride = 1 << shift, shift, -(-dimension // _STRIDE) * _STRIDE
        self.numbers = np.empty(rows, dtype=np.int64)
        self._halves = np.empty((rows, dimension), dtype=np.float16)
        self._nibbles = np.empty((2, rows, self.stride // 2), dtype=np.uint8)
        self._floats = np.empty((3, rows), dtype=np.float32)
        self.most = np.zeros(3)

    @property
    def longest(self) -> float:
        return float(self.most[0])

    def put(self, at: int, numbers: NDArray[np.int64], halves: NDArray[np.float16]) -> None:
        rows = slice(at, at + len(numbers))
        self.numbers[rows], self._halves[rows] = numbers, halves
        planes = [*self._nibbles[:, rows], *self._floats[:, rows], self.most]
        if _library().mmagent_encode(
            self._halves[rows].ctypes.data, len(numbers), self._halves.shape[1], self.stride,
            *(plane.ctypes.data for plane in planes),
        ):  # fmt: skip
            raise _not_numbers()

    def halves(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        return self._halves[rows]

    def described(self, rows: int) -> _Block:
        arrays = (*self._nibbles, *self._floats, self._halves, self.numbers)
        return _Block(*(array.ctypes.data for array in arrays), rows)


class _FloatBlock:
    """What numpy multiplies."""

    def __init__(self, dimension: int, shift: int) -> None:
        import numpy as np

        self.shift = shift
        self.numbers = np.empty(1 << shift, dtype=np.int64)
        self.rows = np.empty((1 << shift, dimension), dtype=np.float32)
        self.longest = 0.0

    def put(self, at: int, numbers: NDArray[np.int64], halves: NDArray[np.float16]) -> None:
        import numpy as np

        rows = self.rows[at : at + len(numbers)]
        rows[:], self.numbers[at : at + len(numbers)] = halves, numbers
        longest = float(np.linalg.norm(rows, axis=1).max(initial=0))
        if not longest < np.inf:
            raise _not_numbers()
        self.longest = max(self.longest, longest * (1 + 1e-4))

    def halves(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        import numpy as np

        return self.rows[rows].astype(np.float16)


def _not_numbers() -> StoreError:
    return StoreError("the store has vectors that are not finite numbers; have it rebuilt with an embedder that works")


class _Block(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("upper", "lower", "scales", "rough", "residuals", "halves", "numbers")),
        ("rows", c_int64),
    ]  # fmt: skip


class _Space(Structure):
    _fields_ = [
        ("blocks", POINTER(_Block)), ("block_count", c_int64), ("shift", c_int32), ("dimension", c_int32),
        ("stride", c_int32), ("longest", c_double), ("rough", c_double), ("residual", c_double),
    ]  # fmt: skip


@lru_cache(maxsize=1)
def _library() -> Any:
    """The compiled kernel, or None where the package was installed without a compiler."""
    spec = find_spec("mmagent.knowledge.index._scan")
    if spec is None or spec.origin is None:
        return None
    library = ctypes.CDLL(spec.origin)  # its functions run without the GIL
    library.mmagent_encode.argtypes = [c_void_p, c_int64, c_int32, c_int32, *(c_void_p,) * 6]
    library.mmagent_nearest.restype = c_int64
    library.mmagent_nearest.argtypes = [
        POINTER(_Space), c_void_p, c_void_p, c_int64, c_int64, c_int32, c_void_p, c_void_p, c_void_p,
    ]  # fmt: skip
    return library


@lru_cache(maxsize=1)
def _threads() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, _MOST_THREADS)


def _nearest_coded(
    blocks: Sequence[tuple[Any, int]], query: NDArray[np.float32], k: int, slots: NDArray[np.int64] | None
) -> list[tuple[int, float]]:
    import numpy as np

    first = blocks[0][0]
    described = (_Block * len(blocks))(*(block.described(rows) for block, rows in blocks))
    most = np.max([block.most for block, _ in blocks], axis=0)
    space = _Space(described, len(blocks), first.shift, len(query), first.stride, *most.tolist())
    k = min(k, sum(rows for _, rows in blocks) if slots is None else len(slots))
    numbers, scores = np.empty(k, dtype=np.int64), np.empty(k, dtype=np.float32)
    found = _library().mmagent_nearest(
        ctypes.byref(space), query.ctypes.data, None if slots is None else slots.ctypes.data,
        0 if slots is None else len(slots), k, _threads(), numbers.ctypes.data, scores.ctypes.data,
        (c_int64 * 2)(),
    )  # fmt: skip
    if found < 0:
        raise MemoryError("there is no memory for a search; close other programs")
    return list(zip(numbers[:found].tolist(), scores[:found].tolist(), strict=True))


def _nearest_float(
    blocks: Sequence[tuple[Any, int]], query: NDArray[np.float32], k: int, slots: NDArray[np.int64] | None
) -> list[tuple[int, float]]:
    import numpy as np

    chosen = [_chosen(at, block.shift, count, slots) for at, (block, count) in enumerate(blocks)]
    rough = np.concatenate(
        [
            _rough(block, rows, query, count, every=slots is None)
            for (block, count), rows in zip(blocks, chosen, strict=True)
        ]
    )
    ends = np.cumsum([len(rows) for rows in chosen])

    def exact(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        numbers, scores = np.empty(len(places), dtype=np.int64), np.empty(len(places), dtype=np.float32)
        owners = ends.searchsorted(places, side="right")
        for at in np.unique(owners).tolist():
            mine, block = owners == at, blocks[at][0]
            rows = chosen[at][places[mine] - (ends[at] - len(chosen[at]))]
            numbers[mine], scores[mine] = block.numbers[rows], exact_scores(block.rows[rows], query)
        return numbers, scores

    if not len(rough):
        return []
    k = min(k, len(rough))
    length = float(np.linalg.norm(query.astype(np.float64))) * max(block.longest for block, _ in blocks)
    error = length * (len(query) * 2.0**-23 + _SLACK) + _TINY
    floor = float(exact(np.argpartition(rough, len(rough) - k)[-k:])[1].min())
    return best(*exact(np.flatnonzero(rough >= floor - error)), k)


def _chosen(at: int, shift: int, count: int, slots: NDArray[np.int64] | None) -> NDArray[np.int64]:
    import numpy as np

    return np.arange(count) if slots is None else slots[slots >> shift == at] & ((1 << shift) - 1)


def _rough(
    block: _FloatBlock, rows: NDArray[np.int64], query: NDArray[np.float32], count: int, *, every: bool
) -> NDArray[np.float32]:
    if 4 * len(rows) < count:
        return block.rows[rows] @ query
    scores = block.rows[:count] @ query
    return scores if every else scores[rows]
