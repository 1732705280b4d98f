"""Doubles of microphones, loudspeakers and voices, and sound that is surely understood. It knows no device, no model.

Time can be compressed: with ``speed=20`` a second of sound takes a twentieth of one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mmagent.errors import MMAgentError
from mmagent.media.sound import RATE
from mmagent.speech.engines import Ask, Decoded, Piece
from mmagent.speech.record import BLOCK, loudness

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FIRST, _STEP = 0.1, 1e-4
"""The samples of word number n of a `ScriptedSpeech` are all ``_FIRST + n * _STEP``."""


class ScriptedRecorder:
    """A microphone that plays samples.

    Args:
        samples: ``[N]`` at 16 kHz; a part of a block at the end is filled up with silence.
        speed: Seconds of sound in a second.
        error: Raised at the end, as when the microphone is lost.
    """

    live = True

    def __init__(self, samples: NDArray[np.float32], *, speed: float = 1.0, error: MMAgentError | None = None) -> None:
        self.level = 0.0
        self.at = 0.0
        """Seconds that have been played."""
        self.closed = False
        self._samples, self._speed, self._error = samples, speed, error

    async def blocks(self) -> AsyncGenerator[NDArray[np.float32], None]:
        """See `mmagent.speech.record.Recorder.blocks`."""
        import numpy as np

        padded = np.concatenate([self._samples, np.zeros(-len(self._samples) % BLOCK, np.float32)])
        started = time.monotonic()
        try:
            for number, block in enumerate(padded.reshape(-1, BLOCK), start=1):
                self.at = number * BLOCK / RATE
                await asyncio.sleep(max(0.0, started + self.at / self._speed - time.monotonic()))
                self.level = loudness(block)
                yield block
            if self._error:
                raise self._error
        finally:
            self.closed = True


class ScriptedSpeaker:
    """A loudspeaker that takes its time and makes no sound.

    Args:
        speed: Seconds of sound in a second.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.heard = 0.0
        self.pieces: list[float] = []
        """Of each piece that was begun, the seconds that sounded."""
        self.silent_since: float | None = None
        """When it last fell silent, by `time.monotonic`; None while it plays, and before."""
        self._speed = speed

    async def play(self, samples: NDArray[np.float32], rate: int) -> None:
        """See `mmagent.speech.play.Player.play`."""
        seconds, started = len(samples) / rate, time.monotonic()
        self.heard, self.silent_since = 0.0, None
        self.pieces.append(0.0)
        try:
            await asyncio.sleep(seconds / self._speed)
        finally:
            self.silent_since = time.monotonic()
            self.heard = self.pieces[-1] = min(seconds, (self.silent_since - started) * self._speed)


class ScriptedVoice:
    """A voice that hums as long as a text takes.

    Args:
        seconds: For each character.
        error: Raised by `say`.
    """

    name = "scripted"
    rate = 8_000

    def __init__(self, seconds: float = 0.06, error: MMAgentError | None = None) -> None:
        self.texts: list[str] = []
        """All that it was given to say."""
        self._seconds, self._error = seconds, error

    def say(self, text: str) -> Iterator[NDArray[np.float32]]:
        """See `mmagent.speech.speak.Voice.say`."""
        import numpy as np

        self.texts.append(text)
        if self._error:
            raise self._error
        yield np.full(round(len(text) * self._seconds * self.rate), 0.1, np.float32)


class ScriptedDetector:
    """Hears speech wherever there is any sound."""

    def probability(self, frame: NDArray[np.float32]) -> float:
        """See `mmagent.speech.turn.Detector.probability`."""
        return float(abs(frame).max() > 0)


class ScriptedSpeech:
    """Words as samples, and the engine that understands exactly these: a word of which it hears half, it knows.

    Args:
        turns: What is said, with a pause after each.
        word: Seconds of a word.
        gap: Seconds between two words.
        pause: Seconds after a turn, and before the first.
        takes: Seconds that decoding takes.
    """

    name, fingerprint, translates = "scripted", "scripted", False
    languages: tuple[str, ...] = ()
    seconds = 30.0

    def __init__(
        self, *turns: str, word: float = 0.3, gap: float = 0.02, pause: float = 1.2, takes: float = 0.0
    ) -> None:
        import numpy as np

        self.words: list[str] = []
        self.lengths: list[int] = []
        """Samples of each window that was decoded."""
        self._word, self._takes = round(word * RATE), takes
        silence, between = np.zeros(round(pause * RATE), np.float32), np.zeros(round(gap * RATE), np.float32)
        parts = [silence]
        for turn in turns:
            for text in turn.split():
                parts += [np.full(self._word, _FIRST + len(self.words) * _STEP, np.float32), between]
                self.words.append(text)
            parts.append(silence)
        self.samples = np.concatenate(parts)
        """``[N]``, at 16 kHz."""

    def detect(self, windows: Sequence[NDArray[np.float32]]) -> list[Mapping[str, float]]:
        """See `mmagent.speech.engines.Engine.detect`."""
        return [{} for _ in windows]

    def decode(self, windows: Sequence[NDArray[np.float32]], ask: Ask) -> list[Decoded]:
        """See `mmagent.speech.engines.Engine.decode`. A piece ends with a full stop."""
        self.lengths += map(len, windows)
        time.sleep(self._takes)
        return [Decoded(tuple(self._pieces(window)), -0.1, 0.0, ()) for window in windows]

    def _pieces(self, window: NDArray[np.float32]) -> Iterator[Piece]:
        import numpy as np

        numbers = np.where(window > 0, np.rint((window - _FIRST) / _STEP), -1).astype(np.int64)
        found, places, counts = np.unique(numbers, return_index=True, return_counts=True)
        heard: list[str] = []
        begin = end = 0.0
        for number, place, count in zip(found.tolist(), places.tolist(), counts.tolist(), strict=True):
            if number < 0 or count < self._word / 2:
                continue
            begin = begin if heard else place / RATE
            heard.append(self.words[number])
            end = (place + count) / RATE
            if heard[-1].endswith("."):
                yield Piece(begin, end, " ".join(heard), ())
                heard = []
        if heard:
            yield Piece(begin, end, " ".join(heard), ())
