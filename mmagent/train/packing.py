"""Samples side by side in one row, none of which sees another. It knows tokens and lengths, not what they mean.

Nothing is padded: all but attention runs over the row as one, attention over each sample for itself. Positions begin
at 0 in each, so a sample is to the network what it is alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from mmagent.train.gaze import Gaze

IGNORED = -100
"""The label of a position that does not count, as in torch's cross entropy."""
ATTENTION = "mmagent_packed"
"""Name of `attention` in transformers' registry."""


@dataclass
class Row:
    """One encoded sample."""

    ids: list[int]
    labels: list[int]
    """`IGNORED` outside the assistant's words."""


@dataclass
class Packed:
    """Samples in one row."""

    input_ids: torch.Tensor  # [1, T] int64
    labels: torch.Tensor  # [1, T] int64; the first of each sample is IGNORED, as nothing stands before it
    position_ids: torch.Tensor  # [1, T] int64
    lengths: list[int]
    """Of each sample, T in all."""

    def unpack(self, padding: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and labels with a row for each sample ``[B, L]``; what fills up shorter ones does not count."""
        ids = pad_sequence(self.input_ids[0].split(self.lengths), batch_first=True, padding_value=padding)
        labels = pad_sequence(self.labels[0].split(self.lengths), batch_first=True, padding_value=IGNORED)
        return ids, labels


def pack(rows: Sequence[Row]) -> Packed:
    """Rows one after the other."""
    ids = [token for row in rows for token in row.ids]
    labels = [label for row in rows for label in (IGNORED, *row.labels[1:])]
    places = [place for row in rows for place in range(len(row.ids))]
    lengths = [len(row.ids) for row in rows]
    return Packed(torch.tensor([ids]), torch.tensor([labels]), torch.tensor([places]), lengths)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # [B, heads, T, d]
    key: torch.Tensor,  # [B, key_value_heads, T, d]
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    lengths: list[int] | None = None,
    gaze: Gaze | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sample; ``lengths`` and ``gaze`` come through the decoder's keyword arguments."""
    grouped = query.shape[1] != key.shape[1]
    parts = lengths or [query.shape[2]]
    if gaze is not None:
        gaze.watch(int(module.layer_idx), query, key, scaling or query.shape[-1] ** -0.5, parts)  # type: ignore[arg-type]
    seen = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=grouped)
        for q, k, v in zip(query.split(parts, 2), key.split(parts, 2), value.split(parts, 2), strict=True)
    ]
    return torch.cat(seen, 2).transpose(1, 2), None  # [B, T, heads, d]


def register() -> str:
    """Make `attention` known to transformers; returns its name."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)
    return ATTENTION
