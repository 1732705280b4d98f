"""Where somebody speaks: real voices are found, silence, hum and noise are not, and memory stays flat."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmagent.errors import ConfigurationError, MissingExtra
from mmagent.media.sound import RATE, waveform
from mmagent.speech.vad import FRAME, EnergyVad, Span, SpanRules, Spans, Vad, load_vad, silero_file
from mmagent.testing import LoudVad

Sound = NDArray[np.float32]
SECONDS = np.arange(6 * RATE) / RATE


def coloured(power: float) -> Sound:
    """Noise whose power falls with that power of the frequency: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=6 * RATE))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (power / 2)
    spectrum[:6] = 0
    noise = np.fft.irfft(spectrum)
    return (0.05 * noise / noise.std()).astype(np.float32)


def hum(pitch: float, harmonics: int) -> Sound:
    parts = (np.sin(2 * np.pi * pitch * number * SECONDS) / number for number in range(1, harmonics + 1))
    return (0.1 * sum(parts)).astype(np.float32)


NOBODY: dict[str, Callable[[], Sound]] = {
    "silence": lambda: np.zeros(6 * RATE, np.float32),
    "white noise": lambda: coloured(0),
    "pink noise": lambda: coloured(1),
    "brown noise": lambda: coloured(2),
    "mains hum": lambda: hum(50, 11),
    "a transformer": lambda: hum(120, 19),
    "a tone": lambda: hum(440, 1),
    "hum in noise": lambda: hum(60, 7) + 0.2 * coloured(0),
    "noise that begins": lambda: np.concatenate([np.zeros(2 * RATE, np.float32), coloured(0)[: 4 * RATE]]),
    "hum that begins": lambda: np.concatenate([np.zeros(2 * RATE, np.float32), hum(50, 11)[: 4 * RATE]]),
}


def spans_of(samples: Sound, vad: Vad, rules: SpanRules | None = None, step: int = 4_000) -> list[Span]:
    finder = Spans(vad, rules)
    found = [span for at in range(0, len(samples), step) for span in finder.feed(samples[at : at + step])]
    return found + finder.finish()


@pytest.fixture(params=["energy", "silero"])
def vad(request: pytest.FixtureRequest) -> Vad:
    if request.param == "silero" and silero_file() is None:
        pytest.skip("faster-whisper, which has Silero's network, is not installed")
    return load_vad(request.param)


@pytest.mark.parametrize("what", NOBODY)
def test_nobody_speaks_in_noise_and_hum(what: str, vad: Vad) -> None:
    assert [(span.t0, span.t1) for span in spans_of(NOBODY[what](), vad)] == []


def test_nobody_speaks_in_the_clip_without_speech(shared_data: Path, vad: Vad) -> None:
    clip = shared_data / "speech_leopard_multilang" / "audio_samples" / "empty.wav"
    assert spans_of(np.concatenate(list(waveform(clip))), vad) == []


def test_every_word_of_eight_languages_is_within_speech(shared_data: Path, vad: Vad) -> None:
    folder = shared_data / "speech_leopard_multilang"
    tests: list[dict[str, Any]] = json.loads((folder / ".test" / "test_data.json").read_text())["tests"][
        "language_tests"
    ]
    for one in tests:
        samples = np.concatenate(list(waveform(folder / "audio_samples" / one["audio_file"])))
        spans = spans_of(samples, vad)
        for word in one["words"]:
            heard = sum(max(0.0, min(word["end_sec"], x.t1) - max(word["start_sec"], x.t0)) for x in spans)
            assert heard >= 0.9 * (word["end_sec"] - word["start_sec"]) - 0.01, (one["audio_file"], word)
        vad = type(vad)() if isinstance(vad, EnergyVad) else load_vad("silero")


def test_single_words_without_silence_around_them_are_found(shared_data: Path, vad: Vad) -> None:
    clips = sorted((shared_data / "speech_fsdd" / "recordings").glob("*.wav"))[::80]
    found = 0
    for clip in clips:
        fresh = EnergyVad() if isinstance(vad, EnergyVad) else load_vad("silero")
        found += bool(spans_of(np.concatenate(list(waveform(clip))), fresh))
    assert found >= 0.95 * len(clips)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=12),
    st.integers(100, 5_000),
    st.integers(0, FRAME - 1),
)
def test_spans_are_apart_in_order_and_hold_what_is_loud(parts: list[tuple[bool, int]], step: int, odd: int) -> None:
    """A tone that comes and goes, in frames; pieces of any size give the same spans."""
    wobble = 1 + 0.5 * np.sin(np.arange(60 * FRAME) / 3_000)
    tone = (0.2 * wobble * np.sin(np.arange(60 * FRAME) / 10)).astype(np.float32)
    pieces = [tone[: count * FRAME] if loud else np.zeros(count * FRAME, np.float32) for loud, count in parts]
    samples = np.concatenate([*pieces, np.zeros(odd, np.float32)])
    rules = SpanRules(longest=3.0)
    spans = spans_of(samples, LoudVad(), rules, step)
    assert [(span.t0, span.t1) for span in spans] == [
        (span.t0, span.t1) for span in spans_of(samples, LoudVad(), rules, len(samples))
    ]
    for span in spans:
        assert 0 <= span.t0 < span.t1 <= len(samples) / RATE and span.t1 - span.t0 <= rules.longest
        assert np.array_equal(span.samples, samples[round(span.t0 * RATE) : round(span.t1 * RATE)])
    assert all(one.t1 <= other.t0 for one, other in pairwise(spans))
    at = 0
    for loud, count in parts:
        if loud and count >= 10:
            middle = (at + count / 2) * FRAME / RATE
            assert any(span.t0 <= middle <= span.t1 for span in spans)
        at += count


def test_what_is_not_loud_is_never_speech() -> None:
    quiet = (0.002 * np.sin(SECONDS * 3_000)).astype(np.float32)
    assert spans_of(quiet, LoudVad(0.0)) == []


def test_the_states_follow_the_voice() -> None:
    finder, seen = Spans(LoudVad()), list[str]()
    tone = (0.2 * np.sin(np.arange(FRAME) / 10)).astype(np.float32)
    for frame in [tone] * 6 + [0 * tone] * 20:
        finder.feed(frame)
        if not seen or seen[-1] != finder.state:
            seen.append(finder.state)
    assert seen == ["starting", "speaking", "stopping", "quiet"]


def test_an_hour_takes_no_memory() -> None:
    """Silence and speech without end hold a span at most."""
    finder = Spans(LoudVad())
    minute = (0.2 * np.sin(np.arange(60 * RATE) / 10) * (1 + np.sin(np.arange(60 * RATE) / 9_000))).astype(np.float32)
    held = 0
    for samples in [minute, 0 * minute] * 6:
        finder.feed(samples)
        held = max(held, len(finder._frames))
    assert held * FRAME <= 31 * RATE


def test_detectors_are_chosen_by_name() -> None:
    assert isinstance(load_vad("energy"), EnergyVad)
    with pytest.raises(ConfigurationError, match="take auto, silero or energy"):
        load_vad("webrtc")  # type: ignore[arg-type]
    if silero_file() is None:
        assert isinstance(load_vad(), EnergyVad)
        with pytest.raises(MissingExtra, match="fast"):
            load_vad("silero")
