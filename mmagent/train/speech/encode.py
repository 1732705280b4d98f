"""From speech to tensors: log-mel features, tokens with times, letters. It knows no network."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mmagent.errors import ConfigurationError
from mmagent.media.sound import RATE
from mmagent.speech.engines.mel import log_mel
from mmagent.speech.engines.tokens import FIRST_WITHIN, Tokens
from mmagent.speech.engines.words import STEP
from mmagent.train.packing import IGNORED
from mmagent.train.speech import words
from mmagent.train.speech.spoken import Spoken

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PLACES = round(1 / STEP)
"""Of the encoder in a second."""
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 '€$£"
"""Letters that the ears are asked for; 0 stands for none."""
PROMPTED = 0.15
"""Share of samples before which something was said."""
FULL = 0.03
"""Share of batches that are as long as a whole window."""
SOUNDS = (
    "", "n", "t", "d", "I", "aI", "s", "k", "m", "r", "E", "z", "@", "w", "a", "i:", "V", "f", "p", "0", "eI", "l", "v",
    "u:", "D", "b", "oU", "A@", "j", "aU", "h", "N", "i", "tS", "3", "T", "O@", "S", "dZ", "g", ";", "3:", "U", "@L",
    "i@", "o@", "e@", "O:", "O", "aa", "U@", "A:", "VR", "aI@", "IR", "OI", "Z",
)  # fmt: skip
"""What the ears are asked for at each place; the first is silence."""
_NEAR = 0.2
"""Seconds beside the share of a token in which it may be listened to."""
_SLACK = 0.3
"""Seconds of silence after a batch's longest sample, at most."""


@dataclass
class Heard:
    """An encoded sample."""

    samples: NDArray[np.float32]
    tokens: list[int]
    labels: list[int]
    """Of each token, its successor; `IGNORED` where it does not count."""
    flat: list[bool]
    """Where every successor is to be as likely as any other."""
    looks: list[tuple[float, float]]
    """Of each token, between which seconds its successor is said; ``(0, 0)`` where that is not known."""
    letters: list[int] | None
    """None where it is not known what is said."""
    sounds: list[int]
    """At each place of the encoder; `IGNORED` where it is not known."""
    source: str

    @property
    def size(self) -> int:
        """Places of the encoder."""
        return max(1, round(len(self.samples) / RATE * PLACES))


@dataclass
class HeardBatch:
    """Samples that are held in memory at once; rows are filled up with silence and with the end."""

    features: torch.Tensor  # [B, mels, frames]
    tokens: torch.Tensor  # [B, T]
    labels: torch.Tensor  # [B, T]
    flat: torch.Tensor  # [B, T] bool
    looks: torch.Tensor  # [B, T, 2]
    letters: list[torch.Tensor | None]  # B
    sounds: torch.Tensor  # [B, frames / 2]; silence where rows are filled up
    sources: list[str]

    @property
    def counts(self) -> tuple[int, ...]:
        """Places of the encoder, tokens that count, those that are to be flat, rows whose letters are known, places
        whose sounds are, and tokens of which it is known when they are said."""
        counted = int((self.labels != IGNORED).sum())
        known = sum(letters is not None for letters in self.letters)
        sounds, looks = int((self.sounds != IGNORED).sum()), int((self.looks[..., 1] > 0).sum())
        return self.sounds.numel(), counted, int(self.flat.sum()), known, sounds, looks


class SpeechEncoder:
    """Speech to examples.

    Args:
        tokens: The vocabulary.
        mels: Bands.
        seconds: Of a window.
        context: Tokens of the decoder.
    """

    def __init__(self, tokens: Tokens, mels: int, seconds: float, context: int) -> None:
        self.tokens, self.mels, self.seconds, self.context = tokens, mels, seconds, context
        self.end = tokens.end

    def encode(self, sample: Any, source: str = "") -> Heard:
        """Tokens, what follows each of them, and letters.

        Raises:
            ConfigurationError: It is no speech.
        """
        if not isinstance(sample, Spoken):
            raise ConfigurationError(f"the source {source} gives no speech, which the stage speech needs; leave it out")
        rng = random.Random(zlib.crc32(sample.samples.tobytes()))
        known = all(line.text for line in sample.lines)
        before = self._before(sample, rng) if rng.random() < PROMPTED else []
        looks: list[tuple[float, float]] = []
        if known and sample.lines:
            said, looks = self._said(sample)
            flat = [False] * (len(said) + 1)
        else:
            said = self._blind(sample, rng)
            flat = [False, *[True] * len(said)]
        ids = [*before, self.tokens.start, *said, self.tokens.end][: self.context]
        labels = [IGNORED] * len(before) + [*said, self.tokens.end]
        if not sample.lines and self.tokens.no_speech is not None:
            labels[len(before)] = self.tokens.no_speech
        flat = [False] * len(before) + flat
        labels = [IGNORED if even else label for label, even in zip(labels, flat, strict=True)]
        text = " ".join(line.text for line in sample.lines)
        letters = letters_of(text) if known else None
        size = len(ids) - 1
        sounds = sounds_of(sample, max(1, round(sample.seconds * PLACES)))
        looks = [(0.0, 0.0)] * len(before) + looks + [(0.0, 0.0)] * size
        return Heard(sample.samples, ids[:size], labels[:size], flat[:size], looks[:size], letters, sounds, source)

    def arrange(self, examples: list[Heard]) -> list[Heard]:
        """Those of about the same length together, so that little silence is added."""
        return sorted(examples, key=lambda one: one.size)

    def collate(self, examples: Sequence[Heard]) -> HeardBatch:
        """Examples as one batch, a little longer than the longest, or a whole window."""
        rng = random.Random(sum(len(one.samples) for one in examples))
        longest = max(one.size for one in examples) / PLACES
        seconds = self.seconds if rng.random() < FULL else min(self.seconds, longest + rng.uniform(0.0, _SLACK))
        seconds = max(0.2, round(seconds * PLACES) / PLACES)
        width = max(len(one.tokens) for one in examples)
        looks = torch.zeros(len(examples), width, 2)
        for row, one in zip(looks, examples, strict=True):
            row[: len(one.looks)] = torch.tensor(one.looks)
        features = torch.from_numpy(log_mel([one.samples for one in examples], self.mels, seconds))
        return HeardBatch(
            features,
            _rows([one.tokens for one in examples], width, self.end),
            _rows([one.labels for one in examples], width, IGNORED),
            _rows([[int(each) for each in one.flat] for one in examples], width, 0).bool(),
            looks,
            [None if one.letters is None else torch.tensor(one.letters) for one in examples],
            _rows([one.sounds[: features.shape[2] // 2] for one in examples], features.shape[2] // 2, 0),
            [one.source for one in examples],
        )

    def time(self, seconds: float) -> int:
        """The token of a time."""
        return self.tokens.first_time + min(round(seconds / STEP), round(self.seconds / STEP))

    def _said(self, sample: Spoken) -> tuple[list[int], list[tuple[float, float]]]:
        """Text between times, and about when each token is said: they share a line evenly."""
        found: list[int] = []
        looks: list[tuple[float, float]] = []
        for line in sample.lines:
            text = self.tokens.encode(f" {line.text}")
            found += [self.time(line.t0), *text, self.time(line.t1)]
            each = (line.t1 - line.t0) / len(text)
            slack = max(_NEAR, each)
            inner = [(line.t0 + n * each - slack, line.t0 + (n + 1) * each + slack) for n in range(len(text))]
            looks += [(line.t0 - _NEAR, line.t0 + _NEAR), *inner, (line.t1 - _NEAR, line.t1 + _NEAR)]
        found[0] = min(found[0], self.tokens.first_time + FIRST_WITHIN)
        return found, [(max(0.0, t0), t1) for t0, t1 in looks]

    def _blind(self, sample: Spoken, rng: random.Random) -> list[int]:
        """Something that might have been said; nothing of it is learnt but what may not be believed."""
        begin = sample.lines[0].t0 if sample.lines else rng.uniform(0, 0.5)
        return [self.time(min(begin, 1.0)), *self.tokens.encode(f" {words.draw(rng).written}")]

    def _before(self, sample: Spoken, rng: random.Random) -> list[int]:
        """Words that were said before or that are likely; sometimes one of those that come."""
        hints = [words.draw(rng).written for _ in range(rng.randint(1, 2))]
        own = [word for line in sample.lines for word in line.text.split()]
        if own and rng.random() < 0.4:
            hints.append(rng.choice(own))
        return [self.tokens.previous, *self.tokens.encode(" " + " ".join(hints))[-self.context // 4 :]]


def letters_of(text: str) -> list[int]:
    """The letters that are heard of a text; numbers stand for themselves, dashes and dots for nothing."""
    plain = re.sub(r"\s+", " ", "".join(letter if letter in ALPHABET else "" for letter in text.lower())).strip()
    return [ALPHABET.index(letter) + 1 for letter in plain]


def sounds_of(sample: Spoken, places: int) -> list[int]:
    """Which of `SOUNDS` is at each place."""
    if sample.sounds is None:
        return [IGNORED] * places
    found = [0] * places
    for sound in sample.sounds:
        name = SOUNDS.index(sound.name) if sound.name in SOUNDS else IGNORED
        for place in range(round(sound.t0 * PLACES), min(places, round(sound.t1 * PLACES))):
            found[place] = name
    return found


def _rows(rows: Sequence[Sequence[int]], width: int, fill: int) -> torch.Tensor:
    made = torch.full((len(rows), width), fill, dtype=torch.int64)
    for row, values in zip(made, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    return made
