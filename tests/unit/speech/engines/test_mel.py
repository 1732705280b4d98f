"""The features of Whisper, against the published filters and transformers' own front end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmagent.speech.engines.mel import filters, log_mel
from tests.unit.speech.engines.checkpoints import ASSETS, JFK, needs_data, noise


def reference(window: NDArray[np.float32], mels: int = 80) -> NDArray[np.float32]:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=mels)(window, sampling_rate=16000, return_tensors="np").input_features


@needs_data
@pytest.mark.parametrize("mels", [80, 128])
def test_the_filters_are_those_that_whisper_was_trained_with(mels: int) -> None:
    with np.load(ASSETS / "mel_filters.npz", allow_pickle=False) as published:
        np.testing.assert_allclose(filters(mels), published[f"mel_{mels}"], atol=1e-7)


@needs_data
@pytest.mark.parametrize("name", ["jfk", "mr_quilter"])
@pytest.mark.parametrize("mels", [80, 128])
def test_features_of_speech_are_those_of_the_reference(name: str, mels: int) -> None:
    samples = np.load(Path(JFK / f"audio/{name}.npy"))
    np.testing.assert_allclose(log_mel([samples], mels, 30.0), reference(samples, mels), atol=1e-4)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 480_000), st.floats(1e-4, 1.0))
def test_windows_of_any_length_and_loudness_are_filled_up_with_silence(length: int, loud: float) -> None:
    window = (noise(30.0)[:length] * loud).astype(np.float32)
    np.testing.assert_allclose(log_mel([window], 80, 30.0), reference(window), atol=1e-4)


def test_a_batch_is_its_windows_and_silence_has_features_too() -> None:
    windows = [noise(2.0), np.zeros(8000, np.float32), np.zeros(0, np.float32)]
    batch = log_mel(windows, 80, 10.0)
    assert batch.shape == (3, 80, 1000)
    assert batch.dtype == np.float32
    for window, row in zip(windows, batch, strict=True):
        np.testing.assert_array_equal(log_mel([window], 80, 10.0)[0], row)
    assert np.ptp(batch[1:]) < 1e-6


def test_what_is_longer_than_the_network_hears_is_cut_off() -> None:
    np.testing.assert_allclose(log_mel([noise(12.0)], 80, 10.0), log_mel([noise(12.0)[:160_000]], 80, 10.0))
