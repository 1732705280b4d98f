"""LangChain's embeddings as an embedder of ours. It knows their two methods, no provider."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from mmagent.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

_NAMES = ("model", "model_name", "model_id", "deployment", "repo_id")
"""Where LangChain's integrations keep the name of their model; the first that is there counts."""


class LangChainEmbedder:
    """Any ``langchain_core.embeddings.Embeddings`` behind the `Embedder` protocol.

    Args:
        embeddings: Theirs.
        name: What the vectors are known by; by default the class and its model. Give one where the class says
            nothing of its model, else a change of it goes unnoticed.
    """

    def __init__(self, embeddings: Embeddings, name: str | None = None) -> None:
        self._embeddings = embeddings
        self._name = name

    @cached_property
    def fingerprint(self) -> str:
        """Of the name, or of class, model and dimension."""
        kind = type(self._embeddings)
        facts = [f"{kind.__module__}.{kind.__qualname__}"]
        for names in (_NAMES, ("dimensions",)):
            facts.append(next((str(found) for name in names if (found := getattr(self._embeddings, name, None))), ""))
        name = self._name or "\0".join(facts)
        return f"langchain-{hashlib.sha256(name.encode()).hexdigest()[:24]}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1 of documents: ``[N, D]`` float32.

        Raises:
            ModelError: They failed, or gave no vectors.
        """
        return self._ask("embed_documents", texts)

    def embed_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1 of questions: ``[N, D]`` float32, in the space of `embed`.

        Raises:
            ModelError: They failed, or gave no vectors.
        """
        return self._ask("embed_query", texts)

    def _ask(self, method: str, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        kind = type(self._embeddings).__name__
        try:
            if method == "embed_query":
                made = [self._embeddings.embed_query(text) for text in texts]
            else:
                made = self._embeddings.embed_documents(list(texts))
            rows = np.asarray(made, dtype=np.float32)
        except Exception as error:  # a provider's client fails in its own ways
            line = " ".join(str(error).split())[:300]
            raise ModelError(
                f"{kind} could not embed: {line or type(error).__name__}; check it and try again"
            ) from error
        lengths = np.linalg.norm(rows, axis=-1, keepdims=True) if rows.ndim == 2 else np.zeros(1)
        if len(rows) != len(texts) or not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ModelError(
                f"{kind} gave {rows.shape} numbers for {len(texts)} texts, and each needs a vector other than 0; "
                "use other embeddings"
            )
        vectors: NDArray[np.float32] = rows / lengths
        return vectors
