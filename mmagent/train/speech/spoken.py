"""A sample of speech: sound, what is said when, and whether it ought to be known. It knows samples, no features."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mmagent.media.sound import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Line:
    """Something that is said in one go."""

    t0: float
    """When it begins, in seconds of the sound."""
    t1: float
    text: str
    """As it is written; empty where it is speech that the network is not to know."""


@dataclass(frozen=True)
class Sound:
    """A sound of speech, such as a vowel."""

    t0: float
    t1: float
    name: str
    """As espeak-ng writes it."""

    def moved(self, by: float, factor: float = 1.0) -> Sound:
        """So many seconds later, in speech that is so many times as long."""
        return Sound(self.t0 * factor + by, self.t1 * factor + by, self.name)


@dataclass(frozen=True)
class Take:
    """Something that was said in one go, without a room."""

    samples: Samples
    text: str
    """As it is written; empty where it is not to be known."""
    sounds: tuple[Sound, ...] | None = None
    """None where nobody knows them."""

    def slower(self, factor: float) -> Take:
        """About so many times as long, and lower."""
        sounds = None if self.sounds is None else tuple(sound.moved(0.0, factor) for sound in self.sounds)
        return Take(resampled(self.samples, factor), self.text, sounds)

    def disguised(self, throat: float, tempo: float) -> Take:
        """By another speaker, see `mmagent.train.speech.disguise.disguised`."""
        from mmagent.train.speech.disguise import disguised

        sounds = None if self.sounds is None else tuple(sound.moved(0.0, tempo) for sound in self.sounds)
        return Take(disguised(self.samples, throat, tempo), self.text, sounds)


@dataclass(frozen=True)
class Spoken:
    """A sound and what is said in it; no lines where nobody speaks."""

    samples: Samples
    """``[N]`` at 16 kHz, from -1 to 1."""
    lines: tuple[Line, ...] = ()
    sounds: tuple[Sound, ...] | None = ()
    """In order, silence between them; None where nobody knows them."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / RATE


Tell: TypeAlias = Callable[[random.Random], Spoken]
"""A source of speech: a function of the dice alone."""


def trimmed(samples: Samples, least: float = 0.02) -> Samples:
    """Without what is quieter than a share of the loudest at both ends."""
    import numpy as np

    loud = np.flatnonzero(np.abs(samples) > least * np.abs(samples).max(initial=0.0))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def resampled(samples: Samples, factor: float) -> Samples:
    """About so many times as long, by the spectrum: higher and quicker below 1, lower and slower above."""
    import numpy as np

    given = even(len(samples))
    size = max(1, round(given * factor / 160)) * 160
    spectrum = np.fft.rfft(samples, given)
    made = np.fft.irfft(spectrum[: size // 2 + 1], size)[: round(len(samples) * size / given)] * (size / given)
    return made.astype(np.float32)


def even(size: int) -> int:
    """The next size of which a spectrum is quickly made."""
    return -(-max(1, size) // 1600) * 1600
