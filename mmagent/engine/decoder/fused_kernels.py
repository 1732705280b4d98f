# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"
"""The five pieces of fused_ops.py as Triton kernels: six or seven launches a layer for one row, nine or ten for more.
It knows tensors of one layer; importing it needs triton, which CUDA builds of torch bring along.

One row is a matter of reading each weight once, so its products take norm, activation and sum along. Several rows use
the library's products, with kernels of their own around them. Attention splits a row's positions among programs, and a
second kernel joins what they found (arXiv 2311.01282). All numbers are float32 from load to store.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from mmagent.engine.decoder.fused_weights import FusedLayer, Matrix

_SPLIT = 256
"""Positions that a program reads at least."""
_PROGRAMS = 512
"""Of attention that fill a large GPU."""
_ENDLESS = 1 << 30
"""A window that everything is in."""
_TILE_BYTES = 16384
"""Of keys in one step of attention: with values and buffers ahead, what the smallest GPUs have room for."""


@triton.jit
def _act(x, SILU: tl.constexpr):
    if SILU:
        return x * tl.sigmoid(x)
    inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
    return x * tl.sigmoid(2 * inner)  # x (1 + tanh(inner)) / 2


@triton.jit
def _product(
    x_ptr, norm_ptr, w_ptr, bias_ptr, out_ptr, N, K, eps,
    NORM: tl.constexpr, BIAS: tl.constexpr, GATED: tl.constexpr, SILU: tl.constexpr, ADD: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``x [K]`` times ``W^T [K, N]``; gated, W is ``[2 N, K]`` and the first N outputs are gates of the others."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lines = n.to(tl.int64)[:, None] * K
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    other = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    squares = tl.zeros([COLUMNS], dtype=tl.float32)
    for start in range(0, K, COLUMNS):
        k = start + tl.arange(0, COLUMNS)
        here = (n[:, None] < N) & (k[None] < K)
        x = tl.load(x_ptr + k, mask=k < K, other=0.0).to(tl.float32)
        if NORM:
            squares += x * x
            x *= tl.load(norm_ptr + k, mask=k < K, other=0.0)
        total += tl.load(w_ptr + lines + k[None], mask=here, other=0.0).to(tl.float32) * x[None]
        if GATED:
            up = w_ptr + lines + k[None] + N.to(tl.int64) * K
            other += tl.load(up, mask=here, other=0.0).to(tl.float32) * x[None]
    y = tl.sum(total, axis=1)
    size = tl.rsqrt(tl.sum(squares, axis=0) / K + eps) if NORM else 1.0
    y *= size
    if BIAS:
        y += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)
    if GATED:
        gated = tl.sum(other, axis=1) * size
        if BIAS:
            gated += tl.load(bias_ptr + N + n, mask=n < N, other=0.0).to(tl.float32)
        y = _act(y, SILU) * gated
    if ADD:
        y += tl.load(out_ptr + n, mask=n < N, other=0.0).to(tl.float32)
    tl.store(out_ptr + n, y.to(out_ptr.dtype.element_ty), mask=n < N)


@triton.jit
def _rms_norm(x_ptr, weight_ptr, out_ptr, K, eps, ADD: tl.constexpr, COLUMNS: tl.constexpr):
    """One line a program; added to ``out`` or put there."""
    line = tl.program_id(0) * K
    k = tl.arange(0, COLUMNS)
    x = tl.load(x_ptr + line + k, mask=k < K, other=0.0).to(tl.float32)
    y = x * tl.rsqrt(tl.sum(x * x, axis=0) / K + eps) * tl.load(weight_ptr + k, mask=k < K, other=0.0)
    if ADD:
        y += tl.load(out_ptr + line + k, mask=k < K, other=0.0).to(tl.float32)
    tl.store(out_ptr + line + k, y.to(out_ptr.dtype.element_ty), mask=k < K)


@triton.jit
def _gate(x_ptr, out_ptr, N, SILU: tl.constexpr, COLUMNS: tl.constexpr):
    """``[n, 2 N]`` to ``[n, N]``."""
    line = tl.program_id(0)
    k = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    gates = tl.load(x_ptr + line * 2 * N + k, mask=k < N, other=0.0).to(tl.float32)
    up = tl.load(x_ptr + line * 2 * N + N + k, mask=k < N, other=0.0).to(tl.float32)
    tl.store(out_ptr + line * N + k, (_act(gates, SILU) * up).to(out_ptr.dtype.element_ty), mask=k < N)


@triton.jit
def _turn(
    qkv_ptr, angles_ptr, q_norm_ptr, k_norm_ptr, places_ptr, q_ptr, keys_ptr, values_ptr, heads, kv_heads,
    angle_stride, slot_stride, head_stride, eps, NORM: tl.constexpr, DIM: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """One head of one row a program: queries to ``q``, keys and values to their place. ``HALF`` is padded."""
    row, head = tl.program_id(0), tl.program_id(1)
    half: tl.constexpr = DIM // 2
    d = tl.arange(0, HALF)
    here = d < half
    source = qkv_ptr + (row * (heads + 2 * kv_heads) + head) * DIM + d
    left = tl.load(source, mask=here, other=0.0).to(tl.float32)
    right = tl.load(source + half, mask=here, other=0.0).to(tl.float32)
    if head < heads + kv_heads:
        if NORM:
            size = tl.rsqrt(tl.sum(left * left + right * right, axis=0) / DIM + eps)
            norm = (q_norm_ptr if head < heads else k_norm_ptr) + d
            left *= size * tl.load(norm, mask=here, other=0.0)
            right *= size * tl.load(norm + half, mask=here, other=0.0)
        cosines = tl.load(angles_ptr + row * angle_stride + d, mask=here, other=0.0)
        sines = tl.load(angles_ptr + row * angle_stride + half + d, mask=here, other=0.0)
        turned = left * cosines - right * sines
        right = right * cosines + left * sines
        left = turned
    if head < heads:
        target = q_ptr + (row * heads + head) * DIM + d
    else:
        place = tl.load(places_ptr + row)
        base = keys_ptr if head < heads + kv_heads else values_ptr
        index = (head - heads) % kv_heads
        target = base + row.to(tl.int64) * slot_stride + index.to(tl.int64) * head_stride + place * DIM + d
    tl.store(target, left.to(q_ptr.dtype.element_ty), mask=here)
    tl.store(target + half, right.to(q_ptr.dtype.element_ty), mask=here)


@triton.jit
def _attend(
    q_ptr, keys_ptr, values_ptr, ends_ptr, mixed_ptr, sums_ptr, scale, window, kv_heads, slot_stride, head_stride, span,
    GROUP: tl.constexpr, GROUPS: tl.constexpr, DIM: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """A group of queries over one span of its row: what each sees ``[DIM]``, and the logarithm of its weights' sum."""
    row, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    parts = tl.num_programs(2)
    g, d, t = tl.arange(0, GROUPS), tl.arange(0, PADDED), tl.arange(0, TILE)
    lines = (row * kv_heads + head) * GROUP + g
    known = (g[:, None] < GROUP) & (d[None] < DIM)
    q = tl.load(q_ptr + lines[:, None] * DIM + d[None], mask=known, other=0.0)
    base = row.to(tl.int64) * slot_stride + head.to(tl.int64) * head_stride
    end = tl.load(ends_ptr + row).to(tl.int32)
    begin = tl.maximum(end - window, 0)
    greatest = tl.full([GROUPS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([GROUPS], dtype=tl.float32)
    mixed = tl.zeros([GROUPS, PADDED], dtype=tl.float32)
    for start in range(tl.maximum(part * span, begin // TILE * TILE), tl.minimum((part + 1) * span, end), TILE):
        place = start + t
        seen = (place >= begin) & (place < end)
        where = place.to(tl.int64)[:, None] * DIM + d[None]
        mask = seen[:, None] & (d[None] < DIM)
        keys = tl.load(keys_ptr + base + where, mask=mask, other=0.0)
        values = tl.load(values_ptr + base + where, mask=mask, other=0.0)
        scores = tl.dot(q, tl.trans(keys), input_precision="ieee") * scale  # [GROUPS, TILE]
        scores = tl.where(seen[None], scores, float("-inf"))
        new = tl.maximum(greatest, tl.max(scores, axis=1))
        shrink = tl.where(new == float("-inf"), 1.0, tl.exp(greatest - new))
        weights = tl.where(seen[None], tl.exp(scores - new[:, None]), 0.0)
        total = total * shrink + tl.sum(weights, axis=1)
        mixed = mixed * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        greatest = new
    out = lines * parts + part
    share = tl.where(total > 0, total, 1.0)
    kept = mixed / share[:, None]
    tl.store(mixed_ptr + out[:, None] * DIM + d[None], kept.to(mixed_ptr.dtype.element_ty), mask=known)
    if parts > 1:
        tl.store(sums_ptr + out, tl.where(total > 0, greatest + tl.log(share), float("-inf")), mask=g < GROUP)


@triton.jit
def _join(mixed_ptr, sums_ptr, out_ptr, DIM: tl.constexpr, PADDED: tl.constexpr, PARTS: tl.constexpr):
    """The parts of one head's attention, weighted by the logarithms of their sums."""
    line = tl.program_id(0)
    p, d = tl.arange(0, PARTS), tl.arange(0, PADDED)
    sums = tl.load(sums_ptr + line * PARTS + p)
    weights = tl.exp(sums - tl.max(sums, axis=0))
    where = (line * PARTS + p)[:, None] * DIM + d[None]
    mixed = tl.load(mixed_ptr + where, mask=d[None] < DIM, other=0.0)
    joined = tl.sum(mixed * weights[:, None], axis=0) / tl.sum(weights, axis=0)
    tl.store(out_ptr + line * DIM + d, joined.to(out_ptr.dtype.element_ty), mask=d < DIM)


def _multiply(
    x: torch.Tensor, matrix: Matrix, out: torch.Tensor, *, norm: torch.Tensor | None = None, eps: float = 0.0,
    gated: str | None = None, added: bool = False,
) -> torch.Tensor:  # fmt: skip
    """One row ``[1, K]`` by a matrix, with all that goes along."""
    size, length = out.shape[1], x.shape[1]
    rows = 4 if size < 16384 or gated else 8
    columns = min(1024, triton.next_power_of_2(length))
    none = matrix.weight
    _product[(triton.cdiv(size, rows),)](
        x, none if norm is None else norm, matrix.weight, none if matrix.bias is None else matrix.bias, out, size,
        length, eps, NORM=norm is not None, BIAS=matrix.bias is not None, GATED=gated is not None,
        SILU=gated == "silu", ADD=added, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip
    return out


def _normed(x: torch.Tensor, norm: torch.Tensor, eps: float, out: torch.Tensor, *, added: bool = False) -> torch.Tensor:
    columns = triton.next_power_of_2(x.shape[1])
    _rms_norm[(len(x),)](x, norm, out, x.shape[1], eps, ADD=added, COLUMNS=columns, num_warps=8)
    return out


def project(x: torch.Tensor, norm: torch.Tensor, matrix: Matrix, eps: float) -> torch.Tensor:
    """As in `fused_ops`."""
    if len(x) == 1:
        return _multiply(x, matrix, x.new_empty(1, len(matrix.weight)), norm=norm, eps=eps)
    return matrix(_normed(x, norm, eps, torch.empty_like(x)))


def gated(x: torch.Tensor, norm: torch.Tensor, matrix: Matrix, activation: str, eps: float) -> torch.Tensor:
    """As in `fused_ops`."""
    out = x.new_empty(len(x), len(matrix.weight) // 2)
    if len(x) == 1:
        return _multiply(x, matrix, out, norm=norm, eps=eps, gated=activation)
    both = project(x, norm, matrix, eps)
    grid = (len(x), triton.cdiv(out.shape[1], 1024))
    _gate[grid](both, out, out.shape[1], SILU=activation == "silu", COLUMNS=1024)
    return out


def add(x: torch.Tensor, y: torch.Tensor, matrix: Matrix, norm: torch.Tensor | None, eps: float) -> None:
    """As in `fused_ops`."""
    if norm is not None:
        z = _multiply(y, matrix, torch.empty_like(x)) if len(x) == 1 else matrix(y)
        _normed(z, norm, eps, x, added=True)
    elif len(x) == 1:
        _multiply(y, matrix, x, added=True)
    elif matrix.bias is None:
        x.addmm_(y, matrix.weight.t())
    else:
        x += matrix(y)


def turn_and_store(
    qkv: torch.Tensor,
    layer: FusedLayer,
    angles: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    places: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """As in `fused_ops`."""
    count, kv_heads, _, head_dim = keys.shape
    heads = qkv.shape[1] // head_dim - 2 * kv_heads
    q = qkv.new_empty(count, heads, head_dim)
    norms: Any = (layer.q_norm, layer.k_norm) if layer.q_norm is not None else (angles, angles)
    _turn[(count, heads + 2 * kv_heads)](
        qkv, angles, *norms, places, q, keys, values, heads, kv_heads, angles.stride(0), keys.stride(0),
        keys.stride(1), eps, NORM=layer.q_norm is not None, DIM=head_dim, HALF=triton.next_power_of_2(head_dim // 2),
        num_warps=1,
    )  # fmt: skip
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
    """As in `fused_ops`."""
    count, heads, head_dim = q.shape
    kv_heads, group = keys.shape[1], heads // keys.shape[1]
    parts = max(1, min(bucket // _SPLIT, triton.next_power_of_2(_PROGRAMS // (count * kv_heads) + 1) // 2))
    span = triton.cdiv(bucket, parts)
    padded = max(16, triton.next_power_of_2(head_dim))
    tile = min(64, max(16, _TILE_BYTES // (padded * keys.element_size())))
    out = torch.empty_like(q)
    mixed = out if parts == 1 else q.new_empty(count * heads, parts, head_dim, dtype=torch.float32)
    sums = mixed if parts == 1 else q.new_empty(count * heads, parts, dtype=torch.float32)
    _attend[(count, kv_heads, parts)](
        q, keys, values, ends, mixed, sums, scale, window or _ENDLESS, kv_heads, keys.stride(0), keys.stride(1),
        span, GROUP=group, GROUPS=max(16, triton.next_power_of_2(group)), DIM=head_dim, PADDED=padded, TILE=tile,
    )  # fmt: skip
    if parts > 1:
        _join[(count * heads,)](mixed, sums, out, DIM=head_dim, PADDED=padded, PARTS=parts, num_warps=2)
    return out.view(count, -1)
