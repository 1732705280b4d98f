"""CLIP and its kin: pictures and texts in one space. It knows vectors, nothing of documents and stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.errors import ModelError
from mmagent.knowledge.embed.local import FolderEmbedder

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

KINDS = ("clip", "siglip", "siglip2")
"""``model_type`` of what `ClipEmbedder` takes; SigLIP 2 of a fixed resolution calls itself ``siglip``."""
_TEXTS, _PICTURES = 64, 16
"""In one forward pass."""


class ClipEmbedder(FolderEmbedder):
    """CLIP, SigLIP or SigLIP 2 from a folder, through transformers. Safe for threads.

    Sources: arXiv 2103.00020, 2303.15343, 2502.14786.

    Args:
        folder: What ``save_pretrained`` wrote: network, tokenizer and image processor.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; by default the setting. On a GPU it runs in 16 bits.
    """

    _KIND, _FACTS = "clip", "SigLIP padded to its length without a mask, PIL, length 1"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1: ``[N, D]`` float32. What is longer than the model's limit (77 or 64 tokens) is cut.

        Raises:
            NotFound: The folder has no model.
            ModelError: The model cannot be loaded, or is of another kind.
        """
        model = self._open().model
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        batches = [order[start : start + _TEXTS] for start in range(0, len(order), _TEXTS)]
        vectors = (
            (batch, model.get_text_features(**self._tokens([texts[index] for index in batch]))) for batch in batches
        )
        return self._gather(vectors, len(texts))

    def embed_pictures(self, pictures: Sequence[PILImage]) -> NDArray[np.float32]:
        """Vectors of length 1 of RGB pictures: ``[N, D]`` float32, in the space of `embed`.

        Raises:
            NotFound: The folder has no model.
            ModelError: The model cannot be loaded, or is of another kind.
        """
        model = self._open().model
        batches = [range(len(pictures))[start : start + _PICTURES] for start in range(0, len(pictures), _PICTURES)]
        vectors = (
            (list(batch), model.get_image_features(**self._pixels([pictures[index] for index in batch])))
            for batch in batches
        )
        return self._gather(vectors, len(pictures))

    def _gather(self, batches: Iterator[tuple[list[int], Any]], count: int) -> NDArray[np.float32]:
        """The features of batches as rows of length 1, in the order of what was given."""
        import torch

        rows: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            for batch, made in batches:
                features = getattr(made, "pooler_output", made).float()  # [B, D]
                rows.update(zip(batch, torch.nn.functional.normalize(features, dim=-1).cpu(), strict=True))
        return torch.stack([rows[index] for index in range(count)]).numpy()

    def _tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        opened: _Opened = self._open()
        cut = [text[: opened.limit * 64] for text in texts]
        with self._tokenizing:
            made = opened.tokenizer(
                cut,
                padding="max_length" if opened.padded else "longest",
                truncation=True,
                max_length=opened.limit,
                return_tensors="pt",
            )
        # SigLIP was trained on texts of full length, padding seen like words; CLIP ends where its end token is
        names = ("input_ids",) if opened.padded else ("input_ids", "attention_mask")
        return {name: made[name].to(opened.model.device) for name in names if name in made}

    def _pixels(self, pictures: list[PILImage]) -> dict[str, torch.Tensor]:
        opened: _Opened = self._open()
        made = opened.image_processor([picture.convert("RGB") for picture in pictures], return_tensors="pt")
        model = opened.model
        return {
            name: value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
            for name, value in made.items()
        }

    def _load(self) -> _Opened:
        return _Opened(self.folder, self._device)


class _Opened:
    """The network and what makes its inputs."""

    def __init__(self, folder: Path, device: str | None) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        from mmagent.knowledge.embed.folder import LOCAL, explained, pick_device, pick_dtype, read_config, read_network

        kind = read_config(folder).get("model_type")
        if kind not in KINDS:
            raise ModelError(f"{folder} is of the kind {kind}, not {', '.join(KINDS)}; load it with SentenceEmbedder")
        place = pick_device(device)
        self.model = read_network(AutoModel, folder, pick_dtype(place)).to(place)
        with explained(folder):
            self.tokenizer = AutoTokenizer.from_pretrained(str(folder), **LOCAL)
            # the same pixels on every machine, be torchvision there or not
            self.image_processor = AutoImageProcessor.from_pretrained(str(folder), backend="pil", **LOCAL)
        self.padded = kind != "clip"
        self.limit = int(self.model.config.text_config.max_position_embeddings)
        if self.padded and self.tokenizer.pad_token_id is None:
            raise ModelError(f"the tokenizer in {folder} has no padding token, which {kind} needs; download it again")
