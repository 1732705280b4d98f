"""Every way to find nearest vectors gives what comparing them all gives, also after many updates and deletions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagent.knowledge.chunk import Passage
from mmagent.knowledge.index import ChromaIndex, ExactIndex, Index
from mmagent.knowledge.manifest import Manifest, units_of

Vectors = NDArray[np.float32]


def clustered(count: int, seed: int) -> Vectors:
    """Points around 20 centres, of length 1: ``[count, 32]``."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(20, 32))
    points = centres[random.integers(0, 20, count)] + 0.3 * random.normal(size=(count, 32))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype("f2").astype(np.float32)


def put(manifest: Manifest, path: str, vectors: Vectors) -> dict[str, Vectors]:
    """A document with one unit for each vector; unit ids and their vectors."""
    passages = [Passage(path, f"{path} {index} {vector[0]}", 0, 0) for index, vector in enumerate(vectors)]
    units = units_of(path, passages)
    by_id = {unit.id: vector for unit, vector in zip(units, vectors, strict=True)}
    with manifest.transaction():
        manifest.put(path, path, str(vectors.sum()), units, by_id)
    return by_id


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Manifest]:
    manifest = Manifest(tmp_path / "manifest.sqlite3")
    yield manifest
    manifest.close()


@pytest.fixture(params=["exact", "chroma"])
def index(request: pytest.FixtureRequest, manifest: Manifest, tmp_path: Path) -> Iterator[Index]:
    if request.param == "exact":
        yield ExactIndex(manifest)
        return
    chroma = ChromaIndex(manifest, tmp_path)
    yield chroma
    chroma.close()


def nearest(vectors: dict[str, Vectors], query: Vectors) -> str:
    return max(vectors, key=lambda unit: float(vectors[unit] @ query))


class TestIndex:
    def test_nothing_in_nothing_out(self, index: Index) -> None:
        assert index.search(clustered(1, 1)[0], 5) == []

    def test_the_nearest_comes_first(self, index: Index, manifest: Manifest) -> None:
        vectors = put(manifest, "a", clustered(500, 1))
        for query in clustered(40, 2):
            found = index.search(query, 10)
            assert len(found) == len(set(found)) == 10
            assert found[0] == nearest(vectors, query)

    def test_every_live_unit_is_found_after_many_updates_and_deletions(self, index: Index, manifest: Manifest) -> None:
        live: dict[str, dict[str, Vectors]] = {}
        for turn in range(12):
            name = str(turn % 5)
            live[name] = put(manifest, name, clustered(60, turn))
            if turn % 4 == 3:
                manifest.remove("0")
                live.pop("0", None)
            vectors = {unit: vector for units in live.values() for unit, vector in units.items()}
            assert set(index.search(clustered(1, 99)[0], 1000)) == vectors.keys()
        for unit, vector in vectors.items():
            assert index.search(vector, 1) == [unit]


def test_chroma_is_built_anew_when_it_is_lost_or_out_of_step(manifest: Manifest, tmp_path: Path) -> None:
    vectors = put(manifest, "a", clustered(100, 1))
    query = clustered(1, 2)[0]

    def lose(chroma: ChromaIndex) -> None:
        for folder in tmp_path.glob("chroma-*"):
            folder.rename(tmp_path / "lost")

    def break_(chroma: ChromaIndex) -> None:
        for folder in tmp_path.glob("chroma-*"):
            (folder / "broken").write_bytes(b"broken" * 1000)
            (folder / "broken").replace(folder / "chroma.sqlite3")  # Chroma may still be closing the old file
            for rest in ("chroma.sqlite3-wal", "chroma.sqlite3-shm"):
                (folder / rest).unlink(missing_ok=True)

    def interrupt(chroma: ChromaIndex) -> None:
        manifest.settle(list(put(manifest, "b", clustered(10, 3))))
        manifest.remove("b")
        manifest.settle(list(manifest.outbox())[:5])

    damages: list[Callable[[ChromaIndex], None]] = [lose, break_, interrupt]
    for damage in damages:
        chroma = ChromaIndex(manifest, tmp_path)
        chroma.sync()
        chroma.close()
        damage(chroma)
        chroma = ChromaIndex(manifest, tmp_path)
        assert chroma.search(query, 1) == [nearest(vectors, query)]
        assert chroma.problems() == []
        chroma.close()
    chroma = ChromaIndex(manifest, tmp_path)
    chroma.sync()  # takes away what the last one could not yet
    chroma.close()
    assert len(list(tmp_path.glob("chroma-*"))) == 1


def test_a_transaction_that_fails_leaves_nothing(manifest: Manifest) -> None:
    with pytest.raises(ZeroDivisionError), manifest.transaction():
        manifest.set_meta("key", str(1 / 0))
    with pytest.raises(KeyError), manifest.transaction():
        manifest.put("a", "a", "digest", units_of("a", [Passage("a", "text", 0, 4)]), {})
    assert manifest.count("assets") == manifest.count("units") == manifest.count("outbox") == 0
    put(manifest, "a", clustered(3, 1))
    assert manifest.problems() == []


def test_chroma_forgets_a_graph_with_many_deletions(manifest: Manifest, tmp_path: Path) -> None:
    chroma = ChromaIndex(manifest, tmp_path)
    put(manifest, "kept", clustered(50, 1))
    put(manifest, "gone", clustered(50, 2))
    chroma.sync()
    built = manifest.get_meta("chroma_generation", "1")
    manifest.remove("gone")
    chroma.sync()
    assert manifest.get_meta("chroma_generation") > built
    assert len(chroma.search(clustered(1, 3)[0], 100)) == 50
    chroma.close()
