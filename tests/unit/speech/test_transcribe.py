"""From samples to a transcript: silence, windows, guards, languages, channels, and real recordings of minutes."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmagent.errors import ConfigurationError, InputError, LimitError, MediaError, ModelError, NotFound
from mmagent.media.sound import RATE, wav, waveform
from mmagent.settings import settings
from mmagent.speech import Segment, Transcriber, Word, load_transcriber
from mmagent.speech.engines import Ask, Decoded, Piece
from mmagent.speech.guards import Guards
from mmagent.testing import LoudVad, ScriptedEngine, decoded
from mmagent.testing.whisper import save_whisper

Sound = NDArray[np.float32]
EDGE = 0.3
"""Seconds by which a span may be longer than its speech: padding, and a frame."""


def tone(seconds: float) -> Sound:
    return (0.2 * np.sin(np.arange(round(seconds * RATE)) / 10)).astype(np.float32)


def silence(seconds: float) -> Sound:
    return np.zeros(round(seconds * RATE), np.float32)


def join(*parts: Sound) -> Sound:
    return np.concatenate(parts)


def hears(*answers: Any, **options: Any) -> tuple[Transcriber, ScriptedEngine]:
    engine = ScriptedEngine(*answers, languages=("en",))
    return Transcriber(engine, vad=LoudVad, **options), engine


def test_words_are_where_they_are_said() -> None:
    transcriber, engine = hears("Hello there.", "Goodbye.")
    said = transcriber.transcribe(join(silence(5), tone(2), silence(10), tone(1), silence(2)))
    assert [one.text for one in said.segments] == ["Hello there.", "Goodbye."]
    assert [one.language for one in said.segments] == ["en", "en"]
    for segment, t0, t1 in zip(said.segments, (5, 17), (7, 18), strict=True):
        assert abs(segment.t0 - t0) < EDGE and abs(segment.t1 - t1) < EDGE
        assert segment.confidence == pytest.approx(np.exp(-0.2), abs=1e-3)
    assert said.duration == 20 and said.text == "Hello there. Goodbye." and abs(said.speech - 3) < 4 * EDGE
    assert said.language == "en" and not said.dropped
    assert sum(seconds for seconds, _ in engine.heard) < 4


@pytest.mark.parametrize("vad", ["energy", "auto"])
@pytest.mark.parametrize("what", ["silence", "noise", "hum", "nothing"])
def test_nobody_speaks_whatever_the_engine_says(what: str, vad: Any) -> None:
    seconds = np.arange(6 * RATE) / RATE
    sound = {
        "silence": silence(6),
        "noise": np.random.default_rng(0).normal(0, 0.05, 6 * RATE).astype(np.float32),
        "hum": (0.1 * sum(np.sin(2 * np.pi * 50 * k * seconds) / k for k in range(1, 12))).astype(np.float32),
        "nothing": silence(0),
    }[what]
    engine = ScriptedEngine("Thank you for watching!")
    said = Transcriber(engine, vad=vad).transcribe(sound)
    assert said.no_speech and said.speech == 0 and said.text == "" and said.segments == () and not engine.heard
    assert said.duration == len(sound) / RATE


@pytest.mark.parametrize("vad", ["energy", "auto"])
def test_nobody_speaks_in_the_clip_without_speech(vad: Any, shared_data: Path) -> None:
    clip = shared_data / "speech_leopard_multilang" / "audio_samples" / "empty.wav"
    said = Transcriber(ScriptedEngine("you"), vad=vad).transcribe(clip)
    assert said.no_speech and said.speech == 0


def test_what_is_decoded_where_nobody_speaks_is_dropped() -> None:
    transcriber, _ = hears(decoded((0, 2, "Hi."), (2.6, 3.4, "Thank you."), (4, 6, "Bye.")))
    said = transcriber.transcribe(join(tone(2), silence(2), tone(2)))
    assert said.text == "Hi. Bye."
    assert [(one.t0, one.t1, one.reason) for one in said.dropped] == [(2.6, 3.4, "silence")]


def test_an_answer_that_is_not_believed_is_tried_again_warmer() -> None:
    unsure = decoded((0, 2, "mumble"), logprob=-2)
    transcriber, engine = hears(unsure, unsure, "clear")
    assert transcriber.transcribe(tone(2)).text == "clear"
    assert [ask.temperature for _, ask in engine.heard] == [0.0, 0.4, 0.8]
    transcriber, engine = hears(unsure)
    said = transcriber.transcribe(tone(2))
    assert said.no_speech and said.speech > 0 and [one.reason for one in said.dropped] == ["low confidence"]


def test_what_is_surely_no_speech_is_not_tried_again() -> None:
    transcriber, engine = hears(decoded((0, 2, "Thanks."), logprob=-2, no_speech=0.9))
    said = transcriber.transcribe(tone(2))
    assert said.no_speech and said.speech == 0 and len(engine.heard) == 1
    assert [one.reason for one in said.dropped] == ["no speech"]


def test_guards_can_be_loosened() -> None:
    transcriber, _ = hears(decoded((0, 2, "mumble"), logprob=-2), guards=Guards(logprob=-3))
    assert transcriber.transcribe(tone(2)).text == "mumble"


def test_the_first_of_a_loop_is_kept_and_the_rest_written_down() -> None:
    transcriber, _ = hears(decoded((0, 1, "Well. " + "Thank you. " * 30), (1, 2, "So.")))
    said = transcriber.transcribe(tone(2))
    assert said.text == "Well. Thank you. So." and [one.reason for one in said.dropped] == ["repetition"]


def test_long_speech_is_cut_where_it_is_quiet_and_heard_once() -> None:
    sound = join(*[part for _ in range(12) for part in (tone(7.6), 0.05 * tone(0.2))])
    transcriber, engine = hears(lambda window, ask: "x")
    said = transcriber.transcribe(sound)
    assert max(seconds for seconds, _ in engine.heard) <= 30
    assert sum(seconds for seconds, _ in engine.heard) == pytest.approx(len(sound) / RATE, abs=0.1)
    for segment in said.segments[:-1]:
        assert segment.t1 % 7.8 > 7.4 or segment.t1 % 7.8 < 0.2


def test_what_an_answer_leaves_over_is_heard_again() -> None:
    transcriber, engine = hears(decoded((0, 4, "first"), (4, 12, "second")), decoded((0, 8, "third")))
    said = transcriber.transcribe(tone(20))
    assert [(one.t0, one.t1, one.text) for one in said.segments] == [
        (0, 4, "first"),
        (4, 12, "second"),
        (12, 20, "third"),
    ]
    assert [round(seconds) for seconds, _ in engine.heard] == [20, 8]


def test_a_piece_that_the_limit_of_tokens_cut_off_is_heard_again() -> None:
    cut = Decoded((Piece(0, 9, "whole", (1,)), Piece(9, 12, "cut o", (2,))), -0.1, 0.0, tuple(range(224)))
    transcriber, _ = hears(cut, decoded((0, 3, "cut off no more")))
    assert transcriber.transcribe(tone(12)).text == "whole cut off no more"


def test_speech_that_an_answer_passes_over_is_heard_alone() -> None:
    sound = join(tone(2), silence(2), tone(2), silence(2), tone(2))
    transcriber, engine = hears(decoded((0, 2, "one"), (8, 10, "three")), "two")
    said = transcriber.transcribe(sound)
    assert said.text == "one two three" and [round(seconds) for seconds, _ in engine.heard] == [10, 2]
    assert [round(one.t0) for one in said.segments] == [0, 4, 8]


def test_what_is_not_believed_together_is_heard_one_by_one() -> None:
    unsure = decoded((0, 6, "mumble"), logprob=-2)
    transcriber, engine = hears(unsure, unsure, unsure, "one", unsure, unsure, unsure)
    said = transcriber.transcribe(join(tone(2), silence(2), tone(2)))
    assert said.text == "one" and [round(seconds) for seconds, _ in engine.heard] == [6, 6, 6, 2, 2, 2, 2]
    assert [(round(one.t0), round(one.t1), one.reason) for one in said.dropped] == [(4, 6, "low confidence")]


def test_times_of_an_engine_give_way_to_those_of_the_speech() -> None:
    transcriber, _ = hears(decoded((0.5, 1.2, "one"), (1.2, 1.4, "two")))
    said = transcriber.transcribe(join(silence(1), tone(2)))
    assert [one.text for one in said.segments] == ["one", "two"]
    assert abs(said.segments[0].t0 - 1) < EDGE and abs(said.segments[1].t1 - 3) < EDGE


def test_words_are_within_speech_and_in_order() -> None:
    words = (Word(0.5, 1.5, "Hi", 0.9), Word(1.4, 3.1, "there", 0.8), Word(3.0, 9.0, "you", 0.7))
    engine = ScriptedEngine(Decoded((Piece(0, 5, "Hi there you", (1, 2, 3), words),), -0.1, 0.0, (1, 2, 3)))
    said = Transcriber(engine, vad=LoudVad, words=True).transcribe(join(tone(2), silence(1.5), tone(1.5)))
    (segment,) = said.segments
    times = [time for word in segment.words for time in (word.t0, word.t1)]
    assert times == sorted(times) and times[-1] <= segment.t1
    assert abs(segment.words[1].t1 - 3.5) <= EDGE or segment.words[1].t1 <= 2 + EDGE
    assert segment.confidence == pytest.approx((0.9 * 0.8 * 0.7) ** (1 / 3), abs=1e-3)
    assert engine.heard[0][1].words


pieces = st.lists(st.tuples(st.floats(-5, 40), st.floats(-5, 40), st.sampled_from(["a", "b c", "...", ""])), max_size=6)


@hypothesis_settings(deadline=None, max_examples=50)
@given(st.lists(pieces, min_size=1, max_size=3), st.lists(st.tuples(st.floats(0.2, 9), st.floats(0.2, 6)), max_size=4))
def test_times_hold_whatever_an_engine_says(answers: list[Any], parts: list[tuple[float, float]]) -> None:
    sound = join(silence(0.1), *[join(tone(loud), silence(quiet)) for loud, quiet in parts])
    transcriber, _ = hears(*(decoded(*answer) for answer in answers))
    said = transcriber.transcribe(sound)
    assert all(0 <= one.t0 <= one.t1 <= said.duration + 1e-3 for one in said.segments)
    assert all(one.t1 <= other.t0 for one, other in pairwise(said.segments))
    assert said.speech <= said.duration + 1e-3


def test_segments_come_while_the_rest_is_not_even_read() -> None:
    transcriber, engine = hears("one", batch=1)
    done: list[tuple[float, float | None]] = []
    stream = iter(transcriber.stream(join(*[tone(2), silence(8)] * 6), progress=lambda *at: done.append(at)))
    assert next(stream).text == "one" and len(engine.heard) == 1
    assert len(list(stream)) == 5
    assert done[-1] == (60.0, 60.0) and [at for at, _ in done] == sorted(at for at, _ in done)


def test_windows_are_decoded_together() -> None:
    transcriber, engine = hears("x", batch=4)
    transcriber.transcribe(join(*[tone(1), silence(5)] * 6))
    assert engine.batches == [4, 2]


def test_hot_words_and_prompt_reach_the_engine() -> None:
    transcriber, engine = hears("x", prompt="A call about lamps.", hot_words=["ACME-123", " Luxo  Jr "])
    transcriber.transcribe(tone(1))
    assert engine.heard[0][1].prompt == "A call about lamps. ACME-123, Luxo Jr"


def test_what_was_said_before_is_only_shown_where_that_is_wanted() -> None:
    sound = join(*[tone(1), silence(5)] * 2)
    for conditioned, prompt in ((False, ""), (True, "one")):
        transcriber, engine = hears("one", condition_on_previous_text=conditioned)
        transcriber.transcribe(sound)
        assert [ask.prompt for _, ask in engine.heard] == ["", prompt]


def test_the_language_is_heard_in_speech_and_kept() -> None:
    engine = ScriptedEngine("x", hears=[{"en": 0.9, "de": 0.1}, {"en": 0.5, "de": 0.45}, {"cy": 0.49, "en": 0.4}])
    said = Transcriber(engine, vad=LoudVad, batch=1).transcribe(join(*[tone(3), silence(5)] * 3))
    assert [ask.language for _, ask in engine.heard] == ["en", "en", "en"]
    assert said.language == "en" and said.language_probability == pytest.approx(0.9)


def test_each_window_is_decoded_in_its_language() -> None:
    engine = ScriptedEngine("x", hears=[{"en": 1.0}, {"en": 0.9}, {"de": 0.97}, {"de": 0.97}])
    said = Transcriber(engine, vad=LoudVad).transcribe(join(*[tone(3), silence(5)] * 4))
    assert [one.language for one in said.segments] == ["en", "en", "de", "de"]


def test_a_language_that_is_given_is_not_looked_for() -> None:
    engine = ScriptedEngine("x", hears=[{"de": 1.0}])
    said = Transcriber(engine, vad=LoudVad, language="EN").transcribe(tone(1))
    assert said.language == "en" and said.language_probability is None
    with pytest.raises(InputError, match="no language 'xx'; take one of: de, en"):
        Transcriber(engine, language="xx")


def test_what_an_engine_cannot_do_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"\(scripted\) cannot translate"):
        Transcriber(ScriptedEngine(translates=False), task="translate")
    with pytest.raises(ConfigurationError, match="take 'channels'"):
        Transcriber(ScriptedEngine(), speakers="faces")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="batch of 0"):
        Transcriber(ScriptedEngine(), batch=0)


def test_two_channels_are_two_speakers() -> None:
    left = join(tone(2), silence(8), tone(2), silence(8))
    right = join(silence(5), tone(2), silence(13))
    transcriber, _ = hears(lambda window, ask: "x", speakers="channels")
    said = transcriber.transcribe(np.stack([left, right], axis=1))
    assert [one.speaker for one in said.segments] == ["left", "right", "left"]
    assert [round(one.t0) for one in said.segments] == [0, 5, 10] and abs(said.speech - 6) < 4 * EDGE
    with pytest.raises(MediaError, match="channel"):
        transcriber.transcribe(left)


def test_a_real_two_channel_recording(shared_data: Path) -> None:
    clip = shared_data / "speech_faster_whisper" / "stereo_diarization.wav"
    transcriber = Transcriber(ScriptedEngine("x"), speakers="channels")
    assert {one.speaker for one in transcriber.transcribe(clip).segments} == {"left", "right"}


def test_a_recording_may_be_a_path_bytes_an_open_file_or_samples(tmp_path: Path) -> None:
    sound = join(silence(1), tone(2))
    path = tmp_path / "a.wav"
    path.write_bytes(wav(sound))
    transcriber, _ = hears("x")
    expected = transcriber.transcribe(sound)
    assert abs(expected.segments[0].t0 - 1) < EDGE
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), (sound * 32767).astype(np.int16)):
        assert transcriber.transcribe(source) == expected
    assert abs(transcriber.transcribe(sound[::2], rate=8_000).duration - 3) < 0.01
    assert [one.text for one in transcriber.segments(path.read_bytes(), "a.wav")] == ["x"]


def test_what_cannot_be_heard_is_refused(tmp_path: Path) -> None:
    transcriber, _ = hears("x", max_seconds=20)
    with pytest.raises(LimitError, match="longer than 20 s"):
        transcriber.transcribe(tone(21))
    with pytest.raises(MediaError, match=r"^notes\.wav has no sound that can be read"):
        transcriber.segments(b"hello", "notes.wav")
    with pytest.raises(NotFound, match="there is no file"):
        transcriber.transcribe(tmp_path / "nowhere.wav")


async def test_many_at_once_and_one_that_is_cancelled() -> None:
    transcriber, engine = hears("x")
    found = await asyncio.gather(*(transcriber.atranscribe(tone(1)) for _ in range(3)))
    assert [one.text for one in found] == ["x"] * 3
    going = asyncio.create_task(transcriber.atranscribe(join(*[tone(1), silence(5)] * 200)))
    while len(engine.heard) < 20:
        await asyncio.sleep(0.001)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    await asyncio.sleep(0.05)
    assert len(engine.heard) < 190


def test_the_fingerprint_is_of_all_that_matters() -> None:
    engine = ScriptedEngine()
    prints = [
        Transcriber(engine, **options).fingerprint
        for options in (
            {},
            {"words": True},
            {"language": "de"},
            {"prompt": "x"},
            {"task": "translate"},
            {"vad": LoudVad},
        )
    ]
    assert len(set(prints)) == len(prints)
    assert Transcriber(engine, batch=2).fingerprint == prints[0] == Transcriber(engine).fingerprint


def ten_minutes(folder: Path) -> tuple[Sound, list[tuple[float, float]]]:
    """Real clips of read English with silence between them, and where each is heard by its own loudness."""
    clips = sorted((folder / "speech_ljspeech" / "wavs").glob("*.flac"))
    parts, edges, at = list[Sound](), list[tuple[float, float]](), 0.0
    while at < 600:
        samples = np.concatenate(list(waveform(clips[len(edges) % len(clips)])))
        loud = np.flatnonzero(np.abs(samples) > 0.02)
        edges.append((at + loud[0] / RATE, at + loud[-1] / RATE))
        pause = silence(3.5 + len(edges) % 3)
        parts += [samples, pause]
        at += (len(samples) + len(pause)) / RATE
    return join(*parts), edges


@pytest.mark.parametrize("vad", ["energy", "auto"])
def test_ten_minutes_of_real_clips_are_covered_once_with_their_times(vad: Any, shared_data: Path) -> None:
    sound, edges = ten_minutes(shared_data)
    engine = ScriptedEngine(lambda window, ask: "x", languages=("en",))
    said = Transcriber(engine, vad=vad).transcribe(wav(sound))
    assert len(said.segments) == len(edges)
    for segment, (t0, t1) in zip(said.segments, edges, strict=True):
        assert abs(segment.t0 - t0) <= 0.3 and abs(segment.t1 - t1) <= 0.3
    assert sum(seconds for seconds, _ in engine.heard) == pytest.approx(said.speech, rel=0.05)


def test_memory_is_held_for_a_few_windows_only() -> None:
    minute = join(*[tone(8), silence(4)] * 5)
    source = (np.tile(minute, 10) * 32_767).astype(np.int16)
    transcriber, _ = hears("x", batch=2)
    tracemalloc.start()
    transcriber.transcribe(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6  # as floats, all of the samples are 38 MB


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("whisper") / "model")


def test_a_real_network_gives_segments_within_the_recording_in_order(whisper: Path) -> None:
    transcriber = load_transcriber(whisper, "cpu", vad=LoudVad, guards=Guards(logprob=-99, compression=99))
    found = transcriber.segments(wav(join(tone(12), silence(6), tone(2))), "a.wav")
    assert all(0 <= segment.t0 <= segment.t1 <= 20 for segment in found)
    assert all(one.t1 <= other.t0 for one, other in pairwise(found))
    assert found == transcriber.segments(wav(join(tone(12), silence(6), tone(2))), "a.wav")


def test_where_there_is_no_model_the_setting_is_named(
    tmp_path: Path, whisper: Path, no_nano: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for make in (load_transcriber, Transcriber):
        with pytest.raises(ConfigurationError, match=r"there is no speech model.*set MMAGENT_SPEECH_MODEL to a folder"):
            make()
    with pytest.raises(ModelError, match="nano cannot hear in this installation"):
        load_transcriber("nano")
    with pytest.raises(NotFound, match="there is no speech model"):
        load_transcriber(tmp_path / "nowhere")
    monkeypatch.setenv("MMAGENT_SPEECH_MODEL", str(whisper))
    settings.cache_clear()
    assert load_transcriber().engine.name == "transformers"


def test_windows_are_as_long_as_the_engines() -> None:
    transcriber, engine = hears("One.")
    engine.seconds = 5.0
    said = transcriber.transcribe(join(tone(23), silence(2), tone(2), silence(1), tone(1)))
    assert max(seconds for seconds, _ in engine.heard) <= 5.0
    assert sum(seconds for seconds, _ in engine.heard) > 25.5 and abs(said.speech - 26) < 4 * EDGE


def test_speech_of_which_nothing_is_understood_is_told() -> None:
    transcriber, _ = hears(decoded(logprob=-3.0))
    said = transcriber.transcribe(join(silence(1), tone(2)))
    assert said.no_speech and [drop.reason for drop in said.dropped] == ["low confidence"]


def test_an_engine_that_fails_fails_the_transcript() -> None:
    def fails(window: Any, ask: Ask) -> str:
        raise ModelError("the engine failed; try again")

    with pytest.raises(ModelError, match="the engine failed"):
        hears(fails)[0].transcribe(tone(1))


def test_importing_speech_loads_no_model() -> None:
    code = (
        "import sys, mmagent.speech, mmagent.speech.transcribe\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'av', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_segments_of_silence_are_none() -> None:
    assert hears("x")[0].segments(wav(silence(3)), "a.wav") == list[Segment]()
