"""Picture features by content hash: the vision tower runs once for each picture. It knows pictures, no tokens."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmagent.engine.load import Loaded

Features: TypeAlias = "torch.Tensor | tuple[torch.Tensor, ...]"
"""Of one picture, in the form its network returns: ``[N, T, D]`` for N tiles of T tokens, or N times ``[T, D]``."""

_POSITIONAL = {"image_grid_thw", "token_type_ids", "mm_token_type_ids"}
"""Inputs of networks whose positions or masks depend on where the pictures are."""


class FeatureCache:
    """Features by picture key, the least recently used dropped first. One belongs to one loaded network.

    Args:
        max_bytes: Of all features; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes held."""
        self._items: OrderedDict[str, Features] = OrderedDict()

    def get(self, key: str) -> Features | None:
        """The features of a picture, or None."""
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def put(self, key: str, features: Features) -> None:
        """Keep a picture's features."""
        self._drop(key)
        self._items[key] = features
        self.size += _bytes(features)
        while self.size > self.max_bytes:
            self._drop(next(iter(self._items)))

    def _drop(self, key: str) -> None:
        if (features := self._items.pop(key, None)) is not None:
            self.size -= _bytes(features)


def supports_features(model: Any) -> bool:
    """Whether a network takes precomputed picture features, and nothing else of it depends on the pictures."""
    parameters = set(inspect.signature(model.forward).parameters)
    return (
        "mm_encoder_outputs" in parameters
        and not parameters & _POSITIONAL
        and hasattr(model, "get_image_features")
        and getattr(model.config, "image_token_id", None) is not None
    )


@torch.no_grad()
def encode_picture(loaded: Loaded, image: Image) -> Features:
    """Run the vision tower on one picture."""
    model = loaded.model
    inputs = loaded.processor.image_processor(images=[image], return_tensors="pt")
    wanted = inspect.signature(model.get_image_features).parameters
    tensors = {name: value.to(loaded.device) for name, value in inputs.items() if name in wanted}
    tensors["pixel_values"] = tensors["pixel_values"].to(loaded.dtype)
    features = model.get_image_features(**tensors, return_dict=True).pooler_output
    return features if isinstance(features, torch.Tensor) else tuple(features)


def token_count(features: Features) -> int:
    """Placeholder tokens that a picture takes."""
    return sum(part.numel() // part.shape[-1] for part in _parts(features))


def as_encoder_outputs(features: list[Features]) -> dict[str, Any]:
    """What ``forward`` takes as ``mm_encoder_outputs`` for pictures in the order of their placeholders."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    parts = [part for item in features for part in _parts(item)]
    joined = torch.cat(parts) if isinstance(features[0], torch.Tensor) else parts
    return {"image": BaseModelOutputWithPooling(pooler_output=joined)}  # type: ignore[arg-type]


def _parts(features: Features) -> tuple[torch.Tensor, ...]:
    return (features,) if isinstance(features, torch.Tensor) else features


def _bytes(features: Features) -> int:
    return sum(part.numel() * part.element_size() for part in _parts(features))
