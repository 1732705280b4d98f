"""Every way to find nearest vectors gives what comparing them all gives, also after many updates and deletions."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagent.errors import InputError, StoreError
from mmagent.knowledge.index import Index
from mmagent.knowledge.index.chroma import ChromaIndex
from mmagent.knowledge.index.exact import ExactIndex
from mmagent.knowledge.index.scan import has_kernel

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


class Truth:
    """What a manifest is to an index: vectors by number, and an outbox."""

    def __init__(self) -> None:
        self.vectors: dict[int, NDArray[np.float16]] = {}
        self.changes = 0
        self.outbox: dict[int, bool] = {}
        self.kept: dict[str, str] = {}

    @property
    def version(self) -> object:
        return self.changes

    def numbers(self) -> Numbers:
        return np.array(sorted(self.vectors), dtype=np.int64)

    def rows(self, numbers: Numbers) -> NDArray[np.float16]:
        try:
            return np.stack([self.vectors[number] for number in numbers.tolist()])
        except KeyError as error:
            raise StoreError("a vector is gone") from error

    def put(self, first: int, vectors: Floats) -> list[int]:
        numbers = list(range(first, first + len(vectors)))
        self.vectors |= zip(numbers, vectors.astype(np.float16), strict=True)
        self.outbox |= dict.fromkeys(numbers, True)
        self.changes += 1
        return numbers

    def remove(self, numbers: list[int]) -> None:
        for number in numbers:
            del self.vectors[number]
        self.outbox |= dict.fromkeys(numbers, False)
        self.changes += 1

    def pending(self, limit: int) -> tuple[Numbers, Numbers]:
        some = list(self.outbox.items())[:limit]
        upserts, deletes = ([number for number, up in some if up is wanted] for wanted in (True, False))
        return np.array(upserts, dtype=np.int64), np.array(deletes, dtype=np.int64)

    def settle(self, upserts: Numbers, deletes: Numbers) -> None:
        for numbers, up in ((upserts, True), (deletes, False)):
            for number in numbers.tolist():
                if self.outbox.get(number) is up:
                    del self.outbox[number]

    def refill(self) -> None:
        self.outbox = dict.fromkeys(self.vectors, True)

    def get(self, key: str, default: str = "") -> str:
        return self.kept.get(key, default)

    def set(self, key: str, value: str) -> None:
        self.kept[key] = value

    def best(self, query: Floats, k: int, among: Numbers | None = None) -> list[tuple[int, float]]:
        """By brute force, in double."""
        numbers = self.numbers()
        if among is not None:
            numbers = numbers[np.isin(numbers, among)]
        if not len(numbers):
            return []
        scores = (self.rows(numbers).astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
        order = np.lexsort((numbers, -scores))[:k]
        return list(zip(numbers[order].tolist(), scores[order].tolist(), strict=True))


def clustered(count: int, seed: int, dimension: int = 32) -> Floats:
    """Points around 20 centres, of length 1: ``[count, dimension]``."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(20, dimension))
    points = centres[random.integers(0, 20, count)] + 0.3 * random.normal(size=(count, dimension))
    return unit(points)


def unit(points: NDArray[np.floating]) -> Floats:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype("f2").astype(np.float32)


def agree(found: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    """The same scores; the same numbers, but for those whose scores differ by a rounding."""
    assert len(found) == len(expected)
    assert np.allclose([score for _, score in found], [score for _, score in expected], rtol=0, atol=3e-7)
    last = expected[-1][1] if expected else 0.0
    clear = {number for number, score in expected if score > last + 1e-6}
    assert clear <= {number for number, _ in found}


@pytest.fixture
def truth() -> Truth:
    return Truth()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = Path(sys.executable).with_name("chroma")
    if not program.exists():
        pytest.skip("chroma's own program is not installed beside Python")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "run", "--path", folder / "data", "--host", "127.0.0.1", "--port", str(port)],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.skip(f"a Chroma server did not start: {(folder / 'log').read_text(errors='replace')[-300:]}")
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


Make = Callable[[Truth], Index]


@pytest.fixture(params=["kernel", "numpy", "folder", "server"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes an index, always of the same store."""
    made: list[ChromaIndex] = []

    def chroma(truth: Truth) -> Index:
        for index in made:
            index.close()
        place = tmp_path if request.param == "folder" else request.getfixturevalue("server")
        made.append(ChromaIndex(truth, truth, place, f"t{abs(hash(request.node.name)):x}"))
        return made[-1]

    if request.param == "kernel" and not has_kernel():
        pytest.skip("the kernel of exact search was not compiled")
    yield (lambda truth: ExactIndex(truth, kernel=request.param == "kernel")) if request.param in (
        "kernel", "numpy",
    ) else chroma  # fmt: skip
    for index in made:
        index.close()


class TestIndex:
    def test_nothing_in_nothing_out(self, make: Make, truth: Truth) -> None:
        index = make(truth)
        assert index.search(clustered(1, 1)[0], 5) == []
        numbers = truth.put(1, clustered(3, 1))
        assert index.search(clustered(1, 1)[0], 0) == []
        assert index.search(clustered(1, 1)[0], 5, np.array([], dtype=np.int64)) == []
        assert index.search(clustered(1, 1)[0], 5, np.array([77, 99])) == []
        truth.remove(numbers)
        assert index.search(clustered(1, 1)[0], 5) == []

    def test_the_nearest_come_first_each_with_its_cosine(self, make: Make, truth: Truth) -> None:
        truth.put(1, clustered(500, 1))
        index = make(truth)
        for query in clustered(40, 2):
            agree(index.search(query, 10), truth.best(query, 10))

    def test_equal_vectors_come_by_number(self, make: Make, truth: Truth) -> None:
        vector = clustered(1, 1)
        truth.put(1, np.repeat(vector, 30, axis=0))
        truth.put(100, clustered(100, 2))
        found = make(truth).search(vector[0], 30)
        assert [number for number, _ in found] == list(range(1, 31))
        assert len({score for _, score in found}) == 1

    def test_masks_hold_exactly(self, make: Make, truth: Truth) -> None:
        numbers = np.array(truth.put(1, clustered(800, 1)))
        index = make(truth)
        random = np.random.default_rng(3)
        for share in (0.9, 0.5, 0.1, 0.02, 0.002):
            among = np.sort(random.choice(numbers, max(1, int(share * len(numbers))), replace=False))
            among = np.append(among, [10_000, 10_001])  # units that have no vector here
            for query in clustered(5, 4):
                found = index.search(query, 20, among)
                assert {number for number, _ in found} <= set(among.tolist())
                agree(found, truth.best(query, 20, among))

    def test_every_live_unit_is_found_after_many_updates_and_deletions(self, make: Make, truth: Truth) -> None:
        index, live, first = make(truth), dict[int, list[int]](), 1
        for turn in range(12):
            if turn % 5 in live:
                truth.remove(live.pop(turn % 5))
            live[turn % 5] = truth.put(first, clustered(60, turn))
            first += 60
            if turn % 4 == 3 and 0 in live:
                truth.remove(live.pop(0))
            found = index.search(clustered(1, 99)[0], 1000)
            assert {number for number, _ in found} == truth.vectors.keys()
        for number, vector in truth.vectors.items():
            assert index.search(vector.astype(np.float32), 1)[0][0] == number

    def test_what_another_writer_changed_is_seen(self, make: Make, truth: Truth) -> None:
        vectors = clustered(50, 1)
        numbers = truth.put(100, vectors)
        index = make(truth)
        assert index.search(vectors[7], 1)[0][0] == numbers[7]
        truth.remove([numbers[7]])
        assert index.search(vectors[7], 1)[0][0] != numbers[7]
        truth.put(1, vectors[7:8])  # a number that comes late
        assert index.search(vectors[7], 1)[0][0] == 1
        assert index.search(vectors[7], 5, np.array([1, 149])) == truth.best(vectors[7], 5, np.array([1, 149]))

    def test_it_opens_again_as_it_was(self, make: Make, truth: Truth) -> None:
        truth.put(1, clustered(300, 1))
        query = clustered(1, 2)[0]
        expected = make(truth).search(query, 7)
        generation = truth.kept.get("generation")
        assert make(truth).search(query, 7) == expected
        assert truth.kept.get("generation") == generation

    def test_queries_that_are_none_are_refused(self, make: Make, truth: Truth) -> None:
        truth.put(1, clustered(20, 1))
        index = make(truth)
        index.search(clustered(1, 1)[0], 1)
        for bad in (np.full(32, np.nan), np.full(32, np.inf), np.full(32, 1e6), np.zeros((2, 32)), np.zeros(0)):
            with pytest.raises(InputError):
                index.search(bad.astype(np.float32), 3)
        with pytest.raises(StoreError, match="16 numbers and those of the store have 32"):
            index.search(np.ones(16, dtype=np.float32) / 4, 3)

    def test_many_threads_search_while_one_writes(self, make: Make, truth: Truth) -> None:
        truth.put(1, clustered(400, 1))
        index, wrong = make(truth), list[str]()
        anchors = clustered(8, 50)
        fixed = truth.put(10_000, anchors)

        def search() -> None:
            try:
                for turn in range(40):
                    if index.search(anchors[turn % 8], 1)[0][0] != fixed[turn % 8]:
                        wrong.append("another one is nearer to itself")
            except Exception as error:
                wrong.append(repr(error))

        threads = [Thread(target=search) for _ in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(10):
            truth.put(1000 + 20 * turn, clustered(20, 100 + turn))
        for thread in threads:
            thread.join()
        assert wrong == []
        assert {number for number, _ in index.search(anchors[0], 10_000)} == truth.vectors.keys()


@pytest.mark.parametrize("seed", [int(one) for one in os.environ.get("CHURN_SEEDS", "0").split(",")])
def test_every_live_unit_is_found_after_heavy_churn(make: Make, truth: Truth, seed: int) -> None:
    """The course of https://github.com/chroma-core/chroma/issues/7758, smaller; changed vectors get new numbers."""
    random, count = np.random.default_rng(seed), 1000
    numbers = np.array(truth.put(1, clustered(count, seed, 64)))
    index = make(truth)
    index.search(clustered(1, 1, 64)[0], 1)
    truth.remove(random.choice(numbers, count // 2, replace=False).tolist())
    index.search(clustered(1, 1, 64)[0], 1)
    for turn in range(3):
        changed = random.choice(truth.numbers(), len(truth.vectors) // 10, replace=False).tolist()
        truth.remove(changed)
        truth.put(count * (turn + 2), clustered(len(changed), seed + turn + 1, 64))
        index.search(clustered(1, 1, 64)[0], 1)
    found = index.search(clustered(1, 1, 64)[0], 10 * count)
    assert {number for number, _ in found} == truth.vectors.keys()
    for number, vector in truth.vectors.items():
        best = index.search(vector.astype(np.float32), 1)[0]
        assert best == truth.best(vector.astype(np.float32), 1)[0] and best[0] == number
