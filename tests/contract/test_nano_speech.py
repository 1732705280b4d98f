"""What the speech model that ships promises: it hears the voice note of the shop, and no words where nobody speaks."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmagent import nano
from mmagent.agent import hearing
from mmagent.chat.protocol import Capabilities
from mmagent.cli.assemble import Choices
from mmagent.cli.run import Decisions, run
from mmagent.errors import MissingExtra
from mmagent.media.sound import RATE, waveform
from mmagent.speech import Transcriber, load_transcriber
from mmagent.speech.engines import Ask
from mmagent.speech.engines.convert import convert
from mmagent.speech.engines.faster import FasterWhisperEngine
from mmagent.speech.engines.load import LITTLE, load_engine
from mmagent.speech.engines.transformers import TransformersEngine
from mmagent.testing import ScriptedModel
from mmagent.train.speech import room

pytestmark = [pytest.mark.nano("speech"), pytest.mark.xdist_group("nano-speech")]
SHOP = Path(__file__).parents[2] / "examples" / "shop"
NOTE = SHOP / "voice_note.wav"
ORDER = "A-48213"


@pytest.fixture(scope="module")
def ear() -> Transcriber:
    return load_transcriber("nano", "cpu")


@pytest.fixture(scope="module")
def windows() -> list[Any]:
    """The voice note, whole and in part, and what nobody says."""
    note = np.concatenate(list(waveform(NOTE)))
    half = len(note) // 2
    return [note, note[:half], note[half:], np.zeros(RATE, np.float32)]


def test_it_hears_the_order_number_of_the_voice_note(ear: Transcriber) -> None:
    said = ear.transcribe(NOTE)
    assert ORDER in said.text
    assert said.segments[-1].t1 <= said.duration


def test_engines_agree_token_for_token(windows: list[Any], tmp_path: Path) -> None:
    """openai-whisper has one vocabulary of its own, and takes no other."""
    source = nano.speech_folder()
    try:
        other = FasterWhisperEngine(convert(source, tmp_path / "fast"), "cpu", "float32")
    except MissingExtra as error:
        pytest.skip(str(error))
    ours = TransformersEngine(source, "cpu", "float32")
    assert ours.seconds == other.seconds == 10.0
    for mine, theirs in zip(ours.decode(windows, Ask()), other.decode(windows, Ask()), strict=True):
        assert mine.tokens == theirs.tokens
        assert theirs.logprob == pytest.approx(mine.logprob, abs=1e-3)
        assert theirs.no_speech == pytest.approx(mine.no_speech, abs=1e-3)


def test_it_listens_where_no_model_is_set(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mmagent"):
        found = [Transcriber(device="cpu"), load_transcriber(device="cpu")]
    assert {one.engine.fingerprint for one in found} == {load_engine("nano", "cpu").fingerprint}
    assert [record.getMessage() for record in caplog.records] == [f"no speech model is set; {LITTLE}"] * 2
    caplog.clear()
    load_transcriber("nano", "cpu")
    assert not caplog.records, "whoever asks for it knows what it is"


@pytest.mark.parametrize("kind", ["nothing", "hum", "noise", "knocks"])
def test_where_nobody_speaks_there_are_no_words(ear: Transcriber, kind: str) -> None:
    rng, count = random.Random(kind), 15 * RATE
    sounds = {
        "nothing": lambda: np.zeros(count, np.float32),
        "hum": lambda: (0.2 * np.sin(2 * np.pi * 50 * np.arange(count) / RATE)).astype(np.float32),
        "noise": lambda: (0.1 * room.noise(count, rng)).astype(np.float32),
        "knocks": lambda: 0.5 * room.clicks(count, rng),
    }
    assert ear.transcribe(sounds[kind]()).text == ""


def test_the_voice_note_reaches_a_model_as_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hearing._of_settings.cache_clear()
    model = ScriptedModel(["Yes."], capabilities=Capabilities(context_length=32_000))
    monkeypatch.setattr("mmagent.chat.factory.load_model", lambda *_: model)
    assert run(None, [NOTE], Choices(tools=(SHOP / "tools.py",)), Decisions(), as_json=True) == 0
    assert ORDER in model.requests[0].messages[1].text
    assert json.loads(capsys.readouterr().out)["text"] == "Yes."


@pytest.mark.nano
def test_the_spoken_demo_reaches_nano_as_words(capsys: pytest.CaptureFixture[str]) -> None:
    """``mmagent run -a voice_note.wav --tools tools.py --knowledge policies``, with nothing set."""
    hearing._of_settings.cache_clear()
    choices = Choices(tools=(SHOP / "tools.py",), knowledge=SHOP / "policies")
    assert run(None, [NOTE], choices, Decisions(), stream_json=True) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (substituted,) = [event for event in events if event["type"] == "media_substituted"]
    assert ORDER in substituted["instead"]
