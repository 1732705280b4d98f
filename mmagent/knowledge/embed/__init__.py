"""Texts and pictures to vectors. It knows nothing of documents and stores."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

    from mmagent.knowledge.embed.clip import ClipEmbedder
    from mmagent.knowledge.embed.langchain import LangChainEmbedder
    from mmagent.knowledge.embed.load import load_embedder, load_picture_embedder
    from mmagent.knowledge.embed.minilm import MiniLM
    from mmagent.knowledge.embed.nano import ContrastiveEmbedder
    from mmagent.knowledge.embed.sentence import SentenceEmbedder, SentencePictureEmbedder

_HOME = {
    "ClipEmbedder": "clip",
    "ContrastiveEmbedder": "nano",
    "LangChainEmbedder": "langchain",
    "MiniLM": "minilm",
    "SentenceEmbedder": "sentence",
    "SentencePictureEmbedder": "sentence",
    "load_embedder": "load",
    "load_picture_embedder": "load",
}

__all__ = [
    "ClipEmbedder",
    "ContrastiveEmbedder",
    "Embedder",
    "LangChainEmbedder",
    "MiniLM",
    "PictureEmbedder",
    "SentenceEmbedder",
    "SentencePictureEmbedder",
    "load_embedder",
    "load_picture_embedder",
]


class Embedder(Protocol):
    """What a knowledge store embeds texts with.

    One that tells questions from documents has ``embed_query(texts)`` too, with the shape and space of `embed`.
    """

    @property
    def fingerprint(self) -> str:
        """Differs where the same text may get another vector; a store opens a new space when it changes."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1: ``[N, D]`` float32, N >= 1."""
        ...


@runtime_checkable
class PictureEmbedder(Embedder, Protocol):
    """What puts pictures and texts into one space, as CLIP does."""

    def embed_pictures(self, pictures: Sequence[PILImage]) -> NDArray[np.float32]:
        """Vectors of length 1 of RGB pictures: ``[N, D]`` float32, N >= 1, in the space of `embed`."""
        ...


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def embedder_of(given: Embedder | str) -> Embedder:
    """An embedder itself, or the one of a name: ``minilm``, a folder, a hub id.

    Raises:
        ModelError: There is none of that name.
    """
    if not isinstance(given, str):
        return given
    from mmagent.knowledge.embed.load import load_embedder

    return load_embedder(given)


def picture_embedder_of(given: PictureEmbedder | str | None) -> PictureEmbedder | None:
    """An embedder of pictures itself, or the one of a name: a folder or a hub id.

    Raises:
        ModelError: There is none of that name, or it embeds no pictures.
    """
    if not isinstance(given, str):
        return given
    from mmagent.knowledge.embed.load import load_picture_embedder

    return load_picture_embedder(given)
