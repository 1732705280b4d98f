"""Knowledge: documents of any kind in, passages and pictures with citations out. It knows nothing of agents.

A store is a folder. `update` writes it, one process at a time; `search` reads it, any number meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mmagent import paths as places
from mmagent.errors import InputError, NotFound, StoreError, StoreLocked
from mmagent.knowledge import evidence, health
from mmagent.knowledge.cite import Hit, quote_for
from mmagent.knowledge.embed import Embedder, PictureEmbedder, embedder_of, picture_embedder_of
from mmagent.knowledge.filters import condition
from mmagent.knowledge.find import absolute, find, places_of
from mmagent.knowledge.folder import MANIFEST, StoreFolder
from mmagent.knowledge.health import Stats
from mmagent.knowledge.manifest import ARCHIVE, Manifest, Role
from mmagent.knowledge.query import Asked, query_of
from mmagent.knowledge.read import KINDS, Options
from mmagent.knowledge.report import Asset, IndexReport, Progress, Text
from mmagent.knowledge.scoped import Scoped
from mmagent.knowledge.search import Fusion, Mode, Searcher, Wanted
from mmagent.knowledge.sources import Readers, Transcriber, transcriber_of
from mmagent.knowledge.spaces import complete_texts, is_ready
from mmagent.knowledge.update import Update
from mmagent.settings import settings

if TYPE_CHECKING:
    from typing import Self

    from PIL.Image import Image as PILImage

    from mmagent.knowledge.rerank import Reranker

log = logging.getLogger(__name__)


class Knowledge:
    """A store of documents in a folder. Safe for threads; other processes may search while one adds.

    Args:
        path: The store's folder; made when something is written.
        embedder: Of texts: one, or the name of one; the settings' by default (all-MiniLM-L6-v2). Another one than last
            time has everything embedded anew.
        picture_embedder: Puts pictures and texts into one space; without it, pictures are found by the text in them.
        transcriber: Listens to recordings; that of the settings by default, else they are refused.
        captioner: Describes pictures in words.
        reranker: Reads the best passages again: ``search(..., rerank=True)``.
        chroma: A Chroma server that large stores are searched through, ``http://host:port`` or ``cloud``; by default
            the settings', else Chroma in this process.

    Raises:
        StoreLocked: Another process writes to it (methods that write).
        StoreError: The store is damaged, of a newer version, or cannot be written (any method).
    """

    def __init__(
        self,
        path: Path | str,
        *,
        embedder: Embedder | str | None = None,
        picture_embedder: PictureEmbedder | str | None = None,
        transcriber: Transcriber | None = None,
        captioner: Callable[[PILImage], str] | None = None,
        reranker: Reranker | None = None,
        chroma: str | None = None,
    ) -> None:
        limits = settings()
        self.path = absolute(Path(path))
        self.embedder: Embedder = embedder_of(embedder or limits.embedder)
        self.picture_embedder: PictureEmbedder | None = picture_embedder_of(picture_embedder or limits.picture_embedder)
        self._transcriber = transcriber or transcriber_of(limits.speech_model)
        self._reranker = reranker
        self.readers = Readers(
            Options.of(limits, pages_as_pictures=self.picture_embedder is not None),
            transcriber=self._transcriber,
            captioner=captioner,
            looks=self.picture_embedder.fingerprint if self.picture_embedder else "",
            workers=limits.index_workers,
            timeout=limits.index_timeout,
        )
        self._folder = StoreFolder(self.path, limits.exact_search_limit, chroma or limits.chroma)
        self._guard = RLock()
        self._searchers: dict[bool, Searcher] = {}
        self._ready_at: tuple[Manifest | None, object] = (None, None)
        self.report: IndexReport | None = None
        """What the last `add` did, that of `of_folder` included."""

    @classmethod
    def of_folder(cls, folder: Path | str, *, root: Path | str | None = None, **choices: Any) -> Knowledge:
        """The store of a folder of documents, brought up to date: what changed is taken in anew, what is gone goes.

        A folder that is a store itself is opened as it is. While another process brings the store up to date, it is
        searched as it is.

        Args:
            folder: The documents; folders in it are searched too.
            root: Where stores are kept; `mmagent.paths.knowledge_dir` by default.
            choices: See the class.

        Raises:
            NotFound: There is no such folder.
            InputError: It is a file, or there is no document in it that can be taken in.
        """
        progress = choices.pop("progress", None)
        given = absolute(Path(folder))
        if not os.path.exists(given):  # unlike Path.exists, False for any name that cannot be one
            raise NotFound(f"there is no folder {folder}; give the folder that your documents are in")
        if not given.is_dir():
            raise InputError(f"{folder} is a file; give the folder that your documents are in")
        if (given / MANIFEST).is_file():
            return cls(given, **choices)
        knowledge = cls(store_of(given, root), **choices)
        try:
            knowledge._bring_up_to_date(given.resolve(), progress)
        except BaseException:
            knowledge.close()
            raise
        return knowledge

    def _bring_up_to_date(self, folder: Path, progress: Callable[[Progress], None] | None) -> None:
        if not find([folder]).files:
            raise InputError(f"there are no documents in {folder}; {KINDS} are taken")
        try:
            report = self.add(folder, progress=progress)
        except StoreLocked:
            if not self.stats().documents:
                raise
            log.warning("another process brings the index of %s up to date; it is searched as it is", folder)
            return
        if not report.added + report.updated + report.unchanged:
            why = "; {}: {}".format(*report.skipped[0]) if report.skipped else ""
            raise InputError(f"there are no documents in {folder} that can be read{why}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes its files and processes. Using it again opens it again."""
        with self._guard:
            self._searchers = {}
            self._folder.close()
        self.readers.close()

    # Writing

    def add(
        self,
        *paths: Path | str,
        tenant: str = "",
        metadata: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IndexReport:
        """Takes files and folders in, and brings them up to date if it has them already.

        Unchanged files are not even opened; of a changed one only the passages that changed are embedded; what is gone
        from a given folder goes. Files that can't be taken in are reported, and do not stop the others. What is told to
        ``progress`` as done is durable, whatever happens then.

        Args:
            paths: Files and folders; zip archives count as folders.
            tenant: Only searches for this tenant find them; without one, all do.
            metadata: What searches can be filtered by; None leaves what they have.
            progress: Is told after each group of documents.

        Raises:
            NotFound: A path does not exist; nothing has been taken in.
        """
        found = find((Path(path) for path in paths), without=self.path.resolve())
        with self._writing() as manifest:
            update = Update(manifest, self, self.readers, tenant=tenant, metadata=metadata, progress=progress)
            self.report = update.files(found)
        return self.report

    def add_texts(
        self, texts: Iterable[Text], *, tenant: str = "", progress: Callable[[Progress], None] | None = None
    ) -> IndexReport:
        """Takes texts in that come from no file; one of the same name is replaced.

        Raises:
            InputError: Two have one name, or metadata cannot be kept; nothing of the last group has been taken in.
        """
        with self._writing() as manifest:
            self.report = Update(manifest, self, None, tenant=tenant, progress=progress).texts(texts)
        return self.report

    def remove(self, *names: Path | str, tenant: str = "") -> int:
        """Takes documents out, by uri, path or folder; how many there were.

        Raises:
            InputError: A name is empty.
        """
        if not all(str(name) for name in names):
            raise InputError("an empty name names nothing; give uris, files or folders")
        if not self._folder.there:
            return 0
        with self._writing() as manifest, manifest.transaction():
            rows = manifest.assets(tenant)
            named = {row.uri for row in rows.values()} | rows.keys()
            exact = {str(name) for name in names}
            files = {place for name in exact - named for place in places_of(Path(name), rows)}
            folders = tuple(f"{file}{os.sep}" for file in files)
            gone = [
                row
                for path, row in rows.items()
                if row.uri in exact or path in exact or path in files or path.startswith(folders)
            ]
            for row in gone:
                manifest.remove_asset(tenant, row.path)
        return sum(row.reason is None and row.mime_type != ARCHIVE for row in gone)

    def rebuild(self) -> None:
        """Makes the word index and the Chroma index anew from units and vectors; nothing is embedded again."""
        with self._writing() as manifest:
            health.rebuild(manifest)
            self._folder.indexes.forget(manifest)

    def sync(self) -> None:
        """Has the Chroma index learn everything now, where there is one or there are enough vectors for it."""
        with self._writing() as manifest:
            self._folder.indexes.sync(manifest, always=True)

    # Searching

    def search(
        self,
        query: Asked | Sequence[Asked],
        k: int = 3,
        *,
        tenant: str = "",
        where: Mapping[str, Any] | None = None,
        kinds: Collection[str] | None = None,
        mode: Mode = "hybrid",
        fusion: Fusion = "scores",
        merge: bool = False,
        per_asset: int | None = None,
        rerank: bool = False,
    ) -> list[Hit]:
        """The ``k`` passages and pictures that fit a query best, best first: nearest vectors and BM25, fused.

        Args:
            query: A text, a picture, a recording, or several of them.
            k: How many at most.
            tenant: Besides what belongs to nobody, only what belongs to this tenant is found.
            where: A filter on metadata, e.g. ``{"lang": "en", "year": {"$gte": 2024}}``; it holds exactly.
            kinds: Kinds of units: ``text``, ``speech``, ``image``, ``page``, ``region``, ``frame``.
            mode: ``dense``: vectors alone; ``lexical``: words alone.
            fusion: How both become one score: by their ``scores``, or by reciprocal ``ranks``.
            merge: Whether neighbouring passages become one hit.
            per_asset: How many hits of one document at most.
            rerank: Whether the reranker reads the best ones again.

        Raises:
            InputError: ``k`` is less than 1, or the query or filter is none.
        """
        if k < 1:
            raise InputError(f"a search for {k} passages finds none; ask for at least 1")
        if rerank and self._reranker is None:
            raise InputError("there is no reranker; give one: Knowledge(..., reranker=load_reranker(...))")
        asked = query_of(query, sees=self.picture_embedder is not None, transcriber=self._transcriber)
        wanted = Wanted(k, tenant, where, kinds, mode, fusion, merge, per_asset)
        if not (asked.texts or asked.pictures) or not self._folder.there:
            return []
        while True:
            searcher = self._searcher(rerank)
            try:
                return searcher.search(asked, wanted)
            except StoreError:
                if not searcher.closed:  # by another thread: that only means to open it again
                    raise

    def scoped(self, *, tenant: str = "", where: Mapping[str, Any] | None = None) -> Scoped:
        """This store as one tenant sees it, held to a filter: what an agent is given that serves that tenant."""
        return Scoped(self, tenant, where)

    def assets(self, *, tenant: str = "") -> list[Asset]:
        """The documents of a tenant, or those of nobody, by uri."""
        if not self._folder.there:
            return []
        rows = self._folder.reader.assets(tenant).values()
        counts = self._folder.reader.unit_counts(tenant)
        shown = [row for row in rows if row.reason is None and row.mime_type != ARCHIVE]
        return sorted((Asset.of(row, counts.get(row.path, 0)) for row in shown), key=lambda asset: asset.uri)

    def get(self, uri: str, *, tenant: str = "") -> list[Hit]:
        """All units of a document in order, with a score of 0."""
        return self._searcher(False).units_of(tenant, uri) if self._folder.there else []

    # What a hit points at

    def quote(self, hit: Hit, claim: str) -> str:
        """The sentence or neighbouring sentences of a hit that support a claim best: verbatim, always."""
        return quote_for(hit.text, claim)

    def picture(self, hit: Hit, *, box: bool = True, crop: bool = False) -> PILImage:
        """The page, picture or frame that a hit is on, RGB.

        Args:
            hit: It.
            box: Whether its place is outlined.
            crop: Whether only its place is shown.

        Raises:
            InputError: It has none, or its file has changed or gone since it was taken in.
        """
        return evidence.picture(self._present(hit), self.readers, hit, box=box, crop=crop)

    def sound(self, hit: Hit) -> bytes:
        """What is heard of a hit: a WAV file, 16 kHz, one channel.

        Raises:
            InputError: There is none, or its file has changed or gone since it was taken in.
        """
        return evidence.sound(self._present(hit), self.readers, hit)

    def finds(self, hit: Hit, *, tenant: str = "", where: Mapping[str, Any] | None = None) -> bool:
        """Whether a search for a tenant, held to a filter, could find what a hit points at."""
        sql, values = condition(tenant, where, None)
        return self._folder.there and len(self._folder.reader.select(f"{sql} AND u.id = ?", [*values, hit.id])) == 1

    def _present(self, hit: Hit) -> Manifest:
        if not self._folder.there:
            raise InputError(f"{hit.uri} is not in the store {self.path}; search again")
        return self._folder.reader

    # Health

    def stats(self) -> Stats:
        """What the store holds."""
        if not self._folder.there:
            return Stats()
        return health.stats(self._folder.reader, self._folder.indexes.kind, self.path)

    def verify(self) -> list[str]:
        """What is wrong with the store, in words; nothing, if all is well. Reads all of it."""
        if not self._folder.there:
            return []
        with self._folder.writer() as manifest:
            return health.problems(manifest) + self._folder.indexes.problems()

    # Opened when they are needed

    def _searcher(self, rerank: bool) -> Searcher:
        with self._guard:
            version = self._folder.reader, self._folder.reader.version
            if version != self._ready_at:
                if not all(is_ready(version[0], role, embedder.fingerprint) for role, embedder in self._embedders()):
                    with self._writing():  # which has everything embedded by the embedder at hand
                        pass
                if self._ready_at[0] is not self._folder.reader:
                    self._searchers = {}
                self._ready_at = self._folder.reader, self._folder.reader.version
            if rerank not in self._searchers:
                reranker = self._reranker if rerank else None
                self._searchers[rerank] = Searcher(
                    self._folder.reader, self._folder.indexes.of, self.embedder, self.picture_embedder, reranker
                )
            return self._searchers[rerank]

    def _embedders(self) -> list[tuple[Role, Embedder]]:
        looking = self.picture_embedder
        return [("text", self.embedder), *([("picture", looking)] if looking else [])]  # type: ignore[list-item]

    @contextmanager
    def _writing(self) -> Iterator[Manifest]:
        """The connection of the one writer. Before it is used, every unit is in the spaces of the embedders at hand."""
        with self._folder.writer() as manifest:
            self._complete_spaces(manifest)
            yield manifest
            self._folder.indexes.sync(manifest)

    def _complete_spaces(self, manifest: Manifest) -> None:
        complete_texts(manifest, self.embedder)
        if self.picture_embedder is not None:
            evidence.complete_pictures(manifest, self.readers, self.picture_embedder)


def store_of(folder: Path | str, root: Path | str | None = None) -> Path:
    """Where the store of a folder of documents is, or would be."""
    documents = Path(folder).expanduser().resolve()
    name = re.sub(r"[^\w.-]+", "-", documents.name)[:40] or "documents"
    mark = hashlib.sha256(bytes(documents)).hexdigest()[:12]
    return Path(root or places.knowledge_dir()) / f"{name}-{mark}"
