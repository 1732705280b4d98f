"""A small vision tower of our own: SigLIP's encoder behind a stem of convolutions. It knows pixels, nothing of text.

Early convolutions let a transformer learn from little data (Xiao et al., arXiv 2106.14881): strokes of letters are
found by filters that every place shares, not by each patch for itself.

pixels [N, 3, S, S] ─ conv /2 ─ conv /2 ─ conv /2 ─ conv /2 ─► [N, D, S/16, S/16] ─ + positions ─ encoder ─► [N, P, D]
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import SiglipVisionConfig, SiglipVisionModel

GROUPS = 8
"""Of the normalisation behind each convolution."""


class StemVisionConfig(SiglipVisionConfig):
    """SigLIP's, and ``stem_channels``: of each convolution but the last, which makes ``hidden_size`` channels.

    Each halves the sides, so ``patch_size`` is 2 to the power of their number, the last counted.
    """

    model_type = "mmagent_vision"

    def __init__(self, stem_channels: list[int] | None = None, **kwargs: Any) -> None:
        self.stem_channels = stem_channels or [32, 64, 128]
        kwargs["patch_size"] = 2 ** (len(self.stem_channels) + 1)
        kwargs["vision_use_head"] = False
        super().__init__(**kwargs)


class Stem(nn.Sequential):
    """Convolutions of 3 × 3 at stride 2, each normalised; from stride 8 on another one looks around each place."""

    def __init__(self, channels: list[int]) -> None:
        layers: list[nn.Module] = []
        for stage, (before, after) in enumerate(pairwise(channels)):
            made = Gather if stage == len(channels) - 2 else nn.Conv2d
            layers += [made(before, after, 3, 2, 1, bias=False), nn.GroupNorm(GROUPS, after), nn.GELU()]
            if stage >= 2:
                layers.append(Around(after))
        super().__init__(*layers)

    @property
    def weight(self) -> torch.Tensor:
        """Of the first convolution: the encoder asks for its type."""
        first = self[0]
        assert isinstance(first, nn.Conv2d)
        return first.weight

    @property
    def fine(self) -> nn.Module:
        """What makes the features that the last convolution reads: twice as many a side as there are patches."""
        places = [index for index, layer in enumerate(self) if isinstance(layer, nn.Conv2d)]
        return self[places[-1] - 1]


class Gather(nn.Conv2d):
    """The convolution that makes patches: each of the four places that one covers begins with channels of its own.

    Mixed in all channels, small things such as characters are told apart only after long training.
    """

    @torch.no_grad()
    def begin(self) -> None:
        """Random weights."""
        nn.init.zeros_(self.weight)
        ends = [place * self.out_channels // 4 for place in range(5)]
        for place in range(4):
            down, across = 1 + place // 2, 1 + place % 2  # in a kernel of 3 × 3 whose middle is the first of the four
            nn.init.orthogonal_(self.weight[ends[place] : ends[place + 1], :, down, across])


class Around(nn.Module):
    """What a place sees, and what its eight neighbours add to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.look = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:  # [N, C, H, W]
        """The same shape."""
        return seen + nn.functional.gelu(self.look(self.norm(seen)))


class StemVisionModel(SiglipVisionModel):
    """SigLIP's vision model whose patches come from a `Stem`."""

    config_class = StemVisionConfig

    def __init__(self, config: StemVisionConfig) -> None:
        super().__init__(config)
        stem: nn.Module = Stem([config.num_channels, *config.stem_channels, config.hidden_size])
        self.embeddings.add_module("patch_embedding", stem)
        self.post_init()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Gather):
            module.begin()
        else:
            super()._init_weights(module)  # type: ignore[no-untyped-call]
