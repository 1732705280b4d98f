"""How `generate` of transformers carries pictures and recordings along. It knows its hooks, nothing of the network.

transformers does it for pictures that are tokens; this adds recordings, and pictures that stand beside the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers.generation.utils import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling


class MediaGenerationMixin(GenerationMixin):
    """`GenerationMixin` that encodes recordings once, and repeats media with their rows (beams, several answers)."""

    config: Any

    def _prepare_multimodal_encoder_kwargs_for_generation(self, model_kwargs: dict[str, Any]) -> Any:
        prepared: Any = super()._prepare_multimodal_encoder_kwargs_for_generation(model_kwargs)  # type: ignore[misc]
        sound, mask = prepared.pop("input_features", None), prepared.pop("input_features_mask", None)
        if sound is not None:
            audio = self.get_audio_features(sound, mask)  # type: ignore[attr-defined]
            prepared["mm_encoder_outputs"] = {**prepared["mm_encoder_outputs"], "audio": audio}
        return prepared

    def _expand_multimodal_outputs(  # type: ignore[override]
        self, input_ids: torch.Tensor, mm_encoder_output: dict[str, Any], expand_size: int = 1, **_: Any
    ) -> dict[str, Any]:
        expanded = {}
        for modality, output in mm_encoder_output.items():
            counts = (input_ids == getattr(self.config, f"{modality}_token_id")).sum(-1).tolist()
            beside = modality == "image" and self.config.fusion != "early"  # one placeholder for all its features
            items = list(repeat_by_row(list(output.pooler_output), counts, beside, expand_size))
            joined = torch.stack(items) if isinstance(output.pooler_output, torch.Tensor) else items
            expanded[modality] = BaseModelOutputWithPooling(pooler_output=joined)  # type: ignore[arg-type]
        return expanded


def repeat_by_row(
    items: list[torch.Tensor], counts: list[int], beside: bool, times: int
) -> Iterator[torch.Tensor]:  # [T, D] each
    """All items of the first row ``times`` over, then those of the second ...

    Args:
        items: Features, row after row.
        counts: Placeholders of each row.
        beside: Each item has one placeholder, else as many as features.
        times: How often each row is repeated.
    """
    rest = iter(items)
    for count in counts:
        row = []
        while count > 0:
            row.append(next(rest))
            count -= 1 if beside else len(row[-1])
        yield from row * times
