"""From picture features to the decoder's embedding space. A connector knows two widths, nothing of either network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from mmagent.errors import ConfigurationError

HEAD_WIDTH = 64
"""Of attention in connectors, where the width divides by it."""

RESAMPLER_LAYERS = 2
"""Of `Perceiver`."""


@dataclass(frozen=True)
class Shape:
    """What a connector is built from."""

    vision_width: int
    text_width: int
    downsample: int = 2
    """Patches per side that become one token, where the connector folds patches."""
    latents: int = 64
    """Tokens per picture, where the connector has a fixed number of them."""


C = TypeVar("C", bound=Callable[[Shape], nn.Module])

CONNECTORS: dict[str, Callable[[Shape], nn.Module]] = {}
"""Connectors by name. All but ``gated_cross_attention`` turn patches ``[N, P, D_vision]`` into ``[N, T, D_text]``."""


def register(name: str) -> Callable[[C], C]:
    """Add a connector to `CONNECTORS` under ``name``."""

    def add(connector: C) -> C:
        CONNECTORS[name] = connector
        return connector

    return add


def build_connector(name: str, vision_width: int, text_width: int, downsample: int, latents: int = 64) -> nn.Module:
    """The connector of that name.

    Raises:
        ConfigurationError: There is none; the message lists those there are.
    """
    if name not in CONNECTORS:
        raise ConfigurationError(f"there is no connector {name!r}; choose one of: {', '.join(sorted(CONNECTORS))}")
    return CONNECTORS[name](Shape(vision_width, text_width, downsample, latents))


@register("linear")
class Linear(nn.Linear):
    """One matrix: each patch is a token (LLaVA, arXiv 2304.08485)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.vision_width, shape.text_width)


@register("mlp")
class MLP(nn.Module):
    """Linear → GELU → Linear: each patch is a token (LLaVA-1.5, arXiv 2310.03744)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.up = nn.Linear(shape.vision_width, shape.text_width)
        self.down = nn.Linear(shape.text_width, shape.text_width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # [N, P, D_vision]
        """Patches to tokens ``[N, P, D_text]``."""
        tokens: torch.Tensor = self.down(gelu(self.up(features)))
        return tokens  # [N, P, D_text]


@register("pixel_shuffle_mlp")
class PixelShuffleMLP(nn.Module):
    """Fold each ``downsample × downsample`` block of patches into channels, then LayerNorm → Linear → GELU → Linear.

    Source: InternVL (arXiv 2404.16821, section 3.1); pixel shuffle from Shi et al. (arXiv 1609.05158).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.downsample = shape.downsample
        folded = shape.vision_width * shape.downsample**2
        self.norm = nn.LayerNorm(folded)
        self.up = nn.Linear(folded, shape.text_width)
        self.down = nn.Linear(shape.text_width, shape.text_width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # [N, P, D_vision]
        """Patches of square pictures, row by row, to tokens ``[N, P / downsample², D_text]``."""
        folded = pixel_shuffle(features, self.downsample)  # [N, T, D_vision * downsample²]
        projected: torch.Tensor = self.down(gelu(self.up(self.norm(folded))))
        return projected  # [N, T, D_text]


@register("perceiver")
class Perceiver(nn.Module):
    """Learned queries read any number of patches into ``latents`` tokens (Flamingo's resampler, arXiv 2204.14198)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.project = nn.Linear(shape.vision_width, shape.text_width)
        self.latents = nn.Parameter(torch.randn(shape.latents, shape.text_width) * 0.02)
        self.layers = nn.ModuleList(ResamplerLayer(shape.text_width) for _ in range(RESAMPLER_LAYERS))
        self.norm = nn.LayerNorm(shape.text_width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # [N, P, D_vision]
        """Patches to tokens ``[N, latents, D_text]``."""
        memory = self.project(features)  # [N, P, D]
        tokens = self.latents.expand(len(features), -1, -1)  # [N, T, D]
        for layer in self.layers:
            tokens = layer(tokens, memory)
        normed: torch.Tensor = self.norm(tokens)
        return normed  # [N, T, D_text]


class ResamplerLayer(nn.Module):
    """The latents read the patches and themselves, then a feed-forward of four times the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, width)
        self.feed_forward = feed_forward(width)

    def forward(self, tokens: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:  # [N, T, D], [N, P, D]
        """The latents after one reading, ``[N, T, D]``."""
        keys, values = self.attention.project(torch.cat((memory, tokens), dim=1))
        tokens = tokens + self.attention(self.query_norm(tokens), keys, values)
        refined: torch.Tensor = tokens + self.feed_forward(tokens)
        return refined


@register("gated_cross_attention")
class GatedCrossAttention(nn.Module):
    """A layer between decoder layers: the text reads the picture through two tanh gates that are zero at the start.

    At the start it changes no bit of what passes through it, and never changes a position that sees no picture.
    Source: Flamingo (arXiv 2204.14198, section 2.2).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.text_width)
        self.attention = CrossAttention(shape.text_width, shape.vision_width)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        self.feed_forward = feed_forward(shape.text_width)
        self.feed_gate = nn.Parameter(torch.zeros(1))

    def project(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # [B, S, D_vision]
        """Keys and values of pictures; they are the same for all text to come, so they are computed once."""
        return self.attention.project(features)  # [B, H, S, D_head] each

    def forward(
        self, hidden: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """The hidden states ``[B, L, D_text]`` after a look at what is ``visible`` ``[B, L, S]`` to each of them."""
        sees = visible.any(-1, keepdim=True)  # [B, L, 1]
        # a row of all False has no softmax: there it reads everything and is multiplied away
        looked = self.attention(self.norm(hidden), keys, values, visible | ~sees)  # [B, L, D]
        hidden = hidden + sees * self.attention_gate.tanh() * looked
        fused: torch.Tensor = hidden + sees * self.feed_gate.tanh() * self.feed_forward(hidden)
        return fused  # [B, L, D]


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another, whose keys and values the caller may keep."""

    def __init__(self, width: int, memory_width: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in range(max(1, width // HEAD_WIDTH), 0, -1) if width % heads == 0)
        self.memory_norm = nn.LayerNorm(memory_width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(memory_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def project(self, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # [B, S, D_memory]
        """Keys and values of what is attended to."""
        keys, values = self.key_value(self.memory_norm(memory)).chunk(2, dim=-1)  # [B, S, D] each
        return self._split(keys), self._split(values)  # [B, H, S, D_head] each

    def forward(
        self, hidden: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, visible: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend from ``[B, L, D]``; ``visible`` ``[B, L, S]`` says to what, None is to everything."""
        mask = None if visible is None else visible.unsqueeze(1)  # [B, 1, L, S]
        heads = scaled_dot_product_attention(self._split(self.query(hidden)), keys, values, attn_mask=mask)
        joined: torch.Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return joined  # [B, L, D]

    def _split(self, states: torch.Tensor) -> torch.Tensor:  # [B, S, D]
        count, size, width = states.shape
        return states.reshape(count, size, self.heads, width // self.heads).transpose(1, 2)  # [B, H, S, D_head]


def feed_forward(width: int) -> nn.Sequential:
    """LayerNorm → Linear → GELU → Linear of four times the width, without biases."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


def pixel_shuffle(features: torch.Tensor, factor: int) -> torch.Tensor:
    """Fold ``factor × factor`` neighbouring patches into channels: ``[N, S², D] -> [N, (S/factor)², D·factor²]``."""
    count, patches, width = features.shape
    side = int(patches**0.5)
    if side * side != patches or side % factor:
        raise ConfigurationError(f"{patches} patches are no square whose side divides by {factor}; change downsample")
    grid = features.view(count, side // factor, factor, side // factor, factor, width)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(count, (side // factor) ** 2, factor**2 * width)
