"""``mmagent voice``: from a recording to a spoken answer without any device."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmagent.chat import factory
from mmagent.cli import voice as command
from mmagent.cli.main import main
from mmagent.media.sound import wav
from mmagent.session import Session
from mmagent.speech import speak
from mmagent.testing import ScriptedModel
from mmagent.testing.sound import ScriptedDetector, ScriptedSpeech, ScriptedVoice


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["voice", *arguments])
    return int(end.value.code or 0)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A recording with two questions, which the engine understands, and a model that answers them."""
    speech = ScriptedSpeech("where is my lamp?", "and when?")
    monkeypatch.setattr(command, "load_ears", lambda: speech)
    monkeypatch.setattr(command, "load_detector", ScriptedDetector)
    monkeypatch.setattr(speak, "load_voice", lambda *which: ScriptedVoice(seconds=0.01))
    monkeypatch.setattr(factory, "load_model", lambda name: ScriptedModel(["It is here. Take it.", "Today."]))
    path = tmp_path / "in.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((speech.samples * 32_767).astype("<i2").tobytes())
    return path


def test_a_recording_is_answered_into_a_file(said: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.wav"
    assert run("--file", str(said), "--out", str(out), "--session", "shop") == 0
    printed = capsys.readouterr()
    assert printed.out.split("\n") == ["It is here. Take it.", "Today.", ""]
    assert "> where is my lamp?" in printed.err and "> and when?" in printed.err
    with wave.open(str(out)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert len(samples) == 80 * sum(map(len, ["It is here.", "Take it.", "Today."]))
    session = Session.open("shop")
    assert [message.text for message in session.messages] == [
        "where is my lamp?",
        "It is here. Take it.",
        "and when?",
        "Today.",
    ]
    session.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--file", "nowhere.wav"], "there is no file nowhere.wav"),
        (["--push-to-talk", "--file", "x.wav"], "--push-to-talk needs a terminal and a microphone"),
        (["--voice", "alexa"], "there is no voice 'alexa'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "load_ears", lambda: ScriptedSpeech())
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_a_language_that_the_engine_does_not_know(said: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    speech = ScriptedSpeech()
    speech.languages = ("en", "de")
    monkeypatch.setattr(command, "load_ears", lambda: speech)
    assert run("--file", str(said), "--voice", "none", "--language", "xx") == 2
    assert "take one of: de, en" in capsys.readouterr().err


def test_without_a_speech_model_it_says_which_setting(tmp_path: Path, no_nano: None, capsys: Any) -> None:
    said = tmp_path / "in.wav"
    said.write_bytes(wav(np.zeros(16_000, np.float32)))
    assert run("--file", str(said), "--voice", "none") == 2
    assert "MMAGENT_SPEECH_MODEL" in capsys.readouterr().err
