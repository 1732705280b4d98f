"""Knowledge: documents in, passages with citations out. It knows nothing of agents and models of language."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from mmagent import paths as places
from mmagent.errors import InputError, NotFound, StoreError
from mmagent.knowledge.cite import Hit, quote_for
from mmagent.knowledge.embed import Embedder, MiniLM
from mmagent.knowledge.index import ChromaIndex, ExactIndex, Index
from mmagent.knowledge.ingest import KINDS, Document, Found, find, read
from mmagent.knowledge.lock import FolderLock
from mmagent.knowledge.manifest import Manifest, Unit, units_of
from mmagent.settings import settings

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_CANDIDATES = 50
"""Taken from each ranking before they are fused."""
_RRF_K = 60
"""Reciprocal rank fusion, Cormack et al. 2009: score = sum of weight / (k + rank)."""
_DENSE_WEIGHT, _LEXICAL_WEIGHT = 1.0, 1.0
_FLUSH_UNITS = 256
"""New units that are embedded together and written in one transaction."""


@dataclass(frozen=True)
class IndexReport:
    """What `Knowledge.add` did, in documents."""

    added: int
    updated: int
    unchanged: int
    removed: int
    """Gone from a folder, or no longer readable."""
    skipped: list[tuple[str, str]]
    """Uri and reason of each file that was not taken in."""


@dataclass(frozen=True)
class Stats:
    """What a store holds."""

    documents: int
    units: int
    pending: int
    """Units that the Chroma index has yet to learn; it learns only once there are too many units for exact search."""
    search: Literal["exact", "chroma"]


class Knowledge:
    """A store of documents in a folder of its own. Opened by the first use, by one user at a time; safe for threads.

    Args:
        path: The store's folder; made when something is written.
        embedder: all-MiniLM-L6-v2 by default. Another one than last time has everything embedded anew.

    Raises:
        StoreLocked: Another process, or another `Knowledge`, has the store open (any method, within two seconds).
        StoreError: The store is damaged, of a newer version, or cannot be written (any method).
    """

    def __init__(self, path: Path | str, *, embedder: Embedder | None = None) -> None:
        self.path = Path(path).expanduser().absolute()
        self._embedder: Embedder = embedder or MiniLM()
        self._exact_limit = settings().exact_search_limit
        self._max_bytes = settings().max_document_bytes
        self._guard = RLock()
        self._opened: _Opened | None = None
        self.report: IndexReport | None = None
        """What the last `add` did, that of `of_folder` included."""

    @classmethod
    def of_folder(
        cls, folder: Path | str, *, root: Path | str | None = None, embedder: Embedder | None = None
    ) -> Knowledge:
        """The store of a folder of documents, brought up to date: what changed is taken in anew, what is gone goes.

        Args:
            folder: The documents; folders in it are searched too.
            root: Where stores are kept; `mmagent.paths.knowledge_dir` by default.
            embedder: See the class.

        Raises:
            NotFound: There is no such folder.
            InputError: It is a file, or there is no document in it that can be taken in.
        """
        given = Path(folder).expanduser()
        if not os.path.exists(given):  # unlike Path.exists, False for any name that cannot be one
            raise NotFound(f"there is no folder {folder}; give the folder that your documents are in")
        if not given.is_dir():
            raise InputError(f"{folder} is a file; give the folder that your documents are in")
        documents = given.resolve()
        if not find([documents]).documents:
            raise InputError(f"there are no documents in {folder}; {KINDS} are taken")
        name = re.sub(r"[^\w.-]+", "-", documents.name)[:40] or "documents"
        mark = hashlib.sha256(bytes(documents)).hexdigest()[:12]
        knowledge = cls(Path(root or places.knowledge_dir()) / f"{name}-{mark}", embedder=embedder)
        try:
            report = knowledge.add(documents)
            if not report.added + report.updated + report.unchanged:
                uri, reason = report.skipped[0]
                raise InputError(f"there are no documents in {folder} that can be read; {uri}: {reason}")
        except BaseException:
            knowledge.close()
            raise
        return knowledge

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Lets others use the store. Using it again opens it again."""
        with self._guard:
            opened, self._opened = self._opened, None
            if opened:
                opened.close()

    def add(self, *paths: Path | str) -> IndexReport:
        """Takes files and folders in, and brings them up to date if it has them already.

        Unchanged files (by content) are not touched; of a changed one only the passages that changed are embedded;
        what is gone from a given folder goes. Files that can't be taken in are reported, and do not stop the others.

        Raises:
            NotFound: A path does not exist; nothing has been taken in.
        """
        found = find(Path(path) for path in paths)
        with self._guard:
            self.report = _Update(self, self._open(), found).run(self._max_bytes)
            return self.report

    def search(self, query: str, k: int = 3) -> list[Hit]:
        """The ``k`` passages that fit a query best, best first: nearest vectors and BM25, fused by rank.

        Raises:
            InputError: ``k`` is less than 1.
        """
        if k < 1:
            raise InputError(f"a search for {k} passages finds none; ask for at least 1")
        query = query.encode("utf-8", "replace").decode()
        with self._guard:
            opened = self._open()
            if not query.strip() or not opened.manifest.count("units"):
                return []
            depth = max(_CANDIDATES, k)
            vector = self._embed(opened, [query])[0]
            dense = opened.index(self._exact_limit).search(vector, depth)
            scores = fuse((dense, _DENSE_WEIGHT), (opened.manifest.lexical(query, depth), _LEXICAL_WEIGHT))
            best = sorted(scores, key=scores.__getitem__, reverse=True)[:k]
            units = opened.manifest.units(best)
        hits = ((unit, *units[unit]) for unit in best if unit in units)
        return [Hit(unit, p.text, p.title, uri, p.start, p.end, scores[unit]) for unit, uri, p in hits]

    def quote(self, hit: Hit, claim: str) -> str:
        """The sentence or neighbouring sentences of a hit that support a claim best: verbatim, always."""
        return quote_for(hit.text, claim)

    def sync(self) -> None:
        """Has the Chroma index learn everything now, whether or not searches need it yet."""
        with self._guard:
            self._open().chroma.sync()

    def stats(self) -> Stats:
        """What the store holds."""
        with self._guard:
            opened = self._open()
            count = opened.manifest.count
            search: Literal["exact", "chroma"] = "exact" if count("units") <= self._exact_limit else "chroma"
            return Stats(count("assets"), count("units"), count("outbox"), search)

    def verify(self) -> list[str]:
        """What is wrong with the store, in words; nothing, if all is well. Reads all of it."""
        with self._guard:
            opened = self._open()
            return opened.manifest.problems() + opened.chroma.problems()

    def _open(self) -> _Opened:
        if self._opened is None:
            self._opened = _Opened.at(self.path)
        return self._opened

    def _embed(self, opened: _Opened, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors ``[N, D]``, after making sure that those in the store are of the same space."""
        manifest, fingerprint = opened.manifest, self._embedder.fingerprint
        if manifest.get_meta("embedder") != fingerprint:
            units = manifest.embedded_texts()
            vectors = self._embedder.embed([text for _, text in units]) if units else ()
            with manifest.transaction():
                manifest.replace_vectors(zip((unit for unit, _ in units), vectors, strict=True))
                manifest.set_meta("embedder", fingerprint)
                if units:
                    log.info("another embedder than last time: %d passages are embedded anew", len(units))
                    opened.chroma.forget()
            opened.chroma.close()
        return self._embedder.embed(texts)


def fuse(*rankings: tuple[Sequence[str], float]) -> dict[str, float]:
    """Weighted reciprocal rank fusion of rankings (best first), each with its weight: id to score."""
    scores: dict[str, float] = {}
    for ranking, weight in rankings:
        for rank, unit in enumerate(ranking, start=1):
            scores[unit] = scores.get(unit, 0.0) + weight / (_RRF_K + rank)
    return scores


@dataclass(frozen=True)
class _Opened:
    """What is there while a store is open."""

    lock: FolderLock
    manifest: Manifest
    exact: ExactIndex
    chroma: ChromaIndex

    @classmethod
    def at(cls, folder: Path) -> _Opened:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(folder)
        except OSError as error:
            raise StoreError(
                f"the knowledge store {folder} cannot be opened ({error.strerror or error}); "
                "check that it is a folder that you may write to"
            ) from error
        with ExitStack() as undo:
            undo.callback(lock.release)
            manifest = Manifest(folder / "manifest.sqlite3")
            undo.pop_all()
        return cls(lock, manifest, ExactIndex(manifest), ChromaIndex(manifest, folder))

    def index(self, exact_limit: int) -> Index:
        return self.exact if self.manifest.count("units") <= exact_limit else self.chroma

    def close(self) -> None:
        with ExitStack() as closing:
            closing.callback(self.lock.release)
            closing.callback(self.manifest.close)
            closing.callback(self.chroma.close)


class _Update:
    """One `Knowledge.add`: changed documents are gathered, embedded together, and written group by group."""

    def __init__(self, knowledge: Knowledge, opened: _Opened, found: Found) -> None:
        self._knowledge, self._opened, self._found = knowledge, opened, found
        self._known = opened.manifest.digests()
        self._changed: list[tuple[Document, list[Unit]]] = []
        self._new: list[Unit] = []
        self._skipped = list(found.skipped)
        self._added = self._updated = self._unchanged = self._removed = 0

    def run(self, max_bytes: int) -> IndexReport:
        kept = set()
        for file, uri in self._found.documents.items():
            try:
                self._take(read(file, uri, max_bytes))
                kept.add(str(file))
            except InputError as error:
                self._skipped.append((uri, str(error)))
            if len(self._new) >= _FLUSH_UNITS:
                self._flush()
        self._flush()
        self._remove(kept)
        return IndexReport(self._added, self._updated, self._unchanged, self._removed, self._skipped)

    def _take(self, document: Document) -> None:
        digest, uri = self._known.get(document.path, ("", ""))
        if digest == document.digest:
            self._unchanged += 1
            if uri != document.uri:
                self._opened.manifest.rename(document.path, document.uri)
            return
        units = units_of(document.path, document.passages())
        if not units:
            raise InputError("there is no text under its headings")
        known = self._opened.manifest.unit_ids(document.path)
        self._changed.append((document, units))
        self._new += [unit for unit in units if unit.id not in known]
        self._added += not digest
        self._updated += bool(digest)

    def _flush(self) -> None:
        if not self._changed:
            return
        manifest = self._opened.manifest
        vectors = self._knowledge._embed(self._opened, [unit.embedded for unit in self._new]) if self._new else ()
        by_id = {unit.id: vector for unit, vector in zip(self._new, vectors, strict=True)}
        with manifest.transaction():
            for document, units in self._changed:
                manifest.put(document.path, document.uri, document.digest, units, by_id)
        self._changed, self._new = [], []

    def _remove(self, kept: set[str]) -> None:
        given = {str(file) for file in self._found.documents}
        gone = [
            path
            for path in self._known.keys() - kept
            if path in given or any(Path(path).is_relative_to(folder) for folder in self._found.folders)
        ]
        with self._opened.manifest.transaction():
            for path in gone:
                self._opened.manifest.remove(path)
        self._removed = len(gone)
