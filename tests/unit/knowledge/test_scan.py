"""The kernel and numpy find exactly what comparing everything finds, whatever the numbers are."""

from __future__ import annotations

import math
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmagent.errors import StoreError
from mmagent.knowledge.index import scan
from mmagent.knowledge.index.scan import MAX_DIMENSION, Block, best, exact_scores, has_kernel, make_block, nearest

KERNELS = [pytest.param(True, marks=pytest.mark.skipif(not has_kernel(), reason="the kernel was not compiled")), False]


def filled(rows: NDArray[np.float16], numbers: NDArray[np.int64], *, kernel: bool) -> list[tuple[Block, int]]:
    blocks = []
    while len(rows):
        block = make_block(rows.shape[1], kernel=kernel)
        room = 1 << block.shift
        block.put(0, numbers[:room], rows[:room])
        blocks.append((block, len(rows[:room])))
        rows, numbers = rows[room:], numbers[room:]
    return blocks


def adversarial(kind: str, count: int, dimension: int, seed: int) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Rows and a query that are hard to tell apart."""
    random = np.random.default_rng(seed)
    rows, query = random.normal(size=(count, dimension)), random.normal(size=dimension)
    if kind == "duplicates":
        rows = rows[random.integers(0, min(3, count), count)]
    elif kind == "nearly equal":
        rows = rows[:1] + 1e-3 * random.integers(-1, 2, (count, dimension))
    elif kind == "nearly nothing":
        rows, query = rows * 1e-7, query * 1e-38
    elif kind == "nothing":
        rows[::2] = 0
        query *= seed % 2
    elif kind == "one large number":
        rows[:, seed % dimension] = 300
        query[seed % dimension] *= 1e-4
    elif kind == "the query itself":
        rows[:] = query
        rows += 1e-3 * random.normal(size=rows.shape)
    if kind not in ("nearly nothing", "nothing", "one large number"):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9
        query /= np.linalg.norm(query) + 1e-9
    return rows.astype(np.float16), query.astype(np.float32)


KINDS = ("random", "duplicates", "nearly equal", "nearly nothing", "nothing", "one large number", "the query itself")


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 1500),
    dimension=st.integers(1, 200),
    k=st.integers(1, 60),
    share=st.sampled_from([None, 0.0, 0.01, 0.3, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_the_nearest_are_those_of_brute_force(
    kernel: bool, kind: str, count: int, dimension: int, k: int, share: float | None, seed: int
) -> None:
    rows, query = adversarial(kind, count, dimension, seed)
    random = np.random.default_rng(seed)
    numbers = random.permutation(10 * count)[:count].astype(np.int64)
    slots = None if share is None else np.flatnonzero(random.random(count) < share).astype(np.int64)
    chosen = np.arange(count) if slots is None else slots
    expected = best(numbers[chosen], exact_scores(rows[chosen], query), k)
    assert nearest(filled(rows, numbers, kernel=kernel), query, k, slots) == expected


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 300), st.integers(0, 10_000))
def test_scores_are_those_of_exact_arithmetic_to_a_rounding(kind: str, dimension: int, seed: int) -> None:
    rows, query = adversarial(kind, 5, dimension, seed)
    for row, score in zip(rows.tolist(), exact_scores(rows, query).tolist(), strict=True):
        true = math.fsum(x * q for x, q in zip(row, query.tolist(), strict=True))  # each product is exact
        size = sum(abs(x * q) for x, q in zip(row, query.tolist(), strict=True))
        assert abs(score - true) <= 2.0**-24 * abs(true) + 2.0**-45 * size + 1e-45


@pytest.mark.skipif(not has_kernel(), reason="the kernel was not compiled")
@settings(max_examples=100, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 300), st.integers(0, 10_000))
def test_no_row_is_farther_from_its_codes_than_its_residuals_say(kind: str, dimension: int, seed: int) -> None:
    rows, _ = adversarial(kind, 40, dimension, seed)
    block: Any = make_block(dimension, kernel=True)
    block.put(0, np.arange(40), rows)
    planes = [np.concatenate([plane[:40] & 15, plane[:40] >> 4], axis=1)[:, :dimension] for plane in block._nibbles]
    upper, lower = (plane.astype(np.float64) for plane in planes)
    scales, rough, residuals = (one[:40, None].astype(np.float64) for one in block._floats)
    for codes, allowed in ((16 * upper - 120.5, rough), (16 * upper + lower - 128, residuals)):
        off = np.linalg.norm(rows.astype(np.float64) - scales * codes, axis=1, keepdims=True)
        assert (off <= allowed).all()
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1).max()
    assert (block.most >= [lengths, rough.max(), residuals.max()]).all()
    assert np.abs(16 * upper + lower - 128).max() <= 127


@pytest.mark.skipif(not has_kernel(), reason="the kernel was not compiled")
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_find_the_same_in_large_spaces(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    rows = random.normal(size=(40_000, 128))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    numbers = np.arange(len(rows), dtype=np.int64)
    blocks = filled(rows, numbers, kernel=True)
    monkeypatch.setattr(scan, "_threads", lambda: threads)
    wrong: list[int] = []

    def search(turn: int) -> None:
        query = np.random.default_rng(turn).normal(size=128).astype(np.float32) / 11
        for k in (1, 10, 300):
            if nearest(blocks, query, k) != best(numbers, exact_scores(rows, query), k):
                wrong.append(turn)

    searching = [Thread(target=search, args=(turn,)) for turn in range(3)]
    for thread in searching:
        thread.start()
    for thread in searching:
        thread.join()
    assert len(blocks) > 1 and wrong == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_no_number_is_refused(kernel: bool) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        rows = np.ones((3, 40), dtype=np.float16)
        rows[1, 39] = bad
        with pytest.raises(StoreError, match="not finite"):
            make_block(40, kernel=kernel).put(0, np.arange(3), rows)
    for dimension in (0, MAX_DIMENSION + 1):
        with pytest.raises(StoreError, match="cannot be searched"):
            make_block(dimension, kernel=kernel)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_longest_vectors_fit(kernel: bool) -> None:
    rows = np.full((4, MAX_DIMENSION), 1 / 256, dtype=np.float16)
    rows[1] *= -1
    query = np.full(MAX_DIMENSION, 1 / 256, dtype=np.float32)
    assert nearest(filled(rows, np.arange(4), kernel=kernel), query, 4) == [(0, 1.0), (2, 1.0), (3, 1.0), (1, -1.0)]
