"""Pictures beside the text: gated layers between the decoder's layers, or a vector before its head.

It knows modules, positions and features, no pixels. The decoder is any causal LM: it is not changed, only looked into
by hooks, and what the hooks read is there for the time of one pass only.

features [N, T, D] ─ by row ─► Media ─┬─ cross_attention: layer → gated layer → layer → ...
                                      └─ late: decoder → + gate · pooled picture → head
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers.cache_utils import Cache

from mmagent.errors import ConfigurationError
from mmagent.model.configuration import MMAgentConfig
from mmagent.model.connectors import GatedCrossAttention, build_connector

NEVER = 2**62
"""Place of a picture that no position sees: it fills up rows that have fewer pictures."""


@dataclass(frozen=True)
class Media:
    """The pictures of each row so far. It travels with the cache, as keys and values of the text do."""

    values: tuple[torch.Tensor, ...]  # [B, ..., S, D], S a multiple of M
    """What the fusion reads, computed once."""
    places: torch.Tensor  # [B, M]
    """Where in its row each picture stands."""

    def seen_from(self, start: int, size: int, kept: int | torch.Tensor) -> View:
        """What ``size`` positions from ``start`` may look at, the last ``kept`` of which get logits."""
        positions = torch.arange(start, start + size, device=self.places.device)  # [L]
        visible = self.places.unsqueeze(1) <= positions.view(1, -1, 1)  # [B, L, M]
        return View(self.values, visible, slice(-kept, None) if isinstance(kept, int) else kept)


@dataclass(frozen=True)
class View:
    """What one pass of the decoder may look at."""

    values: tuple[torch.Tensor, ...]
    visible: torch.Tensor  # [B, L, M]
    kept: slice | torch.Tensor
    """Positions that get logits."""


_view: ContextVar[View | None] = ContextVar("view", default=None)


class Fusion(nn.Module, ABC):
    """What both ways have in common: which position sees which pictures (its own row's, so far), and for how long."""

    @abstractmethod
    def attach(self, language_model: nn.Module) -> None:
        """Hook into a decoder."""

    @abstractmethod
    def values(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:  # [B, M, T, D]
        """What is read of pictures, ``[B, ..., S, D]`` with S a multiple of M."""

    def forward(self, decode: partial[Any], features: torch.Tensor | None, mask: torch.Tensor | None) -> Any:
        """One pass of the decoder that sees the pictures of its cache and, after them, new ones.

        Args:
            decode: The decoder with its arguments.
            features: New pictures ``[N, T, D]``, row after row.
            mask: Their places ``[B, L]``, one for each.

        Raises:
            ValueError: The cache was not filled by a pass of this network.
        """
        past, kept = decode.keywords["past_key_values"], decode.keywords["logits_to_keep"]
        start = 0 if past is None else int(past.get_seq_length())
        media = recall(past, start) if start else None
        if features is not None and mask is not None:
            by_row, places = to_rows(features, mask)  # [B, M, T, D], [B, M]
            new = Media(self.values(by_row), places.where(places == NEVER, places + start))
            media = new if media is None else join(media, new)
        size = decode.keywords["inputs_embeds"].shape[1]
        token = _view.set(None if media is None else media.seen_from(start, size, kept))
        try:
            result = decode()
        finally:
            _view.reset(token)
        remember(result.past_key_values, media)
        return result


class CrossAttentionFusion(Fusion):
    """Gated layers before every so-manieth of the decoder; at the start its logits are its own, bit for bit."""

    def __init__(self, config: MMAgentConfig) -> None:
        super().__init__()
        self.every = config.cross_attention_every
        width, layers = config.text_config.hidden_size, config.text_config.num_hidden_layers
        if layers < self.every:
            raise ConfigurationError(f"cross_attention_every is {self.every}; the decoder has only {layers} layers")
        raw = config.connector == "gated_cross_attention"  # nothing between the tower and the gated layers
        memory = config.vision_config.hidden_size if raw else width
        self.layers = nn.ModuleList(
            build_connector("gated_cross_attention", memory, width, 1) for _ in range(layers // self.every)
        )

    def attach(self, language_model: nn.Module) -> None:
        """Put a gated layer before layers ``every``, ``2 · every`` ... of the decoder."""
        for index, layer in enumerate(decoder_layers(language_model)[self.every - 1 :: self.every]):
            layer.register_forward_pre_hook(partial(self._before, index), with_kwargs=True)

    def values(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:  # [B, M, T, D]
        """Keys and values of each gated layer, ``[B, H, M · T, D_head]``."""
        memory = features.flatten(1, 2)  # [B, M * T, D]
        return tuple(tensor for layer in self.layers for tensor in cast(GatedCrossAttention, layer).project(memory))

    def _before(self, index: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if (view := _view.get()) is None:
            return None
        keys, values = view.values[2 * index : 2 * index + 2]
        visible = view.visible.repeat_interleave(keys.shape[-2] // view.visible.shape[-1], dim=-1)  # [B, L, M * T]
        hidden = self.layers[index](args[0] if args else kwargs["hidden_states"], keys, values, visible)
        return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})


class LateFusion(Fusion):
    """The mean of the pictures seen so far is added to what the head reads, through a gate that is 0 at the start."""

    def __init__(self, config: MMAgentConfig) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width, bias=False)
        self.gate = nn.Parameter(torch.zeros(1))

    def attach(self, language_model: nn.Module) -> None:
        """Put the sum before the decoder's head."""
        language_model.get_output_embeddings().register_forward_pre_hook(self._before)  # type: ignore[operator]

    def values(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:  # [B, M, T, D]
        """One vector per picture, ``[B, M, D]``."""
        return (self.project(self.norm(features.mean(2))),)

    def _before(self, _: nn.Module, args: tuple[Any, ...]) -> Any:
        if (view := _view.get()) is None:
            return None
        weights = view.visible[:, view.kept].to(args[0].dtype)  # [B, K, M]
        mean = weights @ view.values[0] / weights.sum(-1, keepdim=True).clamp(min=1)  # [B, K, D]
        return (args[0] + self.gate.tanh() * mean, *args[1:])


def build_fusion(config: MMAgentConfig) -> Fusion | None:
    """The fusion of a configuration; None for ``early``, where pictures are tokens."""
    return {"early": lambda _: None, "cross_attention": CrossAttentionFusion, "late": LateFusion}[config.fusion](config)


def decoder_layers(language_model: nn.Module) -> list[nn.Module]:
    """The layers of any causal LM of transformers, in their order.

    Raises:
        ConfigurationError: It has no list of as many modules as its configuration has layers.
    """
    decoder = language_model.get_decoder()  # type: ignore[operator]
    count = decoder.config.num_hidden_layers
    for module in decoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    name = type(language_model).__name__
    raise ConfigurationError(f"{name} has no list of {count} layers to stand between; use fusion early or late")


def to_rows(features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # [N, T, D], [B, L]
    """Features by row ``[B, M, T, D]``, rows with fewer than M filled up, and their places in the row ``[B, M]``."""
    rows, columns = mask.nonzero(as_tuple=True)  # in the order of the features
    slots = mask.cumsum(1)[rows, columns] - 1
    shape = (len(mask), int(mask.sum(1).max()))
    by_row = features.new_zeros(*shape, *features.shape[1:]).index_put((rows, slots), features)
    places = torch.full(shape, NEVER, device=mask.device).index_put((rows, slots), columns)
    return by_row, places


def join(old: Media, new: Media) -> Media:
    """Pictures after pictures."""
    values = tuple(torch.cat(pair, dim=-2) for pair in zip(old.values, new.values, strict=True))
    return Media(values, torch.cat((old.places, new.places), dim=1))


def remember(past: Cache | None, media: Media | None) -> None:
    """Let the pictures travel with the cache."""
    if past is not None:
        past.media = media  # type: ignore[attr-defined]


def recall(past: Cache, length: int) -> Media | None:
    """The pictures that travel with a cache of that length.

    Raises:
        ValueError: Nobody remembered any, not even that there are none.
    """
    if not hasattr(past, "media"):
        raise ValueError(
            "this cache does not say which pictures its text has seen; go on with the cache that forward returned"
        )
    media: Media | None = past.media
    if media is None:
        return None
    # a cache may have been cropped since
    return Media(media.values, media.places.masked_fill(media.places >= length, NEVER))
