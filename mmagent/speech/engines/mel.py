"""The ears of Whisper: samples to log-mel features. It knows no network; every engine is fed by it.

As in "Robust Speech Recognition via Large-Scale Weak Supervision" (Radford et al., 2022), section 2.2, with the mel
scale of Slaney's Auditory Toolbox (1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from mmagent.media.sound import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FFT = 400
"""Samples that a frame looks at."""
HOP = 160
"""Samples from one frame to the next."""
FRAMES = RATE // HOP
"""Frames of a second."""
_LINEAR_HZ, _PER_MEL = 1000.0, 200.0 / 3
"""Below the first the scale is linear, with so many Hz a mel."""
_LOG_STEP = 27.0
"""Mels in which the frequency grows 6.4 times above it."""
_FLOOR = 1e-10
_RANGE = 8.0
"""Orders of magnitude below the loudest that are told apart."""


def log_mel(windows: Sequence[NDArray[np.float32]], mels: int, seconds: float) -> NDArray[np.float32]:
    """The features of windows, each filled up with silence: ``[B, mels, 100 * seconds]``.

    Args:
        windows: 16 kHz samples ``[N]``; what is longer than ``seconds`` is cut off.
        mels: Bands.
        seconds: The length of a window of the network.
    """
    import numpy as np

    full = round(seconds * RATE)
    features = np.empty((len(windows), mels, full // HOP), np.float32)
    for window, row in zip(windows, features, strict=True):
        heard = _loudness(window[:full], mels, full)
        row[:, : heard.shape[1]] = heard
        row[:, heard.shape[1] :] = np.log10(_FLOOR)  # silence, which need not be computed
        np.maximum(row, row.max() - _RANGE, out=row)
    features += 4.0
    features /= 4.0
    return features


def _loudness(window: NDArray[np.float32], mels: int, full: int) -> NDArray[np.float32]:
    """Log10 of the energy in each band ``[mels, frames]``, of the frames that reach into the window."""
    import numpy as np

    length = min(full, -(-(len(window) + FFT // 2) // HOP) * HOP)
    samples = np.zeros(length, np.float32)
    samples[: len(window)] = window
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, FFT // 2, "reflect"), FFT)[::HOP][: length // HOP]
    spectrum = np.fft.rfft(frames * _hann())  # [frames, 201]
    energy = np.square(spectrum.real) + np.square(spectrum.imag)
    found: NDArray[np.float32] = np.log10(np.maximum(filters(mels) @ energy.T, _FLOOR))
    return found


@lru_cache(maxsize=4)
def filters(mels: int) -> NDArray[np.float32]:
    """Triangles of equal area, evenly spaced on the mel scale from 0 to 8 kHz: ``[mels, 201]``."""
    import numpy as np

    turn = _LINEAR_HZ / _PER_MEL
    growth = np.log(6.4) / _LOG_STEP
    top = turn + np.log(RATE / 2 / _LINEAR_HZ) / growth
    marks = np.linspace(0.0, top, mels + 2)
    hertz = np.where(marks < turn, marks * _PER_MEL, _LINEAR_HZ * np.exp((marks - turn) * growth))
    left, middle, right = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    bins = np.linspace(0.0, RATE / 2, FFT // 2 + 1)
    shape = np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)).clip(0.0)
    made: NDArray[np.float32] = (shape * 2.0 / (right - left)).astype(np.float32)
    return made


@lru_cache(maxsize=1)
def _hann() -> NDArray[np.float32]:
    import numpy as np

    return np.hanning(FFT + 1)[:-1].astype(np.float32)
