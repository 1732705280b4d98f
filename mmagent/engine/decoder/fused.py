"""A Llama-like decoder run by torch: on CUDA, on other devices that torch knows, on CPUs without our own kernels. It
knows token ids, rows and features, no prompts.

Tokens of a prompt go through `TorchNetwork._pass`, all rows' side by side in one ragged batch. On CUDA, rows that go on
by one token take `DecodeStep` instead: recorded graphs over rows that stand side by side in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from types import ModuleType

import torch
import torch.nn.functional as F

from mmagent.engine.decoder import fused_ops
from mmagent.engine.decoder.blocks import Blocks
from mmagent.engine.decoder.fused_rows import CacheShape, Slots, TorchRow
from mmagent.engine.decoder.fused_step import Angles, DecodeStep
from mmagent.engine.decoder.fused_weights import FusedLayer, Maker, Matrix
from mmagent.engine.decoder.network import Insets, Part

_log = logging.getLogger(__name__)

_CHUNK_WORK = {"cuda": 5e12, "mps": 1e11, "cpu": 5e9}
"""Weights times tokens that a pass may have: some 50 ms on a common device of that kind."""


class TorchNetwork:
    """Runs a decoder of a known family.

    Args:
        blocks: The decoder. Weights that are on the device in the wanted type are shared with it, others copied; the
            module itself is not needed any more, but for its rotary positions.
        device: Where it runs.
        dtype: ``float32``, ``bfloat16``, ``float16`` or, on a CPU, ``int8``: weights with one scale per output.
        slots: Rows that decode at once on CUDA; more take turns.

    Raises:
        ModelError: That type does not run on that device.
    """

    reuses = batches = True
    guesses = 0  # a pass of several tokens rounds otherwise than one after the other

    def __init__(self, blocks: Blocks, *, device: torch.device | str, dtype: str, slots: int = 8) -> None:
        maker = Maker(torch.device(device), dtype)
        self.whole_pictures = blocks.whole_pictures
        self._weights = maker.weights(blocks)
        self._blocks = replace(blocks, layers=())
        self._device, self._dtype = maker.device, maker.dtype
        layers = len(blocks.layers)
        self._shape = CacheShape(layers, blocks.kv_heads, blocks.head_dim, maker.dtype, maker.device)
        self._angles = Angles(self._blocks, maker.device)
        self._slots = slots
        self.steps = maker.device.type == "cuda"
        """Whether rows that go on by one token take the decode step."""
        inner = sum(layer.down.weight.numel() * 4 for layer in self._weights.layers)
        work = _CHUNK_WORK.get(maker.device.type, _CHUNK_WORK["cpu"])
        self.chunk = int(max(16, min(4096, work // inner)))

    @cached_property
    def decode_step(self) -> DecodeStep:
        """What runs one token of each of several rows."""
        return self.new_step(_kernels(self._device))

    def new_step(self, kernels: ModuleType) -> DecodeStep:
        """One over slots of its own, with the five functions of `fused_ops` from a module; recorded on CUDA."""
        slots, record = Slots(self._shape, self._slots), self._device.type == "cuda"
        return DecodeStep(self._blocks, self._weights, slots, self._angles, kernels=kernels, record=record)

    @property
    def weight_bytes(self) -> int:
        """What is read of the weights for one token."""
        return self._weights.nbytes

    def row(self) -> TorchRow:
        """An empty row."""
        return TorchRow(self._shape)

    @torch.no_grad()
    def run(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        """Append the tokens of each part to its row; the last logits ``[wanted, V]`` of each, float32, left there."""
        steps = [index for index, part in enumerate(parts) if self.steps and _is_step(part)]
        others = [index for index in range(len(parts)) if index not in set(steps)]
        logits: dict[int, torch.Tensor] = {}
        with _on(self._device):
            if others:
                logits |= zip(others, self._pass([parts[index] for index in others]), strict=True)
            for start in range(0, len(steps), self._slots):
                some = steps[start : start + self._slots]
                logits |= zip(some, self._step([parts[index] for index in some]), strict=True)
        return [logits[index] for index in range(len(parts))]

    def _step(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        shifts = [0 if part.insets is None else part.insets.shift for part in parts]
        logits = self.decode_step.run([part.row for part in parts], [part.tokens[0] for part in parts], shifts)
        return [line[None][: part.wanted] for line, part in zip(logits, parts, strict=True)]

    def _pass(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        spans = list(self._spans(parts))
        ids = torch.tensor([token for part in parts for token in part.tokens], device=self._device)
        x = F.embedding(ids, self._weights.embeddings) * self._weights.embedding_scale  # [T, hidden_size]
        for span in spans:
            span.put(x, span.features)
        angles = torch.cat([self._turned(span) for span in spans])  # [T, kinds, 2, head_dim / 2]
        for index, layer in enumerate(self._weights.layers):
            self._layer(x, layer, index, angles[:, layer.rotation], spans)
            for span in spans:
                if index < len(span.deep):
                    span.put(x, span.deep[index], added=True)
        for span in spans:
            span.part.row.length += span.count
        wanted = [place for span in spans for place in range(span.stop - span.part.wanted, span.stop)]
        logits = fused_ops.project(x[wanted], self._weights.norm, self._weights.head, self._blocks.eps).float()
        return list(logits.split([part.wanted for part in parts]))

    def _spans(self, parts: Sequence[Part]) -> Iterator[_Span]:
        start = 0
        for part in parts:
            part.row.reserve(part.row.length + len(part.tokens))
            yield _Span(part, start)
            start += len(part.tokens)

    def _turned(self, span: _Span) -> torch.Tensor:
        """Angles of a span's tokens."""
        insets = span.part.insets
        if insets is not None and insets.turns is not None:
            return self._angles.of(_turns(insets, span.first, span.count))
        self._angles.reserve(span.last)
        return self._angles.table[span.first : span.last]

    def _layer(
        self, x: torch.Tensor, layer: FusedLayer, index: int, angles: torch.Tensor, spans: Sequence[_Span]
    ) -> None:
        blocks = self._blocks
        qkv = fused_ops.project(x, layer.norm, layer.qkv, blocks.eps)
        q, k, v = fused_ops.split_heads(qkv, layer, angles, blocks.kv_heads, blocks.head_dim, blocks.eps)
        mixed = torch.empty_like(q)
        for span in spans:
            row, here = span.part.row, slice(span.start, span.stop)
            row.keys[index, :, span.first : span.last] = k[here].transpose(0, 1)
            row.values[index, :, span.first : span.last] = v[here].transpose(0, 1)
            mixed[here] = self._attend(q[here], row.keys[index], row.values[index], layer.window, span)
        fused_ops.add(x, mixed.flatten(1), layer.out, layer.after_attention, blocks.eps)
        inner = fused_ops.gated(x, layer.mlp_norm, layer.gate_up, blocks.activation, blocks.eps)
        fused_ops.add(x, inner, layer.down, layer.after_mlp, blocks.eps)

    def _attend(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int, span: _Span
    ) -> torch.Tensor:
        """What the tokens of a span ``[T, heads, head_dim]`` see of their row ``[kv_heads, capacity, head_dim]``."""
        low = max(0, span.first + 1 - window) if window else 0
        keys, values = keys[:, None, low : span.last], values[:, None, low : span.last]  # [kv_heads, 1, seen, head_dim]
        grouped = q.view(span.count, len(keys), -1, q.shape[2]).permute(1, 2, 0, 3)  # [kv_heads, group, T, head_dim]
        mask = span.mask(window, q)
        if span.count == 1 and mask is None:  # a group's queries as rows of one product, so that keys are read once
            mixed = F.scaled_dot_product_attention(grouped.transpose(1, 2), keys, values, scale=self._blocks.scale)
            return mixed.reshape(q.shape)
        shared = (-1, grouped.shape[1], -1, -1)
        mixed = F.scaled_dot_product_attention(
            grouped,
            keys.expand(shared),
            values.expand(shared),
            attn_mask=mask,
            is_causal=mask is None,
            scale=self._blocks.scale,
        )
        return mixed.permute(2, 0, 1, 3).reshape(q.shape)


class _Span:
    """A part's place in a pass: tokens ``start .. stop`` of the pass are ``first .. last`` of the row."""

    def __init__(self, part: Part, start: int) -> None:
        self.part, self.start = part, start
        self.count = len(part.tokens)
        self.stop = start + self.count
        self.first: int = part.row.length
        self.last = self.first + self.count
        self._masks: dict[int, torch.Tensor | None] = {}
        self.features, self.deep = self._mine()

    def _mine(self) -> tuple[torch.Tensor | None, tuple[torch.Tensor, ...]]:
        """Features of the placeholders among its tokens."""
        insets = self.part.insets
        if insets is None:
            return None, ()
        low, high = torch.searchsorted(insets.places, torch.tensor([self.first, self.last])).tolist()
        if low == high:
            return None, ()
        self._where = insets.places[low:high] - self.first + self.start
        return insets.features[low:high], tuple(added[low:high] for added in insets.deep)

    def put(self, x: torch.Tensor, features: torch.Tensor | None, *, added: bool = False) -> None:
        """Features in place of what is in ``x`` at its placeholders, or added to it."""
        if features is not None:
            where, features = self._where.to(x.device), features.to(x)
            x[where] = x[where] + features if added else features

    def mask(self, window: int, like: torch.Tensor) -> torch.Tensor | None:
        """Added to scores ``[T, seen]``; None where each sees all up to itself and nothing is before them."""
        if window not in self._masks:
            self._masks[window] = self._mask(window, like)
        return self._masks[window]

    def _mask(self, window: int, like: torch.Tensor) -> torch.Tensor | None:
        ends = self._ends()
        narrow = 0 < window < self.last
        if ends is None and (self.count == 1 or (self.first == 0 and not narrow)):
            return None
        low = max(0, self.first + 1 - window) if window else 0
        places = torch.arange(self.first, self.last, device=like.device)[:, None]
        others = torch.arange(low, self.last, device=like.device)
        hidden = others >= (places + 1 if ends is None else ends.to(like.device)[:, None])
        if window:
            hidden |= others < places + 1 - window
        return torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, -torch.inf)

    def _ends(self) -> torch.Tensor | None:
        """First position that each token does not see, where that is not always the next one."""
        insets = self.part.insets
        if insets is None or insets.ends is None:
            return None
        ends = torch.arange(self.first + 1, self.last + 1)
        given = insets.ends[self.first : self.last]
        usual = ends.clone()
        ends[: len(given)] = given
        return None if torch.equal(ends, usual) else ends


def _turns(insets: Insets, first: int, count: int) -> torch.Tensor:
    """Rotary positions ``[3, count]`` of the tokens from place ``first`` on."""
    given = insets.turns if insets.turns is not None else torch.zeros(3, 0, dtype=torch.int64)
    start = max(first, given.shape[1])
    after = torch.arange(start, max(start, first + count)) + insets.shift
    return torch.cat([given[:, first : first + count], after.expand(3, -1)], dim=1)


def _is_step(part: Part) -> bool:
    """Whether a part is one token that is no picture's and stands after all that is said of positions."""
    if len(part.tokens) != 1 or part.insets is None:
        return len(part.tokens) == 1
    insets, place = part.insets, part.row.length
    told = [0 if given is None else given.shape[-1] for given in (insets.turns, insets.ends)]
    return bool(place >= max(*told, int(insets.places[-1]) + 1))


def _kernels(device: torch.device) -> ModuleType:
    """Our own kernels where triton can compile and run them, else torch's."""
    if device.type != "cuda":
        return fused_ops
    try:
        from mmagent.engine.decoder import fused_kernels

        x = torch.ones(1, 64, dtype=torch.bfloat16, device=device)
        fused_kernels.project(x, torch.ones(64, device=device), Matrix(x.expand(16, 64).contiguous(), None), 1e-6)
    except Exception as error:  # no triton, no C compiler for it, a device that it doesn't know
        _log.warning("decoding without our CUDA kernels, which is slower: %s", error)
        return fused_ops
    return fused_kernels


@contextmanager
def _on(device: torch.device) -> Iterator[None]:
    """On CUDA, the right device, and attention that is never computed by materialising all scores."""
    if device.type != "cuda":
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # the last for old devices
    with torch.cuda.device(device), sdpa_kernel(backends, set_priority=True):
        yield
