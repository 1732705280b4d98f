"""Search in the user's documents, with citations: SQLite is the truth, Chroma an index that can be rebuilt.

It knows nothing of agents and models of language. Importing it is cheap; numpy, torch and chromadb come with first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.knowledge.cite import Hit, quote_for, support
    from mmagent.knowledge.embed import Embedder, MiniLM
    from mmagent.knowledge.store import IndexReport, Knowledge, Stats

_HOME = {
    "Embedder": "embed",
    "Hit": "cite",
    "IndexReport": "store",
    "Knowledge": "store",
    "MiniLM": "embed",
    "Stats": "store",
    "quote_for": "cite",
    "support": "cite",
}

__all__ = ["Embedder", "Hit", "IndexReport", "Knowledge", "MiniLM", "Stats", "quote_for", "support"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
