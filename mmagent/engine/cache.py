"""Keys and values of recent sequences, found again by their longest common prefix. It knows token keys, no network.

A token's key is its id, but a picture's placeholder tokens have the picture's hash as key: two pictures under the
same text share the text's keys and values and never each other's.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

MAX_ENTRIES = 8


@dataclass
class _Entry:
    tokens: list[int]
    keys: list[Hashable]
    past: DynamicCache
    size: int


class PrefixCache:
    """The least recently extended entries go first when there are more bytes or entries than allowed.

    Args:
        max_bytes: Of keys and values; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: list[_Entry] = []  # least recently extended first
        self._lock = threading.Lock()

    def take(self, keys: Sequence[Hashable]) -> tuple[DynamicCache | None, int]:
        """Keys and values of the longest known prefix of ``keys``, and its length; the last token is never in it.

        An entry that the new sequence extends is handed over; of one that differs later, a copy of the common part.
        """
        with self._lock:
            limit = len(keys) - 1
            found = [(min(_common(entry.keys, keys), limit, _length(entry.past)), entry) for entry in self._entries]
            length, entry = max(found, key=lambda pair: pair[0], default=(0, None))
            if entry is None or length == 0:
                return None, 0
            if length < _length(entry.past):
                return _copy(entry.past, length), length
            self._entries.remove(entry)
            return entry.past, length

    def put(self, tokens: Sequence[int], keys: Sequence[Hashable], past: DynamicCache) -> None:
        """Keep a sequence; ``past`` may cover fewer tokens than it has, and belongs to the cache from now on."""
        if _length(past) == 0:
            return
        entry = _Entry(list(tokens), list(keys), past, _bytes(past))
        with self._lock:
            self._entries.append(entry)
            while self._entries and (len(self._entries) > MAX_ENTRIES or self.size > self.max_bytes):
                self._entries.pop(0)

    @property
    def size(self) -> int:
        """Bytes of all keys and values."""
        return sum(entry.size for entry in self._entries)

    def sequences(self) -> list[list[int]]:
        """The token ids of the entries, the most recent first."""
        with self._lock:
            return [entry.tokens for entry in reversed(self._entries)]


def _common(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count


def _length(past: DynamicCache) -> int:
    return int(past.get_seq_length())


def _bytes(past: DynamicCache) -> int:
    return sum(tensor.numel() * tensor.element_size() for pair in _tensors(past) for tensor in pair)


def _copy(past: DynamicCache, length: int) -> DynamicCache:
    from transformers import DynamicCache

    return DynamicCache(
        [(keys[..., :length, :].clone(), values[..., :length, :].clone()) for keys, values in _tensors(past)]
    )


def _tensors(past: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values ``[1, heads, L, D]`` of each layer."""
    layers: list[Any] = past.layers
    return [(layer.keys, layer.values) for layer in layers]
