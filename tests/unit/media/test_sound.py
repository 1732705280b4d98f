"""The samples of recordings are right, whatever form they come in, and limits hold while they come."""

from __future__ import annotations

import io
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as hypotheses
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmagent.content import Audio
from mmagent.errors import LimitError, MediaError, NotFound
from mmagent.media import BlobStore
from mmagent.media.sniff import sniff
from mmagent.media.sound import RATE, wav, waveform
from mmagent.settings import settings

RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)


def heard(source: Any, **how: Any) -> NDArray[np.float32]:
    pieces = list(waveform(source, **how))
    assert all(piece.dtype == np.float32 and piece.ndim == 1 and len(piece) for piece in pieces)
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def tones(rate: int, seconds: float = 2.0, highest: float = 3_000) -> NDArray[np.float64]:
    """Some tones below ``highest`` Hz as they are at the times of the samples."""
    times = np.arange(round(rate * seconds)) / rate
    made = [np.sin(2 * np.pi * f * times + f) for f in np.linspace(100, highest, 7)]
    return 0.1 * np.sum(made, axis=0)


def encoded(samples: NDArray[Any], rate: int = RATE, form: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(("highest", "bound"), [(3_000, 1e-4), (7_000, 5e-3)])
@pytest.mark.parametrize("rate", RATES)
def test_resampling_keeps_what_is_heard(rate: int, highest: float, bound: float) -> None:
    """Against the tones themselves at 16 kHz, away from both ends, as a share of full scale."""
    if rate < 2.2 * highest:
        pytest.skip(f"{rate} Hz carry no {highest} Hz")
    got, true = heard(tones(rate, highest=highest), rate=rate), tones(RATE, highest=highest)
    assert abs(len(got) - len(true)) <= 1
    inner = slice(RATE // 20, len(got) - RATE // 20)
    assert np.abs(got[inner] - true[inner]).max() < bound


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000])
def test_what_16_khz_cannot_carry_is_taken_out(rate: int) -> None:
    """A tone of 10 kHz would come back as one of 6 kHz; it is 90 dB down."""
    tone = 0.5 * np.sin(2 * np.pi * 10_000 * np.arange(rate) / rate)
    inner = heard(tone, rate=rate)[RATE // 20 : -RATE // 20]
    assert np.sqrt(np.mean(inner**2)) < 0.5 / np.sqrt(2) * 10 ** (-90 / 20)


def test_resampling_of_speech_is_as_good_as_scipys(shared_data: Path) -> None:
    signal = pytest.importorskip("scipy.signal", reason="scipy is not installed")
    path = shared_data / "speech_sr_formats" / "english.wav"
    samples, rate = soundfile.read(path)
    reference = signal.resample_poly(samples, RATE, rate, window=("kaiser", 9.0))
    got = heard(path)
    error = got - reference[: len(got)]
    assert np.sqrt(np.mean(error**2)) < 0.01 * np.sqrt(np.mean(reference**2))


def test_an_hour_does_not_drift_nor_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A click near the end of an hour is where it was, to half a sample; the file is read from disk as it is needed."""
    monkeypatch.setenv("MMAGENT_MAX_AUDIO_BYTES", str(10**9))
    settings.cache_clear()
    rate = 11_025
    size, click = 3600 * rate * 2, 3599 * rate
    header = forged(rate=rate, bytes=rate * 2, size=size)[:44]
    path = tmp_path / "hour.wav"
    with path.open("wb") as file:
        file.write(header)
        file.seek(44 + click * 2)
        file.write(struct.pack("<h", 30_000))
        file.truncate(44 + size)
    before, at, loudest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0, (0.0, 0)
    for piece in waveform(path):
        if (peak := float(np.abs(piece).max())) > loudest[0]:
            loudest = peak, at + int(np.abs(piece).argmax())
        at += len(piece)
    assert abs(at - 3600 * RATE) <= 1
    assert loudest[1] == round(click * RATE / rate)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize("form", ["WAV", "AIFF", "FLAC"])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_depth_of_every_format(form: str, subtype: str, channels: int, tmp_path: Path) -> None:
    if not soundfile.check_format(form, subtype):
        pytest.skip(f"there is no {form} in {subtype}")
    samples = np.stack([tones(RATE, 0.5)] * channels, axis=1)
    data = encoded(samples, RATE, form, subtype)
    assert sniff(data) == f"audio/{form.lower()}"
    assert np.abs(heard(data) - samples[:, 0]).max() < (0.01 if subtype.endswith("8") else 1e-4)
    assert BlobStore(tmp_path).admit(Audio(data))["extras"]["seconds"] == 0.5


def test_real_files_of_one_recording_are_alike(shared_data: Path) -> None:
    folder = shared_data / "speech_sr_formats"
    true = heard(folder / "audio-mono-32-bit-44100Hz.wav")
    assert len(true) == 43_919
    for path in [*folder.glob("audio-*.wav"), *folder.glob("audio-*.flac"), *folder.glob("audio-*.aiff")]:
        got = heard(path.read_bytes(), name=path.name)
        assert np.abs(got - true).max() < (0.01 if "8-bit" in path.name else 1e-3), path.name


def test_bytes_paths_open_files_and_arrays_are_the_same(tmp_path: Path) -> None:
    samples = tones(44_100).astype(np.float32)
    data = encoded(samples, 44_100, subtype="FLOAT")
    path = tmp_path / "note.wav"
    path.write_bytes(data)
    true = heard(data)
    with path.open("rb") as file:
        for source in (path, str(path), bytearray(data), io.BytesIO(data), file):
            assert np.array_equal(heard(source), true)
    assert np.abs(heard(samples, rate=44_100) - true).max() < 1e-6


@given(st.sampled_from(["int8", "uint8", "int16", "int32", "float32", "float64"]), st.integers(0, 3))
@hypotheses(max_examples=24, deadline=None)
def test_arrays_of_any_type(dtype: str, channels: int) -> None:
    """At 16 kHz samples come out as they are; integers are scaled by their type."""
    true = np.clip(tones(RATE, 0.1), -1, 1)
    full = {"int8": 127, "uint8": 127, "int16": 32_767, "int32": 2**31 - 1}.get(dtype, 1)
    given_ = np.round(true * full) + 128 * (dtype == "uint8") if full > 1 else true
    array = np.stack([given_] * channels, axis=1) if channels else given_
    assert np.abs(heard(array.astype(dtype)) - true).max() < (0.02 if full == 127 else 1e-4)


def test_a_channel_can_be_chosen_and_the_mean_never_clips() -> None:
    left, right = 0.9 * tones(44_100, 1) / 0.7, np.zeros(44_100)
    data = encoded(np.stack([left, right], axis=1), 44_100, subtype="FLOAT")
    whole = heard(data)
    assert np.allclose(heard(data, channel=0) / 2, whole, atol=1e-5)
    assert not heard(data, channel=1).any()
    loud = np.full((RATE, 2), 0.9, np.float32)
    assert np.abs(heard(encoded(loud)) - 0.9).max() < 1e-3
    for channel in (2, -1):
        with pytest.raises(MediaError, match=f"has no channel {channel}: it has 2, counted from 0"):
            heard(data, channel=channel)


@given(st.floats(0, 2.5), st.floats(0, 2.5))
@hypotheses(max_examples=30, deadline=None)
def test_a_part_is_the_part_of_the_whole(t0: float, t1: float) -> None:
    samples = tones(RATE)
    part = heard(samples, t0=t0, t1=t1)
    assert np.array_equal(part, heard(samples)[round(t0 * RATE) : max(round(t0 * RATE), round(t1 * RATE))])


def test_what_is_written_is_heard_again() -> None:
    samples = tones(RATE, 0.2).astype(np.float32)
    assert np.abs(heard(wav(samples)) - samples).max() < 1e-4


@pytest.mark.parametrize(
    ("source", "how", "why"),
    [
        (b"", {}, "the recording is empty; give a WAV, AIFF, FLAC"),
        (b"hello", {"name": "a.wav"}, "a.wav has no sound that can be read"),
        (io.StringIO("hello"), {}, "is opened as text"),
        (5, {}, "a int is no recording; give a path, bytes, an open file or an array"),
        (np.zeros((2, 3, 4)), {}, r"an array of shape \(2, 3, 4\) is no recording"),
        (np.zeros((2, 16_000)), {}, r"an array of shape \(2, 16000\) is no recording; give \[samples\] or"),
        (np.zeros(9, complex), {}, "an array of complex128 is no recording"),
        (np.zeros(9, np.int64), {}, "an array of int64 is no recording; give int16, or floats"),
        (np.zeros(9), {"rate": 0}, "has 1 channels at 0 Hz"),
        (np.zeros(9), {"rate": 4 * 10**9}, "has 1 channels at 4,000,000,000 Hz"),
    ],
)
def test_what_is_no_sound_is_refused_in_one_line(source: Any, how: dict[str, Any], why: str) -> None:
    with pytest.raises(MediaError, match=why) as refused:
        heard(source, **how)
    assert "\n" not in str(refused.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no file .*none\.wav"):
        heard(tmp_path / "none.wav")
    with pytest.raises(MediaError, match="is a folder; give one recording of it"):
        heard(tmp_path)
    with pytest.raises(MediaError, match="cannot be read; open it again"):
        (closed := io.BytesIO()).close()
        heard(closed)


def forged(**fields: int) -> bytes:
    """A WAV of a second whose header says something else."""
    header = {"channels": 1, "rate": RATE, "bytes": 32_000, "align": 2, "bits": 16, "size": 32_000} | fields
    samples = (np.sin(np.arange(RATE)) * 9_000).astype("<i2").tobytes()
    return struct.pack("<4sI4s4sIHH", b"RIFF", 32_036, b"WAVE", b"fmt ", 16, 1, header["channels"]) + struct.pack(
        "<IIHH4sI", header["rate"], header["bytes"], header["align"], header["bits"], b"data", header["size"]
    ) + samples  # fmt: skip


@pytest.mark.parametrize("size", [0, 64_000, 2**31, 2**32 - 1, 2**32 - 2])
def test_a_header_that_promises_more_gets_what_is_there(size: int) -> None:
    """Recorders that are cut off, and browsers, write such sizes."""
    assert len(heard(forged(size=size))) == RATE


def test_a_header_that_promises_less_is_believed() -> None:
    assert len(heard(forged(size=3_200))) == 1_600


@pytest.mark.parametrize(
    "fields",
    [{"channels": 0, "align": 0}, {"channels": 65_535}, {"rate": 4_000_000_000}, {"rate": 0}, {"rate": 1, "bytes": 2}],
)
def test_numbers_that_no_recording_has_are_refused(fields: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        heard(forged(**fields))
    with pytest.raises(MediaError):
        BlobStore(tmp_path).admit(Audio(forged(**fields)))


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def limit(**fields: int) -> None:
        for field, value in fields.items():
            monkeypatch.setenv(f"MMAGENT_{field.upper()}", str(value))
        settings.cache_clear()

    return limit


def test_a_small_file_of_many_hours_is_refused_when_the_limit_is_heard(limited: Callable[..., None]) -> None:
    """Silence of two minutes takes 20 kB in Opus, however short its header says that it is."""
    limited(max_index_seconds=12)
    data = encoded(np.zeros(120 * 8_000, np.float32), 8_000, "OGG", "OPUS")
    assert len(data) < 40_000
    count = 0
    with pytest.raises(LimitError, match="longer than 12 s: max_index_seconds is 12; make the recording shorter"):
        for piece in waveform(data):
            count += len(piece)
    assert 11 * RATE <= count <= 13 * RATE
    with pytest.raises(LimitError, match="note is longer than 5 s, which is the limit here"):
        heard(data, name="note", max_seconds=5)
    assert len(heard(data, t1=8)) == 8 * RATE  # no more than that was decoded
    assert len(heard(np.zeros(12 * RATE, np.int16))) == 12 * RATE


@pytest.mark.parametrize("channels", [3, 6, 8, 9, 16, 30, 64])
def test_many_channels_are_heard(channels: int) -> None:
    """PyAV reads beyond its planes from 8 channels on."""
    samples = np.zeros((44_100, channels), np.float32)
    samples[:, -1] = 0.5
    for source, how in ((samples, {"rate": 44_100}), (encoded(samples, 44_100, subtype="FLOAT"), {})):
        assert abs(heard(source, **how)[RATE // 2] - 0.5 / channels) < 1e-4
        assert abs(heard(source, channel=channels - 1, **how)[RATE // 2] - 0.5) < 1e-3


def test_far_more_samples_than_such_a_length_has_are_refused(limited: Callable[..., None]) -> None:
    limited(max_index_seconds=1)
    data = encoded(np.zeros((200_000, 16), np.int16), 192_000, "WAV")
    with pytest.raises(LimitError, match="has far more samples than a recording of that length"):
        heard(data)


def test_a_large_file_is_refused_before_it_is_decoded(limited: Callable[..., None], tmp_path: Path) -> None:
    limited(max_audio_bytes=1_000, max_video_bytes=2_000)
    data = forged()
    (tmp_path / "note.wav").write_bytes(data)
    for source in (data, tmp_path / "note.wav", io.BytesIO(data)):
        with pytest.raises(LimitError, match=r"max_(audio|video)_bytes is"):
            heard(source)


@pytest.mark.parametrize("name", ["bad", "evil", "awful"])
def test_files_that_broke_other_readers_are_refused(name: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "speech_librivox_cards" / f"{name}.wav"
    with pytest.raises(MediaError, match=f"^{name}.wav "):
        heard(path)
    with pytest.raises(MediaError, match=f"^{name}.wav "):
        BlobStore(tmp_path).admit(Audio(path))


def test_a_recording_without_samples_gives_none(shared_data: Path) -> None:
    assert len(heard(shared_data / "speech_librivox_cards" / "null.wav")) == 0
    assert len(heard(np.zeros(0))) == 0
