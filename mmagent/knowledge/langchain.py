"""A knowledge store as a LangChain retriever. It knows `Knowledge.search` and LangChain's documents, nothing else.

Importing this module loads langchain; reach it through `mmagent.as_langchain`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from mmagent.knowledge.cite import Hit


class KnowledgeRetriever(BaseRetriever):
    """The passages that fit a query best, best first, each with what a citation needs in its metadata."""

    knowledge: Any
    """The `Knowledge` to search."""
    k: int = 3
    """Passages of one search; a call may ask for another number: ``invoke(query, k=5)``."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return [_document(hit) for hit in self.knowledge.search(query, self.k if k is None else k)]


def _document(hit: Hit) -> Document:
    """``id`` and ``page_content`` are the hit's; the rest (title, uri, place, score) is metadata, and ``id`` too."""
    metadata = {key: value for key, value in asdict(hit).items() if key != "text"}
    return Document(id=hit.id, page_content=hit.text, metadata=metadata)
