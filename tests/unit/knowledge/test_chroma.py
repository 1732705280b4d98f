"""Chroma is a derivative: whatever becomes of it, the answer is that of the truth, or an error that says what to do."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagent.errors import ConfigurationError, StoreError, StoreLocked
from mmagent.knowledge.index import chroma as module
from mmagent.knowledge.index.chroma import ChromaIndex
from mmagent.knowledge.index.connect import connect
from tests.contract.test_knowledge_index import Truth, clustered

Numbers = NDArray[np.int64]


@pytest.fixture
def truth() -> Truth:
    truth = Truth()
    truth.put(1, clustered(100, 1))
    return truth


@pytest.fixture
def query() -> NDArray[np.float32]:
    return clustered(1, 2)[0]


@pytest.fixture
def index(truth: Truth, tmp_path: Path) -> Iterator[ChromaIndex]:
    index = ChromaIndex(truth, truth, tmp_path)
    yield index
    index.close()


def folders(path: Path) -> list[str]:
    return sorted(folder.name for folder in path.glob("chroma-*"))


@pytest.mark.parametrize("damage", ["lost", "broken", "emptied", "more", "learned wrongly"])
def test_it_is_built_anew_when_it_is_lost_broken_or_out_of_step(
    damage: str, index: ChromaIndex, truth: Truth, tmp_path: Path, query: NDArray[np.float32]
) -> None:
    index.sync()
    index.close()
    folder = tmp_path / "chroma-1"
    if damage == "lost":
        shutil.rmtree(folder)
    elif damage == "broken":
        (folder / "broken").write_bytes(b"broken" * 1000)
        (folder / "broken").replace(folder / "chroma.sqlite3")  # Chroma may still be closing the old file
        for rest in folder.glob("chroma.sqlite3-*"):
            rest.unlink()
    elif damage in ("emptied", "more"):
        client = connect(folder)
        collection = client.get_collection("mmagent", embedding_function=None)
        if damage == "emptied":
            collection.delete(ids=[str(number) for number in range(1, 60)])
        else:
            collection.upsert(ids=["5000"], embeddings=query[None])
        client.close()
    else:
        truth.put(200, clustered(10, 3))
        truth.outbox.clear()  # as if it had learned them
    opened = ChromaIndex(truth, truth, tmp_path)
    try:
        assert opened.search(query, 10) == truth.best(query, 10)
        assert opened.problems() == [] and truth.outbox == {}
        assert folders(tmp_path) == ["chroma-2"]
    finally:
        opened.close()


def test_problems_are_told_without_mending_them(index: ChromaIndex, truth: Truth) -> None:
    assert index.problems() == []  # never built
    index.sync()
    truth.remove([1, 2])
    truth.put(300, clustered(5, 4))
    assert index.problems() == []  # it is in the outbox
    truth.outbox = {300: True}
    assert index.problems() == ["the Chroma index is out of step by 6 units; the next sync builds it anew"]
    truth.kept["generation"] = ""


def test_a_graph_with_many_deletions_is_built_anew(
    index: ChromaIndex, truth: Truth, tmp_path: Path, query: NDArray[np.float32]
) -> None:
    truth.put(200, clustered(100, 3))
    index.sync()
    truth.remove(list(range(200, 230)))
    index.sync()
    assert truth.kept == {"generation": "1", "deleted": "30"}
    truth.remove(list(range(230, 260)))
    index.sync()
    assert truth.kept == {"generation": "2", "deleted": "0"}
    assert folders(tmp_path) == ["chroma-2"]
    assert {number for number, _ in index.search(query, 500)} == truth.vectors.keys()


def test_what_became_something_else_while_it_was_learned_is_learned_again(
    index: ChromaIndex, truth: Truth, query: NDArray[np.float32]
) -> None:
    settle = truth.settle

    def late(upserts: Numbers, deletes: Numbers) -> None:
        if 50 in truth.vectors and 50 in upserts:
            truth.remove([50])
        settle(upserts, deletes)

    truth.settle = late  # type: ignore[method-assign]
    assert {number for number, _ in index.search(query, 500)} == set(range(1, 101)) - {50}
    assert truth.kept["generation"] == "1" and index.problems() == []


def test_a_unit_that_goes_before_it_is_learned_is_no_error(
    index: ChromaIndex, truth: Truth, query: NDArray[np.float32]
) -> None:
    rows, calls = truth.rows, [0]

    def going(numbers: Numbers) -> NDArray[np.float16]:
        calls[0] += 1
        if calls[0] == 1:
            truth.remove([7])
        return rows(numbers)

    truth.rows = going  # type: ignore[method-assign]
    assert {number for number, _ in index.search(query, 500)} == set(range(1, 101)) - {7}


def test_units_that_the_graph_has_lost_are_found_by_comparing(
    index: ChromaIndex, truth: Truth, monkeypatch: pytest.MonkeyPatch, query: NDArray[np.float32]
) -> None:
    index.sync()
    ask = index._ask
    monkeypatch.setattr(index, "_ask", lambda query, wanted: ask(query, wanted)[3:9])
    assert index.search(query, 60) == truth.best(query, 60)
    monkeypatch.undo()
    index.sync()
    assert truth.kept["generation"] == "2"
    assert index.search(query, 60) == truth.best(query, 60)


@pytest.mark.parametrize("share", [0.9, 0.3, 0.02])
def test_large_selections_are_found_through_the_graph_and_others_by_comparing(
    share: float, index: ChromaIndex, truth: Truth, monkeypatch: pytest.MonkeyPatch, query: NDArray[np.float32]
) -> None:
    monkeypatch.setattr(module, "_FEW", 10)
    truth.put(1000, clustered(900, 5))
    among = np.random.default_rng(1).choice(truth.numbers(), int(1000 * share), replace=False)
    asked: list[int] = []
    ask = index._ask
    monkeypatch.setattr(index, "_ask", lambda query, wanted: (asked.append(wanted), ask(query, wanted))[1])
    found = index.search(query, 10, among)
    assert found == truth.best(query, 10, among)
    assert {number for number, _ in found} <= set(among.tolist())
    assert asked == [20 * 1000 // int(1000 * share) + 50]


def test_only_one_opens_the_folder(
    index: ChromaIndex, truth: Truth, tmp_path: Path, query: NDArray[np.float32]
) -> None:
    index.sync()
    other = ChromaIndex(truth, truth, tmp_path)
    for use in (lambda: other.search(query, 1), other.sync, other.rebuild):
        with pytest.raises(StoreLocked):
            use()
    assert truth.kept["generation"] == "1" and index.search(query, 1) == truth.best(query, 1)
    index.close()
    assert other.search(query, 1) == truth.best(query, 1)
    other.close()


def test_who_cannot_write_searches_what_is_up_to_date(
    index: ChromaIndex, truth: Truth, tmp_path: Path, query: NDArray[np.float32]
) -> None:
    reader = ChromaIndex(truth, truth, tmp_path, learn=False)
    with pytest.raises(StoreError, match="search exactly"):
        reader.search(query, 3)
    reader.close()
    index.sync()
    index.close()
    assert reader.search(query, 3) == truth.best(query, 3)
    kept = dict(truth.kept)
    truth.put(500, clustered(3, 9))
    with pytest.raises(StoreError, match="search exactly"):
        reader.search(query, 3)
    assert truth.kept == kept and len(truth.outbox) == 3
    reader.close()


def test_a_server_that_is_away_is_named_within_seconds(truth: Truth, query: NDArray[np.float32]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StoreError, match=f"the Chroma server at {address} does not answer"):
            ChromaIndex(truth, truth, address).search(query, 1)


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.knowledge.index.connect._PATIENCE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(StoreError, match="does not answer"):
            connect(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_keys_are_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMA_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="set CHROMA_API_KEY"):
        connect("cloud")
    monkeypatch.setenv("CHROMA_API_KEY", "ck-very-secret-key")
    import httpx

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise httpx.ConnectError("no way in with ck-very-secret-key")

    monkeypatch.setattr(httpx, "get", refuse)
    with pytest.raises(StoreError) as caught:
        connect("cloud")
    assert "ck-very-secret-key" not in str(caught.value) and "cloud" in str(caught.value)


@pytest.mark.parametrize(
    "place",
    ["", "localhost:8000", "ftp://a", "http://", "http://a:b", "http://a:99999", "http://u:secret@a", "http://a/b",
     "http://a/b/c/d", "http://a/b/c?d=e"],
)  # fmt: skip
def test_a_place_that_cannot_be_one_is_refused(place: str) -> None:
    with pytest.raises(ConfigurationError, match="is no place for Chroma") as caught:
        connect(place)
    assert "secret" not in str(caught.value)
