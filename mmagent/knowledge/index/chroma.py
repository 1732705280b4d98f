"""Nearest vectors through Chroma's HNSW, in this process or on a server. It knows nothing of texts.

Chroma is a derivative, and is treated like one: it learns from the outbox, is never asked for anything but ids, and is
built anew from the manifest's vectors whenever it is missing, fails, disagrees, or has seen many deletions (after which
its graph loses rows that are still alive, https://github.com/chroma-core/chroma/issues/7758). What it finds is scored
from the manifest's vectors.
"""

from __future__ import annotations

import logging
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.errors import StoreError, StoreLocked
from mmagent.knowledge.index.exact import checked, contained
from mmagent.knowledge.index.place import COLLECTION, ChromaFolder, ChromaServer
from mmagent.knowledge.index.scan import best, exact_scores, make_block, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmagent.knowledge.index import Vectors

__all__ = ["ChromaIndex", "Outbox"]

log = logging.getLogger(__name__)

_BATCH = 2048
_MAX_DELETED = 0.2
"""Share of deleted rows in the graph from which it is built anew."""
_ATTEMPTS = 10
_FEW = 10_000
"""Units of a selection that are compared one by one."""
_MOST_ASKED = 2000
"""Units that Chroma is asked for, to have enough of a larger selection among them."""
_SPARE = 8
"""More than are wanted: Chroma's order differs where lengths are not quite 1, as those of float16 are not."""


class Outbox(Protocol):
    """What Chroma has yet to learn of one space, and what is remembered of its collection, beside the truth."""

    def pending(self, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers whose vectors are to be learned and numbers to be forgotten; a number is in one of them at most."""
        ...

    def settle(self, upserts: NDArray[np.int64], deletes: NDArray[np.int64]) -> None:
        """These were learned and forgotten; what has become something else since ``pending`` stays."""
        ...

    def refill(self) -> None:
        """An empty collection has every vector to learn, and nothing to forget."""
        ...

    def get(self, key: str, default: str = "") -> str:
        """What `set` has kept."""
        ...

    def set(self, key: str, value: str) -> None:
        """Keeps a value: ``generation`` or ``deleted``."""
        ...


class ChromaIndex:
    """A Chroma collection of one space. Safe for threads.

    Args:
        vectors: The truth.
        outbox: What of it is new.
        place: A folder for this index alone (the collection is in ``chroma-1``, ``chroma-2``, ... in it: one for each
            time it was built), the address of a server, or ``cloud``; see `connect`.
        collection: On a server, what the collection's name starts with; ``__g1``, ``__g2``, ... follows.
        learn: False where the manifest cannot be written: a collection that is behind is not searched then.

    Raises:
        StoreLocked: Another process has the folder open (any method); search exactly.
        StoreError: The server is away, or the collection cannot be built (any method).
    """

    def __init__(
        self, vectors: Vectors, outbox: Outbox, place: Path | str, collection: str = COLLECTION, *, learn: bool = True
    ) -> None:
        self._vectors, self._outbox, self._learns = vectors, outbox, learn
        self._place: ChromaFolder | ChromaServer = (
            ChromaFolder(place, collection) if isinstance(place, Path) else ChromaServer(place, collection)
        )
        self._guard = RLock()
        self._collection: Any = None
        self._generation = ""
        self._seen: object = None
        self._live = self._dimension = 0
        self._lossy = False
        self._numbers: tuple[object, NDArray[np.int64]] | None = None

    def search(
        self, vector: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """The numbers of the ``k`` units nearest to a vector, each with its cosine, nearest first, ties by number.

        First it learns what is new. Nearly always these are the nearest; without ``among`` or with a large one a unit
        may be missed, as HNSW does.

        Raises:
            InputError: The query is not a vector of finite numbers.
        """
        query = checked(vector)
        self._follow()
        checked(vector, self._dimension)
        if k < 1 or not self._live:
            return []
        if among is not None:
            return self._search_among(query, k, among)
        wanted = min(k, self._live)
        found = self._scored(query, wanted, self._ask(query, wanted + wanted // 4 + _SPARE))
        if len(found) < wanted:
            log.warning("the Chroma index in %s has lost units and will be built anew", self._place)
            self._lossy = True
            return self._compared(query, k, self._vectors.numbers())
        return found

    def sync(self) -> None:
        """Learns what the outbox holds; builds itself anew where that is not enough."""
        with self._guard:
            try:
                if self._learned() and not self._lossy:
                    return
                reason = "it is out of step with the manifest or has many deletions"
            except StoreError:
                raise
            except Exception as error:  # whatever Chroma raises: it is only a derivative
                self._place.check(error)
                reason = str(error)
            if not self._learns:
                self.close()  # so that whoever writes can have it learn
                raise StoreError(f"the Chroma index in {self._place} cannot be used ({reason}); search exactly")
            log.warning("the Chroma index in %s is built anew: %s", self._place, reason)
            try:
                self.rebuild()
                if self._learned():
                    return
                problem = "it holds other units than it was given"
            except StoreError:
                raise
            except Exception as error:
                self._place.check(error)
                raise self._unusable(str(error)) from error
            raise self._unusable(problem)

    def rebuild(self) -> None:
        """Forgets the collection; the next search or sync fills a new one with the manifest's vectors."""
        with self._guard:
            self._collection, self._seen, self._lossy = None, None, False
            self._place.hold()
            old = self._outbox.get("generation", "0")
            self._outbox.refill()  # before the generation: what is interrupted here is found out of step
            self._outbox.set("deleted", "0")
            self._outbox.set("generation", str(int(old) + 1))
            self._place.drop(old)

    def problems(self) -> list[str]:
        """How it differs from the manifest, the outbox allowed for; nothing, if all is well or it was never built."""
        import numpy as np

        with self._guard:
            if not self._outbox.get("generation"):
                return []
            try:
                self._open()
                held = np.array(sorted(map(int, self._collection.get(include=[])["ids"])), dtype=np.int64)
            except StoreLocked:
                return []  # somebody else has it open, and looks after it
            except StoreError as error:
                return [str(error)]
            except Exception as error:  # whatever Chroma raises
                return [f"the Chroma index cannot be read ({error}); the next sync builds it anew"]
            upserts, deletes = self._outbox.pending(1 << 62)
            learned = np.union1d(held[~contained(held, np.sort(deletes))], upserts)
            off = len(np.setxor1d(learned, self._vectors.numbers()))
        return [f"the Chroma index is out of step by {off} units; the next sync builds it anew"] if off else []

    def close(self) -> None:
        """Closes Chroma's files or its connection."""
        with self._guard:
            self._collection = self._seen = None
            self._place.close()

    def _unusable(self, problem: str) -> StoreError:
        return StoreError(f"the Chroma index in {self._place} cannot be built ({problem}); {self._place.advice}")

    def _follow(self) -> None:
        if self._seen is None or self._seen != self._vectors.version:
            self.sync()

    def _open(self) -> None:
        generation = self._outbox.get("generation")
        if self._collection is None or generation != self._generation:
            self._collection, self._generation = self._place.open(generation, create=self._learns), generation

    def _learned(self) -> bool:
        """Whether it has learned everything, and agrees with the truth."""
        if not self._outbox.get("generation"):
            if not self._learns:
                return False
            self.rebuild()
        self._open()
        for _ in range(_ATTEMPTS):
            news = self._learns and self._drain()
            version = self._vectors.version
            if any(map(len, self._outbox.pending(1))):
                if self._learns:
                    continue
                return False
            if self._seen is None or news or not self._learns:
                numbers = self._vectors.numbers()
                if self._vectors.version != version:
                    continue
                if not self._agrees(numbers):
                    return False
            self._seen = version
            return True
        raise StoreError("the store changes faster than the Chroma index learns; stop what writes to it and try again")

    def _agrees(self, numbers: NDArray[np.int64]) -> bool:
        self._live = len(numbers)
        if self._live and not self._dimension:
            self._dimension = self._vectors.rows(numbers[:1]).shape[1]
        deleted = int(self._outbox.get("deleted", "0"))
        return bool(self._collection.count() == self._live) and deleted <= _MAX_DELETED * (self._live + deleted)

    def _drain(self) -> bool:
        """Learns what is pending; whether there was anything."""
        import numpy as np

        batch, any_news = min(_BATCH, self._place.max_batch), False
        while True:
            version = self._vectors.version
            upserts, deletes = self._outbox.pending(batch)
            if not len(upserts) + len(deletes):
                return any_news
            any_news = True
            if len(upserts):
                try:
                    rows = self._vectors.rows(upserts)
                except StoreError:
                    if self._vectors.version == version:
                        raise
                    continue  # one of them went away meanwhile, and is to be forgotten now
                self._collection.upsert(ids=_ids(upserts), embeddings=rows.astype(np.float32))
            if len(deletes) and self._collection.count():
                self._collection.delete(ids=_ids(deletes))
                self._outbox.set("deleted", str(int(self._outbox.get("deleted", "0")) + len(deletes)))
            self._outbox.settle(upserts, deletes)

    def _ask(self, query: NDArray[np.float32], wanted: int) -> NDArray[np.int64]:
        import numpy as np

        collection, wanted = self._collection, min(wanted, self._live)
        try:
            found = collection.query(query_embeddings=[query], n_results=wanted, include=[])
        except Exception as error:  # lost, damaged, or another thread has built it anew
            with self._guard:
                self._place.check(error)
                if collection is self._collection:
                    self._collection = self._seen = None
                self.sync()
                try:
                    found = self._collection.query(query_embeddings=[query], n_results=wanted, include=[])
                except Exception as again:
                    self._place.check(again)
                    raise self._unusable(str(again)) from again
        return np.array([int(one) for one in found["ids"][0]], dtype=np.int64)

    def _search_among(self, query: NDArray[np.float32], k: int, among: NDArray[np.int64]) -> list[tuple[int, float]]:
        import numpy as np

        live = self._live_numbers()
        selected = live[contained(live, np.unique(among))]
        wanted = min(k, len(selected))
        if len(selected) > _FEW and (asked := 2 * wanted * len(live) // len(selected) + 50) <= _MOST_ASKED:
            numbers = self._ask(query, asked)
            found = self._scored(query, wanted, numbers[contained(numbers, selected)])
            if len(found) == wanted:
                return found
        return self._compared(query, wanted, selected)

    def _live_numbers(self) -> NDArray[np.int64]:
        version, kept = self._vectors.version, self._numbers
        if kept is None or kept[0] != version:
            self._numbers = kept = (version, self._vectors.numbers())
        return kept[1]

    def _scored(self, query: NDArray[np.float32], k: int, numbers: NDArray[np.int64]) -> list[tuple[int, float]]:
        if not len(numbers):
            return []
        try:
            rows = self._vectors.rows(numbers)
        except StoreError:  # some are gone already
            numbers = numbers[contained(numbers, self._vectors.numbers())]
            rows = self._vectors.rows(numbers)
        return best(numbers, exact_scores(rows, query), k)

    def _compared(self, query: NDArray[np.float32], k: int, numbers: NDArray[np.int64]) -> list[tuple[int, float]]:
        """The nearest of these, exactly, in pieces."""
        import numpy as np

        block, found = make_block(len(query), kernel=False), list[tuple[int, float]]()
        room = 1 << block.shift
        for first in range(0, len(numbers), room):
            piece = numbers[first : first + room]
            block.put(0, piece, self._vectors.rows(piece))
            found += nearest([(block, len(piece))], query, k)
        if not found:
            return []
        columns = np.array([number for number, _ in found]), np.array([score for _, score in found], dtype=np.float32)
        return best(*columns, k)


def _ids(numbers: NDArray[np.int64]) -> list[str]:
    return [str(number) for number in numbers.tolist()]
