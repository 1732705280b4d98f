"""One space of vectors for each embedder: opened, filled and checked. It knows the manifest and embedders, no files.

Vectors of two embedders never meet: a changed embedder opens a new space, which is searched once every unit is in it;
then the old one goes. Filling goes on where it was interrupted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mmagent.errors import ModelError, StoreError
from mmagent.knowledge.chunk import embedded
from mmagent.knowledge.embed import Embedder
from mmagent.knowledge.manifest import Manifest, Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

BATCH = 1024
"""Units that are embedded together and written in one transaction; embedders sort them by length."""


class SpaceVectors:
    """The vectors of a space, as an index asks for them."""

    def __init__(self, manifest: Manifest, space: int) -> None:
        self._manifest, self.space = manifest, space

    @property
    def version(self) -> object:
        """Another one after every change, whoever made it."""
        return self._manifest.version

    def numbers(self) -> NDArray[np.int64]:
        """The numbers of all units that have a vector, ascending."""
        return self._manifest.numbers(self.space)

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float16]:
        """The vectors of these units, ``[N, D]``, in their order."""
        return self._manifest.rows(self.space, numbers)


def vectors_of(embed: Callable[[Sequence[Any]], NDArray[np.float32]], things: Sequence[Any]) -> NDArray[np.float32]:
    """Vectors of length 1 of texts or pictures, ``[N, D]`` float32, whatever the embedder thinks of lengths.

    Raises:
        ModelError: The embedder gives something else.
    """
    import numpy as np

    vectors = np.asarray(embed(things), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(things) or not vectors.shape[1]:
        raise ModelError(f"the embedder gave vectors of shape {vectors.shape} for {len(things)} texts or pictures")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise ModelError("the embedder gave a vector without a direction (zeros, or not a number); check its weights")
    unit: NDArray[np.float32] = vectors / lengths
    return unit


def space_of(manifest: Manifest, role: Role, embedder: Embedder, vectors: NDArray[np.float32]) -> int:
    """The space of an embedder that vectors ``[N, D]`` belong into, opened if there is none. In a transaction.

    Raises:
        StoreError: Vectors of another dimension are in it.
    """
    space = manifest.open_space(role, embedder.fingerprint, vectors.shape[1])
    check_dimension(manifest, role, embedder, vectors.shape[1])
    return space


def check_dimension(manifest: Manifest, role: Role, embedder: Embedder, dimension: int) -> None:
    """Vectors of an embedder have as many numbers as those in its space.

    Raises:
        StoreError: They have not.
    """
    found = manifest.space(role, embedder.fingerprint)
    if found and found[1] != dimension:
        raise StoreError(
            f"the embedder {embedder.fingerprint} gives vectors of {dimension} numbers, and the store has vectors of "
            f"{found[1]} under that name; give an embedder whose vectors changed another fingerprint"
        )


def is_ready(manifest: Manifest, role: Role, fingerprint: str) -> bool:
    """Whether the space of an embedder has all units that belong into it."""
    found = manifest.space(role, fingerprint)
    return found[2] if found else not manifest.lacking(role, -1, 0, 1)


def complete(
    manifest: Manifest,
    role: Role,
    embedder: Embedder,
    embed: Callable[[list[tuple[int, str, str]]], tuple[list[int], NDArray[np.float32]]],
) -> None:
    """Fills the space of an embedder, and takes those of others away. Goes on where it was interrupted.

    Args:
        manifest: Of the writer.
        role: Whose.
        embedder: What the space belongs to.
        embed: From number, title and text of units to the numbers of those that have a vector, and these.
    """
    found, after = manifest.space(role, embedder.fingerprint), 0
    log.info("another embedder than last time: everything is embedded anew by %s", embedder.fingerprint)
    while batch := manifest.lacking(role, found[0] if found else -1, after, BATCH):
        numbers, vectors = embed(batch)
        with manifest.transaction():
            if len(numbers):
                space = space_of(manifest, role, embedder, vectors)
                manifest.put_numbered(space, zip(numbers, vectors, strict=True))
        found, after = manifest.space(role, embedder.fingerprint), batch[-1][0]
    if found:
        with manifest.transaction():
            manifest.keep_only(role, found[0])


def complete_texts(manifest: Manifest, embedder: Embedder) -> None:
    """Has the space of an embedder of texts hold every unit that belongs into it."""
    if is_ready(manifest, "text", embedder.fingerprint):
        return

    def embed(batch: list[tuple[int, str, str]]) -> tuple[list[int], NDArray[np.float32]]:
        vectors = vectors_of(embedder.embed, [embedded(title, text) for _, title, text in batch])
        return [number for number, _, _ in batch], vectors

    complete(manifest, "text", embedder, embed)
