"""Exact search follows its truth: reads only what is new, drops what is gone, and never disturbs a running search."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagent.errors import StoreError
from mmagent.knowledge.index import scan
from mmagent.knowledge.index.exact import ExactIndex
from mmagent.knowledge.index.scan import best, exact_scores

Numbers = NDArray[np.int64]


class Rows:
    """Vectors that say what was read of them."""

    def __init__(self, dimension: int = 24) -> None:
        self.dimension, self.held, self.version = dimension, dict[int, NDArray[np.float16]](), 0
        self.read: list[int] = []

    def numbers(self) -> Numbers:
        return np.array(sorted(self.held), dtype=np.int64)

    def rows(self, numbers: Numbers) -> NDArray[np.float16]:
        self.read.append(len(numbers))
        if missing := [number for number in numbers.tolist() if number not in self.held]:
            raise StoreError(f"no vectors of {missing}")
        return np.stack([self.held[number] for number in numbers.tolist()])

    def put(self, *numbers: int) -> None:
        for number in numbers:
            vector = np.random.default_rng(number).normal(size=self.dimension)
            self.held[number] = (vector / np.linalg.norm(vector)).astype(np.float16)
        self.version += 1

    def remove(self, *numbers: int) -> None:
        for number in numbers:
            del self.held[number]
        self.version += 1

    def best(self, query: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        numbers = self.numbers()
        return best(numbers, exact_scores(np.stack([self.held[one] for one in numbers.tolist()]), query), k)


@pytest.fixture(params=[True, False], ids=["kernel", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(scan, "_BLOCK_ROWS", 64)  # several blocks
    if request.param and not scan.has_kernel():
        pytest.skip("the kernel was not compiled")
    return bool(request.param)


@pytest.fixture
def query() -> NDArray[np.float32]:
    return (np.random.default_rng(1).normal(size=24) / 5).astype(np.float32)


def test_only_what_is_new_is_read(kernel: bool, query: NDArray[np.float32]) -> None:
    rows = Rows()
    rows.put(*range(100, 400))
    index = ExactIndex(rows, kernel=kernel)
    index.search(query, 3)
    assert sum(rows.read) == 300
    index.search(query, 3)
    rows.put(7, 1000)
    rows.remove(*range(150, 170), 399)
    assert index.search(query, 500) == rows.best(query, 500)
    assert sum(rows.read) == 302
    rows.version += 1  # something else changed
    index.search(query, 3)
    assert sum(rows.read) == 302


def test_random_changes_are_followed(kernel: bool, query: NDArray[np.float32]) -> None:
    rows, random = Rows(), np.random.default_rng(3)
    rows.put(1)
    index = ExactIndex(rows, kernel=kernel)
    for _ in range(60):
        fresh = [int(one) for one in random.integers(1, 100_000, random.integers(0, 90)) if one not in rows.held]
        rows.put(*fresh)
        gone = random.choice(rows.numbers(), int(random.random() * 0.5 * len(rows.held)), replace=False)
        rows.remove(*gone.tolist())
        assert index.search(query, 10_000) == rows.best(query, 10_000)
        among = random.choice(rows.numbers(), len(rows.held) // 3, replace=False)  # in any order
        wanted = [one for one in rows.best(query, 10_000) if one[0] in among]
        assert index.search(query, 20, among) == wanted[:20]
    blocks = index._held.blocks if index._held else ()
    assert sum(count for _, count in blocks) == len(rows.held)
    assert len(blocks) <= 2 + 3 * len(rows.held) // 64  # deletions leave no crowd of small blocks


def test_a_search_keeps_what_it_saw(kernel: bool, query: NDArray[np.float32]) -> None:
    """A refresh, also one that fails in between, writes nowhere that an earlier view reads."""
    rows = Rows()
    rows.put(*range(100))
    index = ExactIndex(rows, kernel=kernel)
    expected = index.search(query, 200)
    seen = index._current()
    rows.put(*range(200, 240))
    rows.held[300] = np.full(24, np.nan, dtype=np.float16)
    with pytest.raises(StoreError, match="not finite"):
        index.search(query, 200)
    assert scan.nearest(seen.blocks, query, 200) == expected
    rows.remove(300, *range(50))
    assert index.search(query, 200) == rows.best(query, 200)
    assert scan.nearest(seen.blocks, query, 200) == expected


def test_a_unit_that_goes_while_it_is_read_is_no_error(kernel: bool, query: NDArray[np.float32]) -> None:
    class Going(Rows):
        def numbers(self) -> Numbers:
            numbers = super().numbers()
            if 5 in self.held:
                self.remove(5)
            return numbers

    rows = Going()
    rows.put(*range(10))
    assert {number for number, _ in ExactIndex(rows, kernel=kernel).search(query, 20)} == set(range(10)) - {5}


def test_a_store_that_lost_vectors_or_mixes_spaces_is_an_error(kernel: bool, query: NDArray[np.float32]) -> None:
    class Lost(Rows):
        def numbers(self) -> Numbers:
            return np.append(super().numbers(), 99)

    lost = Lost()
    lost.put(1)
    with pytest.raises(StoreError, match="no vectors of"):
        ExactIndex(lost, kernel=kernel).search(query, 1)
    mixed = Rows()
    mixed.put(1)
    index = ExactIndex(mixed, kernel=kernel)
    index.search(query, 1)
    mixed.dimension = 12
    mixed.put(2)
    with pytest.raises(StoreError, match="vectors of 24 and of 12 numbers in one space"):
        index.search(query, 1)


def test_an_emptied_space_may_come_back_with_another_dimension(kernel: bool, query: NDArray[np.float32]) -> None:
    rows = Rows(12)
    rows.put(1)
    index = ExactIndex(rows, kernel=kernel)
    index.search(query[:12], 1)
    rows.remove(1)
    assert index.search(query, 1) == []
    rows.dimension = 24
    rows.put(2)
    assert index.search(query, 1) == rows.best(query, 1)
