"""A voice made to sound like somebody else's: another throat, quicker or slower speech. It knows samples only.

The spectrum's envelope (which the throat makes) is told from its ripple (which the voice makes) by the cepstrum, moved
along the frequencies, and laid over the ripple again; speech is made quicker by the phase vocoder (Flanagan and Golden,
1966), so that its pitch stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from mmagent.train.speech.spoken import Samples

_SIZE, _HOP = 512, 128
"""Samples of a frame, and between two."""
_SMOOTH = 32
"""Of the cepstrum, how much makes the envelope: less than a period of the highest voices (16 kHz / 500 Hz)."""


def disguised(samples: Samples, throat: float = 1.0, tempo: float = 1.0) -> Samples:
    """The same words by another speaker.

    Args:
        samples: ``[N]`` at 16 kHz.
        throat: How much higher the formants are; a child's are some 1.2 times as high as a man's.
        tempo: How many times as long it takes, at the same pitch.

    Returns:
        ``[round(N * tempo)]``.
    """
    import numpy as np

    if len(samples) < _SIZE:
        return samples
    window = np.hanning(_SIZE + 1)[:-1]
    padded = np.pad(samples.astype(np.float64), (_SIZE // 2, _SIZE))
    starts = np.arange(0, len(padded) - _SIZE + 1, _HOP)
    spectrum = np.fft.rfft(padded[starts[:, None] + np.arange(_SIZE)] * window)
    size, phase = np.abs(spectrum), np.angle(spectrum)
    if throat != 1.0:
        size = size * _moved(size, throat)
    if tempo != 1.0:
        size, phase = _paced(size, phase, tempo)
    frames = np.fft.irfft(size * np.exp(1j * phase), _SIZE) * window
    made = np.zeros(len(frames) * _HOP + _SIZE)
    weight = np.full(len(made), 1e-8)
    for number, frame in enumerate(frames):
        begin = number * _HOP
        made[begin : begin + _SIZE] += frame
        weight[begin : begin + _SIZE] += window**2
    wanted = round(len(samples) * tempo)
    begin = _SIZE // 2
    said: Samples = (made / np.maximum(weight, 0.1))[begin : begin + wanted].astype(np.float32)
    return said


def _moved(size: np.ndarray, throat: float) -> np.ndarray:
    """What each frequency of each frame, ``[T, 257]``, is to be multiplied by."""
    import numpy as np

    bins = np.arange(size.shape[1])
    cepstrum = np.fft.irfft(np.log(size + 1e-5))
    cepstrum[:, _SMOOTH:-_SMOOTH] = 0.0
    envelope = np.fft.rfft(cepstrum).real
    place = np.minimum(bins / throat, bins[-1])
    low = np.minimum(place.astype(int), bins[-1] - 1)
    moved = envelope[:, low] + (place - low) * (envelope[:, low + 1] - envelope[:, low])
    gain: np.ndarray = np.exp(np.clip(moved - envelope, -4, 4))
    return gain


def _paced(size: np.ndarray, phase: np.ndarray, tempo: float) -> tuple[np.ndarray, np.ndarray]:
    """More or fewer frames, whose phases go on as quickly as before."""
    import numpy as np

    usual = 2 * np.pi * _HOP * np.arange(size.shape[1]) / _SIZE
    turned = np.diff(phase, axis=0) - usual
    turned += usual - 2 * np.pi * np.round(turned / (2 * np.pi))
    place = np.arange(0, len(size) - 1, 1 / tempo)
    low = place.astype(int)
    between = size[low] + (place - low)[:, None] * (size[low + 1] - size[low])
    return between, phase[0] + np.concatenate([np.zeros((1, size.shape[1])), np.cumsum(turned[low[:-1]], axis=0)])
