"""Where it is heard: distance, echo, noise, telephones. It knows samples and dice, no words."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from mmagent.media.sound import RATE
from mmagent.train.speech.spoken import even

if TYPE_CHECKING:
    import numpy as np

    from mmagent.train.speech.spoken import Samples

PADDING = 0.16
"""Seconds around speech that the pipeline leaves; beyond it there is mostly nothing at all."""


def noise(size: int, rng: random.Random) -> Samples:
    """Noise without words, its root mean square 1: hiss, rumble, hum, or something that changes."""
    import numpy as np

    dice = np.random.default_rng(rng.getrandbits(32))
    wanted, size = size, even(size)
    kind = rng.random()
    if kind < 0.2:  # hum of mains or a fan, with overtones
        t, base = np.arange(size) / RATE, rng.choice((50, 60, 100, 120, rng.uniform(40, 400)))
        made = sum(np.sin(2 * np.pi * base * k * t + rng.random() * 6) * rng.random() / k for k in range(1, 7))
        made = made + 0.1 * rng.random() * dice.standard_normal(size)
    else:
        spectrum = np.fft.rfft(dice.standard_normal(size))
        hertz = np.fft.rfftfreq(size, 1 / RATE)
        spectrum *= (1 + hertz / 60) ** -rng.uniform(0.0, 1.2)
        if rng.random() < 0.3:  # a band of it
            low = rng.uniform(50, 3000)
            spectrum *= 0.03 + np.exp(-(((hertz - low) / rng.uniform(100, 2000)) ** 2))
        made = np.fft.irfft(spectrum, size)
    if rng.random() < 0.35:  # it comes and goes
        knots = max(2, round(size / RATE * rng.uniform(1, 8)))
        made = made * np.interp(np.linspace(0, knots - 1, size), np.arange(knots), dice.random(knots) ** 2)
    made = made[:wanted] / max(float(np.sqrt(np.mean(made[:wanted] ** 2))), 1e-6)
    noisy: Samples = made.astype(np.float32)
    return noisy


def clicks(size: int, rng: random.Random) -> Samples:
    """Knocks, keys and cutlery: short sounds that die away, here and there."""
    import numpy as np

    made = np.zeros(size, np.float32)
    dice = np.random.default_rng(rng.getrandbits(32))
    for _ in range(rng.randint(1, 2 + size // RATE * 4)):
        length = round(RATE * rng.uniform(0.005, 0.15))
        t = np.arange(length) / RATE
        hit = np.exp(-t * rng.uniform(20, 300)) * (
            rng.random() * dice.standard_normal(length) + np.sin(2 * np.pi * rng.uniform(150, 5000) * t)
        )
        begin = rng.randrange(size)
        hit = hit[: size - begin]
        made[begin : begin + len(hit)] += (hit * rng.uniform(0.1, 1.0)).astype(np.float32)
    return made / max(float(np.abs(made).max()), 1e-6)


def heard(samples: Samples, rng: random.Random, *, most: float = 1.0) -> Samples:
    """Speech as it comes out of a room and through a device.

    Args:
        samples: ``[N]``.
        rng: The dice.
        most: Of all of it, from 0 (clean) to 1.
    """
    import numpy as np

    made = samples
    if rng.random() < 0.2 * most:
        made = _echo(made, rng)
    if rng.random() < 0.5 * most:
        loudness = float(np.sqrt(np.mean(made * made))) + 1e-6
        made = made + noise(len(made), rng) * loudness * 10 ** (-rng.uniform(4, 32) / 20)
    made = _device(made, rng, most)
    peak = 10 ** (-rng.uniform(0, 26) / 20)
    made = made * (peak / max(float(np.abs(made).max()), 1e-6))
    if rng.random() < 0.05 * most:
        made = np.clip(made * rng.uniform(1, 3), -peak, peak)
    return made.astype(np.float32)


def _device(samples: Samples, rng: random.Random, most: float) -> Samples:
    """The band of a telephone, or the colour of a microphone."""
    import numpy as np

    size = even(len(samples))
    spectrum = np.fft.rfft(samples, size)
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    if rng.random() < 0.3 * most:
        low, high = rng.uniform(100, 350), rng.uniform(3000, 4000)
        spectrum *= _slope(hertz - low, 60) * _slope(high - hertz, 100)
    elif rng.random() < 0.6 * most:
        knots = np.array([0, 200, 500, 1200, 2500, 4500, 8000])
        gains = np.array([rng.gauss(0, 5) for _ in knots])
        spectrum *= 10 ** (np.interp(hertz, knots, gains) / 20)
    made: Samples = np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)
    return made


def _slope(hertz: np.ndarray, width: float) -> np.ndarray:
    import numpy as np

    return 1 / (1 + np.exp(-np.clip(hertz / width, -50, 50)))


def _echo(samples: Samples, rng: random.Random) -> Samples:
    import numpy as np

    length = round(RATE * rng.uniform(0.05, 0.35))
    dice = np.random.default_rng(rng.getrandbits(32))
    tail = dice.standard_normal(length) * np.exp(-np.arange(length) / length * 6.9)
    tail *= rng.uniform(0.05, 0.5) / np.sqrt(np.sum(tail * tail))
    tail[0] = 1.0
    size = even(len(samples) + length)
    made = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)]
    echoed: Samples = made.astype(np.float32)
    return echoed
