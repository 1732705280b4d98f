"""A Llama-like decoder run by our own kernels (kernels/decoder.cpp): float32, bfloat16 or int8 weights, on CPUs with
AVX-512. It knows shapes and addresses, no tokens' meaning. The structs mirror those of the C++ side.

Every result is the same bit for bit whatever else is in the batch and however a sequence is cut into passes: alone, in
company, in chunks, from a cached prefix or as verified guesses.
"""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int32, c_void_p
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from mmagent.engine.decoder.blocks import Block, Blocks, Linear
from mmagent.engine.decoder.network import Insets, Part
from mmagent.errors import ModelError

PANEL, GROUP = 16, 64  # as in kernels.hpp
_KINDS = {"float32": 0, "bfloat16": 1, "int8": 2}
_SIZES = (4, 2, 1)
_CHUNKS, _CHUNK_SECONDS = (16, 512), 0.04
"""Tokens of a prompt in one pass, and what it should take: others wait for it, and so does who cancels."""
_FIRST_CHUNK = 10_000_000_000
"""Weights times tokens of the first one, before anything was measured."""


class _Linear(Structure):
    _fields_ = [("weight", c_void_p), ("scale", c_void_p), ("bias", c_void_p), ("n", c_int32), ("k", c_int32)]


class _Layer(Structure):
    _fields_ = [
        ("norm", c_void_p), ("qkv", _Linear), ("q_norm", c_void_p), ("k_norm", c_void_p), ("out", _Linear),
        ("after_attention", c_void_p), ("mlp_norm", c_void_p), ("gate_up", _Linear), ("down", _Linear),
        ("after_mlp", c_void_p), ("window", c_int32), ("rope", c_int32),
    ]  # fmt: skip


class _Shape(Structure):
    _fields_ = [
        *((name, c_int32) for name in (
            "kind", "half_cache", "layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "rotary",
            "vocabulary", "activation", "threads",
        )),
        ("eps", c_float), ("scale", c_float), ("layer", POINTER(_Layer)), ("norm", c_void_p), ("head", _Linear),
    ]  # fmt: skip


class _Part(Structure):
    _fields_ = [
        ("keys", c_void_p), ("values", c_void_p), ("capacity", c_int32), ("first", c_int32), ("count", c_int32),
        ("wanted", c_int32),
    ]  # fmt: skip


class _Pass(Structure):
    _fields_ = [
        ("parts", c_int32), ("deep_layers", c_int32), ("part", POINTER(_Part)), ("x", c_void_p), ("end", c_void_p),
        ("turn", c_void_p), ("tables", c_void_p * 4), ("deep", c_void_p), ("logits", c_void_p),
    ]  # fmt: skip


@lru_cache(maxsize=1)
def _library() -> Any:
    """The compiled kernels, or None where the wheel was built without a compiler."""
    spec = find_spec("mmagent.engine.decoder._native")
    if spec is None or spec.origin is None:
        return None
    library = ctypes.CDLL(spec.origin)
    if not library.mmagent_kinds():
        return None  # built for another processor: there may be nothing else in it
    library.mmagent_create.restype = c_void_p
    library.mmagent_run.argtypes = [c_void_p, POINTER(_Pass)]
    library.mmagent_destroy.argtypes = [c_void_p]
    library.mmagent_pack.argtypes = [
        *(ctypes.c_int, c_void_p), *(ctypes.c_int,) * 3, *(c_void_p,) * 2, ctypes.c_int,
    ]  # fmt: skip
    return library


def native_dtypes() -> tuple[str, ...]:
    """Weights that the kernels can run here: of ``float32``, ``bfloat16`` and ``int8``; none without the kernels."""
    library = _library()
    kinds = library.mmagent_kinds() if library else 0
    return tuple(name for name, bit in _KINDS.items() if kinds >> bit & 1)


class NativeRow:
    """Keys ``[layers, kv_heads, capacity / 16, head_dim, 16]``, values ``[layers, kv_heads, capacity, head_dim]``."""

    def __init__(self, blocks: Blocks, dtype: torch.dtype, capacity: int) -> None:
        self._blocks, self._dtype = blocks, dtype
        self.length = 0
        self.capacity = _padded(capacity, PANEL)
        outer = (len(blocks.layers), blocks.kv_heads)
        # zeros, because positions that nobody sees are still multiplied, by 0
        self.keys = torch.zeros(*outer, self.capacity // PANEL, blocks.head_dim, PANEL, dtype=dtype)
        self.values = torch.zeros(*outer, self.capacity, _padded(blocks.head_dim, PANEL), dtype=dtype)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.keys.nbytes + self.values.nbytes

    def fork(self, length: int) -> NativeRow:
        """A copy of the first ``length`` positions."""
        copy = NativeRow(self._blocks, self._dtype, length + PANEL)
        copy._take(self, length)
        return copy

    def detached(self) -> NativeRow:
        """Itself: running rows have no place of their own."""
        return self

    def reserve(self, capacity: int) -> None:
        """Make room for that many positions; the room at least doubles."""
        if capacity > self.capacity:
            larger = NativeRow(self._blocks, self._dtype, max(capacity, 2 * self.capacity, 256))
            larger._take(self, self.length)
            self.keys, self.values, self.capacity = larger.keys, larger.values, larger.capacity

    def _take(self, other: NativeRow, length: int) -> None:
        used = _padded(length, PANEL) // PANEL
        self.keys[:, :, :used] = other.keys[:, :, :used]
        self.values[:, :, :length] = other.values[:, :, :length]
        self.length = length


class NativeNetwork:
    """Runs a decoder of a known family.

    Args:
        blocks: The decoder; its weights are copied.
        dtype: One of `native_dtypes`. Weights of ``int8`` have one scale per output, and inputs are rounded to 8 bits
            with one scale for each 64 of them.
        threads: By default those of torch.
        release: Let the module's own weights go, layer by layer, as they are copied.
    """

    reuses = batches = True
    guesses = 4

    def __init__(self, blocks: Blocks, dtype: str, *, threads: int | None = None, release: bool = False) -> None:
        self.blocks, self.dtype, self._release = blocks, dtype, release
        self.whole_pictures = blocks.whole_pictures
        self._kind, self._threads = _KINDS[dtype], threads or torch.get_num_threads()
        self._row_dtype = torch.float32 if dtype == "float32" else torch.bfloat16
        self._kept: list[Any] = []  # what the C++ side points to
        layers = (_Layer * len(blocks.layers))(*map(self._layer, blocks.layers))
        shape = _Shape(
            self._kind, self._row_dtype is torch.bfloat16, len(blocks.layers), blocks.hidden_size,
            blocks.intermediate_size, blocks.heads, blocks.kv_heads, blocks.head_dim, blocks.head_dim,
            blocks.vocabulary, int(blocks.activation != "silu"), self._threads, blocks.eps, blocks.scale, layers,
            self._address(blocks.norm), self._pack(blocks.head.weight, blocks.head.bias),
        )  # fmt: skip
        self._tables: list[torch.Tensor] = []
        self._addresses: Any = None
        self._reach(512)
        self._handle: int | None = _library().mmagent_create(ctypes.byref(shape))
        if not self._handle:
            raise ModelError("there is not enough memory for this model's buffers; close other programs")
        weights = sum(layer.qkv.n * layer.qkv.k + 4 * layer.down.n * layer.down.k for layer in layers)
        self.chunk = max(_CHUNKS[0], min(_CHUNKS[1], _FIRST_CHUNK // weights))

    def __del__(self) -> None:
        if handle := getattr(self, "_handle", None):
            _library().mmagent_destroy(handle)

    def row(self) -> NativeRow:
        """An empty row."""
        return NativeRow(self.blocks, self._row_dtype, 0)

    @torch.no_grad()
    def run(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        """Append the tokens of each part to its row; the last logits ``[wanted, V]`` of each."""
        assert all(0 <= part.wanted <= len(part.tokens) > 0 for part in parts)
        x = self.blocks.embeddings(torch.tensor([token for part in parts for token in part.tokens])).float()  # [T, D]
        described = (_Part * len(parts))(*map(_described, parts))
        todo = _Pass(parts=len(parts), part=described, x=x.data_ptr())
        held: list[Any] = []  # until the pass has run
        if any(part.insets for part in parts):
            held = self._inset(parts, x, todo)
        if not todo.turn:
            self._reach(max(part.row.length + len(part.tokens) for part in parts))
            todo.tables = self._addresses
        logits = torch.empty(sum(part.wanted for part in parts), self.blocks.vocabulary)
        todo.logits = logits.data_ptr()
        began = time.perf_counter()
        if _library().mmagent_run(self._handle, ctypes.byref(todo)):
            raise MemoryError(f"no memory for a pass of {len(x)} tokens")
        if len(x) >= _CHUNKS[0]:
            fitting = int(len(x) * _CHUNK_SECONDS / (time.perf_counter() - began))
            self.chunk = max(_CHUNKS[0], min(_CHUNKS[1], fitting))
        del held
        for part in parts:
            part.row.length += len(part.tokens)
        return [logits] if len(parts) == 1 else list(logits.split([part.wanted for part in parts]))

    def _inset(self, parts: Sequence[Part], x: torch.Tensor, todo: _Pass) -> list[Any]:
        """Put features in place, and say what else pictures change; what must live until the pass has run."""
        spans = [(part.row.length, part.row.length + len(part.tokens)) for part in parts]
        deep = torch.zeros(max(len(part.insets.deep) if part.insets else 0 for part in parts), *x.shape)
        ends, turns, offset = [], [], 0
        for part, (first, stop) in zip(parts, spans, strict=True):
            insets = part.insets or Insets(torch.empty(0, dtype=torch.int64), x[:0])
            low, high = np.searchsorted(insets.places.numpy(), [first, stop])
            where = insets.places[low:high] - first + offset
            x[where] = insets.features[low:high].float()
            for layer, added in enumerate(insets.deep):
                deep[layer, where] = added[low:high].float()
            next_ones = torch.arange(first + 1, stop + 1)
            given = insets.ends[first:stop] if insets.ends is not None else next_ones[:0]
            ends.append(torch.cat([given, next_ones[len(given) :]]))
            turns.append(_turns(insets, first, stop))
            offset += stop - first
        end = torch.cat(ends).int()
        todo.end, todo.deep, todo.deep_layers = end.data_ptr(), deep.data_ptr(), len(deep)
        if all(part.insets is None or part.insets.turns is None for part in parts):
            return [end, deep]
        lines = torch.arange(len(x), dtype=torch.int32)
        tables = self._angles(torch.cat(turns, dim=1))
        todo.turn, todo.tables = lines.data_ptr(), _addresses(tables)
        return [end, deep, lines, tables]

    def _reach(self, length: int) -> None:
        """Have the angles of that many positions."""
        if not self._tables or length > len(self._tables[0]):
            self._tables = self._angles(torch.arange(2 * length))
            self._addresses = _addresses(self._tables)

    def _angles(self, positions: torch.Tensor) -> list[torch.Tensor]:
        return [table for kind in self.blocks.rotations for table in self.blocks.angles(positions, kind)]

    def _layer(self, block: Block) -> _Layer:
        attention, mlp = block.attention, block.mlp
        qkv = Linear.joined([attention.q_proj, attention.k_proj, attention.v_proj])
        gate_up = _alternating(Linear.joined([mlp.gate_proj]), Linear.joined([mlp.up_proj]))
        packed = _Layer(
            self._address(block.norm), self._pack(qkv.weight, qkv.bias),
            self._address(block.q_norm), self._address(block.k_norm),
            self._pack(attention.o_proj.weight, attention.o_proj.bias), self._address(block.after_attention),
            self._address(block.mlp_norm), self._pack(gate_up.weight, gate_up.bias),
            self._pack(mlp.down_proj.weight, mlp.down_proj.bias), self._address(block.after_mlp),
            block.window, block.rotation,
        )  # fmt: skip
        if self._release:
            block.release()
        return packed

    def _address(self, tensor: torch.Tensor | None) -> int | None:
        if tensor is None:
            return None
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _pack(self, weight: torch.Tensor, bias: torch.Tensor | None) -> _Linear:
        """Weights ``[N, K]`` in the order in which the kernels read them."""
        weight = weight.detach().contiguous()
        if weight.dtype is not torch.bfloat16:
            weight = weight.float()
        n, k = weight.shape
        place = self._arena(_padded(n, PANEL) * _padded(k, GROUP) * _SIZES[self._kind])
        scales = torch.empty(_padded(n, PANEL))
        half = int(weight.dtype is torch.bfloat16)
        failed = _library().mmagent_pack(
            self._kind, weight.data_ptr(), half, n, k, place, scales.data_ptr(), self._threads
        )
        if failed:
            raise ModelError("there is not enough memory to pack this model's weights; close other programs")
        biases = None if bias is None else torch.nn.functional.pad(bias.detach().float(), (0, _padded(n, PANEL) - n))
        return _Linear(place, self._address(scales), self._address(biases), n, k)

    def _arena(self, size: int) -> int:
        """The address of so many bytes, on large pages where the system has them: weights are read once for a token."""
        memory = mmap.mmap(-1, size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        self._kept.append(memory)
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _described(part: Part) -> _Part:
    row, count = part.row, len(part.tokens)
    row.reserve(row.length + count)
    return _Part(row.keys.data_ptr(), row.values.data_ptr(), row.capacity, row.length, count, part.wanted)


def _addresses(tables: Sequence[torch.Tensor]) -> Any:
    return (c_void_p * 4)(*(table.data_ptr() for table in tables))


def _turns(insets: Insets, first: int, stop: int) -> torch.Tensor:
    """Rotary positions ``[3, stop - first]``."""
    given = torch.zeros(3, 0, dtype=torch.int64) if insets.turns is None else insets.turns[:, first:stop]
    after = torch.arange(first + given.shape[1], stop) + insets.shift
    return torch.cat([given, after.expand(3, -1)], dim=1)


def _alternating(gate: Linear, up: Linear) -> Linear:
    """Rows of both, 16 by 16 in turns."""

    def mix(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        missing = _padded(one.shape[0], PANEL) - one.shape[0]
        shape = (-1, PANEL, *one.shape[1:])
        parts = [torch.cat([part, part.new_zeros(missing, *part.shape[1:])]).view(shape) for part in (one, other)]
        return torch.stack(parts, dim=1).flatten(0, 2)

    biases = None if gate.bias is None or up.bias is None else mix(gate.bias, up.bias)
    return Linear(mix(gate.weight, up.weight), biases)


def _padded(number: int, to: int) -> int:
    return -(-number // to) * to
