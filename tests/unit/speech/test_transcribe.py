"""Whisper over long recordings: windows, times, silence and what is refused; the weights are random."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import wave
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagent.errors import ConfigurationError, LimitError, MediaError, ModelError, NotFound
from mmagent.media.sound import RATE, waveform
from mmagent.settings import settings
from mmagent.speech import Segment, Transcriber, load_transcriber
from mmagent.speech.transcribe import _is_loop, _timed

SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
SPECIAL += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
FIRST_TIME = 256 + len(SPECIAL)


def wav(samples: NDArray[np.float32], rate: int = RATE) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(rate)
        made.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of some 60,000 random weights, saved like a real one; its words are bytes."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    folder = tmp_path_factory.mktemp("whisper")
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*alphabet, *SPECIAL, *times])}
    tokenizer = WhisperTokenizer(vocab=vocab, merges=[], extra_special_tokens=SPECIAL[1:])
    assert tokenizer.convert_tokens_to_ids("<|0.00|>") == FIRST_TIME
    end = vocab["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=len(vocab),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=vocab["<|startoftranscript|>"],
        max_target_positions=64,
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=vocab["<|startoftranscript|>"],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        no_timestamps_token_id=vocab["<|notimestamps|>"],
        max_initial_timestamp_index=50,
        is_multilingual=True,
        lang_to_id={"<|en|>": vocab["<|en|>"], "<|de|>": vocab["<|de|>"]},
        task_to_id={"transcribe": vocab["<|transcribe|>"], "translate": vocab["<|translate|>"]},
        max_length=48,
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def said(*spans: tuple[float, str, float | None]) -> list[int]:
    """The tokens of segments: begin, words, end; an end of None is cut off."""
    tokens: list[int] = []
    for begin, words, end in spans:
        tokens += [FIRST_TIME + round(begin / 0.02), *(BYTES.index(char.replace(" ", "Ġ")) for char in words)]
        tokens += [] if end is None else [FIRST_TIME + round(end / 0.02)]
    return tokens


def _bytes() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


BYTES = _bytes()


@pytest.fixture
def scripted(whisper: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A transcriber whose model says what the test wants; the windows that it heard are kept."""

    def make(*answers: Sequence[int]) -> tuple[Transcriber, list[int]]:
        transcriber, heard, coming = Transcriber(whisper), list[int](), iter(answers)

        def answer(_: Transcriber, window: NDArray[np.float32]) -> list[int]:
            heard.append(len(window))
            return list(next(coming))

        monkeypatch.setattr(Transcriber, "_tokens", answer)
        return transcriber, heard

    return make


def test_a_real_network_gives_segments_within_the_recording_in_order(whisper: Path) -> None:
    transcriber = Transcriber(whisper)
    found = transcriber.segments(wav(noise(47)), "a.wav")
    assert found
    assert all(0 <= segment.t0 < segment.t1 <= 47 for segment in found)
    assert all(one.t1 <= other.t0 for one, other in pairwise(found))
    assert found == transcriber.segments(wav(noise(47)), "a.wav")


def test_the_next_window_begins_where_the_last_whole_segment_ended(scripted: Any) -> None:
    first = said((0.0, "one", 4.0), (4.5, "two", 26.0), (26.0, "thr", None))
    second = said((0.5, "three", 9.0))
    transcriber, heard = scripted(first, second)
    found = transcriber.segments(wav(noise(40)), "a.wav")
    assert found == [Segment(0.0, 4.0, "one"), Segment(4.5, 26.0, "two"), Segment(26.5, 35.0, "three")]
    assert heard == [30 * RATE, 14 * RATE]


@pytest.mark.parametrize("end", [16.06, 16.22, 16.38])
def test_words_that_are_heard_again_are_said_once_at_any_time(scripted: Any, end: float) -> None:
    """Times whose samples, as floating point numbers, are a little less than whole."""
    assert end * RATE < round(end * RATE)
    transcriber, _ = scripted(said((0.0, "one", end), (end, "two", None)), said((0.0, "two", 9.0)))
    assert [segment.text for segment in transcriber.segments(wav(noise(40)), "a.wav")] == ["one", "two"]


def test_words_without_an_end_are_kept_where_nothing_follows(scripted: Any) -> None:
    transcriber, _ = scripted(said((0.0, "one", 2.0), (2.0, "two", None)))
    assert transcriber.segments(wav(noise(5)), "a.wav") == [Segment(0.0, 2.0, "one"), Segment(2.0, 5.0, "two")]


def test_times_beyond_the_recording_are_held_to_it(scripted: Any) -> None:
    transcriber, _ = scripted(said((0.0, "one", 29.0)))
    assert transcriber.segments(wav(noise(5)), "a.wav") == [Segment(0.0, 5.0, "one")]


def test_silence_is_never_heard(scripted: Any) -> None:
    transcriber, heard = scripted()
    assert transcriber.segments(wav(silence(75)), "a.wav") == []
    assert heard == []


def test_what_comes_after_silence_keeps_its_time(scripted: Any) -> None:
    transcriber, heard = scripted(said((0.2, "late", 1.2)))
    found = transcriber.segments(wav(np.concatenate([silence(50), noise(2)])), "a.wav")
    assert heard == [round(2.2 * RATE)]
    assert [(round(one.t0, 2), round(one.t1, 2), one.text) for one in found] == [(50.0, 51.0, "late")]


def test_loops_are_left_out(scripted: Any) -> None:
    assert _is_loop("thank you " * 30) and not _is_loop("ask not what your country can do for you")
    transcriber, _ = scripted(said((0.0, "thank you " * 30, 2.0), (2.0, "hello", 3.0)))
    assert [segment.text for segment in transcriber.segments(wav(noise(4)), "a.wav")] == ["hello"]


def test_times_that_run_backwards_do_not() -> None:
    tokens = said((5.0, "a", 6.0), (2.0, "b", 3.0), (7.0, "c", 8.0))
    found, whole = _timed(tokens, FIRST_TIME, 30.0)
    assert [(begin, end) for begin, end, _ in found] == [(5.0, 6.0), (7.0, 8.0)]
    assert whole == 8.0


def test_a_longer_recording_than_the_limit_is_refused(whisper: Path) -> None:
    with pytest.raises(LimitError, match=r"longer than 20 s: max_index_seconds is 20; .*MMAGENT_MAX_INDEX_SECONDS"):
        Transcriber(whisper, max_seconds=20).segments(wav(noise(21)), "a.wav")


def test_what_is_no_recording_is_refused(whisper: Path) -> None:
    with pytest.raises(MediaError, match=r"^notes\.wav has no sound that can be read"):
        Transcriber(whisper).segments(b"hello", "notes.wav")


def test_the_fingerprint_is_of_the_files(whisper: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(whisper, tmp_path / "copy"))
    assert Transcriber(copy).fingerprint == Transcriber(whisper).fingerprint
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert Transcriber(copy).fingerprint != Transcriber(whisper).fingerprint


def test_what_is_missing_is_named(tmp_path: Path, whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="set MMAGENT_SPEECH_MODEL to a folder"):
        load_transcriber()
    with pytest.raises(NotFound, match=r"there is no folder .*nowhere; set MMAGENT_SPEECH_MODEL"):
        load_transcriber(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"no generation_config\.json, .*no model\.safetensors or"):
        load_transcriber(tmp_path)
    monkeypatch.setenv("MMAGENT_SPEECH_MODEL", str(whisper))
    settings.cache_clear()
    assert load_transcriber().folder == whisper


def test_a_model_of_another_kind_is_refused_in_one_line(whisper: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(whisper, tmp_path / "copy"))
    (copy / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match=r"cannot be loaded \(.*\); is it a Whisper model, and whole\?$") as caught:
        Transcriber(copy).segments(wav(noise(1)), "a.wav")
    assert "\n" not in str(caught.value)
    copy = Path(shutil.copytree(whisper, tmp_path / "timeless"))
    known = json.loads((copy / "generation_config.json").read_text())
    del known["no_timestamps_token_id"]
    (copy / "generation_config.json").write_text(json.dumps(known))
    with pytest.raises(ConfigurationError, match="no_timestamps_token_id"):
        Transcriber(copy).segments(wav(noise(1)), "a.wav")


def test_sound_is_resampled_and_cut() -> None:
    times = np.arange(44_100 * 14) / 44_100
    data = wav((0.5 * np.sin(2 * np.pi * 440 * times)).astype(np.float32), 44_100)
    whole = np.concatenate(list(waveform(data)))
    assert abs(len(whole) - 14 * RATE) < 100 and whole.dtype == np.float32
    assert np.abs(np.fft.rfft(whole[:RATE])).argmax() == 440
    for t0, t1 in ((1.0, 2.5), (12.0, 13.0)):  # before and after the place from which it jumps
        part = np.concatenate(list(waveform(data, t0=t0, t1=t1)))
        assert len(part) == round((t1 - t0) * RATE)
        assert np.abs(part - whole[round(t0 * RATE) : round(t1 * RATE)]).max() < 0.02
    assert list(waveform(data, t0=20)) == []


def test_real_recordings_have_their_length(shared_data: Path) -> None:
    folder = shared_data / "video_audio_docling" / "sources"
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".avi", ".aac") and path.stem != "silent_1s":
            length = sum(map(len, waveform(path.read_bytes(), path.name))) / RATE
            assert 9.9 < length < 10.2, path.name


def test_importing_speech_loads_no_model() -> None:
    code = "import sys, mmagent.speech; print(sorted({'torch', 'transformers', 'numpy', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
