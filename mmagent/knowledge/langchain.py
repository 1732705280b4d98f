"""A knowledge store as LangChain's retriever and vector store. It knows `Knowledge` and LangChain's documents only.

Importing this module loads langchain; `mmagent.as_langchain` gives the retriever without.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from pydantic import Field

from mmagent.errors import InputError
from mmagent.knowledge.cite import Hit
from mmagent.knowledge.read import storable
from mmagent.knowledge.spaces import vectors_of

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from mmagent.knowledge.store import Knowledge

_OURS = "langchain:document"
"""The key in a document's metadata that says that it came through `KnowledgeVectorStore`; LangChain never sees it."""


class KnowledgeRetriever(BaseRetriever):
    """The passages that fit a query best, best first, each with what a citation needs in its metadata."""

    knowledge: Any
    """The `Knowledge` to search, or a `Scoped` part of one."""
    k: int = 3
    """Passages of one search; a call may ask for another number: ``invoke(query, k=5)``."""
    search_kwargs: dict[str, Any] = Field(default_factory=dict)
    """What else its `search` takes, e.g. ``{"where": {"lang": "en"}}``; a call may add to it."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun | None = None, **options: Any
    ) -> list[Document]:
        return [
            _document(hit) for hit in self.knowledge.search(query, **{"k": self.k, **self.search_kwargs, **options})
        ]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return await asyncio.to_thread(self._get_relevant_documents, query, **options)


class KnowledgeVectorStore(VectorStore):
    """A `Knowledge` wherever LangChain wants a vector store: documents with ids in, those that fit a query out.

    Each document is one passage, however long, and is durable when `add_texts` returns; one with the same id takes the
    place of the former. Ids are uris in the store, and metadata comes back as it went in: None, lists and mappings too.
    Files that the store was given by `Knowledge.add` are found as well, with what a citation needs in their metadata.

    Args:
        knowledge: The store. It stays yours: close it when you are done.
        tenant: Whose documents are added, deleted and found; those that are nobody's are found too.
        mode: How documents are ranked: by vectors and words (``hybrid``), vectors alone (``dense``), as other vector
            stores do, or words alone (``lexical``).
    """

    def __init__(
        self, knowledge: Knowledge, *, tenant: str = "", mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    ) -> None:
        self.knowledge, self.tenant, self.mode = knowledge, tenant, mode
        self._embeddings: Embeddings | None = None

    @property
    def embeddings(self) -> Embeddings | None:
        """LangChain's embeddings that `from_texts` was given; None where the store was opened with its own embedder."""
        return self._embeddings

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: Path | str | None = None,
        **options: Any,
    ) -> Self:
        """A store in a folder, with these texts in it.

        Args:
            texts: The texts.
            embedding: What they and queries are embedded with.
            metadatas: One mapping for each text.
            ids: One for each text.
            path: The folder; None: one that goes when the store is no longer used.
            options: As the class takes them.

        Raises:
            InputError: As `add_texts` raises it.
        """
        from mmagent.knowledge.embed.langchain import LangChainEmbedder
        from mmagent.knowledge.store import Knowledge

        kept = None if path else tempfile.TemporaryDirectory(prefix="mmagent-", ignore_cleanup_errors=True)
        knowledge = Knowledge(path or kept.name, embedder=LangChainEmbedder(embedding))  # type: ignore[union-attr]
        store = cls(knowledge, **options)
        store._embeddings = embedding
        if kept:
            weakref.finalize(store, _discard, knowledge, kept)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Adds texts, or replaces those with the same ids.

        Args:
            texts: The texts; none may be blank.
            metadatas: One mapping for each text: what can be written as JSON.
            ids: One for each text; those that are missing are made up.

        Returns:
            The ids, in order.

        Raises:
            InputError: They are not as many as the texts, a text is blank, an id holds what no database takes, or
                metadata is no JSON; nothing is added.
            StoreError: The store cannot be written.
        """
        from mmagent.knowledge.report import Text

        given = list(texts)
        for name, values in (("metadatas", metadatas), ("ids", ids)):
            if values and len(values) != len(given):
                raise InputError(f"there are {len(given)} texts and {len(values)} {name}; give one for each text")
        names = [name or str(uuid4()) for name in ids or [None] * len(given)]
        documents = {
            name: Text(uri=_named(name), text=_worded(name, text), metadata=_kept(name, metadata), whole=True)
            for name, text, metadata in zip(names, given, metadatas or [{}] * len(given), strict=True)
        }
        if documents:
            self.knowledge.add_texts(documents.values(), tenant=self.tenant)
        return names

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Deletes documents by their ids; those that are not there are passed over.

        Args:
            ids: Which; None: all that came in through here, of this tenant.

        Raises:
            StoreError: The store cannot be written.
        """
        if ids is None:
            assets = self.knowledge.assets(tenant=self.tenant)
            gone = [asset.uri for asset in assets if _OURS in asset.metadata]
        else:
            gone = [document.id for document in self.get_by_ids(ids) if document.id]
        if gone:
            self.knowledge.remove(*gone, tenant=self.tenant)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents by their ids, in that order; those that are not there are left out."""
        hits = [hit for name in dict.fromkeys(ids) for hit in self.knowledge.get(name, tenant=self.tenant)]
        return [_document(hit) for hit in hits if _OURS in hit.metadata]

    def similarity_search(
        self, query: str, k: int = 4, filter: Mapping[str, Any] | None = None, **options: Any
    ) -> list[Document]:
        """The documents that fit a query best, best first.

        Args:
            query: What to look for.
            k: How many at most.
            filter: As the ``where`` of `Knowledge.search`, e.g. ``{"year": {"$gte": 2024}}``.
            options: What else `Knowledge.search` takes: ``kinds``, ``per_asset``, ``rerank`` ...

        Raises:
            InputError: The filter is none.
        """
        return [_document(hit) for hit in self._search(query, k, filter, options)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Mapping[str, Any] | None = None, **options: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search`, with scores: higher is better, comparable within one search only.

        For scores that say how similar a document is, see `similarity_search_with_relevance_scores`.
        """
        return [(_document(hit), hit.score) for hit in self._search(query, k, filter, options)]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """By vectors alone, whatever the mode: the cosine of query and text, and 0 where that is negative."""
        hits = self._search(query, k, options.pop("filter", None), {**options, "mode": "dense"})
        hits, asked, vectors = self._compared(query, hits)
        return [
            (_document(hit), min(max(float(vector @ asked), 0.0), 1.0))
            for hit, vector in zip(hits, vectors, strict=True)
        ]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return await asyncio.to_thread(self._similarity_search_with_relevance_scores, query, k, **options)

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> list[Document]:
        """Documents that fit a query and differ from each other; they are embedded anew to see how much.

        Source: Carbonell and Goldstein 1998.

        Args:
            query: What to look for.
            k: How many at most.
            fetch_k: Of how many that fit best.
            lambda_mult: 1: those that fit best; 0: those that differ most.
            filter: As in `similarity_search`.
            options: As in `similarity_search`.
        """
        hits, asked, vectors = self._compared(query, self._search(query, fetch_k, filter, options))
        return [_document(hits[row]) for row in maximal_marginal_relevance(asked, list(vectors), lambda_mult, k)]

    def _compared(self, query: str, hits: list[Hit]) -> tuple[list[Hit], NDArray[np.float32], NDArray[np.float32]]:
        """The hits with words, nearest first, the query's vector ``[D]`` and theirs ``[N, D]``, all embedded anew."""
        import numpy as np

        hits, embedder = [hit for hit in hits if hit.text.strip()], self.knowledge.embedder
        asked = vectors_of(getattr(embedder, "embed_query", embedder.embed), [query])[0]
        if not hits:
            return [], asked, np.zeros((0, len(asked)), np.float32)
        vectors = vectors_of(embedder.embed, [hit.text for hit in hits])
        order = np.argsort(-(vectors @ asked), kind="stable")
        return [hits[at] for at in order], asked, vectors[order]

    def _search(self, query: str, k: int, where: Mapping[str, Any] | None, options: Mapping[str, Any]) -> list[Hit]:
        asked = {"mode": self.mode, **options}
        return self.knowledge.search(query, k, tenant=self.tenant, where=where or None, **asked)


def _document(hit: Hit) -> Document:
    """A document as it came through the vector store, or a passage of a file, with its place as metadata."""
    if _OURS in hit.metadata:
        metadata = {key: value for key, value in hit.metadata.items() if key != _OURS}
        return Document(id=hit.uri, page_content=hit.text, metadata=metadata)
    place = {key: value for key, value in asdict(hit).items() if key not in ("text", "metadata")}
    return Document(id=hit.id, page_content=hit.text, metadata={**hit.metadata, **place})


def _named(name: str) -> str:
    if storable(name) != name:
        raise InputError(f"{name!r} is no id of a document; give one without zero bytes and lone surrogates")
    return name


def _worded(name: str, text: str) -> str:
    if not text.strip():
        raise InputError(f"the document {name} is blank, and no search could find it; leave it out")
    return text


def _kept(name: str, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata as the store keeps it, once it is certain that it comes back as it was."""
    given = dict(metadata or {})
    try:
        written = json.dumps(given, allow_nan=False, ensure_ascii=False)
        kept = json.loads(written.encode())  # which lone surrogates do not survive
    except (TypeError, ValueError, RecursionError) as error:
        kept = error
    if kept != given:
        raise InputError(
            f"the metadata of the document {name} would not come back as it is; give what JSON has: text, numbers, "
            "true, false, None, lists, and mappings of text"
        )
    return {**given, _OURS: True}


def _discard(knowledge: Knowledge, folder: tempfile.TemporaryDirectory[str]) -> None:
    knowledge.close()
    folder.cleanup()
