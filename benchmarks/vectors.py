"""Nearest vectors: mmagent's exact search and its Chroma index beside plain chromadb, numpy and usearch.

Clustered vectors of 384 numbers in one process. Systems answer the same queries in turn, a few at a time, so that what
else the machine does meets all of them alike; medians after a warm-up, two threads. Searches of 10, 2 and 0.1 % of the
vectors follow (a mask; chromadb: ``where``), and churn: 4,000 inserted, half deleted, 30 % of the rest changed; then
every live vector is looked for with itself. Prints tables and a JSON line; exit code 1 where exact search misses one.

    python -m benchmarks.vectors --quick
    python -m benchmarks.vectors --sizes 10000 50000 100000
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import machine
from mmagent.knowledge.index import Index
from mmagent.knowledge.index.chroma import ChromaIndex
from mmagent.knowledge.index.connect import connect
from mmagent.knowledge.index.exact import ExactIndex
from mmagent.knowledge.index.scan import has_kernel

DIMENSION, CLUSTERS, SPREAD = 384, 200, 0.5
KS, SHARES = (10, 50), {"10 %": 0.1, "2 %": 0.02, "0.1 %": 0.001}
ROUND = 10
"""Queries that one system answers before the next one's turn."""
THREADS = 2
CHURN, CHURN_SHAPE = 4000, (8, 20, 0.3)
BATCH = 2048
RECALLED = 50

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


class Store:
    """Vectors and an outbox, in memory."""

    def __init__(self, vectors: Floats) -> None:
        self.halves = vectors.astype(np.float16)
        self.alive = np.zeros(len(vectors), dtype=np.bool_)
        self.version = 0
        self.news: dict[int, bool] = {}
        self.kept: dict[str, str] = {}

    def change(self, add: Numbers, remove: Numbers) -> None:
        """Adds and removes vectors."""
        for numbers, there in ((add, True), (remove, False)):
            self.alive[numbers] = there
            self.news |= dict.fromkeys(numbers.tolist(), there)
        self.version += 1

    def numbers(self) -> Numbers:
        """Those of all vectors."""
        return np.flatnonzero(self.alive)

    def rows(self, numbers: Numbers) -> NDArray[np.float16]:
        """Vectors."""
        return self.halves[numbers]

    def pending(self, limit: int) -> tuple[Numbers, Numbers]:
        """As `Outbox`."""
        some = list(self.news.items())[:limit]
        added, removed = ([number for number, there in some if there is wanted] for wanted in (True, False))
        return np.array(added, dtype=np.int64), np.array(removed, dtype=np.int64)

    def settle(self, upserts: Numbers, deletes: Numbers) -> None:
        """As `Outbox`."""
        for number in (*upserts.tolist(), *deletes.tolist()):
            del self.news[number]

    def refill(self) -> None:
        """As `Outbox`."""
        self.news = dict.fromkeys(self.numbers().tolist(), True)

    def get(self, key: str, default: str = "") -> str:
        """As `Outbox`."""
        return self.kept.get(key, default)

    def set(self, key: str, value: str) -> None:
        """As `Outbox`."""
        self.kept[key] = value


class System(Protocol):
    """One way to find nearest vectors."""

    filters: bool

    def fill(self) -> None:
        """Takes all vectors in."""
        ...

    def search(self, query: Floats, k: int, share: str = "") -> Sequence[int]:
        """Numbers of the nearest, of all or of a selection."""
        ...


class Ours:
    """An index of mmagent."""

    filters = True

    def __init__(self, index: Index, some: Floats, selections: dict[str, Numbers]) -> None:
        self._index, self._some, self._selections = index, some, selections

    def fill(self) -> None:
        """The first search does."""
        self._index.search(self._some, 1)

    def search(self, query: Floats, k: int, share: str = "") -> Sequence[int]:
        """Numbers of the nearest."""
        return [number for number, _ in self._index.search(query, k, self._selections.get(share))]


class PlainChroma:
    """A collection with chromadb's own settings, in this process."""

    filters = True

    def __init__(self, folder: Path, vectors: Floats, selections: dict[str, Numbers], space: str = "cosine") -> None:
        configuration = {"hnsw": {"space": space}}
        self.collection = connect(folder).create_collection(
            "plain", embedding_function=None, configuration=configuration
        )
        self._vectors = vectors
        self._tags: list[dict[str, Any]] | None = None
        if selections:
            members = {share: set(numbers.tolist()) for share, numbers in selections.items()}
            self._tags = [
                {share: number in those for share, those in members.items()} for number in range(len(vectors))
            ]

    def fill(self) -> None:
        """All, by number."""
        self.put(range(len(self._vectors)), self._vectors)

    def put(self, numbers: Sequence[int], vectors: Floats) -> None:
        """In batches."""
        for first in range(0, len(numbers), BATCH):
            some = numbers[first : first + BATCH]
            tags = [self._tags[number] for number in some] if self._tags else None
            ids = [str(number) for number in some]
            self.collection.upsert(ids=ids, embeddings=vectors[first : first + BATCH], metadatas=tags)

    def search(self, query: Floats, k: int, share: str = "") -> Sequence[int]:
        """Numbers of the nearest."""
        where = {share: True} if share else None
        found = self.collection.query(query_embeddings=[query], n_results=k, where=where, include=["distances"])
        return [int(one) for one in found["ids"][0]]


class Numpy:
    """A product of all and a partition."""

    filters = False

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors

    def fill(self) -> None:
        """There is nothing to build."""

    def search(self, query: Floats, k: int, share: str = "") -> Sequence[int]:
        """Numbers of the nearest, in no order."""
        return list(map(int, np.argpartition(self._vectors @ query, -k)[-k:]))


class Usearch:
    """Its HNSW over float32."""

    filters = False

    def __init__(self, vectors: Floats) -> None:
        from usearch.index import Index as Graph

        self._vectors, self._graph = vectors, Graph(ndim=vectors.shape[1], metric="cos", dtype="f32")

    def fill(self) -> None:
        """All, by number."""
        self._graph.add(np.arange(len(self._vectors)), self._vectors, threads=THREADS)

    def search(self, query: Floats, k: int, share: str = "") -> Sequence[int]:
        """Numbers of the nearest."""
        return list(map(int, self._graph.search(query, k, threads=THREADS).keys))


def clustered(
    count: int, seed: int, dimension: int = DIMENSION, clusters: int = CLUSTERS, spread: float = SPREAD
) -> Floats:
    """Vectors of length 1: ``[count, dimension]``."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(clusters, dimension))
    points = centres[random.integers(0, clusters, count)] + spread * random.normal(size=(count, dimension))
    halves: NDArray[np.float16] = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16)
    return halves.astype(np.float32)


def systems(vectors: Floats, selections: dict[str, Numbers], folder: Path, *, graphs: bool) -> dict[str, System]:
    """Those that can be had."""
    store = Store(vectors)
    store.change(np.arange(len(vectors)), np.arange(0))
    found: dict[str, System] = {}
    if has_kernel():
        found["mmagent exact"] = Ours(ExactIndex(store), vectors[0], selections)
    found["mmagent exact, numpy"] = Ours(ExactIndex(store, kernel=False), vectors[0], selections)
    found["numpy"] = Numpy(vectors)
    if not graphs:
        return found
    found["mmagent chroma"] = Ours(ChromaIndex(store, store, folder / "ours"), vectors[0], selections)
    found["chromadb"] = PlainChroma(folder / "plain", vectors, selections)
    try:
        found["usearch"] = Usearch(vectors)
    except ImportError as error:
        print(f"usearch is absent: {error}")
    return found


def timed(those: dict[str, System], queries: Floats, k: int, share: str = "") -> dict[str, dict[str, float]]:
    """Milliseconds of a query, by system; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in those}
    for turn in range(-1, len(queries) // ROUND):
        for name, system in those.items():
            for query in queries[max(turn, 0) * ROUND : (max(turn, 0) + 1) * ROUND]:
                began = time.perf_counter()
                system.search(query, k, share)
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - began)
    return {
        name: {f"p{at}_ms": round(1000 * float(np.percentile(took, at)), 3) for at in (5, 50, 95)}
        for name, took in seconds.items()
    }


def recall(system: System, queries: Floats, best: list[set[int]], share: str = "") -> float:
    """Share of the ten nearest that are found."""
    found = (set(system.search(query, 10, share)) for query in queries)
    return round(float(np.mean([len(one & right) / len(right) for one, right in zip(found, best, strict=True)])), 4)


def nearest(vectors: Floats, among: Numbers, queries: Floats) -> list[set[int]]:
    """The ten nearest of some, in double."""
    rows = vectors[among].astype(np.float64)
    return [set(among[np.argsort(-(rows @ query.astype(np.float64)))[:10]].tolist()) for query in queries]


def measure(count: int, asked: int, folder: Path, *, graphs: bool) -> dict[str, Any]:
    """All systems over so many vectors."""
    vectors, queries = clustered(count, 1), clustered(asked, 2)
    random = np.random.default_rng(7)
    selections = {
        share: np.sort(random.choice(count, max(10, int(part * count)), replace=False))
        for share, part in SHARES.items()
    }
    those = systems(vectors, selections, folder, graphs=graphs)
    result: dict[str, Any] = {name: {} for name in those}
    for name, system in those.items():
        began = time.perf_counter()
        system.fill()
        result[name]["ingest_per_s"] = round(count / (time.perf_counter() - began)) if name != "numpy" else None
    for k in KS:
        for name, figures in timed(those, queries, k).items():
            result[name][f"k={k}"] = figures
    some = queries[:RECALLED]
    best = nearest(vectors, np.arange(count), some)
    for name, system in those.items():
        result[name]["recall@10"] = recall(system, some, best)
    filtering = {name: system for name, system in those.items() if system.filters}
    for share, among in selections.items():
        best = nearest(vectors, among, some)
        for name, figures in timed(filtering, some, 10, share).items():
            result[name][share] = figures | {"recall@10": recall(filtering[name], some, best, share)}
    return result


def churn(seed: int, folder: Path) -> dict[str, list[int]]:
    """Live vectors that their own vector does not find among the first 10, and the first 1,000, by system."""
    random = np.random.default_rng(seed)
    vectors = clustered(2 * CHURN, seed + 100, *CHURN_SHAPE)
    numbers = np.arange(CHURN)
    gone = random.choice(numbers, CHURN // 2, replace=False)
    left = np.setdiff1d(numbers, gone)
    changed = random.choice(left, int(0.3 * len(left)), replace=False)
    live = np.union1d(np.setdiff1d(left, changed), changed + CHURN)
    lost = {}
    for space in ("cosine", "l2"):
        plain = PlainChroma(folder / f"{space}-{seed}", vectors, {}, space)
        plain.put(numbers.tolist(), vectors[:CHURN])
        plain.collection.delete(ids=[str(one) for one in gone.tolist()])
        plain.put(changed.tolist(), vectors[changed + CHURN])
        lost[f"chromadb {space}"] = _lost(plain, vectors, live, CHURN)
    store = Store(vectors)
    chroma = ChromaIndex(store, store, folder / f"ours-{seed}")
    indexes: dict[str, Index] = {"mmagent chroma": chroma, "mmagent exact": ExactIndex(store)}
    nothing = np.arange(0)
    for added, removed in ((numbers, nothing), (nothing, gone), (changed + CHURN, changed)):
        store.change(added, removed)
        for index in indexes.values():
            index.search(vectors[0], 1)
    return lost | {name: _lost(Ours(index, vectors[0], {}), vectors, live, 0) for name, index in indexes.items()}


def _lost(system: System, vectors: Floats, live: Iterable[int], offset: int) -> list[int]:
    """Of 10 and of 1,000; ``offset``: what a changed vector's number is less where it is searched."""
    lost = [0, 0]
    for number in live:
        wanted = int(number) - (offset if number >= CHURN else 0)
        if wanted not in system.search(vectors[number], 10):
            lost[0] += 1
            lost[1] += wanted not in system.search(vectors[number], 1000)
    return lost


def markdown(count: int, rows: dict[str, Any]) -> str:
    """A table."""
    columns = ["k=10", "k=50", *SHARES]
    lines = [f"N = {count:,}; ms p50 (p95)", "| system | " + " | ".join(columns) + " | recall@10 | vectors/s |"]
    lines.append("|---" * (len(columns) + 3) + "|")
    for name, row in rows.items():
        cells = [f"{row[key]['p50_ms']:.3g} ({row[key]['p95_ms']:.3g})" if key in row else "" for key in columns]
        taken = f"{row['ingest_per_s']:,}" if row["ingest_per_s"] else ""
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['recall@10']:.3f} | {taken} |")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Of the peers."""
    found = {}
    for name in ("chromadb", "numpy", "usearch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 vectors, and 50,000 without graphs; one seed")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 50_000])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=10, help="of the churn")
    options = parser.parse_args()
    sizes, asked, seeds = options.sizes, options.queries, options.seeds
    if options.quick:
        sizes, asked, seeds = [10_000, 50_000], 100, 1
    logging.getLogger("mmagent").setLevel(logging.ERROR)
    result: dict[str, Any] = {"benchmark": "vectors", "machine": machine.describe(), "load": os.getloadavg()[0]}
    result |= {"versions": versions(), "kernel": has_kernel(), "sizes": {}, "churn": []}
    with tempfile.TemporaryDirectory() as name:
        for count in sizes:
            rows = measure(count, asked, Path(name) / str(count), graphs=not options.quick or count <= 10_000)
            result["sizes"][count] = rows
            print(markdown(count, rows), flush=True)
        for seed in range(seeds):
            result["churn"].append(churn(seed, Path(name) / "churn"))
            print(f"lost of 10 and of 1,000 after churn, seed {seed}: {result['churn'][-1]}", flush=True)
    print(json.dumps(result))
    exact = [row for rows in result["sizes"].values() for name, row in rows.items() if "exact" in name]
    missed = any(row["recall@10"] < 1 or row[share]["recall@10"] < 1 for row in exact for share in SHARES)
    raise SystemExit(missed or any(any(one["mmagent exact"]) for one in result["churn"]))


if __name__ == "__main__":
    main()
