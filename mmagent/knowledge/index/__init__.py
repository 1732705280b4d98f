"""Nearest vectors of one space, exactly or through Chroma. It knows no texts: the manifest is what both serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Index", "Vectors"]


class Vectors(Protocol):
    """The vectors of one space and modality, as the truth has them: what an index is built from and checked against."""

    @property
    def version(self) -> object:
        """Another one after every change, whoever made it."""
        ...

    def numbers(self) -> NDArray[np.int64]:
        """The numbers of all units that have a vector, ascending. A number always means the same vector."""
        ...

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float16]:
        """The vectors of these units, ``[N, D]``, in their order.

        Raises:
            StoreError: One of them has no vector, or none any more.
        """
        ...


class Index(Protocol):
    """What a search asks for nearest units."""

    def search(
        self, vector: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """The numbers of the ``k`` units nearest to a vector, each with its cosine, nearest first.

        Args:
            vector: ``[D]`` float32 of length 1.
            k: How many at most.
            among: Only these units (ascending); all by default.
        """
        ...
