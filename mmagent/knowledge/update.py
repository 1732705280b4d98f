"""One `Knowledge.add`: what has changed is read, in parallel, and handed on to be written. It knows no searches.

 find ─► changed? ─► read (workers) ─► passages ─► embed ─┐ a group at a time,
           └ unchanged: not even opened                   └─► one transaction: assets, units, words, vectors

What an interrupted run has not written, the next one reads again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from mmagent.errors import InputError, ModelError
from mmagent.knowledge.chunk import CHUNKER, Passage, passages
from mmagent.knowledge.extract import Extract
from mmagent.knowledge.filters import checked_tenant
from mmagent.knowledge.find import Found, read_bytes, stamp_of
from mmagent.knowledge.manifest import ARCHIVE, TEXT, AssetRow, Manifest
from mmagent.knowledge.read import storable
from mmagent.knowledge.report import IndexReport, Progress, Text
from mmagent.knowledge.sources import MEMBER, SHOWN_MEMBER, Readers
from mmagent.knowledge.write import GROUP_SECONDS, Embedders, Groups, Ready

MAX_PASSAGES = 100_000
"""Of one document; a library of books has as many."""
_AHEAD = 8
"""Documents that are read ahead of the one that is embedded."""


class Update:
    """Takes files or texts into a store, for one tenant.

    Args:
        manifest: Of the writer.
        embedders: Whose spaces are complete.
        readers: What reads documents; None: there are only texts.
        tenant: Whose they are.
        metadata: Of each; None leaves what a document has.
        progress: Is told after each group.
    """

    def __init__(
        self,
        manifest: Manifest,
        embedders: Embedders,
        readers: Readers | None,
        *,
        tenant: str = "",
        metadata: Mapping[str, Any] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._manifest, self._readers = manifest, readers
        self._tenant, self._metadata = checked_tenant(tenant), None if metadata is None else as_json(metadata)
        self._total, self._progress = 0, progress
        self._groups = Groups(manifest, embedders, readers, self._tenant)
        self._known: dict[str, AssetRow] = {}
        self._folders: list[Path] = []
        self._inside_of: dict[str, set[str]] = {}
        self._archives: list[AssetRow] = []
        self._skipped: list[tuple[str, str]] = []
        self._notes: list[tuple[str, str]] = []
        self._added = self._updated = self._unchanged = self._removed = self._kept = 0

    def files(self, found: Found) -> IndexReport:
        """Brings files and folders up to date."""
        self._folders = found.folders
        self._known, self._total = self._manifest.assets(self._tenant), len(found.files)
        for path in self._known:
            outer, _, member = path.partition(MEMBER)
            if member:
                self._inside_of.setdefault(outer, set()).add(path)
        self._skipped += found.skipped
        waiting: deque[tuple[AssetRow, bytes, Future[Extract]]] = deque()
        for file, uri in found.files.items():
            for begun in self._begun(file, uri):
                waiting.append(begun)
                if len(waiting) > _AHEAD:
                    self._finish(*waiting.popleft())
        while waiting:
            self._finish(*waiting.popleft())
        for archive in self._archives:
            self._put(Ready(archive))
        self._groups.flush()
        self._remove_gone(found)
        if found.files:
            self._tell(uri)
        return self._report()

    def texts(self, texts: Iterable[Text]) -> IndexReport:
        """Takes texts in; one of the same name is replaced."""
        names: set[str] = set()
        for text in texts:
            if not text.uri or text.uri in names or storable(text.uri) != text.uri:
                what = (
                    f"two texts are called {text.uri!r}" if text.uri in names else f"{text.uri!r} is no uri of a text"
                )
                raise InputError(f"{what}; give each a name of its own")
            names.add(text.uri)
            self._take_text(text)
        self._groups.flush()
        if names:
            self._tell(text.uri)
        return self._report()

    def _report(self) -> IndexReport:
        return IndexReport(
            added=self._added,
            updated=self._updated,
            unchanged=self._unchanged,
            removed=self._removed,
            skipped=sorted(self._skipped),
            notes=sorted(self._notes + self._groups.notes),
        )

    # Reading

    def _begun(self, file: Path, uri: str) -> Iterator[tuple[AssetRow, bytes, Future[Extract]]]:
        """The documents of a file that have to be read; most often itself, if it has changed."""
        assert self._readers is not None
        known = self._known.get(str(file))
        row = self._row(str(file), uri, b"", "")
        try:
            same = known is not None and known.reading == self._readers.fingerprint_of(known)
            if known and same and known.digest and known.stamp and known.stamp == stamp_of(file):
                self._keep(known, uri)
                return
            data, stamp = read_bytes(file, self._readers.limit, self._within(file))
            row = self._row(str(file), uri, data, stamp)
            if known and same and known.digest == row.digest:
                self._keep(replace(known, stamp=stamp), uri)
                return
            row = replace(row, mime_type=self._readers.type_of(data, file.name))
        except InputError as error:
            self._refuse(row, str(error))
            return
        row = replace(row, reading=self._readers.fingerprint(row.mime_type))
        if row.mime_type != ARCHIVE:
            yield row, data, self._readers.submit(data, file.name)
            return
        try:
            yield from self._members(row, data)
        except InputError as error:
            self._refuse(row, str(error))

    def _members(self, archive: AssetRow, data: bytes) -> Iterator[tuple[AssetRow, bytes, Future[Extract]]]:
        """The documents of an archive that have to be read. The archive counts as read once all of them are written."""
        assert self._readers is not None
        self._put(Ready(replace(archive, digest=""), None, []))  # it may have been a document
        there = set()
        for name, content in self._readers.members(data):
            row = self._row(archive.path + MEMBER + name, archive.uri + SHOWN_MEMBER + name, b"", "")
            there.add(row.path)
            try:
                if isinstance(content, str):
                    raise InputError(content)
                row = replace(row, digest=_digest(content), bytes=len(content))
                row = replace(row, mime_type=self._readers.type_of(content, name))
                row = replace(row, reading=self._readers.fingerprint(row.mime_type))
            except InputError as error:
                self._refuse(row, str(error), archive.path)
                continue
            known = self._known.get(row.path)
            if known and (known.digest, known.reading) == (row.digest, self._readers.fingerprint_of(known)):
                self._keep(known, row.uri)
            else:
                yield row, content, self._readers.submit(content, PurePath(name).name)
        self._remove(self._inside(archive.path) - there)
        self._archives.append(archive)

    def _finish(self, row: AssetRow, data: bytes, reading: Future[Extract]) -> None:
        """Cuts what was read into passages, and has them wait to be written."""
        assert self._readers is not None
        parent = row.path.split(MEMBER)[0] if MEMBER in row.path else None
        try:
            extract = self._readers.finished(self._awaited(reading), data, PurePath(row.path).name)
        except InputError as error:
            self._refuse(row, str(error), parent)
            return
        except ModelError as error:  # the next time it may do
            self._refuse(replace(row, digest=""), str(error), parent)
            return
        self._notes += [(row.uri, note) for note in extract.notes]
        found = passages(extract, PurePath(row.path).stem)
        if not 1 <= len(found) <= MAX_PASSAGES:
            many = f"it has {len(found):,} passages and the limit is {MAX_PASSAGES:,}; split it"
            self._refuse(row, many if found else "there is no text under its headings", parent)
            return
        title = extract.title or found[0].title.split(" > ")[0]
        known = self._known.get(row.path)
        self._updated += bool(known and known.reason is None)
        self._added += not (known and known.reason is None)
        self._remove(self._inside(row.path))  # it may have been an archive
        row = replace(row, title=title, mime_type=extract.mime_type, reason=None)
        self._put(Ready(row, parent, found, data if extract.pictures else b""))

    def _awaited(self, reading: Future[Extract]) -> Extract:
        """What is read, once it is; what was read before it does not wait so long to be written."""
        wait([reading], timeout=GROUP_SECONDS)
        if not reading.done():
            self._groups.flush()
        return reading.result()

    def _take_text(self, text: Text) -> None:
        text = replace(text, text=storable(text.text), title=storable(text.title))
        row = self._row(TEXT + text.uri, text.uri, text.text.encode(), "")
        row = replace(
            row, title=text.title, metadata=as_json(text.metadata), reading=f"chunker-{CHUNKER} whole={text.whole}"
        )
        known = self._manifest.asset(self._tenant, row.path)
        if known and replace(known[1], added_at=row.added_at) == row:
            self._unchanged += 1
            self._kept += 1
            return
        if text.whole:
            found = [Passage(text.title, text.text, 0, len(text.text))]
        else:
            found = passages(Extract(text.text, "text/plain"), text.title or text.uri)
        self._updated += known is not None
        self._added += known is None
        self._put(Ready(row, None, found))

    def _row(self, path: str, uri: str, data: bytes, stamp: str) -> AssetRow:
        known = self._known.get(path) if self._readers else None
        metadata = self._metadata if self._metadata is not None else known.metadata if known else "{}"
        return AssetRow(
            self._tenant, path, uri, "text/plain", "", _digest(data) if data or not self._readers else "", "", stamp,
            len(data), time.time(), metadata,
        )  # fmt: skip

    def _keep(self, known: AssetRow, uri: str) -> None:
        """A document that has not changed; at most its name or metadata has."""
        inside = [self._known[path] for path in self._inside(known.path)]
        for row in (known, *inside):
            if row.reason is not None:
                self._skipped.append((row.uri, row.reason))
            elif row.mime_type != ARCHIVE:
                self._unchanged += 1
            name = row.path.removeprefix(known.path).replace(MEMBER, SHOWN_MEMBER, 1)
            now = replace(row, uri=uri + name, metadata=self._metadata or row.metadata)
            if now != self._known[row.path]:
                self._put(Ready(now, known.path if row is not known else None))
        self._kept += 1
        if self._groups.empty:
            self._tell(uri)

    def _refuse(self, row: AssetRow, reason: str, parent: str | None = None) -> None:
        """A document that cannot be read: what it had goes, and the reason is kept as long as it does not change."""
        assert self._readers is not None
        self._skipped.append((row.uri, reason))
        known = self._known.get(row.path)
        self._removed += bool(known and known.reason is None)
        self._remove(self._inside(row.path))
        refused = replace(row, reason=reason)
        self._put(Ready(replace(refused, reading=self._readers.fingerprint_of(refused)), parent, []))

    def _within(self, file: Path) -> Path | None:
        """The given folder that a file was found in."""
        return next((folder for folder in self._folders if file.is_relative_to(folder)), None)

    def _inside(self, archive: str) -> set[str]:
        return self._inside_of.get(archive, set())

    def _remove(self, paths: set[str]) -> None:
        for path in paths:
            if self._manifest.remove_asset(self._tenant, path):
                self._removed += self._known[path].reason is None

    def _remove_gone(self, found: Found) -> None:
        """What is no longer in the given folders goes."""
        given = {str(file) for file in found.files}
        folders = tuple(f"{folder}{os.sep}" for folder in found.folders)
        unread = tuple(f"{folder}{os.sep}" for folder in found.unread)  # nobody knows what is in them
        gone = [
            path
            for path in self._known
            if MEMBER not in path and path not in given and path.startswith(folders) and not path.startswith(unread)
        ]
        with self._manifest.transaction():
            for path in gone:
                lost = [self._known[path], *(self._known[inside] for inside in self._inside(path))]
                self._manifest.remove_asset(self._tenant, path)
                self._removed += sum(row.reason is None and row.mime_type != ARCHIVE for row in lost)

    def _put(self, ready: Ready) -> None:
        if self._groups.put(ready):
            self._tell(ready.row.uri)

    def _tell(self, uri: str) -> None:
        if self._progress:
            done = self._kept + self._groups.documents
            self._progress(Progress(done, max(self._total, done), self._groups.units, uri))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def as_json(metadata: Mapping[str, Any]) -> str:
    """Metadata as it is kept.

    Raises:
        InputError: Something in it is no JSON.
    """
    try:
        written = json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True, allow_nan=False)
        written.encode()
        return written
    except (TypeError, ValueError) as error:
        raise InputError(
            f"metadata holds what JSON cannot ({error}); take texts, numbers, lists and mappings"
        ) from error
