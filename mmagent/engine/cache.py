"""Rows of recent sequences, found again by their longest common prefix. It knows token keys, no network.

A token's key is its id, but a picture's tokens have a key of that picture: two pictures under the same text share the
text's keys and values and never each other's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.int64]


class KeyMaker:
    """Gives each picture a negative number of its own; tokens are their own keys."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def keys(self, ids: Sequence[int], pictures: Iterable[tuple[str, range]]) -> Keys:
        """Keys of a prompt's tokens.

        Args:
            ids: The tokens.
            pictures: Content hashes, and the tokens from the first to the last of each.
        """
        keys = np.array(ids, dtype=np.int64)
        for name, span in pictures:
            keys[span.start : span.stop] = self._numbers.setdefault(name, -1 - len(self._numbers))
        return keys


@dataclass
class Kept:
    """A sequence whose keys and values are there; the row may be shorter than the tokens."""

    tokens: list[int]
    keys: Keys
    row: Any


class PrefixCache:
    """The least recently used entries go first when there are more bytes than allowed.

    Args:
        max_bytes: Of keys and values; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: list[Kept] = []  # least recently used first

    def take(self, keys: Keys, running: Iterable[Kept] = (), cuts: Sequence[range] = ()) -> tuple[Any, int]:
        """A row with the longest known prefix of ``keys``, and its length; the last token is never in it.

        An entry that the new sequence extends is handed over; of one that differs later, or still runs, the common part
        is copied.

        Args:
            keys: Of the whole prompt.
            running: Sequences that are being extended.
            cuts: Ranges that are taken whole or not at all.
        """
        best: Kept | None = None
        length = 0
        for kept in (*self._entries, *running):
            common = min(common_prefix(kept.keys, keys), len(keys) - 1, kept.row.length)
            common = next((cut.start for cut in cuts if cut.start < common < cut.stop), common)
            if common > length:
                best, length = kept, common
        if best is None:
            return None, 0
        if not any(best is entry for entry in self._entries):
            return best.row.fork(length), length
        self._remove(best)
        if length == best.row.length:
            return best.row, length
        self._entries.append(best)
        return best.row.fork(length), length

    def put(self, kept: Kept) -> None:
        """Keep a sequence; its row belongs to the cache from now on."""
        if kept.row.length and kept.row.nbytes <= self.max_bytes:
            self._entries.append(kept)
            while self._entries and self.size > self.max_bytes:
                self._entries.pop(0)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()

    @property
    def size(self) -> int:
        """Bytes of all keys and values."""
        return sum(entry.row.nbytes for entry in self._entries)

    def sequences(self) -> list[list[int]]:
        """The token ids of the entries, the most recent first."""
        return [entry.tokens for entry in reversed(list(self._entries))]  # a copy: others may run a pass now

    def _remove(self, kept: Kept) -> None:
        self._entries = [entry for entry in self._entries if entry is not kept]


def common_prefix(left: Keys, right: Keys) -> int:
    """Length of the longest common beginning."""
    size = min(len(left), len(right))
    different = np.flatnonzero(left[:size] != right[:size])
    return int(different[0]) if len(different) else size
