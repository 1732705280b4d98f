"""What tests of engines are fed with: the real vocabulary and speech where they are, and noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

DATA = Path(__file__).parents[5] / "shared/data"
ASSETS, JFK = DATA / "whisper_tokenizer_assets", DATA / "speech_jfk"
needs_data = pytest.mark.skipif(not (ASSETS.is_dir() and JFK.is_dir()), reason=f"there is no {ASSETS} or no {JFK}")


def jfk() -> NDArray[np.float32]:
    """Eleven seconds of speech, 16 kHz."""
    return np.load(JFK / "audio/jfk.npy")


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
