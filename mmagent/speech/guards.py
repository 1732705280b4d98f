"""Which decoded words are believed. It knows what engines answer, no sound and no times of a recording."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from mmagent.speech.engines import Decoded, Piece

Doubt: TypeAlias = Literal["no speech", "repetition", "low confidence"]

_ALONE = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts that write no spaces; each of their characters counts as a word."""
_WORD = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]+")
_LONGEST_LOOP = 24
"""Words of a phrase that is looked for again."""
_TOO_MUCH = 8
"""Words that a loop says once more; less is how people talk, and read numbers out."""


@dataclass(frozen=True, slots=True)
class Guards:
    """From where on an answer is not believed, as in Whisper's paper, section 4.5."""

    logprob: float = -1.0
    """The least mean log-probability of tokens."""
    compression: float = 2.4
    """How many times smaller its text may be packed; loops can be packed well."""
    no_speech: float = 0.6
    """The probability of no speech from which an answer with a low log-probability is made up."""
    temperatures: tuple[float, ...] = (0.0, 0.4, 0.8)
    """Tried in turn until an answer is believed."""

    def doubt(self, decoded: Decoded) -> Doubt | None:
        """Why an answer is not believed; None where it is."""
        unlikely = not decoded.logprob >= self.logprob  # NaN too
        if unlikely and decoded.no_speech > self.no_speech:
            return "no speech"
        if compression(" ".join(piece.text for piece in decoded.pieces)) > self.compression:
            return "repetition"
        return "low confidence" if unlikely else None


def compression(text: str) -> float:
    """How many times smaller a text may be packed."""
    data = text.encode("utf-8", "replace")
    return len(data) / len(zlib.compress(data))


def without_loops(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """The pieces with phrases that are said over and over said once, and those of which something was taken out.

    A phrase may go on from one piece to the next. Pieces keep their times, unless nothing is left of them.
    """
    spots = [(number, match) for number, piece in enumerate(pieces) for match in _WORD.finditer(piece.text)]
    gone = _repeated([re.sub(r"\W", "", match.group()).casefold() for _, match in spots])
    kept, looped = list[Piece](), list[Piece]()
    for number, piece in enumerate(pieces):
        own = [(match.span(), index in gone) for index, (of, match) in enumerate(spots) if of == number]
        if not any(out for _, out in own):
            kept.append(piece)
            continue
        looped.append(piece)
        text = _without(piece.text, [span for span, out in own if out])
        if text:
            kept.append(replace(piece, text=text, words=piece.words[: sum(not out for _, out in own)]))
    return kept, looped


def says_something(text: str) -> bool:
    """Whether there is a letter or digit in it, not only dots or notes."""
    return any(char.isalnum() for char in text)


def _repeated(words: Sequence[str]) -> set[int]:
    """The places of words that say a phrase once more."""
    found: set[int] = set()
    at = 0
    while at < len(words):
        for length in range(1, min(_LONGEST_LOOP, (len(words) - at) // 2) + 1):
            end = at + length
            while end < len(words) and words[end] == words[end - length]:
                end += 1
            again = (end - at) // length - 1
            if again >= 2 and again * length >= _TOO_MUCH:
                found.update(range(at + length, end))
                at = end - 1
                break
        at += 1
    return found


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    left, at = "", 0
    for begin, end in spans:
        left, at = left + text[at:begin], end
    return " ".join((left + text[at:]).split())
