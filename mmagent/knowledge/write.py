"""Documents that were read, embedded together and written in groups. It knows the manifest and embedders, no files.

Each group is one transaction: assets, units, words and vectors, all of it or nothing. Once it is written it is durable.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.errors import InputError
from mmagent.knowledge.chunk import Passage, identified
from mmagent.knowledge.embed import Embedder, PictureEmbedder
from mmagent.knowledge.manifest import AssetRow, Manifest, Role
from mmagent.knowledge.schema import NO_WORDS
from mmagent.knowledge.sources import Readers
from mmagent.knowledge.spaces import BATCH, space_of, vectors_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_GROUP_BYTES = 64 * 1024 * 1024
"""Of documents whose pictures are still to be embedded; more are not kept in memory."""
GROUP_SECONDS = 5.0
"""What was read waits no longer to be written."""


class Embedders(Protocol):
    """What turns units into vectors."""

    embedder: Embedder
    picture_embedder: PictureEmbedder | None


@dataclass
class Ready:
    """A document that waits to be written; without passages only what is known of it changes."""

    row: AssetRow
    parent: str | None = None
    """The path of the archive that it is in."""
    passages: list[Passage] | None = None
    data: bytes = b""
    """Its content, where it has pictures to look at."""


class Groups:
    """Writes documents in groups.

    Args:
        manifest: Of the writer.
        embedders: Whose spaces are complete.
        readers: What shows pictures of documents; None: there are none.
        tenant: Whose they are.
    """

    def __init__(self, manifest: Manifest, embedders: Embedders, readers: Readers | None, tenant: str) -> None:
        self._manifest, self._embedders, self._readers, self._tenant = manifest, embedders, readers, tenant
        self._group: list[Ready] = []
        self._waiting_units = self._waiting_bytes = 0
        self._written_at = time.monotonic()
        self.documents = self.units = 0
        """Written so far."""
        self.notes: list[tuple[str, str]] = []
        """Uri and what could not be looked at of a document."""

    @property
    def empty(self) -> bool:
        """Whether everything is written."""
        return not self._group

    def put(self, ready: Ready) -> bool:
        """Takes a document; whether the group was written with it."""
        self._group.append(ready)
        self._waiting_units += len(ready.passages or ())
        self._waiting_bytes += len(ready.data)
        late = time.monotonic() - self._written_at > GROUP_SECONDS
        if late or self._waiting_units >= BATCH or self._waiting_bytes >= _GROUP_BYTES:
            self.flush()
        return self.empty

    def flush(self) -> None:
        """Embeds what is new in the group, and writes all of it."""
        group, self._group = self._group, []
        self._written_at = time.monotonic()
        self._waiting_units = self._waiting_bytes = 0
        if not group:
            return
        units = [identified(self._tenant, one.row.path, one.passages or ()) for one in group]
        texts, pictures = self._lacking(group, units)
        text_vectors = vectors_of(self._embedders.embedder.embed, list(texts.values())) if texts else None
        picture_vectors = self._looked_at(pictures)
        manifest = self._manifest
        with manifest.transaction():
            for one, named in zip(group, units, strict=True):
                parent = manifest.asset(self._tenant, one.parent) if one.parent else None
                asset = manifest.put_asset(one.row, parent[0] if parent else None)
                if one.passages is not None:
                    manifest.put_units(asset, named)
                    self.units += len(named)
            if text_vectors is not None:
                self._put_vectors("text", self._embedders.embedder, texts, text_vectors)
            if picture_vectors:
                assert self._embedders.picture_embedder is not None
                looked_at, vectors = picture_vectors
                self._put_vectors("picture", self._embedders.picture_embedder, looked_at, vectors)
        self.documents += sum(one.passages is not None for one in group)

    def _put_vectors(self, role: Role, embedder: Embedder, units: Iterable[str], vectors: NDArray[np.float32]) -> None:
        space = space_of(self._manifest, role, embedder, vectors)
        self._manifest.put_vectors(space, zip(units, vectors, strict=True))
        found = self._manifest.space(role, embedder.fingerprint)
        if found and not found[2] and not self._manifest.lacking(role, space, 0, 1):
            self._manifest.keep_only(role, space)

    def _lacking(self, group: list[Ready], units: list[dict[str, Passage]]) -> tuple[dict[str, str], Any]:
        """Units without a vector: id to the text to embed, and id to the picture to look at with its document."""
        texts: dict[str, str] = {}
        pictures: dict[str, tuple[Ready, Passage]] = {}
        for one, named in zip(group, units, strict=True):
            held = self._held(one.row.path)
            for unit, passage in named.items():
                if passage.kind != NO_WORDS and passage.text and unit not in held["text"]:
                    texts[unit] = passage.embedded
                if passage.kind in ("image", "page", "region", "frame") and unit not in held["picture"]:
                    pictures[unit] = one, passage
        return texts, pictures

    def _held(self, path: str) -> dict[Role, set[str]]:
        """The units of a document that have their vectors."""
        found = self._manifest.asset(self._tenant, path)
        asset = found[0] if found else None
        return {
            "text": self._in(asset, "text", self._embedders.embedder),
            "picture": self._in(asset, "picture", self._embedders.picture_embedder),
        }

    def _in(self, asset: int | None, role: Role, embedder: Embedder | None) -> set[str]:
        space = self._manifest.space(role, embedder.fingerprint) if embedder and asset else None
        return self._manifest.unit_ids(asset, space[0]) if asset and space else set()

    def _looked_at(self, pictures: dict[str, tuple[Ready, Passage]]) -> tuple[list[str], Any] | None:
        """Units and the vectors of their pictures; those that cannot be looked at are noted."""
        embedder = self._embedders.picture_embedder
        if embedder is None or not pictures:
            return None
        assert self._readers is not None
        seen = {}
        for unit, (one, passage) in pictures.items():
            try:
                seen[unit] = self._readers.pixels(one.data, one.row.mime_type, passage.page, passage.t0, passage.box)
            except InputError as error:
                self.notes.append((one.row.uri, f"{passage.kind} {passage.page or ''} is not looked at: {error}"))
        return (list(seen), vectors_of(embedder.embed_pictures, list(seen.values()))) if seen else None
