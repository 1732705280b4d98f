"""What a Llama-like decoder is made of, read from its module in transformers. It knows families of decoders, not how
they are run.

A family belongs here when its layers are: norm → attention with rotary positions → norm → gated MLP, with or without
biases, norms of queries and keys, norms after attention and MLP, and sliding windows. To add one, name its text model
in `FAMILIES` and let tests/unit/engine/decoder/test_parity.py compare its logits with those of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Family:
    """What the attributes of a family's modules do not tell."""

    norm_offset: float = 0.0
    """Added to the weights of each RMS norm (Gemma keeps ``weight - 1``)."""
    whole_pictures: bool = False
    """Whether each token of a picture sees the whole picture."""


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "smollm3": Family(),
    "qwen2": Family(),
    "qwen3": Family(),
    "qwen2_vl_text": Family(),
    "qwen2_5_vl_text": Family(),
    "qwen3_vl_text": Family(),
    "gemma3_text": Family(norm_offset=1.0, whole_pictures=True),
}
"""By ``model_type`` of the text configuration."""

_ACTIVATIONS = ("silu", "gelu_pytorch_tanh")
_GROWING = ("dynamic", "longrope")
"""Kinds of rotary positions whose angles depend on the length of the sequence."""


@dataclass(frozen=True)
class Linear:
    """``x W^T + b`` with weights ``[N, K]``."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def joined(cls, modules: Sequence[nn.Linear]) -> Linear:
        """Several layers of the same input as one."""
        weight = torch.cat([module.weight.detach() for module in modules])
        biases = [module.bias for module in modules]
        return cls(weight, None if biases[0] is None else torch.cat([bias.detach() for bias in biases]))


@dataclass(frozen=True)
class Block:
    """One layer. Norms are float32 weights ``[hidden_size]``, or ``[head_dim]`` those of queries and keys."""

    norm: torch.Tensor
    attention: Any
    """The module with ``q_proj``, ``k_proj``, ``v_proj`` and ``o_proj``."""
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    after_attention: torch.Tensor | None
    mlp_norm: torch.Tensor
    mlp: Any
    """The module with ``gate_proj``, ``up_proj`` and ``down_proj``."""
    after_mlp: torch.Tensor | None
    window: int
    """Positions that a token sees, itself included; 0 is all."""
    rotation: int
    """Which of `Blocks.rotations` turns its queries and keys."""

    def release(self) -> None:
        """Let the modules' weights go, once they are kept elsewhere."""
        for module in (*self.attention.children(), *self.mlp.children()):
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(module.weight.new_empty(0), requires_grad=False)


@dataclass(frozen=True)
class Blocks:
    """A whole decoder."""

    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    activation: str
    eps: float
    scale: float
    """Of queries."""
    layers: tuple[Block, ...]
    norm: torch.Tensor
    head: nn.Linear
    embeddings: nn.Module
    whole_pictures: bool
    """Whether each token of a picture sees the whole picture."""
    rotary: Any
    rotations: tuple[str | None, ...]
    """Kinds of rotary positions: a layer type of `rotary`, "" for its only one, None for no rotation at all."""

    def angles(self, positions: torch.Tensor, kind: str | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines ``[L, head_dim / 2]``, float32, of positions ``[L]`` or ``[3, L]``: time, height, width."""
        half = self.head_dim // 2
        if kind is None:
            shape = (positions.shape[-1], half)
            return torch.ones(shape), torch.zeros(shape)
        like = torch.empty(0, dtype=torch.float32, device=positions.device)
        ids = positions[None] if positions.ndim == 1 else positions[:, None]  # [1, L] or [3, 1, L]
        cosines, sines = self.rotary(like, ids, kind) if kind else self.rotary(like, ids)
        return cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()


def read_blocks(model: Any) -> Blocks | None:
    """The parts of a network's decoder, or None where it is of no known family; such a one is run by its own module."""
    decoder: Any = model.get_decoder() if hasattr(model, "get_decoder") else None
    config = getattr(decoder, "config", None)
    family = FAMILIES.get(getattr(config, "model_type", ""))
    if config is None or family is None or not _plain(model, config):
        return None
    first = decoder.layers[0]
    kinds = tuple(dict.fromkeys(_rotation(layer.self_attn, decoder.rotary_emb) for layer in decoder.layers))
    return Blocks(
        hidden_size=config.hidden_size,
        intermediate_size=first.mlp.gate_proj.out_features,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=first.self_attn.head_dim,
        vocabulary=model.get_output_embeddings().out_features,
        activation=_activation(config),
        eps=config.rms_norm_eps,
        scale=float(first.self_attn.scaling),
        layers=tuple(_block(layer, config, family, kinds, decoder.rotary_emb) for layer in decoder.layers),
        norm=_norm(decoder.norm, family),
        head=model.get_output_embeddings(),
        embeddings=decoder.embed_tokens,
        whole_pictures=family.whole_pictures,
        rotary=decoder.rotary_emb,
        rotations=kinds,
    )


def _plain(model: Any, config: Any) -> bool:
    """Whether nothing in the configuration asks for what is not held here."""
    kinds = getattr(config, "rope_parameters", None) or {}
    ropes = [kinds, *(value for value in kinds.values() if isinstance(value, dict))]
    return (
        _activation(config) in _ACTIVATIONS
        and not any(rope.get("rope_type") in _GROWING for rope in ropes)
        and all(rope.get("partial_rotary_factor", 1.0) == 1.0 for rope in ropes)
        and not getattr(config, "attn_logit_softcapping", None)
        and not getattr(config, "final_logit_softcapping", None)
        and not getattr(config, "use_bidirectional_attention", False)
        and getattr(model.config, "fusion", "early") == "early"
        and isinstance(model.get_output_embeddings(), nn.Linear)
        and len(set(map(str, ropes[1:]))) <= 2
    )


def _activation(config: Any) -> str:
    return str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", ""))


def _rotation(attention: Any, rotary: Any) -> str | None:
    if not getattr(attention, "use_rope", True):
        return None
    return str(attention.layer_type) if isinstance(rotary.rope_type, dict) else ""


def _norm(module: Any, family: Family) -> torch.Tensor:
    weight: torch.Tensor = module.weight.detach().float() + family.norm_offset
    return weight.contiguous()


def _block(layer: Any, config: Any, family: Family, kinds: tuple[str | None, ...], rotary: Any) -> Block:
    attention = layer.self_attn
    sandwich = hasattr(layer, "pre_feedforward_layernorm")
    window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    normed = hasattr(attention, "q_norm")
    return Block(
        norm=_norm(layer.input_layernorm, family),
        attention=attention,
        q_norm=_norm(attention.q_norm, family) if normed else None,
        k_norm=_norm(attention.k_norm, family) if normed else None,
        after_attention=_norm(layer.post_attention_layernorm, family) if sandwich else None,
        mlp_norm=_norm(layer.pre_feedforward_layernorm if sandwich else layer.post_attention_layernorm, family),
        mlp=layer.mlp,
        after_mlp=_norm(layer.post_feedforward_layernorm, family) if sandwich else None,
        window=int(window or 0),
        rotation=kinds.index(_rotation(attention, rotary)),
    )
