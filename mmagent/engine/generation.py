"""One answer while it is made: what its row still needs, and what the logits make of it. It knows one sequence, its
grammar and its sampler, no other sequence and no network.

    prompt ─► pending tokens ─► (a pass) ─► logits ─► mask ─► sample ─► token ─► forced tokens ─┐
                    ▲                          each guess that came true saves a pass           │
                    └──────────────── token + forced tokens + guesses ◄─────────────────────────┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from mmagent.engine.cache import Kept, Keys
from mmagent.engine.decoder.network import Insets, Part
from mmagent.engine.lookup import Lookup
from mmagent.events import Usage

if TYPE_CHECKING:
    from mmagent.engine.grammar import Grammar
    from mmagent.engine.prompt import Prompt
    from mmagent.engine.sampling import Sampler
    from mmagent.engine.scheduler import Engine


class Generation:
    """One answer: iterate over it for its tokens, the end token included. Closing the iterator ends it.

    Made by `Engine.generate`.
    """

    stop: Literal["end", "length", "cancelled"] = "cancelled"
    """Why it ended."""

    def __init__(
        self, engine: Engine, prompt: Prompt, grammar: Grammar, sampler: Sampler, limit: int, cancelled: Event
    ) -> None:
        self.prompt, self.cancelled = prompt, cancelled
        self.ended = self.retried = False
        self.error: BaseException | None = None
        self.row: Any = None
        """Its keys and values, once it runs."""
        self.tokens = list(prompt.ids)
        self._engine, self._grammar, self._sampler, self._limit = engine, grammar, sampler, limit
        self._ends = engine.loaded.vocabulary.ends
        self._lookup = Lookup(engine.network.guesses)
        self._insets: Insets | None = None
        self._prompt_keys: Keys = np.empty(0, np.int64)
        self._guesses: list[int] = []
        self._ready: deque[int] = deque()
        self._cached = self._forced = self._guessed = 0

    def __iter__(self) -> Iterator[int]:
        self._engine.join(self)
        try:
            while True:
                ended = self.ended  # asked first: the last tokens may come in between
                while self._ready:
                    yield self._ready.popleft()
                if ended:
                    break
                self._engine.drive(self)
        finally:
            self._engine.leave(self)
        if self.error is not None:
            raise self.error

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(
            prompt_tokens=len(self.prompt.ids),
            cached_tokens=self._cached,
            completion_tokens=self._completion,
            forced_tokens=self._forced,
        )

    @property
    def guessed_tokens(self) -> int:
        """Tokens that were guessed right, and so cost no pass of their own."""
        return self._guessed

    @property
    def waiting(self) -> bool:
        """Whether whoever iterates has nothing to take yet."""
        return not self._ready and not self.ended

    @property
    def kept(self) -> Kept:
        """The sequence as the prefix cache keeps it."""
        new = np.array(self.tokens[len(self._prompt_keys) :], dtype=np.int64)
        return Kept(self.tokens, np.concatenate([self._prompt_keys, new]), self.row)

    def fail(self, error: BaseException) -> None:
        """End with an error, which whoever iterates gets."""
        self.error, self.ended = error, True

    def start(self, row: Any, keys: Keys, insets: Insets | None) -> None:
        """Begin with a row that has the beginning of the prompt."""
        self.row, self._prompt_keys, self._insets = row, keys, insets
        self._cached = row.length
        self._advance([])

    @property
    def pending(self) -> int:
        """Tokens that its row does not have yet."""
        length: int = self.row.length
        return len(self.tokens) - length

    def part(self, room: int, spare: int) -> Part | None:
        """What to run next, of ``room`` tokens or a little more and ``spare`` guesses; None where that is nothing."""
        if self.ended:
            return None
        pending = self.tokens[self.row.length :]
        stop = self._whole(self.row.length + room) - self.row.length
        if stop < len(pending):
            return Part(self.row, pending[:stop], 0, self._insets)
        self._guesses = self._lookup.guess(self.tokens)[: max(0, min(spare, self._limit - self._completion - 1))]
        return Part(self.row, [*pending, *self._guesses], 1 + len(self._guesses), self._insets)

    def take(self, logits: torch.Tensor) -> None:
        """Go on by the logits ``[1 + guesses, V]`` of the last token and of the guesses after it."""
        if not len(logits):
            return
        first, guesses = len(self.tokens), self._guesses
        self._guesses = []
        while not self.ended:
            right = len(self.tokens) - first
            if right > len(guesses) or self.tokens[first:] != guesses[:right]:
                break
            self._advance([self._sampler.sample(self._grammar.mask(logits[right]))])
        agreed = sum(1 for _ in _while_equal(self.tokens[first:], guesses))
        self.row.length = min(first + agreed, self.row.length)
        self._lookup.judge(len(guesses), agreed)
        self._guessed += agreed

    @property
    def _completion(self) -> int:
        return len(self.tokens) - len(self.prompt.ids)

    def _whole(self, stop: int) -> int:
        """``stop`` moved to the end of what the tokens before it see."""
        ends = self._insets.ends if self._insets else None
        return stop if ends is None or not 0 < stop <= len(ends) else max(stop, int(ends[stop - 1]))

    def _advance(self, sampled: list[int]) -> None:
        """Append a sampled token, and those that the grammar leaves no choice about."""
        for token in sampled:
            self._append(token)
            if token in self._ends:
                return self._end("end")
            self._grammar.accept(token)
        room = self._limit - self._completion
        forced = self._grammar.forced()
        whole = self._grammar.done and len(forced) <= room  # the end token itself may no longer fit
        for token in [*forced, *self._ends[: int(whole)]][:room]:
            self._forced += 1
            self._append(token)
        if whole or self._completion >= self._limit:
            self._end("end" if whole else "length")

    def _append(self, token: int) -> None:
        self.tokens.append(token)
        self._ready.append(token)

    def _end(self, stop: Literal["end", "length"]) -> None:
        self.stop, self.ended = stop, True


def _while_equal(left: Sequence[int], right: Sequence[int]) -> Iterator[int]:
    for a, b in zip(left, right, strict=False):
        if a != b:
            return
        yield a
