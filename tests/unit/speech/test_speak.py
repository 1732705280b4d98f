"""What is said of an answer, when, and by whom."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagent.errors import ConfigurationError, LimitError, MediaError, MissingExtra, ModelError, NotFound
from mmagent.speech import speak
from mmagent.speech.play import Loudspeaker, NullPlayer, WavPlayer
from mmagent.speech.speak import Espeak, Silent, espeak_voices, load_voice
from mmagent.speech.speakable import LONGEST, Sentences, speakable
from tests.blocking import no_blocking  # noqa: F401 # a fixture

needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("**Yes**, you _can_ [1].", "Yes, you can."),
        ("## Returns\n", "Returns"),
        ("See [the policy](https://example.com/a_(b)?c=d) [1, 2][3].", "See the policy."),
        ("More at https://www.example.com/returns?x=1.", "More at example.com."),
        ("Your order ACME-123 is here.", "Your order A C M E, 1 2 3 is here."),
        ("Order #48213, 3.50 EUR, 1,250.00 in 2026", "Order 4 8 2 1 3, 3.50 EUR, 1,250.00 in 2026"),
        ("Call 0123456789.", "Call 0 1 2 3 4 5 6 7 8 9."),
        ("- [x] a `snake_case` name", "a snake case name"),
        ("```python\nprint(1)\n```\n", ""),
        ("| Item | Price |\n|---|--:|\n| Lamp | 12 |\n", "Item: Lamp, Price: 12."),
        ("---\n", ""),
        ("Fine 😀 &amp; good<br>\x1b[31m", "Fine & good 31m"),
        ("[[hEl'oU]]", "hEl'oU"),
        ("Rückgabe ab 3 °C: schön!", "Rückgabe ab 3 °C: schön!"),
    ],
)
def test_markdown_becomes_what_one_would_say(text: str, said: str) -> None:
    assert speakable(text) == said


@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_nothing_that_steers_a_voice_or_a_terminal_is_said(text: str) -> None:
    said = speakable(text)
    assert said.isprintable() or not said
    assert not set(said) & set("[]{}|*`~^\\#<>\n")


def cut(text: str, size: int = 1) -> list[str]:
    sentences = Sentences()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [*(one for piece in pieces for one in sentences.feed(piece)), *sentences.finish()]


@pytest.mark.parametrize(
    "parts",
    [
        ["Hello. ", "How are you? ", "Fine!"],
        ["Dr. Smith has no. 5, e.g. a lamp. ", "Yes."],
        ["It costs 3.50 EUR. ", "J. Doe paid."],
        ["No. ", "It is at 5 p.m. ", "See you."],
        ["1. One thing.\n", "2. Another.\n", "Done"],
        ["# Title\n", "Text [1]. ", "More."],
        ["Look: \n", "```\na. B\nc\n```\n", "There."],
        ["| a | b |\n|---|---|\n| c | d |\n", "After."],
        ["你好。", "再见！", "好"],
        ['He said "yes." ', "Then he left."],
    ],
)
def test_sentences_end_where_people_end_them(parts: list[str]) -> None:
    assert cut("".join(parts)) == parts


@given(st.text(alphabet="aB1 .!?\n|`-,。", max_size=900), st.integers(1, 50))
@settings(max_examples=150, deadline=None)
def test_the_sentences_are_the_text_however_it_comes(text: str, size: int) -> None:
    assert "".join(cut(text, size)) == text


def test_a_sentence_is_there_as_soon_as_the_next_one_begins_and_none_is_endless() -> None:
    sentences = Sentences()
    assert sentences.feed("The lamp is here. ") == []
    assert sentences.feed("T") == ["The lamp is here. "]
    assert all(len(one) <= LONGEST for one in cut("word " * 500))
    assert all(len(one) <= LONGEST for one in cut("x" * 1_000))


@needs_espeak
def test_espeak_says_more_of_more_and_takes_no_orders(tmp_path: Path) -> None:
    voice = Espeak("en")
    short, long = (sum(map(len, voice.say(text))) for text in ("One lamp.", "One lamp and then two more chairs."))
    assert 0.3 * voice.rate < short < long < 5 * voice.rate
    for text in ("--version", f"-w {tmp_path}/x.wav", "\x00\x1b]0;x\x07 hello", "-f /etc/passwd"):
        assert sum(map(len, voice.say(text))) > 0
    assert list(tmp_path.iterdir()) == []
    assert list(voice.say(" ... \n")) == []


@needs_espeak
def test_espeak_lists_its_voices_and_refuses_others() -> None:
    assert {"en", "en-gb", "de", "es"} <= set(espeak_voices())
    assert load_voice("espeak:de").name == "espeak:de"
    assert load_voice(None, "es").name == "espeak:es"
    for name in ("klingon", "-w", "en;x", "../en"):
        with pytest.raises(ConfigurationError, match=r"has no voice .*; there are: .*de"):
            Espeak(name)
    with pytest.raises(ConfigurationError, match="80 to 450"):
        Espeak("en", speed=5)


def test_without_espeak_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    speak.espeak_voices.cache_clear()
    with pytest.raises(ConfigurationError, match=r"apt-get install -y espeak-ng"):
        load_voice()


@pytest.fixture
def fake_espeak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program in the place of espeak-ng, which knows the voice ``en``."""
    program = tmp_path / "espeak-ng"
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    monkeypatch.setattr(speak, "espeak_voices", lambda: ("en",))
    yield program


@pytest.mark.parametrize(
    ("script", "message"),
    [("exit 3", "exit code 3"), ("echo no sound", "gave no sound"), ("exec sleep 5", "did not end within 0.2 s")],
)
def test_a_program_that_fails_is_one_line(
    fake_espeak: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setattr(speak, "_TIMEOUT", 0.2)
    fake_espeak.write_text(f"#!/bin/sh\n{script}\n")
    fake_espeak.chmod(0o755)
    with pytest.raises(ModelError, match=message):
        list(Espeak("en").say("hello"))


def test_a_novel_is_not_said_at_once(fake_espeak: Path) -> None:
    with pytest.raises(LimitError, match="2,000"):
        list(Espeak("en").say("word " * 1_000))


def test_a_voice_that_there_is_not() -> None:
    with pytest.raises(ConfigurationError, match=r"no voice 'alexa'; give espeak, espeak:LANGUAGE, piper:FILE"):
        load_voice("alexa")
    with pytest.raises(NotFound, match=r"no file nowhere.onnx"):
        load_voice("piper:nowhere.onnx")
    with pytest.raises(NotFound, match=r"no file nowhere"):
        load_voice("kokoro:nowhere:af_heart")
    assert list(load_voice("none").say("hello")) == []
    assert isinstance(load_voice("none"), Silent)


def module(name: str, **names: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(names)
    return made


def test_piper_and_kokoro_by_their_own_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("v.onnx", "v.onnx.json", "voices-v1.0.bin"):
        (tmp_path / name).touch()
    for package, which in (("piper", f"piper:{tmp_path}/v.onnx"), ("kokoro_onnx", f"kokoro:{tmp_path}")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigurationError, match=r"install it with: pip install (piper-tts|kokoro-onnx)"):
            load_voice(which)
    chunk = SimpleNamespace(audio_int16_bytes=np.array([16_384, -16_384], "<i2").tobytes())
    loaded = SimpleNamespace(config=SimpleNamespace(sample_rate=16_000), synthesize=lambda text: [chunk, chunk])
    monkeypatch.setitem(sys.modules, "piper", module("piper", PiperVoice=SimpleNamespace(load=lambda path: loaded)))
    piper = load_voice(f"piper:{tmp_path}/v.onnx")
    assert piper.rate == 16_000
    assert np.concatenate(list(piper.say("hello"))).tolist() == [0.5, -0.5, 0.5, -0.5]
    model = SimpleNamespace(get_voices=lambda: ["af_heart"], create=lambda text, **how: (np.ones(3), 24_000))
    monkeypatch.setitem(sys.modules, "kokoro_onnx", module("kokoro_onnx", Kokoro=lambda *files: model))
    assert np.concatenate(list(load_voice(f"kokoro:{tmp_path}").say("hello"))).tolist() == [1, 1, 1]
    with pytest.raises(ConfigurationError, match="no voice 'bob'; there are: af_heart"):
        load_voice(f"kokoro:{tmp_path}:bob")


async def test_answers_go_to_a_file(tmp_path: Path) -> None:
    import soundfile

    with WavPlayer(tmp_path / "out.wav") as player:
        for _ in range(2):
            await player.play(np.full(100, 0.5, np.float32), 8_000)
            assert player.heard == 100 / 8_000
    samples, rate = soundfile.read(tmp_path / "out.wav")
    assert (len(samples), rate) == (200, 8_000) and samples == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(MediaError, match="cannot be written"), WavPlayer(tmp_path / "no" / "out.wav"):
        pass


async def test_a_player_of_nothing_has_heard_everything() -> None:
    player = NullPlayer()
    await player.play(np.zeros(100, np.float32), 100)
    assert player.heard == 1


class Speakers(SimpleNamespace):
    """As much of sounddevice as a loudspeaker needs; it takes a block each time somebody looks."""

    PortAudioError, CallbackStop = type("PortAudioError", (Exception,), {}), type("CallbackStop", (Exception,), {})

    def OutputStream(self, callback: Any, **form: Any) -> Any:
        port = self

        class Stream(SimpleNamespace):
            def start(self) -> None:
                port.taken = []

            @property
            def active(self) -> bool:
                block = np.zeros((256, 1), np.float32)
                try:
                    callback(block, 256, None, None)
                except port.CallbackStop:
                    return False
                finally:
                    port.taken.append(block[:, 0])
                return True

            def abort(self, ignore_errors: bool) -> None:
                port.aborted = True

            def close(self, ignore_errors: bool) -> None:
                port.closed = True

        return Stream()


async def test_a_loudspeaker_plays_all_and_stops_when_told(
    monkeypatch: pytest.MonkeyPatch,
    no_blocking: list[str],  # noqa: F811
) -> None:
    port = Speakers()
    monkeypatch.setitem(sys.modules, "sounddevice", port)
    player, samples = Loudspeaker(), np.arange(1_000, dtype=np.float32)
    await player.play(samples, 1_000)
    assert np.array_equal(np.concatenate(port.taken)[:1_000], samples)
    assert port.closed
    port.closed = port.aborted = False
    player.heard = 0.0
    playing = asyncio.create_task(player.play(np.ones(1_000_000, np.float32), 1_000))
    while player.heard < 0.5:
        await asyncio.sleep(0.001)
    playing.cancel()
    await asyncio.wait({playing})
    assert port.aborted and port.closed and 0.5 <= player.heard < 100


async def test_no_loudspeaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match="mic"):
        await Loudspeaker().play(np.zeros(10, np.float32), 10)
