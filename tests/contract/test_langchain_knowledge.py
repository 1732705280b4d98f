"""LangChain's published suites over a knowledge store, as its vector store and as its retriever.

No test is changed, and none is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

from mmagent.knowledge import Knowledge
from mmagent.knowledge.embed.langchain import LangChainEmbedder
from mmagent.knowledge.langchain import KnowledgeVectorStore


class OverKnowledge(VectorStoreIntegrationTests):
    """The vector store's suite, over a store on disk with the suite's own embeddings."""

    mode: Any
    tenant = ""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:  # type: ignore[override]
        with Knowledge(tmp_path, embedder=LangChainEmbedder(self.get_embeddings())) as knowledge:
            yield KnowledgeVectorStore(knowledge, mode=self.mode, tenant=self.tenant)


class TestHybrid(OverKnowledge):
    """Ranked by vectors and words."""

    mode = "hybrid"


class TestDense(OverKnowledge):
    """Ranked by vectors alone, of one tenant."""

    mode = "dense"
    tenant = "acme"
