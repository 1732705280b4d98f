"""Pictures and texts in one space, and the losses that bring pairs together. It knows vectors, neither network.

patches       [N, P, D_vision] ─ mean ─ image_projection ─ norm ─► [N, E] ┐
                                                                          ├─ logits [N, N] ─► loss
hidden states [N, L, D_text] ─── mean ─ text_projection ── norm ─► [N, E] ┘
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy, logsigmoid, normalize

INITIAL_SCALE = {"siglip": 10.0, "clip": 1 / 0.07}
"""Factor on the cosines at the start of a training: the papers' own."""

INITIAL_BIAS = -10.0
"""Of SigLIP's logits at the start: most pairs of a batch do not belong together."""


class ContrastiveHead(nn.Module):
    """Two projections onto the unit sphere, and a learned temperature (with ``siglip`` also a bias).

    Args:
        vision_width: Width of patch features.
        text_width: Width of the decoder's hidden states.
        projection_dim: Width of the embeddings, E.
        loss: ``siglip`` (arXiv 2303.15343) or ``clip`` (arXiv 2103.00020).
    """

    def __init__(self, vision_width: int, text_width: int, projection_dim: int, loss: str) -> None:
        super().__init__()
        self.kind = loss
        self.initial_scale = math.log(INITIAL_SCALE[loss])
        self.image_projection = nn.Linear(vision_width, projection_dim, bias=False)
        self.text_projection = nn.Linear(text_width, projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(self.initial_scale))  # as a logarithm: always positive
        self.logit_bias = nn.Parameter(torch.tensor(INITIAL_BIAS)) if loss == "siglip" else None

    def embed_images(self, patches: torch.Tensor) -> torch.Tensor:  # [N, P, D_vision]
        """Unit vectors of pictures, ``[N, E]``."""
        return normalize(self.image_projection(patches.mean(1)), dim=-1)

    def embed_texts(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:  # [N, L, D], [N, L]
        """Unit vectors of texts, ``[N, E]``: the mean over the positions that are no padding."""
        mask = attention_mask.bool().unsqueeze(-1)  # [N, L, 1]
        # not a product: what stands at padding may be anything, NaN included
        total = hidden.masked_fill(~mask, 0).sum(1)  # [N, D]
        return normalize(self.text_projection(total / mask.sum(1).clamp(min=1)), dim=-1)

    def logits(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """How well each text fits each picture, ``[N_texts, N_images]``."""
        scaled = texts @ images.T * self.logit_scale.exp()
        return scaled if self.logit_bias is None else scaled + self.logit_bias

    def loss(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """The loss of N pairs, where text i belongs to picture i: a scalar."""
        return (siglip_loss if self.kind == "siglip" else clip_loss)(self.logits(images, texts))


def siglip_loss(logits: torch.Tensor) -> torch.Tensor:  # [N, N]
    """Each of the N² pairs is a yes-or-no question of its own; summed over pictures, mean over texts."""
    signs = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
    return -logsigmoid(signs * logits).sum(-1).mean()


def clip_loss(logits: torch.Tensor) -> torch.Tensor:  # [N, N]
    """Which text belongs to a picture, and which picture to a text: the mean of the two cross entropies."""
    pairs = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, pairs) + cross_entropy(logits.T, pairs)) / 2
