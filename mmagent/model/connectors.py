"""From picture features to the decoder's embedding space. A connector knows two widths, nothing of either network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from mmagent.errors import ConfigurationError

C = TypeVar("C", bound=type[nn.Module])

CONNECTORS: dict[str, type[nn.Module]] = {}
"""Connectors by name. Each is built with ``(vision_width, text_width, downsample)``."""


def register(name: str) -> Callable[[C], C]:
    """Add a connector to `CONNECTORS` under ``name``."""

    def add(cls: C) -> C:
        CONNECTORS[name] = cls
        return cls

    return add


def build_connector(name: str, vision_width: int, text_width: int, downsample: int) -> nn.Module:
    """The connector of that name.

    Raises:
        ConfigurationError: There is none; the message lists those there are.
    """
    if name not in CONNECTORS:
        raise ConfigurationError(f"there is no connector {name!r}; choose one of: {', '.join(sorted(CONNECTORS))}")
    return CONNECTORS[name](vision_width, text_width, downsample)


@register("pixel_shuffle_mlp")
class PixelShuffleMLP(nn.Module):
    """Fold each ``downsample × downsample`` block of patches into channels, then LayerNorm → Linear → GELU → Linear.

    Source: InternVL (arXiv 2404.16821, section 3.1); pixel shuffle from Shi et al. (arXiv 1609.05158).
    """

    def __init__(self, vision_width: int, text_width: int, downsample: int) -> None:
        super().__init__()
        self.downsample = downsample
        folded = vision_width * downsample**2
        self.norm = nn.LayerNorm(folded)
        self.up = nn.Linear(folded, text_width)
        self.down = nn.Linear(text_width, text_width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # [N, P, D_vision]
        """Patches of square pictures, row by row, to tokens ``[N, P / downsample², D_text]``."""
        folded = pixel_shuffle(features, self.downsample)  # [N, T, D_vision * downsample²]
        projected: torch.Tensor = self.down(nn.functional.gelu(self.up(self.norm(folded))))
        return projected  # [N, T, D_text]


def pixel_shuffle(features: torch.Tensor, factor: int) -> torch.Tensor:
    """Fold ``factor × factor`` neighbouring patches into channels: ``[N, S², D] -> [N, (S/factor)², D·factor²]``."""
    count, patches, width = features.shape
    side = int(patches**0.5)
    if side * side != patches or side % factor:
        raise ConfigurationError(f"{patches} patches are no square whose side divides by {factor}; change downsample")
    grid = features.view(count, side // factor, factor, side // factor, factor, width)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(count, (side // factor) ** 2, factor**2 * width)
