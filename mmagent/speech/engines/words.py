"""When words are said: attention of text to sound, aligned by dynamic time warping. It knows no network.

As the released Whisper does it (https://github.com/openai/whisper): heads that follow the sound,
normalised over tokens, smoothed by a median over time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmagent.speech import Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 0.02
"""Seconds between two times of Whisper, and between two frames that its decoder hears."""
SMOOTH = 7
"""Frames of the median."""
_UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")
"""Languages that write no spaces between words."""

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Aligned:
    """When some text tokens are said."""

    times: Sequence[float]
    """When each begins and, one more, when the last one ends; seconds from the window's start, never falling."""
    probabilities: Sequence[float]
    """Of each, from 0 to 1."""

    def part(self, begin: int, end: int) -> Aligned:
        """Of the tokens of this range."""
        return Aligned(self.times[begin : end + 1], self.probabilities[begin:end])


def token_times(attention: NDArray[np.float32], head: int) -> list[float]:
    """When each text token begins, and when the last one ends, in seconds from the window's start.

    Args:
        attention: Of the chosen heads, softmax over time ``[heads, head + 1 + text + 1, frames]``; a row is the
            attention of the token that is read, so that of the one before is where a token was heard.
        head: Tokens before `<|notimestamps|>`.
    """
    import numpy as np

    deviation = attention.std(axis=1, keepdims=True)
    sharp = (attention - attention.mean(axis=1, keepdims=True)) / np.maximum(deviation, 1e-9)
    mean = np.mean([_median(rows[head:-1]) for rows in sharp], axis=0)
    return [frame * STEP for frame in first_columns(-mean)]


def first_columns(cost: NDArray[np.float64]) -> list[int]:
    """Dynamic time warping: the column in which the cheapest path from corner to corner enters each row.

    Steps are down, right and both; costs are added along diagonals, whose cells do not depend on each other.
    """
    import numpy as np

    rows, columns = cost.shape
    total = np.full((rows + 1, rows + columns + 1), np.inf)  # [row, row + column]
    total[0, 0] = 0.0
    steps = np.zeros((rows + 1, rows + columns + 1), np.int8)  # 0 both, 1 down, 2 right
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        ways = np.stack([total[i - 1, diagonal - 2], total[i - 1, diagonal - 1], total[i, diagonal - 1]])
        best = ways.argmin(axis=0)
        steps[i, diagonal] = best
        total[i, diagonal] = ways[best, np.arange(len(i))] + cost[i - 1, diagonal - i - 1]
    first = [0] * rows
    row, column = rows, columns
    while row > 0:
        first[row - 1] = column - 1
        step = int(steps[row, row + column])
        row, column = row - (step != 2), column - (step != 1)
    return first


def words_of(
    tokens: Sequence[int], aligned: Aligned, decode: Decode, language: str | None, seconds: float
) -> tuple[Word, ...]:
    """Words of text tokens; punctuation belongs to the word that it stands at, and takes no time of it.

    Args:
        tokens: Text tokens.
        aligned: When they are said, one time more than tokens.
        decode: Tokens to text.
        language: Some write no spaces.
        seconds: The window's length.
    """
    found: list[tuple[int, int, int, str]] = []  # first and last token that are heard, the end of all, text
    for begin, end, text in _letters(tokens, decode):
        bare, new = _is_punctuation(text), text[:1].isspace()
        opened = bool(found) and _is_punctuation(found[-1][3])
        if not found or not (opened or bare > new or not (new or language in _UNSPACED)):
            found.append((begin, end, end, text))
            continue
        first, last, _, before = found[-1]
        found[-1] = (begin if opened else first, last if bare and not opened else end, end, before + text)
    words, start = list[Word](), 0
    for first, last, end, text in found:
        t0 = min(max(aligned.times[first], 0.0), seconds)
        t1 = min(max(aligned.times[last], t0), seconds)
        probability = sum(aligned.probabilities[start:end]) / (end - start)
        words.append(Word(round(t0, 2), round(t1, 2), text.strip(), min(probability, 1.0)))
        start = end
    return tuple(word for word in words if word.text)


def _letters(tokens: Sequence[int], decode: Decode) -> list[tuple[int, int, str]]:
    """The smallest runs of tokens that are whole characters."""
    found, begin = list[tuple[int, int, str]](), 0
    for end in range(1, len(tokens) + 1):
        text = decode(tokens[begin:end])
        if "\ufffd" not in text or end == len(tokens) or end - begin >= 4:
            found.append((begin, end, text))
            begin = end
    return found


def _is_punctuation(text: str) -> bool:
    return bool(text.strip()) and all(unicodedata.category(char)[0] in "PS" for char in text.strip())


def _median(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over `SMOOTH` neighbours in time ``[tokens, frames]``."""
    import numpy as np

    half = SMOOTH // 2
    if rows.shape[1] <= half:
        return rows
    around = np.lib.stride_tricks.sliding_window_view(np.pad(rows, ((0, 0), (half, half)), "reflect"), SMOOTH, axis=1)
    found: NDArray[np.float32] = np.partition(around, half, axis=2)[..., half]
    return found
