"""Which index a search asks: exact where there are few vectors or few that may be found, else Chroma's.

It knows the manifest and both kinds of index. Chroma's is a derivative: where it is not in step, or another process has
it open, vectors are compared exactly, which is always right and seldom slow.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Literal

from mmagent.errors import StoreError, StoreLocked
from mmagent.knowledge.index import Index
from mmagent.knowledge.index.exact import ExactIndex
from mmagent.knowledge.manifest import Manifest
from mmagent.knowledge.spaces import SpaceVectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmagent.knowledge.index.chroma import ChromaIndex

log = logging.getLogger(__name__)

FOLDER = "chroma"
_MODALITY = {"text": "text", "picture": "image"}


class Indexes:
    """The indexes of one store's spaces.

    Args:
        manifest: Of a reader.
        folder: The store's.
        exact_limit: Vectors up to which all are compared.
        server: A Chroma server, which is asked whatever the number; None: Chroma in this process.
    """

    def __init__(self, manifest: Manifest, folder: Path, exact_limit: int, server: str | None) -> None:
        self._manifest, self._folder, self._exact_limit, self._server = manifest, folder, exact_limit, server
        self._guard = RLock()
        self._exact: dict[int, ExactIndex] = {}
        self._chroma: dict[int, ChromaIndex] = {}
        self._counted: tuple[object, dict[int, int]] = (None, {})

    def of(self, space: int) -> Index:
        """The index of a space."""
        return _Chosen(self, space)

    def exact(self, space: int) -> ExactIndex:
        """The one that compares every vector."""
        with self._guard:
            if space not in self._exact:
                self._exact[space] = ExactIndex(SpaceVectors(self._manifest, space))
            return self._exact[space]

    def chroma(self, space: int) -> ChromaIndex:
        """The one that asks Chroma; it learns nothing."""
        with self._guard:
            if space not in self._chroma:
                self._chroma[space] = self._open_chroma(self._manifest, space, learn=False)
            return self._chroma[space]

    def uses_chroma(self, space: int) -> bool:
        """Whether a space is searched through Chroma."""
        version = self._manifest.version
        if self._counted[0] != version:
            self._counted = version, {number: vectors for number, _, _, _, vectors in self._manifest.spaces()}
        return self._server is not None or self._counted[1].get(space, 0) > self._exact_limit

    @property
    def on_server(self) -> bool:
        """Whether Chroma is elsewhere."""
        return self._server is not None

    @property
    def kind(self) -> Literal["exact", "chroma"]:
        """How vectors are searched."""
        used = any(self.uses_chroma(space) for space, *_ in self._manifest.spaces())
        return "chroma" if used else "exact"

    def sync(self, writer: Manifest, *, always: bool = False) -> None:
        """Has Chroma learn what is new, where it is in use, or ``always``; what it is behind is searched exactly.

        Raises:
            StoreError: It cannot be built, and ``always`` asked for it.
        """
        spaces = [space for space, *_ in writer.spaces()]
        for left in (self._folder / FOLDER).glob("*"):
            if left.name not in map(str, spaces):
                shutil.rmtree(left, ignore_errors=True)
        for space in spaces:
            if not (always or self.uses_chroma(space)):
                continue
            try:
                for chroma in self._learning(writer, space):
                    chroma.sync()
            except StoreError as error:
                if always:
                    raise
                log.warning("the Chroma index is left behind: %s", error)

    def forget(self, writer: Manifest) -> None:
        """Has Chroma built anew, where it was built before."""
        for space, *_ in writer.spaces():
            if _Outbox(writer, space).get("generation"):
                for chroma in self._learning(writer, space):
                    chroma.rebuild()

    def problems(self) -> list[str]:
        """How Chroma differs from the manifest."""
        found = []
        for space, *_ in self._manifest.spaces():
            if _Outbox(self._manifest, space).get("generation"):
                found += self.chroma(space).problems()
        return found

    def close(self) -> None:
        """Closes Chroma's files."""
        with self._guard:
            while self._chroma:
                self._chroma.popitem()[1].close()

    def _learning(self, writer: Manifest, space: int) -> Iterator[ChromaIndex]:
        """The index of a space as the one that writes to it; Chroma's files can be open only once."""
        with self._guard:
            if space in self._chroma:
                self._chroma.pop(space).close()
            chroma = self._open_chroma(writer, space, learn=True)
            try:
                yield chroma
            finally:
                chroma.close()

    def _open_chroma(self, manifest: Manifest, space: int, *, learn: bool) -> ChromaIndex:
        from mmagent.knowledge.index.chroma import ChromaIndex

        known = {number: (role, name) for number, role, name, *_ in manifest.spaces()}
        if space not in known:
            raise StoreError("the vectors of another embedder have taken the place of these; search again")
        role, fingerprint = known[space]
        name = f"{fingerprint[:40]}__{_MODALITY[role]}"
        place: Path | str = self._server or self._folder / FOLDER / str(space)
        if self._server:
            name = f"mmagent-{manifest.get_meta('store')}-{space}__{_MODALITY[role]}"
        return ChromaIndex(
            SpaceVectors(manifest, space), _Outbox(manifest, space), place, _collection_name(name), learn=learn
        )


class _Chosen:
    """Asks the index that is right at the moment."""

    def __init__(self, indexes: Indexes, space: int) -> None:
        self._indexes, self._space = indexes, space

    def search(
        self, vector: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """See `Index.search`."""
        indexes, space = self._indexes, self._space
        if indexes.uses_chroma(space) and (among is None or indexes.on_server):
            try:
                return indexes.chroma(space).search(vector, k, among)
            except StoreLocked:
                log.debug("another process has the Chroma index open; vectors are compared exactly")
            except StoreError as error:
                log.warning("vectors are compared exactly: %s", error)
        return indexes.exact(space).search(vector, k, among)


class _Outbox:
    """What the manifest knows of the Chroma index of a space."""

    def __init__(self, manifest: Manifest, space: int) -> None:
        self._manifest, self._space = manifest, space

    def pending(self, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers whose vectors are to be learned, and numbers to be forgotten."""
        import numpy as np

        rows = self._manifest.pending(self._space, limit)
        upserts, deletes = ([unit for unit, action in rows if action == one] for one in ("upsert", "delete"))
        return np.array(upserts, np.int64), np.array(deletes, np.int64)

    def settle(self, upserts: NDArray[np.int64], deletes: NDArray[np.int64]) -> None:
        """These were learned and forgotten."""
        self._manifest.settle(self._space, "upsert", upserts.tolist())
        self._manifest.settle(self._space, "delete", deletes.tolist())

    def refill(self) -> None:
        """An empty collection has every vector to learn."""
        with self._manifest.transaction():
            self._manifest.refill_outbox(self._space)

    def get(self, key: str, default: str = "") -> str:
        """What `set` has kept."""
        return self._manifest.get_meta(f"chroma {self._space} {key}", default)

    def set(self, key: str, value: str) -> None:
        """Keeps a value."""
        self._manifest.set_meta(f"chroma {self._space} {key}", value)


def _collection_name(name: str) -> str:
    """A name that Chroma takes: letters, digits, dots, dashes, at both ends a letter or digit."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in name).strip("._-")
