"""Nearest vectors: exactly, or through Chroma's HNSW. It knows nothing of texts; the manifest is what both serve.

Chroma is a derivative, and is treated like one: it learns from the outbox, is never asked for anything but ids, and is
built anew from the manifest's vectors whenever it is missing, fails, disagrees, or has seen many deletions (after which
its graph loses rows that are still alive, https://github.com/chroma-core/chroma/issues/7758).
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.errors import StoreError
from mmagent.knowledge.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_BATCH = 200
_COLLECTION = "text__all"
_MAX_DELETED = 0.2
"""Share of deleted rows in the graph from which it is built anew."""
_HNSW = {"space": "cosine", "ef_search": 200}


class Index(Protocol):
    """What a search asks for nearest units."""

    def search(self, vector: NDArray[np.float32], k: int) -> list[str]:
        """Ids of the ``k`` units nearest to ``vector`` ``[D]``, nearest first."""
        ...


class ExactIndex:
    """Every vector is compared: no approximation, nothing to keep in step, and the faster way for small sets."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._read_at = -1
        self._ids: list[str] = []
        self._matrix: NDArray[np.float32]

    def search(self, vector: NDArray[np.float32], k: int) -> list[str]:
        """Ids of the ``k`` units nearest to ``vector`` ``[D]``, nearest first."""
        if self._read_at != self._manifest.changes:
            self._ids, self._matrix = self._manifest.matrix()
            self._read_at = self._manifest.changes
        if not self._ids:
            return []
        scores = self._matrix @ vector  # [N]
        return [self._ids[row] for row in (-scores).argsort(kind="stable")[:k]]


class ChromaIndex:
    """A Chroma collection in folders ``chroma-1``, ``chroma-2``, ... of the store: one for each time it was built."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self._manifest = manifest
        self._folder = folder
        self._client: Any = None
        self._collection: Any = None

    @property
    def _path(self) -> Path:
        return self._folder / f"chroma-{self._manifest.get_meta('chroma_generation', '1')}"

    def search(self, vector: NDArray[np.float32], k: int) -> list[str]:
        """Ids of the ``k`` units nearest to ``vector`` ``[D]``, nearest first. First it learns what is new."""
        self.sync()
        if not (count := self._collection.count()):
            return []
        found = self._collection.query(query_embeddings=[vector.tolist()], n_results=min(k, count), include=[])
        return list(found["ids"][0])

    def sync(self) -> None:
        """Learns what the outbox holds; builds itself anew where that is not enough.

        Raises:
            StoreError: A new one cannot be built either.
        """
        try:
            self._drain()
            if self._agrees():
                return
            reason = "it is out of step with the manifest or has many deletions"
        except StoreError:
            raise
        except Exception as error:  # whatever Chroma raises: it is only a derivative
            reason = str(error)
        log.warning("the Chroma index in %s is built anew: %s", self._path, reason)
        try:
            self.rebuild()
            self._drain()
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(
                f"the Chroma index in {self._path} cannot be built ({error}); free disk space or delete it"
            ) from error

    def rebuild(self) -> None:
        """Forgets the collection; the next search or sync builds it from the manifest's vectors."""
        with self._manifest.transaction():
            self.forget()
        self.close()
        self._discard_old()

    def forget(self) -> None:
        """Starts a new generation, in the caller's transaction."""
        self._manifest.set_meta("chroma_generation", str(int(self._manifest.get_meta("chroma_generation", "1")) + 1))
        self._manifest.set_meta("chroma_deleted", "0")
        self._manifest.refill_outbox()

    def problems(self) -> list[str]:
        """How it differs from the manifest, the outbox allowed for; nothing, if all is well or it was never built."""
        if not self._path.is_dir():
            return []
        try:
            self._open()
            held = set(self._collection.get(include=[])["ids"])
        except Exception as error:  # whatever Chroma raises
            return [f"the Chroma index cannot be read ({error}); the next sync builds it anew"]
        pending = self._manifest.outbox()
        learned = (held - pending.keys()) | {unit for unit, action in pending.items() if action == "upsert"}
        off = len(learned ^ {unit for unit, _ in self._manifest.embedded_texts()})
        return [f"the Chroma index is out of step by {off} units; the next sync builds it anew"] if off else []

    def close(self) -> None:
        """Closes Chroma's files."""
        if self._client is not None:
            self._client.close()
        self._client = self._collection = None

    def _agrees(self) -> bool:
        live = self._manifest.count("vectors")
        deleted = int(self._manifest.get_meta("chroma_deleted", "0"))
        return bool(self._collection.count() == live) and deleted <= _MAX_DELETED * (live + deleted)

    def _drain(self) -> None:
        import numpy as np

        self._open()
        empty = self._collection.count() == 0
        while batch := self._manifest.pending(_BATCH):
            upserts = {unit: np.frombuffer(f16, "<f2") for unit, _, f16 in batch if f16 is not None}
            deletes = [unit for unit, action, _ in batch if action == "delete"]
            if upserts:
                vectors = np.stack(list(upserts.values())).astype(np.float32)
                self._collection.upsert(ids=list(upserts), embeddings=vectors)
            if deletes and not empty:
                self._collection.delete(ids=deletes)
                deleted = int(self._manifest.get_meta("chroma_deleted", "0")) + len(deletes)
                self._manifest.set_meta("chroma_deleted", str(deleted))
            self._manifest.settle([unit for unit, _, _ in batch])

    def _open(self) -> None:
        if self._collection is not None:
            return
        import chromadb
        from chromadb.config import Settings

        self._discard_old()
        self._path.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path / "chroma.sqlite3")) as database:
            database.execute("PRAGMA journal_mode = WAL")  # Chroma does not; the mode stays with the file
        self._client = chromadb.PersistentClient(str(self._path), settings=Settings(anonymized_telemetry=False))
        self._collection = self._client.get_or_create_collection(
            _COLLECTION,
            embedding_function=None,  # else Chroma downloads one; ours are given with each row
            configuration={"hnsw": _HNSW},
        )

    def _discard_old(self) -> None:
        for folder in self._folder.glob("chroma-*"):
            if folder != self._path:
                shutil.rmtree(folder, ignore_errors=True)
