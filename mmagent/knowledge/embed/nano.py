"""Our own networks as embedders, where they have a contrastive head. It knows vectors, nothing of documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmagent.errors import ModelError
from mmagent.knowledge.embed.local import FolderEmbedder

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

_TEXTS, _PICTURES = 32, 16
"""In one forward pass."""
_CHARACTERS = 64
"""Characters that are looked at for each token the network takes."""


class ContrastiveEmbedder(FolderEmbedder):
    """A network of `mmagent.model` whose configuration has ``projection_dim``. Safe for threads.

    Args:
        folder: What ``save_pretrained`` wrote, processor and all.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; by default the setting. It runs in float32.
    """

    _KIND, _FACTS = "contrastive", "plain text without special tokens, whole picture"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1: ``[N, E]`` float32. What is longer than the network's context is cut.

        Raises:
            NotFound: The folder has no model.
            ModelError: The model cannot be loaded, or has no contrastive head.
        """
        loaded = self._open()
        encoded = self._encode(loaded, texts)
        order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
        rows: dict[int, torch.Tensor] = {}
        for start in range(0, len(order), _TEXTS):
            batch = order[start : start + _TEXTS]
            rows.update(zip(batch, _embed_texts(loaded, [encoded[index] for index in batch]), strict=True))
        return _stack(rows)

    def embed_pictures(self, pictures: Sequence[PILImage]) -> NDArray[np.float32]:
        """Vectors of length 1 of RGB pictures: ``[N, E]`` float32, in the space of `embed`.

        Raises:
            NotFound: The folder has no model.
            ModelError: The model cannot be loaded, or has no contrastive head.
        """
        loaded = self._open()
        rows: dict[int, torch.Tensor] = {}
        for start in range(0, len(pictures), _PICTURES):
            batch = [picture.convert("RGB") for picture in pictures[start : start + _PICTURES]]
            rows.update(enumerate(_embed_pictures(loaded, batch), start=start))
        return _stack(rows)

    def _encode(self, loaded: Any, texts: Sequence[str]) -> list[list[int]]:
        limit = loaded.context_length
        cut = [text[: limit * _CHARACTERS] or " " for text in texts]  # a vector needs a token
        with self._tokenizing:
            made = loaded.tokenizer(cut, add_special_tokens=False, truncation=True, max_length=limit)
        return [list(ids) for ids in made["input_ids"]]

    def _load(self) -> Any:
        from mmagent.engine.load import load, read_config

        config = read_config(self.folder)
        if getattr(config, "projection_dim", None) is None or config.model_type != "mmagent":
            raise ModelError(
                f"{self.folder.resolve().name} has no picture space yet: its network has no contrastive head; use a "
                "CLIP or SigLIP folder, or train one with projection_dim set"
            )
        return load(self.folder, self._device, "float32")


def _embed_texts(loaded: Any, encoded: Sequence[Sequence[int]]) -> torch.Tensor:
    import torch

    length = max(len(ids) for ids in encoded)
    ids = torch.zeros(len(encoded), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(encoded):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    with torch.inference_mode():
        vectors: torch.Tensor = loaded.model.embed_texts(ids.to(loaded.device), mask.to(loaded.device))
    return vectors.float().cpu()


def _embed_pictures(loaded: Any, pictures: list[PILImage]) -> torch.Tensor:
    import torch

    processor = loaded.processor.image_processor
    whole = {"crop_to_patches": False} if getattr(processor, "crop_to_patches", False) else {}  # no tiles
    pixels = processor(pictures, return_tensors="pt", **whole)["pixel_values"]  # [N, 3, H, W]
    with torch.inference_mode():
        vectors: torch.Tensor = loaded.model.embed_images(pixels.to(loaded.device))
    return vectors.float().cpu()


def _stack(rows: dict[int, torch.Tensor]) -> NDArray[np.float32]:
    import torch

    return torch.stack([rows[index] for index in range(len(rows))]).numpy()
