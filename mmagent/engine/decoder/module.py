"""A network run by its own module in transformers, one row after the other: always right, for every family there is. It
knows the module's forward and its cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmagent.engine.decoder.network import Part
from mmagent.engine.features import Features

_POSITIONAL = {"image_grid_thw", "token_type_ids", "mm_token_type_ids"}
"""Inputs of networks whose positions or masks depend on where the pictures are."""


class ModuleRow:
    """Keys and values in a cache of transformers."""

    def __init__(self, past: Any, inputs: Mapping[str, Any]) -> None:
        self.past = past
        self.inputs = inputs
        """What the processor made of the whole prompt, for a network that takes it in one pass."""
        self.rope_deltas: Any = None
        """What some networks keep on themselves between passes, which are then of another row."""

    @property
    def length(self) -> int:
        """Positions that are filled; a smaller number forgets those after it."""
        return int(self.past.get_seq_length())

    @length.setter
    def length(self, length: int) -> None:
        for layer in self.past.layers:
            if layer.get_seq_length() > length:  # layer by layer: a pass that failed leaves them of different lengths
                layer.crop(length - layer.get_seq_length())

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(tensor.nbytes for pair in self._tensors() for tensor in pair)

    def fork(self, length: int) -> ModuleRow:
        """A copy of the first ``length`` positions."""
        from transformers import DynamicCache

        return ModuleRow(
            DynamicCache([(k[..., :length, :].clone(), v[..., :length, :].clone()) for k, v in self._tensors()]), {}
        )

    def detached(self) -> ModuleRow:
        """Itself: running rows have no place of their own."""
        return self

    def _tensors(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(layer.keys, layer.values) for layer in self.past.layers if layer.keys is not None]


class ModuleNetwork:
    """Runs any network of transformers that makes text.

    Networks whose positions or masks depend on their pictures, and those whose cache cannot be cropped (sliding
    windows, state spaces), take each prompt in one pass from its beginning.

    Args:
        model: The network.
        device: Where it is.
        dtype: Of its weights.
    """

    chunk = 1 << 30
    guesses = 0
    batches = False
    whole_pictures = False

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._model, self._device, self._dtype = model, device, dtype
        self._takes = set(inspect.signature(model.forward).parameters)
        self.takes_features = takes_features(model)
        self.reuses = _can_crop(model) and (self.takes_features or not hasattr(model, "get_image_features"))

    def row(self, inputs: Mapping[str, Any] | None = None) -> ModuleRow:
        """An empty row; ``inputs`` are the processor's, for a network that does not reuse rows."""
        from transformers import DynamicCache

        given = {} if self.reuses or inputs is None else {k: v for k, v in inputs.items() if k != "input_ids"}
        return ModuleRow(DynamicCache(config=self._model.config), given)

    @torch.no_grad()
    def run(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        """Append the tokens of each part to its row; the last logits ``[wanted, V]`` of each."""
        return [self._run(part) for part in parts]

    def _run(self, part: Part) -> torch.Tensor:
        row, inputs = part.row, self._inputs(part)
        if "logits_to_keep" in self._takes:
            inputs["logits_to_keep"] = max(part.wanted, 1)
        ids = torch.tensor([part.tokens], device=self._device)  # [1, L]
        before = row.length
        base: Any = getattr(self._model, "model", None)
        if hasattr(base, "rope_deltas"):
            base.rope_deltas = row.rope_deltas
        try:
            logits = self._model(input_ids=ids, past_key_values=row.past, use_cache=True, **inputs).logits
        except BaseException:
            row.length = before
            raise
        row.inputs, row.rope_deltas = {}, getattr(base, "rope_deltas", None)
        kept: torch.Tensor = logits[0, logits.shape[1] - part.wanted :].float()
        return kept

    def _inputs(self, part: Part) -> dict[str, Any]:
        given: dict[str, Any] = dict(part.row.inputs)
        if not given and part.insets is not None:
            stop = part.row.length + len(part.tokens)
            new = [item for start, item in part.insets.pictures if part.row.length <= start < stop]
            if new:
                given = {"mm_encoder_outputs": _encoder_outputs(new)}
        moved = {name: value.to(self._device) if torch.is_tensor(value) else value for name, value in given.items()}
        if "pixel_values" in moved:
            moved["pixel_values"] = moved["pixel_values"].to(self._dtype)
        return moved


def takes_features(model: Any) -> bool:
    """Whether a network's forward takes precomputed features, and nothing else of it depends on the pictures."""
    parameters = set(inspect.signature(model.forward).parameters)
    early = getattr(model.config, "fusion", "early") == "early"  # else pictures travel with the cache object itself
    takes = "mm_encoder_outputs" in parameters and hasattr(model, "get_image_features")
    return early and takes and not parameters & _POSITIONAL


def _encoder_outputs(features: list[Features]) -> dict[str, Any]:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    parts = [part for item in features for part in item.tiles]
    joined = torch.cat(parts) if parts[0].ndim == 3 else parts
    return {"image": BaseModelOutputWithPooling(pooler_output=joined)}  # type: ignore[arg-type]


def _can_crop(model: Any) -> bool:
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
