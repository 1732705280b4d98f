"""Where somebody speaks: samples in, spans of speech out. It knows loudness and spectra, no words and no files.

Silero's network is taken where the package faster-whisper is installed, whose folder has it; else our own detector.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mmagent.errors import ConfigurationError, MissingExtra, ModelError
from mmagent.media.sound import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRAME = 512
"""Samples that are judged at once: 32 ms."""
FLOOR = 0.0025
"""Root mean square of a frame below which nobody speaks, whatever a detector says."""


class Vad(ABC):
    """Tells speech from everything else, frame after frame; each is asked about one recording only."""

    movement = 1.2
    """Decibels that the level moves at least while somebody speaks: what stays as it is longer than a moment hums."""

    @abstractmethod
    def probability(self, frame: NDArray[np.float32]) -> float:
        """That somebody speaks in the next frame ``[512]`` (16 kHz), from 0 to 1."""

    def probabilities(self, frames: NDArray[np.float32]) -> list[float]:
        """The same for the next frames ``[N, 512]``; a network may be quicker with many."""
        return [self.probability(frame) for frame in frames]


VadKind: TypeAlias = Literal["auto", "silero", "energy"]


def load_vad(kind: VadKind = "auto") -> Vad:
    """A detector for one recording: Silero's where it is installed, else by energy.

    Raises:
        ConfigurationError: There is no detector of that name.
        MissingExtra: Silero was asked for, and is not installed.
    """
    if kind not in ("auto", "silero", "energy"):
        raise ConfigurationError(f"there is no voice detector {kind!r}; take auto, silero or energy")
    path = None if kind == "energy" else silero_file()
    if path is None and kind == "silero":
        raise MissingExtra("Silero's voice detector", "fast")
    return EnergyVad() if path is None else SileroVad(path)


@lru_cache(maxsize=1)
def silero_file() -> Path | None:
    """Silero's network in the folder of faster-whisper, which is not imported for that; None where there is none."""
    from importlib.util import find_spec

    try:
        found = find_spec("faster_whisper")
        runs = find_spec("onnxruntime") is not None
    except (ImportError, ValueError):
        return None
    folders = found.submodule_search_locations if found is not None and runs else None
    files = [file for folder in folders or () for file in sorted(Path(folder, "assets").glob("silero_vad*.onnx"))]
    return files[-1] if files else None


class SileroVad(Vad):
    """Silero's network: 576 samples in, the last 64 of the frame before among them, and a state of two vectors.

    Args:
        path: The file, version 6.

    Raises:
        ModelError: It cannot be loaded, or is another network.
    """

    def __init__(self, path: Path) -> None:
        import numpy as np

        self._session = _session(path)
        self._context = np.zeros(64, np.float32)
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self.probabilities(np.zeros((4, FRAME), np.float32))  # it misses words that a recording begins with

    def probability(self, frame: NDArray[np.float32]) -> float:
        """See `Vad.probability`."""
        return self.probabilities(frame[None])[0]

    def probabilities(self, frames: NDArray[np.float32]) -> list[float]:
        """See `Vad.probabilities`."""
        import numpy as np

        before = np.concatenate([self._context[None], frames[:-1, -64:]])
        heard = np.concatenate([before, frames], axis=1)  # [N, 576]
        said, self._h, self._c = self._session.run(None, {"input": heard, "h": self._h, "c": self._c})
        self._context = frames[-1, -64:].copy()
        return [float(one) for one in said.reshape(-1)]


@lru_cache(maxsize=2)
def _session(path: Path) -> Any:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own
        raise ModelError(f"the voice detector {path} cannot be loaded; install faster-whisper again") from error
    if {one.name for one in session.get_inputs()} != {"input", "h", "c"}:
        raise ModelError(f"the voice detector {path} is another network; install faster-whisper 1.2, or take energy")
    return session


class EnergyVad(Vad):
    """Speech is louder than what is always there, and neither hiss nor tone: a detector without weights.

    The level of a frame in the band of voices is compared with the least of the last seconds, which noise and hum
    never leave far behind. Spectral flatness (geometric over arithmetic mean of the power), taken after a rise of
    3 dB an octave so that white, pink and brown noise are alike, tells voices from hiss and from a single tone.
    """

    _MEMORY = round(1.6 * RATE / FRAME)
    """Frames in which speech has a pause or a weak consonant."""
    _SILENCE, _RISE, _HISS, _TONE = -25.0, 9.0, -6.0, -27.0
    """All in dB: the level before a recording begins, what speech is above the least, and the flatness of noises."""

    def __init__(self) -> None:
        import numpy as np

        self._window = np.hanning(FRAME).astype(np.float32)
        bins = np.fft.rfftfreq(FRAME, 1 / RATE)
        self._band = np.flatnonzero((bins >= 150) & (bins <= 4_000))
        self._weights = bins[self._band] / 1_000
        self._levels = deque([self._SILENCE], maxlen=self._MEMORY)

    def probability(self, frame: NDArray[np.float32]) -> float:
        """See `Vad.probability`."""
        import numpy as np

        power = np.square(np.abs(np.fft.rfft(frame * self._window))[self._band]) * self._weights + 1e-9
        level = 10 * math.log10(float(power.mean()))
        flatness = 10 * float(np.log10(power).mean()) - level
        self._levels.append((self._levels[-1] + level) / 2)
        if flatness < self._TONE:
            return 0.0
        rise = self._levels[-1] - min(self._levels)
        return _sigmoid((rise - self._RISE) / 2) * _sigmoid((self._HISS - flatness) / 0.5)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -50 else 0.0


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of speech, or a part of one that is long."""

    t0: float
    """When it begins, in seconds from the first sample."""
    t1: float
    samples: NDArray[np.float32]
    """``[N]`` at 16 kHz."""


@dataclass(frozen=True, slots=True)
class SpanRules:
    """When speech begins and ends. Times are seconds."""

    threshold: float = 0.4
    """The probability from which a frame is speech; speech goes on down to 0.15 less.

    At 0.5, Silero's network misses 9 of 100 digits that are said alone; at 0.4, 3, for 2 more of 120 noises.
    """
    least_speech: float = 0.1
    """Speech that begins a span."""
    least_pause: float = 0.5
    """Silence that ends one."""
    padding: float = 0.16
    """Kept before the first and after the last speech; at most half of ``least_pause``, so that spans stay apart."""
    longest: float = 30.0
    """A longer span is cut at its quietest place."""


State: TypeAlias = Literal["quiet", "starting", "speaking", "stopping"]


class Spans:
    """Makes spans of samples as they come, in pieces of any size. It holds no more than one span.

    Args:
        vad: Judges frames.
        rules: When speech begins and ends.
    """

    def __init__(self, vad: Vad, rules: SpanRules | None = None) -> None:
        import numpy as np

        self.vad, self.rules = vad, rules or SpanRules()
        self.state: State = "quiet"
        self.heard = 0
        """Samples that have been judged."""
        self._rest = np.zeros(0, np.float32)
        self._frames: deque[NDArray[np.float32]] = deque()
        self._start = 0
        """Where the first of the frames begins, in samples."""
        self._first = self._last = 0
        """Where the speech begins and ends, in samples."""
        self._lead = max(0, round(min(self.rules.padding * RATE, self.rules.least_pause * RATE / 2 - FRAME)))

    def feed(self, samples: NDArray[np.float32]) -> list[Span]:
        """The spans that end within the next samples ``[N]``."""
        import numpy as np

        joined = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(joined) // FRAME * FRAME
        self._rest = joined[whole:].copy()
        return self._judge(joined[:whole].reshape(-1, FRAME)) if whole else []

    def finish(self) -> list[Span]:
        """What is left at the end of the recording."""
        import numpy as np

        end, found = self.heard + len(self._rest), list[Span]()
        if len(self._rest):
            found = self._judge(np.pad(self._rest, (0, FRAME - len(self._rest)))[None])
            self._rest = self._rest[:0]
        if self.state in ("speaking", "stopping"):
            found += self._ended(min(end, self._last + self._lead))
        self.state = "quiet"
        self._frames.clear()
        return found

    def _judge(self, frames: NDArray[np.float32]) -> list[Span]:
        import numpy as np

        loud = np.sqrt(np.square(frames).mean(axis=1)) >= FLOOR
        found = list[Span]()
        for frame, likely, audible in zip(frames, self.vad.probabilities(frames), loud, strict=True):
            least = self.rules.threshold - (0 if self.state == "quiet" else 0.15)
            self._frames.append(frame.copy())
            self.heard += FRAME
            found += self._speech() if audible and likely >= least else self._silence()
        return found

    def _speech(self) -> list[Span]:
        if self.state == "quiet":
            self.state, self._first = "starting", self.heard - FRAME
        self._last = self.heard
        if self.state == "starting" and self._last - self._first < self.rules.least_speech * RATE:
            return []
        if self.state == "starting":
            self._drop(self._first - self._lead)
        self.state = "speaking"
        too_long = self.heard - self._start + self._lead + FRAME > self.rules.longest * RATE
        return self._ended(self._quietest()) if too_long else []

    def _silence(self) -> list[Span]:
        if self.state in ("quiet", "starting"):
            self.state = "quiet"
            self._drop(self.heard - self._lead - round(self.rules.least_speech * RATE))
            return []
        self.state = "stopping"
        if self.heard - self._last < self.rules.least_pause * RATE:
            return []
        self.state = "quiet"
        return self._ended(self._last + self._lead)

    def _ended(self, end: int) -> list[Span]:
        """The span up to a place, unless it is a hum."""
        steady = self._is_steady()
        span = self._cut(end)
        return [] if steady else [span]

    def _is_steady(self) -> bool:
        """Whether the level stays as it is from the second frame of the speech to its end."""
        import numpy as np

        begin, end = ((place - self._start) // FRAME for place in (self._first, self._last))
        power = [float(np.square(frame).mean()) for frame in islice(self._frames, max(0, begin), max(0, end))]
        if len(power) < 5:
            return False
        pairs = np.convolve(power[1:], [0.5, 0.5], "valid")  # 64 ms: three periods of mains hum
        level = 10 * np.log10(np.maximum(pairs, 1e-9))
        return bool(level.max() - level.min() < self.vad.movement)

    def _drop(self, before: int) -> None:
        """Forget frames that end before a place."""
        while self._frames and self._start + FRAME <= before:
            self._frames.popleft()
            self._start += FRAME

    def _cut(self, end: int) -> Span:
        """The span from the first frame to a place; the frames from there on stay."""
        import numpy as np

        samples = np.concatenate(self._frames)[: end - self._start]
        span = Span(self._start / RATE, (self._start + len(samples)) / RATE, samples)
        self._drop(end)
        return span

    def _quietest(self) -> int:
        """The place in the second half of the frames around which a tenth of a second is the quietest."""
        import numpy as np

        power = np.array([float(np.square(frame).sum()) for frame in self._frames])
        around = np.convolve(power, np.ones(3), "same")
        half = len(around) // 2
        return self._start + (half + int(around[half:-1].argmin())) * FRAME


VadMaker: TypeAlias = Callable[[], Vad]
"""Makes a detector for each recording."""
