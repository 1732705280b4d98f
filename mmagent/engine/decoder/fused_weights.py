"""Weights as `TorchNetwork` multiplies by them: joined, on their device, in their type. It knows matrices, no rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mmagent.engine.decoder.blocks import Block, Blocks, Linear
from mmagent.errors import ModelError

_FEW = 8
"""Inputs up to which an int8 product reads its weights faster than float32 ones can be made of them."""


@dataclass(frozen=True)
class Matrix:
    """``x W^T + b`` with weights ``[N, K]``."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: torch.Tensor | None = None
    """Of each output ``[N]``, bfloat16, where weights are int8."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``[T, K]`` to ``[T, N]``."""
        return F.linear(x, self.weight, self.bias) if self.scale is None else self._whole_numbers(x, self.scale)

    def _whole_numbers(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        if len(x) <= _FEW:
            y = torch._weight_int8pack_mm(x.bfloat16(), self.weight, scale).to(x.dtype)
        else:
            y = F.linear(x.bfloat16().to(x.dtype), self.weight.to(x.dtype)) * scale  # rounded as the few are
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True)
class FusedLayer:
    """One layer of `Blocks`. Norms are float32; queries, keys and values are one product, gate and up too."""

    norm: torch.Tensor
    qkv: Matrix
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    out: Matrix
    after_attention: torch.Tensor | None
    mlp_norm: torch.Tensor
    gate_up: Matrix
    down: Matrix
    after_mlp: torch.Tensor | None
    window: int
    rotation: int


@dataclass(frozen=True)
class FusedWeights:
    """A whole decoder."""

    embeddings: torch.Tensor
    """``[V, hidden_size]``."""
    embedding_scale: float
    layers: tuple[FusedLayer, ...]
    norm: torch.Tensor
    head: Matrix

    @property
    def nbytes(self) -> int:
        """What is read for one token: all matrices."""
        layers = [(layer.qkv, layer.out, layer.gate_up, layer.down) for layer in self.layers]
        return sum(matrix.weight.nbytes for matrices in (*layers, (self.head,)) for matrix in matrices)


class Maker:
    """Brings weights to a device and type; those that are there already are not copied.

    Args:
        device: Where they go.
        dtype: ``float32``, ``bfloat16``, ``float16`` or, on a CPU, ``int8``: one scale per output.

    Raises:
        ModelError: There are no products of that type here.
    """

    def __init__(self, device: torch.device, dtype: str) -> None:
        self.device, self._int8 = device, dtype == "int8"
        if self._int8 and not (device.type == "cpu" and hasattr(torch, "_weight_int8pack_mm")):
            raise ModelError(f"there are no int8 products on {device.type} in this torch; use bfloat16")
        self.dtype = torch.float32 if self._int8 else getattr(torch, dtype)

    def weights(self, blocks: Blocks) -> FusedWeights:
        """All weights of a decoder."""
        embeddings: Any = blocks.embeddings
        return FusedWeights(
            embeddings=embeddings.weight.detach().to(self.device, self.dtype),
            embedding_scale=float(torch.tensor(float(getattr(embeddings, "embed_scale", 1.0)), dtype=self.dtype)),
            layers=tuple(self._layer(block) for block in blocks.layers),
            norm=blocks.norm.to(self.device),
            head=self._matrix([blocks.head]),
        )

    def _layer(self, block: Block) -> FusedLayer:
        attention, mlp = block.attention, block.mlp
        return FusedLayer(
            norm=block.norm.to(self.device),
            qkv=self._matrix([attention.q_proj, attention.k_proj, attention.v_proj]),
            q_norm=self._maybe(block.q_norm),
            k_norm=self._maybe(block.k_norm),
            out=self._matrix([attention.o_proj]),
            after_attention=self._maybe(block.after_attention),
            mlp_norm=block.mlp_norm.to(self.device),
            gate_up=self._matrix([mlp.gate_proj, mlp.up_proj]),
            down=self._matrix([mlp.down_proj]),
            after_mlp=self._maybe(block.after_mlp),
            window=block.window,
            rotation=block.rotation,
        )

    def _maybe(self, norm: torch.Tensor | None) -> torch.Tensor | None:
        return None if norm is None else norm.to(self.device)

    def _matrix(self, modules: Sequence[nn.Linear]) -> Matrix:
        linear = Linear.joined(modules) if len(modules) > 1 else Linear(modules[0].weight.detach(), modules[0].bias)
        bias = None if linear.bias is None else linear.bias.detach().to(self.device, self.dtype)
        if not self._int8:
            return Matrix(linear.weight.to(self.device, self.dtype).contiguous(), bias)
        weight = linear.weight.float()
        scale = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12).bfloat16()
        whole = (weight / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        return Matrix(whole.contiguous(), bias, scale)
