"""Search in the user's documents, with citations: SQLite is the truth, Chroma an index that can be rebuilt.

It knows nothing of agents and models of language. Importing it is cheap; numpy, torch and chromadb come with first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.knowledge.cite import Hit, quote_for, support, unsupported
    from mmagent.knowledge.embed import Embedder, PictureEmbedder
    from mmagent.knowledge.embed.minilm import MiniLM
    from mmagent.knowledge.health import Stats
    from mmagent.knowledge.report import Asset, IndexReport, Progress, Text
    from mmagent.knowledge.scoped import Scoped
    from mmagent.knowledge.store import Knowledge

_HOME = {
    "Asset": "report",
    "Embedder": "embed",
    "Hit": "cite",
    "IndexReport": "report",
    "Knowledge": "store",
    "MiniLM": "embed.minilm",
    "PictureEmbedder": "embed",
    "Progress": "report",
    "Scoped": "scoped",
    "Stats": "health",
    "Text": "report",
    "quote_for": "cite",
    "support": "cite",
    "unsupported": "cite",
}

__all__ = [
    "Asset",
    "Embedder",
    "Hit",
    "IndexReport",
    "Knowledge",
    "MiniLM",
    "PictureEmbedder",
    "Progress",
    "Scoped",
    "Stats",
    "Text",
    "quote_for",
    "support",
    "unsupported",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
