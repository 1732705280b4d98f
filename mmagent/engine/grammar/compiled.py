"""Compiled grammars kept for the next answer: a conversation asks for the same one again and again. It knows keys and
matchers, no schemas and no tools.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from mmagent.engine.vocabulary import Vocabulary

_CHARACTERS = 1 << 21
"""Of quotable text in all that is kept; a compiled one takes some 120 bytes for each."""
_COUNT = 64


@dataclass(frozen=True)
class Compiled:
    """A grammar before its first token."""

    matcher: LLMatcher
    calls: bool
    """Whether any tool can be called."""
    size: int
    """Characters of text that can be quoted."""

    def copy(self) -> Compiled:
        """One that can be moved on without moving this one; a fifth of a millisecond for 200 kB of text."""
        return Compiled(self.matcher.deep_copy(), self.calls, self.size)


class CompiledGrammars:
    """The grammars of one vocabulary that were used last. Safe between threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Compiled] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, compile: Callable[[], Compiled]) -> Compiled:
        """The caller's own copy.

        Args:
            key: Equal where the grammar is.
            compile: Makes it where it is not kept; what it raises is passed on, and nothing kept.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key].copy()
        compiled = compile()
        with self._lock:
            self._kept[key] = compiled
            while len(self._kept) > 1 and (len(self._kept) > _COUNT or self._size() > _CHARACTERS):
                self._kept.popitem(last=False)
            return compiled.copy()

    def _size(self) -> int:
        return sum(compiled.size for compiled in self._kept.values())


_BY_VOCABULARY: WeakKeyDictionary[Vocabulary, CompiledGrammars] = WeakKeyDictionary()


def compiled_for(vocabulary: Vocabulary) -> CompiledGrammars:
    """What is kept for a vocabulary; it goes when the vocabulary goes."""
    return _BY_VOCABULARY.setdefault(vocabulary, CompiledGrammars())
