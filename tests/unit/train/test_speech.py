"""Training of a speech model: what is written of what is said, what is not to be known, and what is saved."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmagent.errors import ConfigurationError, NotFound
from mmagent.media.sound import RATE
from mmagent.speech.engines import Ask
from mmagent.speech.engines.transformers import TransformersEngine
from mmagent.train import Watch, load
from mmagent.train.packing import IGNORED
from mmagent.train.recipe import parse
from mmagent.train.sources import SOURCES, make_source
from mmagent.train.sources import speech as sources
from mmagent.train.speech import room, voices, words
from mmagent.train.speech.disguise import disguised
from mmagent.train.speech.encode import PROMPTED, SpeechEncoder, letters_of
from mmagent.train.speech.run import SpeechRun, build_tokenizer, tokens_of, train_speech
from mmagent.train.speech.spoken import Line, Spoken, resampled, trimmed

EARS = {
    "vocab_size": 320, "vocabulary_samples": 200, "width": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1,
    "seconds": 4, "context": 64, "mels": 20,
}  # fmt: skip
needs_voices = pytest.mark.skipif(not voices.installed(), reason="espeak-ng is not installed")


def beeps(low: int = 300) -> Any:
    """In place of voices: a tone is a digit; nothing is noise; a high tone is not to be known."""

    def tell(rng: random.Random) -> Spoken:
        digit = rng.randrange(10)
        t = np.arange(RATE // 2) / RATE
        tone = (0.3 * np.sin(2 * np.pi * (low + 150 * digit) * t)).astype(np.float32)
        sound = np.pad(tone, (1600, 3200))
        kind = rng.random()
        if kind < 0.1:
            return Spoken(sound * 0)
        return Spoken(sound, (Line(0.1, 0.6, "" if kind < 0.2 else str(digit)),))

    return tell


@pytest.fixture(autouse=True)
def toy_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "beeps", f"{__name__}:beeps")


def toy(**fields: Any) -> Any:
    return parse(
        {
            "name": "toy", "stage": "speech", "ears": EARS, "data": [{"source": "beeps"}],
            "losses": {"text": 1, "letters": 0.3, "sounds": 0.1, "gaze": 0.3}, "steps": 6,
            "tokens_per_step": 200, "tokens_per_batch": 100,
            "max_tokens": 200, "precision": "fp32", "check_every": 6, "check_samples": 4, "save_every": 3, **fields,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    tokenizer = build_tokenizer(toy().ears, 0)
    return SpeechEncoder(tokens_of(tokenizer), 20, 4.0, 64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "beeps", f"{__name__}:beeps")
        return train_speech(toy(ema=0.5), tmp_path_factory.mktemp("speech") / "toy", workers=0)


@pytest.mark.parametrize(
    ("characters", "spoken", "written"),
    [
        ("A48213", "eh four eight two one three", "A-48213"),
        ("QX4821", "cue ex four eight two one", "QX-4821"),
        ("7QK2", "seven cue kay two", "7QK2"),
        ("W", "double-you", "W"),
    ],
)
def test_what_is_spelled(characters: str, spoken: str, written: str) -> None:
    said = {words.spelled(characters, random.Random(seed)) for seed in range(200)}
    assert {one.written for one in said} == {written}
    plain = {one.spoken.replace(",", "").replace("dash ", "") for one in said}
    assert plain == {spoken}


@needs_voices
@pytest.mark.parametrize(("letter", "name"), words.LETTERS.items())
def test_the_names_of_letters_sound_like_them(letter: str, name: str) -> None:
    def phonemes(what: str) -> str:
        command = ["espeak-ng", "-v", "en-us", "-m", "-x", "-q", what]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip().translate(str.maketrans("", "", "',_!"))

    assert phonemes(name) == phonemes(f'<say-as interpret-as="characters">{letter}</say-as>')


@given(st.integers(0, 2**32))
def test_what_customers_say_can_be_said_and_written(seed: int) -> None:
    said = words.draw(random.Random(seed))
    assert said.written.strip() == said.written and "{" not in said.written
    assert not re.search(r"[0-9€$£{}]", said.spoken), said
    assert letters_of(said.written)


@pytest.mark.parametrize(
    ("number", "said"), [(0, "zero"), (21, "twenty one"), (105, "one hundred and five"), (4000, "four thousand")]
)
def test_numbers_in_words(number: int, said: str) -> None:
    assert words.cardinal(number) == said


@pytest.mark.parametrize(("day", "said"), [(1, "first"), (12, "twelfth"), (20, "twentieth"), (31, "thirty first")])
def test_days_in_words(day: int, said: str) -> None:
    assert words.ordinal(day) == said


def test_only_what_is_asked_for_is_said() -> None:
    rng = random.Random(0)
    said = {words.draw(rng, ["single", "short"]).written for _ in range(300)}
    assert {len(text) for text in said} == {1, 2, 3, 4} and all(text.isalnum() for text in said)
    with pytest.raises(ConfigurationError, match="the source voices, option kinds"):
        make_source("voices", {"kinds": ["songs"]})


def test_nobody_who_is_held_out_is_trained() -> None:
    assert not set(voices.HELD_OUT) & set(voices.VARIANTS)
    rng = random.Random(0)
    assert {voices.pick(rng).variant for _ in range(500)} <= set(voices.VARIANTS)
    assert {voices.pick(rng, held_out=True).variant for _ in range(100)} == set(voices.HELD_OUT)


def test_recordings_of_who_is_held_out_are_never_drawn(tmp_path: Path) -> None:
    from mmagent.media.sound import wav

    sound = wav((0.3 * np.sin(np.arange(4000) / 5)).astype(np.float32))
    for name in ("digits/3_george_0.wav", f"digits/3_{sources.HELD_OUT}_0.wav", "letters/b/ann_nohash_0.wav",
                 "letters/b/ann_nohash_1.wav"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(sound)
    found = sources._fsdd(str(tmp_path / "digits")) + sources._alphanumeric(str(tmp_path / "letters"))
    assert [(who, what, Path(path).name) for who, what, path in found] == [
        ("george", "3", "3_george_0.wav"),
        ("ann", "B", "ann_nohash_1.wav"),
    ]
    tell = make_source("clips", {"digits": str(tmp_path / "digits"), "characters": str(tmp_path / "letters")})
    rng = random.Random(0)
    assert {tell(rng).lines[0].text[0] for _ in range(40)} == {"3", "B"}


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="there is no /nowhere"):
        make_source("clips", {"digits": "/nowhere"})


@needs_voices
def test_voices_say_the_same_each_time() -> None:
    tell = sources.voices()
    one, other = tell(random.Random(4)), tell(random.Random(4))
    assert [line.text for line in one.lines] == [line.text for line in other.lines]
    assert abs(one.seconds - other.seconds) < 0.05  # espeak-ng goes on from what it said before
    assert one.lines and 0 <= one.lines[0].t0 < one.lines[-1].t1 <= one.seconds <= sources.LONGEST
    assert np.abs(one.samples).max() <= 1 and np.isfinite(one.samples).all()


@given(st.integers(1, 20_000), st.integers(0, 2**32))
def test_a_room_keeps_length_and_range(size: int, seed: int) -> None:
    rng = random.Random(seed)
    for sound in (room.noise(size, rng), room.clicks(size, rng)):
        made = room.heard(sound, rng)
        assert len(made) == size and np.isfinite(made).all() and np.abs(made).max() <= 1.0 + 1e-5


def test_resampling_keeps_a_tone() -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(16_000) / RATE).astype(np.float32)
    made = resampled(tone, 1.25)
    assert abs(len(made) - 20_000) < 200
    peak = np.fft.rfftfreq(len(made), 1 / RATE)[np.abs(np.fft.rfft(made)).argmax()]
    assert abs(peak - 400) < 3
    assert len(trimmed(np.pad(tone, 5000))) <= 16_000


def _formants(samples: np.ndarray) -> float:
    """The middle of the spectrum, in Hz."""
    size = np.abs(np.fft.rfft(samples)) ** 2
    return float((np.fft.rfftfreq(len(samples), 1 / RATE) * size).sum() / size.sum())


def test_a_disguise_moves_formants_and_pace_but_not_the_pitch() -> None:
    t = np.arange(RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 150 * k * t) * np.exp(-(((150 * k - 1200) / 300) ** 2)) for k in range(1, 40))
    voice = (voice * 0.2).astype(np.float32)
    assert np.abs(disguised(voice) - voice).max() < 1e-4
    higher = disguised(voice, throat=1.2)
    assert len(higher) == len(voice) and _formants(higher) / _formants(voice) == pytest.approx(1.2, abs=0.06)
    for tempo in (0.7, 1.4):
        paced = disguised(voice, tempo=tempo)
        assert len(paced) == round(RATE * tempo) and _formants(paced) == pytest.approx(_formants(voice), rel=0.05)
        inside = paced[2000:-2000]
        peaks = np.fft.rfftfreq(len(inside), 1 / RATE)[np.abs(np.fft.rfft(inside)).argmax()]
        assert peaks % 150 == pytest.approx(0, abs=4) or peaks % 150 == pytest.approx(150, abs=4)


@given(st.integers(0, 8000), st.floats(0.8, 1.25), st.floats(0.7, 1.4), st.integers(0, 2**32))
def test_a_disguise_keeps_what_it_is_given_in_bounds(size: int, throat: float, tempo: float, seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(-1, 1, size).astype(np.float32)
    made = disguised(noise, throat, tempo)
    assert np.isfinite(made).all() and np.abs(made).max(initial=0.0) < 60
    assert len(made) in (size, round(size * tempo))


@needs_voices
def test_disguised_voices_are_no_longer_than_a_window() -> None:
    tell = sources.voices(disguises=1.0)
    rng = random.Random(7)
    for spoken in (tell(rng) for _ in range(30)):
        assert spoken.lines[-1].t1 <= spoken.seconds + 0.05 and spoken.seconds <= sources.LONGEST
        assert spoken.sounds is not None and all(one.t1 <= spoken.lines[-1].t1 + 0.3 for one in spoken.sounds)


def test_text_stands_between_its_times(encoder: SpeechEncoder) -> None:
    lines = (Line(0.1, 0.9, "Yes."), Line(1.5, 2.5, "A-48213"))
    heard = encoder.encode(unprompted(Spoken(np.zeros(3 * RATE, np.float32), lines)))
    first = encoder.tokens.first_time
    assert heard.tokens[0] == encoder.tokens.start and heard.tokens[1:] == heard.labels[:-1]
    assert heard.labels[-1] == encoder.end and not any(heard.flat)
    assert [token - first for token in heard.labels if token >= first] == [5, 45, 75, 125]
    pieces = encoder.tokens.pieces(heard.labels[:-1], 3.0)
    assert [encoder.tokens.decode(text) for _, _, text in pieces] == [" Yes.", " A-48213"]


def test_what_is_not_to_be_known_is_flat(encoder: SpeechEncoder) -> None:
    heard = encoder.encode(unprompted(Spoken(np.zeros(RATE, np.float32), (Line(0.1, 0.9, ""),))))
    assert heard.labels[0] == encoder.time(0.1) and all(heard.flat[1:]) and not heard.flat[0]
    assert all(label == IGNORED for label in heard.labels[1:]) and heard.letters is None
    silent = encoder.encode(unprompted(Spoken(np.zeros(RATE, np.float32))))
    assert silent.labels[0] == encoder.tokens.no_speech and all(silent.flat[1:]) and silent.letters == []


def unprompted(sample: Spoken) -> Spoken:
    """The same, a little longer, so that nothing is said before it."""
    import zlib

    while random.Random(zlib.crc32(sample.samples.tobytes())).random() < PROMPTED:
        sample = Spoken(np.pad(sample.samples, (0, 160)), sample.lines)
    return sample


def test_pictures_are_no_speech(encoder: SpeechEncoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the source digits gives no speech"):
        train_speech(toy(data=[{"source": "digits"}]), tmp_path / "toy", workers=0)


def test_what_is_saved_is_a_whisper(trained: Path) -> None:
    engine = TransformersEngine(trained, "cpu", "float32")
    assert engine.seconds == 4.0 and engine.languages == ()
    (found,) = engine.decode([beeps()(random.Random(1)).samples], Ask(max_tokens=8))
    assert 0 <= found.no_speech <= 1 and found.logprob < 0
    from transformers import AutoProcessor, WhisperForConditionalGeneration

    processor = AutoProcessor.from_pretrained(trained)
    features = processor(np.zeros(RATE, np.float32), sampling_rate=RATE, return_tensors="pt").input_features
    assert features.shape == (1, 20, 400)
    WhisperForConditionalGeneration.from_pretrained(trained).generate(features, max_new_tokens=4)


def test_the_other_engine_says_the_same(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    from mmagent.speech.engines.convert import convert
    from mmagent.speech.engines.faster import FasterWhisperEngine

    faster = FasterWhisperEngine(convert(trained, tmp_path / "ct2"), "cpu", "float32")
    ours = TransformersEngine(trained, "cpu", "float32")
    windows = [beeps()(random.Random(seed)).samples for seed in range(4)]
    assert faster.seconds == 4.0
    assert [one.tokens for one in ours.decode(windows, Ask())] == [one.tokens for one in faster.decode(windows, Ask())]


def test_it_learns_and_goes_on_as_it_was(tmp_path: Path, trained: Path) -> None:
    made = SpeechRun(toy(steps=20, warmup=2), tmp_path / "a", Watch(), 0)
    from mmagent.train.stream import Stream

    batches = Stream(made.recipe, made.encoder).draw(0)
    losses = [made.step(step, batches)["loss"] for step in range(20)]
    assert losses[-1] < 0.7 * losses[0]
    folder = tmp_path / "b"
    train_speech(toy(ema=0.5, steps=3), folder, workers=0)
    again = train_speech(toy(ema=0.5), folder, workers=0)
    from safetensors.torch import load_file

    one, other = (load_file(place / "model.safetensors") for place in (trained, again))
    # the cosine of the first steps ended earlier, so it is not the same to the last bit
    assert one.keys() == other.keys() and all(torch.isfinite(weight).all() for weight in other.values())


def test_a_run_keeps_the_vocabulary_that_its_weights_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a"
    train_speech(toy(steps=2), folder, workers=0)
    before = (folder / "model" / "tokenizer.json").read_text(encoding="utf-8")
    monkeypatch.setattr(words, "texts", lambda rng: iter(["other words"] * 50))
    train_speech(toy(steps=3), folder, workers=0)
    assert (folder / "model" / "tokenizer.json").read_text(encoding="utf-8") == before


def test_a_run_goes_on_from_another_s_weights(tmp_path: Path, trained: Path) -> None:
    folder = train_speech(toy(start=str(trained), steps=1), tmp_path / "a", workers=0)
    for name in ("tokenizer.json", "generation_config.json"):
        assert (folder / name).read_text(encoding="utf-8") == (trained / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["nano-speech", "nano-speech-people"])
def test_the_recipes_that_ship_are_whole(name: str) -> None:
    recipe = load(name)
    assert recipe.ears and recipe.ears.seconds == 10 and {one.source for one in recipe.data} <= SOURCES.keys()


def test_samples_can_be_heard_before(tmp_path: Path) -> None:
    from mmagent.media.sound import waveform
    from mmagent.train.speech.preview import preview

    played = preview(toy(), tmp_path / "a" / "preview.wav", count=3)
    sound = np.concatenate(list(waveform(tmp_path / "a" / "preview.wav")))
    assert len(played) == 3 and abs(len(sound) / RATE - sum(one.sample.seconds + 0.8 for one in played)) < 0.01
    assert all(re.search(r" s  beeps +(\d|\(nobody speaks\)|\(not to be known\))$", one.line()) for one in played)
    with pytest.raises(ConfigurationError, match="the source digits gives no speech"):
        preview(toy(data=[{"source": "digits"}]), tmp_path / "b.wav", count=1)


def test_ears_belong_to_speech() -> None:
    with pytest.raises(ConfigurationError, match="the stage speech and the field ears belong together"):
        toy(stage="instruct")
