"""The pieces of a layer in plain torch operations. It knows tensors of one layer, no rows and no graphs.

`project`, `turn_and_store`, `attend`, `gated` and `add` are the five that a decode step is made of; fused_kernels.py
has the same five as kernels for CUDA, and tests hold the ones to the others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mmagent.engine.decoder.fused_weights import FusedLayer, Matrix


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Over the last dimension, computed in float32 (arXiv 1910.07467)."""
    return F.rms_norm(x.float(), weight.shape, weight, eps).to(x.dtype)


def rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotary positions (arXiv 2104.09864): ``x`` is ``[T, heads, head_dim]``, the angles ``[T, head_dim / 2]``."""
    left, right = x.float().chunk(2, dim=-1)
    cosines, sines = cosines[:, None], sines[:, None]
    return torch.cat((left * cosines - right * sines, right * cosines + left * sines), dim=-1).to(x.dtype)


def gate(gate_up: torch.Tensor, activation: str) -> torch.Tensor:
    """``[T, 2 I]`` to ``[T, I]``."""
    gates, up = gate_up.chunk(2, dim=-1)
    return (F.silu(gates) if activation == "silu" else F.gelu(gates, approximate="tanh")) * up


def split_heads(
    qkv: torch.Tensor, layer: FusedLayer, angles: torch.Tensor, kv_heads: int, head_dim: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries ``[T, heads, head_dim]``, keys and values ``[T, kv_heads, head_dim]``, normed and turned.

    Args:
        qkv: ``[T, (heads + 2 kv_heads) head_dim]``.
        layer: Whose norms they get.
        angles: Cosines and sines ``[T, 2, head_dim / 2]``, float32.
        kv_heads: Of keys, and of values.
        head_dim: Numbers in a head.
        eps: Of the norms.
    """
    heads = qkv.view(len(qkv), -1, head_dim)
    q, k, v = heads.split([heads.shape[1] - 2 * kv_heads, kv_heads, kv_heads], dim=1)
    if layer.q_norm is not None and layer.k_norm is not None:
        q, k = rms_norm(q, layer.q_norm, eps), rms_norm(k, layer.k_norm, eps)
    return rotate(q, angles[:, 0], angles[:, 1]), rotate(k, angles[:, 0], angles[:, 1]), v


def project(x: torch.Tensor, norm: torch.Tensor, matrix: Matrix, eps: float) -> torch.Tensor:
    """``[T, K]``, normed, to ``[T, N]``."""
    return matrix(rms_norm(x, norm, eps))


def turn_and_store(
    qkv: torch.Tensor,
    layer: FusedLayer,
    angles: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    places: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """Queries ``[n, heads, head_dim]`` of one token in each slot; its key and value go to the slot's place.

    Args:
        qkv: ``[n, (heads + 2 kv_heads) head_dim]``.
        layer: Whose norms they get.
        angles: Cosines and sines ``[n, 2, head_dim / 2]``, float32.
        keys: Of the first n slots ``[n, kv_heads, capacity, head_dim]``.
        values: Likewise.
        places: ``[n]``.
        eps: Of the norms.
    """
    count, kv_heads, _, head_dim = keys.shape
    q, k, v = split_heads(qkv, layer, angles, kv_heads, head_dim, eps)
    where = places[:, None, None, None].expand(count, kv_heads, 1, head_dim)
    keys.scatter_(2, where, k[:, :, None])
    values.scatter_(2, where, v[:, :, None])
    return q


def attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    ends: torch.Tensor,
    window: int,
    bucket: int,
    scale: float,
) -> torch.Tensor:
    """What one token of each slot sees, ``[n, heads head_dim]``.

    Args:
        q: ``[n, heads, head_dim]``.
        keys: Of the first n slots ``[n, kv_heads, capacity, head_dim]``.
        values: Likewise.
        ends: First position that each does not see ``[n]``.
        window: Positions that a token sees, itself included; 0 is all.
        bucket: No end is greater.
        scale: Of queries.
    """
    count, kv_heads, _, head_dim = keys.shape
    positions = torch.arange(bucket, device=q.device)
    seen = positions < ends[:, None]  # [n, bucket]
    if window:
        seen &= positions >= ends[:, None] - window
    grouped = q.view(count, kv_heads, -1, head_dim)  # no key is read twice: a group's queries are rows of one product
    mask = torch.zeros(seen.shape, dtype=q.dtype, device=q.device).masked_fill_(~seen, -torch.inf)
    mixed = F.scaled_dot_product_attention(
        grouped,
        keys[:, :, :bucket],
        values[:, :, :bucket],
        attn_mask=mask[:, None, None].expand(-1, kv_heads, grouped.shape[2], -1),
        scale=scale,
    )
    return mixed.reshape(count, -1)


def gated(x: torch.Tensor, norm: torch.Tensor, matrix: Matrix, activation: str, eps: float) -> torch.Tensor:
    """The inner half of a gated MLP (arXiv 2002.05202): ``[T, K]`` to ``[T, I]``."""
    return gate(project(x, norm, matrix, eps), activation)


def add(x: torch.Tensor, y: torch.Tensor, matrix: Matrix, norm: torch.Tensor | None, eps: float) -> None:
    """Add ``y W^T + b`` to ``x`` in place, after a norm of its own where there is one."""
    if norm is not None:
        x += rms_norm(matrix(y), norm, eps)
    elif matrix.bias is None and matrix.scale is None:
        x.addmm_(y, matrix.weight.t())
    else:
        x += matrix(y)
