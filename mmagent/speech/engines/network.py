"""Whisper's network, made fast: its decoder's weights joined, keys and values kept. It knows tensors, no text.

`generate` of transformers spends most of a step of a small Whisper outside the network; and with attention as separate
products, rows of one token are several times faster in bfloat16 than with torch's own on CPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Attention = tuple[Tensor, Tensor]
"""Keys and values ``[B, heads, places, width]``."""


@dataclass
class State:
    """What the decoder keeps of some windows; rows are windows."""

    heard: list[Attention]
    """Of each layer, of the sound."""
    said: list[Attention]
    """Of each layer, of the tokens; room for all that may come."""
    length: int = 0
    """Tokens so far."""

    def keep(self, rows: Tensor) -> State:
        """Some of the rows."""
        heard = [(keys[rows], values[rows]) for keys, values in self.heard]
        return State(heard, [(keys[rows], values[rows]) for keys, values in self.said], self.length)


class Network:
    """The encoder as it is, and a decoder that takes a token at a time.

    Args:
        model: A ``WhisperForConditionalGeneration``; its decoder's weights are copied, so let go of it.
    """

    def __init__(self, model: Any) -> None:
        decoder = model.model.decoder
        self._encoder = model.model.encoder
        self._layers = [_Layer(layer) for layer in decoder.layers]
        self._table, self._places = decoder.embed_tokens.weight, decoder.embed_positions.weight
        self._norm, self._head = decoder.layer_norm, model.proj_out.weight
        self.device, self.dtype = self._table.device, self._table.dtype

    @torch.inference_mode()
    def encode(self, features: Tensor) -> Tensor:
        """Log-mel features ``[B, mels, frames]`` to what the decoder hears ``[B, frames / 2, width]``."""
        heard: Tensor = self._encoder(features.to(self.device, self.dtype)).last_hidden_state
        return heard

    @torch.inference_mode()
    def start(self, heard: Tensor, most: int) -> State:
        """Begin with some windows, for at most so many tokens."""
        said = []
        for layer in self._layers:
            shape = (len(heard), layer.heads, most, layer.width)
            said.append((heard.new_zeros(shape), heard.new_zeros(shape)))
        return State([layer.hear(heard) for layer in self._layers], said)

    @torch.inference_mode()
    def step(
        self,
        state: State,
        tokens: Tensor,
        places: Sequence[int],
        heads: Sequence[tuple[int, int]] = (),
        seen: list[Tensor] | None = None,
    ) -> Tensor:
        """Take tokens in.

        Args:
            state: It grows by the tokens.
            tokens: ``[B, T]``; several only at the start.
            places: Those of the tokens whose successors are wanted.
            heads: Layer and head, where it is wanted what they listened to.
            seen: Gets that: ``[B, T, places of the sound]`` each, before the softmax.

        Returns:
            Logits of the next tokens ``[B, len(places), vocabulary]``, float32.
        """
        end = state.length + tokens.shape[1]
        x = F.embedding(tokens, self._table) + self._places[state.length : end]
        for index, layer in enumerate(self._layers):
            x = layer.recall(x, state.said[index], end)
            if seen is not None:
                seen += layer.look(x, state.heard[index], [head for each, head in heads if each == index])
            x = layer.think(layer.listen(x, state.heard[index]))
        state.length = end
        return F.linear(self._norm(x[:, places]), self._head).float()


class _Layer:
    """Attention to what was said, attention to what is heard, and a perceptron, each added to what goes through.

    ``x`` is ``[B, T, hidden]``.
    """

    def __init__(self, layer: Any) -> None:
        own, other = layer.self_attn, layer.encoder_attn
        self.heads, self.width = own.num_heads, own.head_dim
        self._norms = layer.self_attn_layer_norm, layer.encoder_attn_layer_norm, layer.final_layer_norm
        self._own, self._own_out = _joined(own.q_proj, own.k_proj, own.v_proj), own.out_proj
        self._query, self._other_out = other.q_proj, other.out_proj
        self._other = _joined(other.k_proj, other.v_proj)
        self._up, self._down, self._bend = layer.fc1, layer.fc2, layer.activation_fn
        self._scale = self.width**-0.5

    def hear(self, heard: Tensor) -> Attention:
        """Keys and values of the sound."""
        keys, values = self._split(F.linear(heard, *self._other), 2)
        return keys.contiguous(), values.contiguous()

    def recall(self, x: Tensor, said: Attention, end: int) -> Tensor:
        """Attend to the tokens; the keys and values of the new ones are put where they belong."""
        query, key, value = self._split(F.linear(self._norms[0](x), *self._own), 3)
        keys, values = said
        keys[:, :, end - x.shape[1] : end], values[:, :, end - x.shape[1] : end] = key, value
        attended = self._attend(query, keys[:, :, :end], values[:, :, :end], causal=x.shape[1] > 1)
        recalled: Tensor = x + self._own_out(attended)
        return recalled

    def look(self, x: Tensor, heard: Attention, heads: Sequence[int]) -> list[Tensor]:
        """How some heads weigh the sound."""
        (query,) = self._split(self._query(self._norms[1](x)), 1)
        return [self._scale * query[:, head].float() @ heard[0][:, head].float().transpose(1, 2) for head in heads]

    def listen(self, x: Tensor, heard: Attention) -> Tensor:
        """Attend to the sound."""
        (query,) = self._split(self._query(self._norms[1](x)), 1)
        listened: Tensor = x + self._other_out(self._attend(query, *heard, causal=False))
        return listened

    def think(self, x: Tensor) -> Tensor:
        """The perceptron."""
        thought: Tensor = x + self._down(self._bend(self._up(self._norms[2](x))))
        return thought

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, causal: bool) -> Tensor:
        """``[B, heads, T, width]`` each, to ``[B, T, hidden]``."""
        if query.shape[2] > 1 or query.is_cuda:
            found = F.scaled_dot_product_attention(query, keys, values, is_causal=causal)
        else:
            found = torch.softmax((query * self._scale) @ keys.transpose(2, 3), dim=-1) @ values
        return found.transpose(1, 2).flatten(2)

    def _split(self, joined: Tensor, parts: int) -> tuple[Tensor, ...]:
        """``[B, T, parts * hidden]`` to parts ``[B, heads, T, width]``."""
        split: Tensor = joined.unflatten(2, (parts, self.heads, self.width)).permute(2, 0, 3, 1, 4)
        return tuple(split)


def _joined(*projections: Any) -> tuple[Tensor, Tensor]:
    """Weights and biases of several, as one; Whisper's keys have no bias."""
    weights = [projection.weight for projection in projections]
    biases = [each.bias if each.bias is not None else torch.zeros_like(each.weight[:, 0]) for each in projections]
    return torch.cat(weights).detach(), torch.cat(biases).detach()
