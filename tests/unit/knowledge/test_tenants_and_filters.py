"""What a search is held to holds exactly, whatever ranks: words, vectors, both."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mmagent.errors import InputError
from mmagent.knowledge import Knowledge, Text

MODES = ("hybrid", "dense", "lexical")
BOOKS: dict[str, dict[str, Any]] = {
    "a": {"year": 1999, "lang": "en", "tags": ["old", "blue"], "price": 9.5},
    "b": {"year": 2010, "lang": "de", "tags": ["new"], "sold": True},
    "c": {"year": 2024, "lang": "en", "sold": False},
    "d": {"year": "unknown", "note": None, "deep": {"x": 1}},
    "e": {},
}


@pytest.fixture
def store(tmp_path: Path, embedder: Any) -> Iterator[Knowledge]:
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        knowledge.add_texts(Text(name, f"a book called {name}", metadata=facts) for name, facts in BOOKS.items())
        knowledge.add_texts([Text("mine", "a book of acme"), Text("a", "another book a of acme")], tenant="acme")
        knowledge.add_texts([Text("theirs", "a book of globex, which acme must never see")], tenant="globex")
        yield knowledge


@pytest.mark.parametrize("mode", MODES)
def test_a_tenant_finds_its_own_and_what_is_nobodys(store: Knowledge, mode: Any) -> None:
    def found(tenant: str) -> set[str]:
        return {hit.text for hit in store.search("book acme globex see", k=50, tenant=tenant, mode=mode)}

    everybodys = {f"a book called {name}" for name in BOOKS}
    assert found("") == everybodys
    assert found("acme") == everybodys | {"a book of acme", "another book a of acme"}
    assert found("globex") == everybodys | {"a book of globex, which acme must never see"}
    assert found("nobody knows this one") == everybodys


def test_a_scoped_store_cannot_be_left(store: Knowledge) -> None:
    acme, globex = store.scoped(tenant="acme", where={"lang": {"$ne": "de"}}), store.scoped(tenant="globex")
    assert {hit.uri for hit in acme.search("book", k=50)} == {"a", "c", "d", "e", "mine"}
    assert {hit.uri for hit in acme.search("book", k=50, where={"year": {"$gt": 2000}})} == {"c"}
    theirs = globex.search("globex", k=1)[0]
    with pytest.raises(InputError, match="is not in the store"):
        acme.picture(theirs)
    with pytest.raises(InputError, match="is not in the store"):
        acme.sound(theirs)
    filtered = store.search("called b", k=1)[0]
    with pytest.raises(InputError, match="is not in the store"):
        acme.picture(filtered)
    with pytest.raises(TypeError):
        acme.search("globex", tenant="globex")  # type: ignore[call-arg]


def test_documents_of_tenants_are_apart(store: Knowledge) -> None:
    assert [asset.uri for asset in store.assets(tenant="acme")] == ["a", "mine"]
    assert store.remove("a", tenant="acme") == 1
    assert [asset.uri for asset in store.assets(tenant="acme")] == ["mine"]
    assert [hit.text for hit in store.get("a")] == ["a book called a"]
    assert store.get("theirs") == [] and len(store.get("theirs", tenant="globex")) == 1
    assert store.remove("theirs") == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"lang": "en"}, "ac"),
        ({"year": {"$gte": 2010}}, "bc"),
        ({"year": {"$lt": 2010}}, "a"),
        ({"year": {"$gt": "a"}}, "d"),
        ({"year": "unknown"}, "d"),
        ({"lang": {"$ne": "en"}}, "bde"),
        ({"lang": {"$in": ["de", "fr"]}}, "b"),
        ({"lang": {"$nin": ["de", "fr"]}}, "acde"),
        ({"lang": {"$in": []}}, ""),
        ({"tags": "blue"}, "a"),
        ({"sold": True}, "b"),
        ({"price": 9.5}, "a"),
        ({"lang": "en", "year": {"$gt": 2000, "$lte": 2024}}, "c"),
        ({"$or": [{"lang": "de"}, {"tags": "old"}]}, "ab"),
        ({"$and": [{"lang": "en"}, {"$or": [{"year": 1999}, {"sold": False}]}]}, "ac"),
        ({"uri": "e"}, "e"),
        ({"uri": {"$in": ["e", "a"]}, "kind": "text"}, "ae"),
        ({"kind": "page"}, ""),
        ({"deep": 1}, ""),
        ({"lang' OR 1=1 --": "x"}, ""),
    ],
)
def test_filters(store: Knowledge, mode: Any, where: dict[str, Any], expected: str) -> None:
    assert {hit.uri for hit in store.search("a book called", k=50, where=where, mode=mode)} == set(expected)


@pytest.mark.parametrize(
    "where",
    [
        {"$not": {}}, {"a": {}}, {"a": {"$like": "x"}}, {"$and": []}, {"$or": {"a": 1}}, {"a": {"$in": "x"}},
        {"a": {"$gt": [1]}}, {"a": 2**70}, {"a": float("nan")}, [("a", 1)], {"$and": [{"a": {"$eq": {}}}]}, {"a": None},
    ],
)  # fmt: skip
def test_what_is_no_filter_is_told(store: Knowledge, where: Any) -> None:
    with pytest.raises(InputError):
        store.search("book", where=where)


def test_a_filter_nested_without_end_is_refused(store: Knowledge) -> None:
    where: dict[str, Any] = {"a": 1}
    for _ in range(5000):
        where = {"$and": [where]}
    with pytest.raises(InputError, match="filter"):
        store.search("book", where=where)


VALUES = st.sampled_from([1, 2, 3, "a", "b", True, False])
TESTS = st.one_of(
    VALUES,
    st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), VALUES).map(lambda t: {t[0]: t[1]}),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=3)).map(lambda t: {t[0]: t[1]}),
)
SIMPLE = st.dictionaries(st.sampled_from("xy"), TESTS, min_size=1, max_size=2)
JOINED = st.sampled_from(["$and", "$or"])
WHERE = st.recursive(
    SIMPLE,
    lambda inner: st.tuples(JOINED, st.lists(inner, min_size=1, max_size=3)).map(lambda t: {t[0]: t[1]}),
    max_leaves=6,
)
COMPARED = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def matches(facts: dict[str, Any], where: dict[str, Any]) -> bool:
    def test(key: str, wanted: Any) -> bool:
        if key == "$and":
            return all(matches(facts, part) for part in wanted)
        if key == "$or":
            return any(matches(facts, part) for part in wanted)
        ((sign, value),) = (wanted if isinstance(wanted, dict) else {"$eq": wanted}).items()
        has, found = key in facts, facts.get(key)
        if sign in COMPARED:
            return has and isinstance(found, str) == isinstance(value, str) and bool(COMPARED[sign](found, value))
        inside = has and found in (value if sign in ("$in", "$nin") else [value])
        return not inside if sign in ("$ne", "$nin") else inside

    return all(test(key, wanted) for key, wanted in where.items())


@hypothesis_settings(max_examples=60, deadline=None)
@given(facts=st.lists(st.dictionaries(st.sampled_from("xy"), VALUES), min_size=1, max_size=6), where=WHERE)
def test_any_filter_finds_what_plain_python_would(
    facts: list[dict[str, Any]], where: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    import numpy as np

    class One:
        fingerprint = "one"

        def embed(self, texts: Any) -> Any:
            return np.ones((len(texts), 2), np.float32)

    with Knowledge(tmp_path_factory.mktemp("filters"), embedder=One()) as knowledge:
        knowledge.add_texts(Text(str(i), f"text {i}", metadata=one) for i, one in enumerate(facts))
        found = {int(hit.uri) for hit in knowledge.search("text", k=50, where=where)}
    assert found == {i for i, one in enumerate(facts) if matches(one, where)}


def test_a_hit_of_a_document_that_was_removed_leads_to_nobody_elses(tmp_path: Path, embedder: Any) -> None:
    from PIL import Image

    for name in "ab":
        Image.new("RGB", (40, 40), "white").save(tmp_path / f"{name}.png")
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        knowledge.add(tmp_path / "a.png", tenant="acme")
        (hit,) = knowledge.get(str(tmp_path / "a.png"), tenant="acme")
        knowledge.remove(tmp_path / "a.png", tenant="acme")
        knowledge.add(tmp_path / "b.png", tenant="globex")
        with pytest.raises(InputError, match="not in the store"):
            knowledge.picture(hit)
        with pytest.raises(InputError, match="not in the store"):
            knowledge.scoped(tenant="acme").picture(hit)


def test_what_another_tenant_adds_while_a_search_runs_is_not_found(tmp_path: Path, embedder: Any) -> None:
    with Knowledge(tmp_path / "store", embedder=embedder) as other, Knowledge(tmp_path / "store") as knowledge:
        knowledge.embedder = embedder
        other.add_texts([Text("public", "a text for all")])

        class Meanwhile:
            fingerprint = embedder.fingerprint

            def embed(self, texts: Any) -> Any:
                if texts == ["text"]:
                    other.add_texts([Text("secret", "a secret text of globex")], tenant="globex")
                return embedder.embed(texts)

        knowledge.embedder = Meanwhile()
        assert [hit.uri for hit in knowledge.search("text", k=9, tenant="acme")] == ["public"]


def test_how_many_others_use_a_word_hides_nothing_from_a_tenant(
    tmp_path: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmagent.knowledge.lexical._SMALL", 5)
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        knowledge.add_texts((Text(str(n), f"invoice {n}") for n in range(20)), tenant="acme")
        knowledge.add_texts([Text("mine", "an invoice of globex")], tenant="globex")
        found = knowledge.search("invoice", tenant="globex", mode="lexical")
        assert [hit.uri for hit in found] == ["mine"]


@pytest.mark.parametrize("tenant", ["a\0b", "\ud800", 7])
def test_what_is_no_tenant(store: Knowledge, tenant: Any) -> None:
    with pytest.raises(InputError, match="tenant"):
        store.search("book", tenant=tenant)
    with pytest.raises(InputError, match="tenant"):
        store.add_texts([Text("x", "y")], tenant=tenant)


@pytest.mark.parametrize(
    "choices", [{"mode": "magic"}, {"fusion": "sum"}, {"per_asset": 0}, {"kinds": "text"}, {"kinds": [1]}, {"k": 0}]
)
def test_what_is_no_search(store: Knowledge, choices: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        store.search("book", **choices)
    with pytest.raises(InputError):
        store.search(None)  # type: ignore[arg-type]
