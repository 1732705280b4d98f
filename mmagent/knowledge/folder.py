"""A store's folder: its lock, the connections to its manifest, and its indexes. It knows nothing of documents.

```
store/
  manifest.sqlite3   the truth; any number read it at once (with -wal and -shm beside it while somebody has it open)
  LOCK               whoever writes holds it
  chroma/            what is built from the truth, and can go at any time
```
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import RLock

from mmagent.errors import StoreError, StoreLocked
from mmagent.knowledge.index.choice import Indexes
from mmagent.knowledge.lock import FolderLock
from mmagent.knowledge.manifest import Manifest
from mmagent.knowledge.schema import SCHEMA_VERSION

MANIFEST = "manifest.sqlite3"
_PATIENCE = 5.0
"""Seconds that a reader waits for the tables of a store that is just being made."""


class StoreFolder:
    """The folder of one store. Safe for threads.

    Args:
        path: It.
        exact_limit: Vectors up to which all are compared.
        chroma: A Chroma server; None: Chroma in this process.
    """

    def __init__(self, path: Path, exact_limit: int, chroma: str | None) -> None:
        self.path = path
        self._exact_limit, self._chroma = exact_limit, chroma
        self._guard, self._writing_here = RLock(), RLock()
        self._reader: Manifest | None = None
        self._indexes: Indexes | None = None
        self._opened: tuple[int, int] | None = None
        self._begun = 0.0

    @property
    def there(self) -> bool:
        """Whether anything was ever written.

        Raises:
            StoreError: It is no folder.
        """
        if not self.path.is_dir() and os.path.exists(self.path):
            raise StoreError(f"the knowledge store {self.path} cannot be opened; it is not a folder")
        return (self.path / MANIFEST).is_file()

    @property
    def reader(self) -> Manifest:
        """The connection that searches use; another one once the file is another one."""
        with self._guard:
            if self._reader is not None and self._identity() != self._opened:
                self.close()
            while self._reader is None:
                self._opened = self._identity()
                reader = Manifest(self.path / MANIFEST, write=False)
                if reader.schema_version == SCHEMA_VERSION:
                    self._reader = reader
                    break
                reader.close()  # an older store, or one whose first writer has just begun or was interrupted
                try:
                    with self.writer():
                        pass
                except StoreLocked:
                    self._begun = self._begun or time.monotonic()
                    if time.monotonic() - self._begun > _PATIENCE:
                        raise
                else:
                    self._begun = 0.0
            return self._reader

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path / MANIFEST)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @property
    def indexes(self) -> Indexes:
        """The indexes that searches use."""
        with self._guard:
            if self._indexes is None:
                self._indexes = Indexes(self.reader, self.path, self._exact_limit, self._chroma)
            return self._indexes

    @contextmanager
    def writer(self) -> Iterator[Manifest]:
        """The connection of the one writer.

        Raises:
            StoreLocked: Another process writes, or another user in this one.
            StoreError: It cannot be written.
        """
        with self._writing_here:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                lock = FolderLock(self.path)
            except OSError as error:
                raise StoreError(
                    f"the knowledge store {self.path} cannot be opened ({error.strerror or error}); "
                    "check that it is a folder that you may write to"
                ) from error
            try:
                with closing(Manifest(self.path / MANIFEST, write=True)) as manifest:
                    yield manifest
            finally:
                lock.release()

    def close(self) -> None:
        """Closes what is open; using it again opens it again."""
        with self._guard:
            indexes, self._indexes = self._indexes, None
            reader, self._reader = self._reader, None
            if indexes:
                indexes.close()
            if reader:
                reader.close()
