"""From pixels to patch features: any vision tower of transformers behind one call. It knows nothing of text."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModel
from transformers.configuration_utils import PreTrainedConfig


class VisionTower(nn.Module):
    """A vision encoder whose last hidden states are the features, without class token."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.encoder = AutoModel.from_config(config)
        self.patches = (int(config.image_size) // int(config.patch_size)) ** 2

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:  # [N, 3, H, W]
        """Normalised pixels to features ``[N, patches, D_vision]``."""
        hidden: torch.Tensor = self.encoder(pixel_values=pixel_values).last_hidden_state
        return hidden[:, -self.patches :]  # a class token, where a tower has one, stands first
