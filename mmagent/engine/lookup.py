"""Guesses of what comes next, from what was there before (prompt lookup, A. Saxena, 2023). It knows token ids only.

Answers of an agent repeat what they were given: codes, names, sentences of a passage. Where the last tokens stood
before, those that followed them are guessed; a guess costs little, since it is verified together with the token before.
"""

from __future__ import annotations

from collections.abc import Sequence

_LENGTHS = (4, 3, 2)
"""Tokens that must agree, tried in this order."""


class Lookup:
    """Remembers where each short run of tokens was last seen.

    Args:
        most: Tokens in one guess at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: tuple[dict[tuple[int, ...], int], ...] = tuple({} for _ in _LENGTHS)
        self._known = 0
        self._trust = 1.0

    def guess(self, tokens: Sequence[int]) -> list[int]:
        """What may follow ``tokens``, which only ever grow; the shorter, the worse the last guesses were."""
        if self._most == 0:
            return []
        self._learn(tokens)
        size = round(self._most * self._trust)
        for length, seen in zip(_LENGTHS, self._seen, strict=True):
            if (start := seen.get(tuple(tokens[-length:]))) is not None:
                return list(tokens[start : start + size])
        return []

    def judge(self, guessed: int, right: int) -> None:
        """Say how many of the guessed tokens were right: the next guesses are as long as the last ones were good."""
        if guessed:
            self._trust = 0.75 * self._trust + 0.25 * min(1.0, (right + 1) / guessed)

    def _learn(self, tokens: Sequence[int]) -> None:
        """Runs that end before the last token, so that something follows them."""
        for end in range(max(self._known, 1), len(tokens)):
            for length, seen in zip(_LENGTHS, self._seen, strict=True):
                if end >= length:
                    seen[tuple(tokens[end - length : end])] = end
        self._known = len(tokens)
