"""Where a collection of Chroma is kept: a folder of this process or a server. It knows no vectors and no outbox."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from mmagent.errors import StoreError
from mmagent.knowledge.index.connect import connect, explained
from mmagent.knowledge.lock import FolderLock

__all__ = ["COLLECTION", "ChromaFolder", "ChromaServer"]

COLLECTION = "mmagent"
"""What collections are called unless they are given another name."""
_HNSW = {"space": "cosine", "ef_search": 200}


class ChromaFolder:
    """Chroma in this process, which has the folder for itself."""

    advice = "free disk space or delete it"

    def __init__(self, folder: Path, collection: str) -> None:
        self._folder, self._name = folder, collection
        self._client: Any = None
        self._lock: FolderLock | None = None
        self.max_batch = 0

    def __str__(self) -> str:
        return str(self._folder)

    def check(self, error: Exception) -> None:
        """Whatever it is, building it anew may help."""

    def hold(self) -> None:
        """Makes sure that nobody else has it open."""
        if self._lock is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self._folder, patience=0)

    def open(self, generation: str, *, create: bool) -> Any:
        """The collection of a generation, empty if there is none; folders of other generations go."""
        self._close_client()
        self.hold()
        path = self._folder / f"chroma-{generation}"
        for folder in self._folder.glob("chroma-*"):
            if folder != path:
                shutil.rmtree(folder, ignore_errors=True)
        path.mkdir(exist_ok=True)
        file = path / "chroma.sqlite3"
        if not file.exists():  # later, a client of Chroma's own SQLite may not yet have let go of it
            with closing(sqlite3.connect(file)) as database:
                database.execute("PRAGMA journal_mode = WAL")  # Chroma does not; the mode stays with the file
        self._client = connect(path)
        self.max_batch = self._client.get_max_batch_size()
        return _collection(self._client, self._name)

    def drop(self, generation: str) -> None:
        """Forgets a generation."""
        self.hold()
        self._close_client()
        shutil.rmtree(self._folder / f"chroma-{generation}", ignore_errors=True)

    def close(self) -> None:
        """Closes its files, and lets the next one in."""
        self._close_client()
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


class ChromaServer:
    """Chroma elsewhere, which others use too."""

    advice = "look at the server's log, or give another place"

    def __init__(self, address: str, collection: str) -> None:
        self._address, self._name = address, collection
        self._client: Any = None
        self.max_batch = 0

    def __str__(self) -> str:
        return self._address

    def check(self, error: Exception) -> None:
        """Building anew helps only where the collection is not there."""
        from chromadb.errors import NotFoundError

        if not isinstance(error, NotFoundError):
            raise explained(self._address, error) from error

    def hold(self) -> None:
        """Makes sure that it is there."""
        if self._client is None:
            client = connect(self._address)
            self.max_batch = client.get_max_batch_size()
            self._client = client

    def open(self, generation: str, *, create: bool) -> Any:
        """The collection of a generation, empty if there is none and ``create``."""
        self.hold()
        name = f"{self._name}__g{generation}"
        return _collection(self._client, name) if create else self._client.get_collection(name, embedding_function=None)

    def drop(self, generation: str) -> None:
        """Forgets a generation."""
        try:
            self.hold()
            self._client.delete_collection(f"{self._name}__g{generation}")
        except StoreError:
            raise
        except Exception as error:  # what is not there need not go
            self.check(error)

    def close(self) -> None:
        """Closes its connections."""
        if self._client is not None:
            self._client.close()
        self._client = None


def _collection(client: Any, name: str) -> Any:
    # without a function Chroma would download one; ours are given with each row
    return client.get_or_create_collection(name, embedding_function=None, configuration={"hnsw": _HNSW})
