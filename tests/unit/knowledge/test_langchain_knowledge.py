from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

from mmagent import as_langchain
from mmagent.errors import InputError
from mmagent.knowledge import Knowledge
from mmagent.knowledge.langchain import KnowledgeRetriever, KnowledgeVectorStore


@pytest.fixture
def knowledge(tmp_path: Path, embedder: Any) -> Iterator[Knowledge]:
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        yield knowledge


@pytest.fixture
def store(knowledge: Knowledge) -> KnowledgeVectorStore:
    return KnowledgeVectorStore(knowledge)


def texts(documents: Sequence[Document]) -> list[str]:
    return [document.page_content for document in documents]


# What goes in comes out

METADATA: list[dict[str, Any]] = [
    {},
    {"none": None, "yes": True, "no": False, "zero": 0, "half": 0.5, "empty": "", "big": 2**80},
    {"nested": {"list": [1, [2, {"deep": None}], "x"], "mapping": {"é": "🦓"}}, "empty": [], "also": {}},
    {"uri": "mine", "kind": "mine", "id": 7, "score": "mine", "title": "mine", "page": 3},
    {"a key with spaces.$": "value", "": "no key"},
]


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata_comes_back_as_it_was(store: KnowledgeVectorStore, metadata: dict[str, Any]) -> None:
    store.add_documents([Document(id="1", page_content="zebra", metadata=metadata)])
    for (document,) in (
        store.similarity_search("zebra"),
        store.get_by_ids(["1"]),
        store.as_retriever().invoke("zebra"),
    ):
        assert document == Document(id="1", page_content="zebra", metadata=metadata)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, (1, 2), {1: "x"}, b"bytes", object(), np.zeros(3), Path("x")])
def test_metadata_that_would_change_is_refused(store: KnowledgeVectorStore, value: Any) -> None:
    with pytest.raises(InputError, match="the metadata of the document 2 would not come back as it is; give"):
        store.add_texts(["zebra", "lion"], [{}, {"key": value}], ids=["1", "2"])
    assert store.similarity_search("zebra") == []  # none of them is taken in


@pytest.mark.parametrize(
    "name",
    [
        "ünïcødé 🦓",
        "名前",
        "/etc/passwd",
        "..",
        ".",
        "/",
        "a/b",
        "a\nb",
        " ",
        "x" * 5000,
        "https://a.example/?b=c#d",
        "'; --",
    ],
)
def test_ids_are_any_text(store: KnowledgeVectorStore, name: str) -> None:
    other = f"{name}/more"
    assert store.add_texts(["zebra", "lion"], ids=[name, other]) == [name, other]
    assert [document.id for document in store.similarity_search("zebra", k=1)] == [name]
    assert texts(store.get_by_ids([other, name])) == ["lion", "zebra"]
    store.delete([name])
    assert texts(store.similarity_search("zebra lion")) == ["lion"]
    assert store.get_by_ids([name]) == []


@pytest.mark.parametrize(
    "text", ["  spaces \n\n around\t", "# no heading\n\n- one\n- two", "wörd 🦓 名前", "long " * 5000]
)
def test_a_document_is_one_passage_and_verbatim(store: KnowledgeVectorStore, text: str) -> None:
    store.add_texts([text])
    assert texts(store.similarity_search(text[:200])) == [text]


@pytest.mark.parametrize("name", ["a\0b", "lone \ud800"])
def test_ids_that_no_database_takes_are_refused(store: KnowledgeVectorStore, name: str) -> None:
    with pytest.raises(InputError, match="is no id of a document"):
        store.add_texts(["zebra", "lion"], ids=["good", name])
    assert store.similarity_search("zebra") == []  # none of them is taken in


def test_ids_are_made_up_where_they_are_missing(store: KnowledgeVectorStore) -> None:
    names = store.add_documents([Document(id="given", page_content="zebra"), Document(page_content="lion")])
    assert names[0] == "given"
    assert len(names[1]) == 36
    assert texts(store.get_by_ids(names)) == ["zebra", "lion"]


def test_texts_may_come_from_a_generator(store: KnowledgeVectorStore) -> None:
    assert len(store.add_texts(text for text in ("zebra", "lion"))) == 2
    assert sorted(texts(store.similarity_search("zebra"))) == ["lion", "zebra"]


def test_of_two_with_one_id_the_last_stays(store: KnowledgeVectorStore) -> None:
    assert store.add_texts(["zebra", "lion"], ids=["1", "1"]) == ["1", "1"]
    assert texts(store.similarity_search("zebra lion")) == ["lion"]


def test_what_cannot_be_added(store: KnowledgeVectorStore) -> None:
    with pytest.raises(InputError, match="there are 2 texts and 1 ids"):
        store.add_texts(["a", "b"], ids=["1"])
    with pytest.raises(InputError, match="there are 1 texts and 2 metadatas"):
        store.add_texts(["a"], [{}, {}])
    with pytest.raises(InputError, match="the document 2 is blank"):
        store.add_texts(["a", " \n"], ids=["1", "2"])
    assert store.add_texts([]) == []
    assert store.similarity_search("a") == []


# Searching


def test_filters(store: KnowledgeVectorStore) -> None:
    store.add_texts(["zebra one", "zebra two"], [{"year": 2020, "tags": ["a", "b"]}, {"year": 2025}], ids=["1", "2"])
    assert texts(store.similarity_search("zebra", filter={"year": {"$gte": 2024}})) == ["zebra two"]
    assert texts(store.similarity_search("zebra", filter={"year": 2020})) == ["zebra one"]
    assert store.similarity_search("zebra", filter={"year": 1999}) == []
    assert len(store.similarity_search("zebra", filter={})) == 2
    with pytest.raises(InputError):
        store.similarity_search("zebra", filter={"year": {"$near": 2020}})
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"year": 2020}})
    assert texts(retriever.invoke("zebra two")) == ["zebra one"]


def test_relevance_is_the_cosine(store: KnowledgeVectorStore, embedder: Any) -> None:
    store.add_texts(["zebra", "zebra lion", "lion"])
    scored = store.similarity_search_with_relevance_scores("zebra", k=3)
    asked = embedder.embed(["zebra"])[0]
    for document, score in scored:
        assert score == pytest.approx(float(embedder.embed([document.page_content])[0] @ asked), abs=2e-3)
    assert [document.page_content for document, _ in scored] == ["zebra", "zebra lion", "lion"]
    found = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.6})
    assert texts(found.invoke("zebra")) == ["zebra", "zebra lion"]
    assert texts(asyncio.run(found.ainvoke("zebra"))) == ["zebra", "zebra lion"]


def test_scores_follow_the_order(store: KnowledgeVectorStore) -> None:
    store.add_texts(["zebra", "zebra lion", "lion"])
    scored = store.similarity_search_with_score("zebra", k=3)
    assert [document for document, _ in scored] == store.similarity_search("zebra", k=3)
    assert [score for _, score in scored] == sorted((score for _, score in scored), reverse=True)


def test_marginal_relevance_finds_what_differs(store: KnowledgeVectorStore) -> None:
    store.add_texts(["zebra runs", "zebra runs fast", "zebra eats"])
    assert texts(store.similarity_search("zebra runs", k=2)) == ["zebra runs", "zebra runs fast"]
    assert texts(store.max_marginal_relevance_search("zebra runs", k=2, lambda_mult=0.3)) == [
        "zebra runs",
        "zebra eats",
    ]
    mmr = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.3})
    assert texts(asyncio.run(mmr.ainvoke("zebra runs"))) == ["zebra runs", "zebra eats"]
    assert store.max_marginal_relevance_search("zebra", filter={"none": 1}) == []


# Whose documents


def test_tenants_never_meet(knowledge: Knowledge) -> None:
    shared, acme, other = (KnowledgeVectorStore(knowledge, tenant=name) for name in ("", "acme", "other"))
    shared.add_texts(["zebra of all"], ids=["s"])
    acme.add_texts(["zebra of acme"], ids=["1"])
    other.add_texts(["zebra of other"], ids=["1"])
    assert sorted(texts(acme.similarity_search("zebra"))) == ["zebra of acme", "zebra of all"]
    assert texts(shared.similarity_search("zebra")) == ["zebra of all"]
    assert texts(acme.get_by_ids(["1"])) == ["zebra of acme"]
    acme.delete(["1", "s"])  # the second is not its own
    assert texts(acme.similarity_search("zebra")) == ["zebra of all"]
    assert sorted(texts(other.similarity_search("zebra"))) == ["zebra of all", "zebra of other"]
    other.delete()
    assert texts(other.similarity_search("zebra")) == ["zebra of all"]


def test_files_of_the_same_store_are_found_and_stay(knowledge: Knowledge, policies: Path) -> None:
    knowledge.add(policies)
    store = KnowledgeVectorStore(knowledge)
    store.add_texts(["Refunds for zebras."], ids=["1"])
    (document,) = store.similarity_search("Refunds are paid within 5 working days", k=1)
    assert (document.metadata["uri"], document.metadata["title"]) == ("returns.md", "Returns > Refunds")
    store.delete(["returns.md", str(policies), str(policies / "returns.md")])
    assert store.get_by_ids(["returns.md"]) == []
    store.delete()
    assert {asset.uri for asset in knowledge.assets()} == {"returns.md", "more/shipping.txt"}


def test_the_retriever_takes_what_search_takes(knowledge: Knowledge, policies: Path) -> None:
    knowledge.add(policies, metadata={"lang": "en"})
    retriever = as_langchain(knowledge)
    assert isinstance(retriever, KnowledgeRetriever)
    assert len(retriever.invoke("Refunds")) == 3
    assert len(retriever.invoke("Refunds", k=1)) == 1
    (document,) = asyncio.run(retriever.ainvoke("Refunds", k=1, where={"lang": "en"}))
    assert document.metadata["lang"] == "en"
    held = KnowledgeRetriever(knowledge=knowledge, search_kwargs={"where": {"lang": "de"}})
    assert held.invoke("Refunds") == []


def test_a_part_of_a_store_is_a_retriever_too(knowledge: Knowledge, policies: Path) -> None:
    knowledge.add(policies, tenant="acme")
    assert as_langchain(knowledge.scoped()).invoke("Refunds") == []
    assert len(as_langchain(knowledge.scoped(tenant="acme")).invoke("Refunds", k=1)) == 1


# At the same time


async def test_the_loop_goes_on_while_it_searches(tmp_path: Path) -> None:
    class Waits:
        fingerprint = "waits"
        searching = False

        def embed(self, texts: Sequence[str]) -> Any:
            if self.searching:
                assert go.wait(30)  # a blocked loop would never let it go
            return np.ones((len(texts), 2), np.float32) / np.sqrt(2)

    go, embedder = threading.Event(), Waits()
    with Knowledge(tmp_path, embedder=embedder) as knowledge:
        store = KnowledgeVectorStore(knowledge)
        await store.aadd_texts(["zebra"])
        embedder.searching = True
        for search in (as_langchain(knowledge).ainvoke, store.asimilarity_search, store.asimilarity_search_with_score):
            go.clear()
            searching = asyncio.create_task(search("zebra"))  # type: ignore[arg-type,operator]
            await asyncio.sleep(0)
            go.set()
            assert len(await searching) == 1


def test_deleting_while_others_search(store: KnowledgeVectorStore) -> None:
    names = store.add_texts([f"zebra number {number}" for number in range(30)])

    def delete() -> None:
        for name in names[:20]:
            store.delete([name])

    def search() -> int:
        found = 0
        for _ in range(20):
            documents = store.similarity_search("zebra", k=60)
            assert all(document.page_content.startswith("zebra number") for document in documents)
            found = len(documents)
        return found

    with ThreadPoolExecutor(4) as threads:
        others = [threads.submit(search) for _ in range(3)]
        threads.submit(delete).result()
        assert all(other.result() >= 10 for other in others)
    assert len(store.similarity_search("zebra", k=60)) == 10


# Of LangChain's own embeddings


def test_from_texts(tmp_path: Path) -> None:
    embeddings = DeterministicFakeEmbedding(size=8)
    store = KnowledgeVectorStore.from_texts(["zebra", "lion"], embeddings, [{"n": 1}, {"n": 2}], path=tmp_path / "kept")
    assert store.embeddings is embeddings
    assert store.similarity_search("zebra", k=1)[0].metadata == {"n": 1}
    store.knowledge.close()
    again = KnowledgeVectorStore.from_documents([], embeddings, path=tmp_path / "kept")
    assert sorted(texts(again.similarity_search("zebra"))) == ["lion", "zebra"]
    again.knowledge.close()


def test_a_store_without_a_place_goes_when_nobody_uses_it() -> None:
    store = KnowledgeVectorStore.from_texts(["zebra"], DeterministicFakeEmbedding(size=8))
    place = store.knowledge.path
    assert place.is_dir()
    assert texts(store.similarity_search("zebra")) == ["zebra"]
    del store
    gc.collect()
    assert not place.exists()
