"""Plain in-process Chroma with vectors that are given: what a search through it takes, and what it finds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Chroma:
    """One collection with cosine distance, as its documentation makes one; no text goes in.

    Args:
        folder: Where it keeps its files.
        vectors: ``[N, D]`` float32 of length 1; ids are their row numbers.
        metadata: Of each.
    """

    def __init__(self, folder: Path, vectors: NDArray[np.float32], metadata: Sequence[dict[str, Any]]) -> None:
        import chromadb
        from chromadb.config import Settings

        client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
        self._collection: Any = client.create_collection(
            "peer", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        began = time.perf_counter()
        step = client.get_max_batch_size()
        for at in range(0, len(vectors), step):
            rows = range(at, min(at + step, len(vectors)))
            self._collection.add([str(row) for row in rows], vectors[at : at + step], list(metadata[at : at + step]))
        self.seconds = time.perf_counter() - began
        """What adding took."""

    def search(self, vector: NDArray[np.float32], k: int, where: dict[str, Any] | None = None) -> list[int]:
        """Row numbers of the nearest ``k``."""
        found = self._collection.query(query_embeddings=[vector], n_results=k, where=where, include=["distances"])
        return [int(row) for row in found["ids"][0]]
