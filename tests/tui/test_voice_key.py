"""Speaking into the composer, and answers read aloud, without any device."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest

from mmagent.errors import ConfigurationError, MediaError
from mmagent.testing import (
    ScriptedDetector,
    ScriptedEngine,
    ScriptedModel,
    ScriptedRecorder,
    ScriptedSpeaker,
    ScriptedSpeech,
    ScriptedVoice,
)
from mmagent.tui.app import ChatApp
from mmagent.tui.voice import Aloud, Dictation
from tests.tui.driving import answers, asked, maker, notes, running, screen_text, shown, until

SPEED = 8.0


def dictation(speech: ScriptedSpeech, **recorder: Any) -> tuple[Dictation, list[ScriptedRecorder]]:
    made: list[ScriptedRecorder] = []

    def record() -> ScriptedRecorder:
        made.append(ScriptedRecorder(speech.samples, speed=SPEED, **recorder))
        return made[-1]

    return Dictation(record, lambda: speech, ScriptedDetector), made


def talking(seconds: float = 30.0) -> ScriptedSpeech:
    """Somebody who goes on until the key is pressed again."""
    return ScriptedSpeech(" ".join(f"word{number}" for number in range(int(seconds / 0.32))), pause=0.3)


async def test_what_is_said_is_seen_while_it_is_said_and_is_not_sent() -> None:
    heard, made = dictation(talking())
    model = ScriptedModel(["Yes."])
    app = ChatApp(maker(model=model), dictation=heard)
    async with running(app) as pilot:
        app.composer.write("note:")
        await pilot.press("ctrl+r")
        await shown(app, "● REC", "listening")
        await until(lambda: "word3" in app.composer.text)
        assert app.composer.text.startswith("note: word0 word1")
        partial = app.composer.text
        await pilot.press("ctrl+r")
        await until(lambda: not app.status.figures.recording)
        assert app.composer.text.startswith(partial[: len("note: word0 word1 word2")])
        await until(lambda: "REC" not in screen_text(app))
        assert made[0].closed and not app.story.items and not model.requests
        await pilot.press(*" so")
        assert app.composer.text.endswith(" so")
        await pilot.press("enter")
        await until(lambda: answers(app) == ["Yes."])
        assert model.requests[0].messages[-1].text.startswith("note: word0")


async def test_escape_takes_back_what_was_said() -> None:
    heard, _ = dictation(talking())
    app = ChatApp(maker(), dictation=heard)
    async with running(app) as pilot:
        app.composer.write("before")
        await pilot.press("ctrl+r")
        await until(lambda: "word2" in app.composer.text)
        await pilot.press("escape")
        await until(lambda: not app.status.figures.recording)
        assert app.composer.text == "before"


async def test_one_can_speak_again() -> None:
    heard, made = dictation(ScriptedSpeech("where is it", pause=0.3))
    app = ChatApp(maker(), dictation=heard)
    async with running(app) as pilot:
        for number in (1, 2):
            await pilot.press("ctrl+r")
            await until(lambda number=number: len(made) == number and not app.status.figures.recording)
        assert app.composer.text == "where is it where is it"


async def test_a_microphone_that_vanishes_leaves_what_was_said() -> None:
    lost = MediaError("the microphone is gone; plug it in again")
    heard, made = dictation(ScriptedSpeech("where is my lamp", pause=0.3), error=lost)
    app = ChatApp(maker(), dictation=heard)
    async with running(app) as pilot:
        await pilot.press("ctrl+r")
        await until(lambda: bool(made) and not app.status.figures.recording)
        await pilot.pause()
        assert app.composer.text == "where is my lamp"
        await pilot.press(*" x")
        assert app.composer.text.endswith(" x")


async def test_a_microphone_that_is_gone_before_a_word_is_told() -> None:
    silent = ScriptedRecorder(np.zeros(512, np.float32), speed=SPEED, error=MediaError("the microphone is gone"))
    app = ChatApp(maker(), dictation=Dictation(lambda: silent, lambda: ScriptedEngine(""), ScriptedDetector))
    async with running(app) as pilot:
        app.composer.write("kept")
        await pilot.press("ctrl+r")
        await until(lambda: not app.status.figures.recording and bool(notes(app)))
        assert "the microphone is gone" in notes(app) or "nothing was understood" in notes(app)
        assert app.composer.text == "kept"


async def test_silence_is_told() -> None:
    heard, _ = dictation(ScriptedSpeech(pause=0.5))
    app = ChatApp(maker(), dictation=heard)
    async with running(app) as pilot:
        await pilot.press("ctrl+r")
        await until(lambda: not app.status.figures.recording and bool(notes(app)))
        assert "nothing was understood; speak nearer to the microphone, or type" in notes(app)


async def test_an_engine_that_cannot_be_had_is_told() -> None:
    def none() -> Any:
        raise ConfigurationError("there is no speech model; mmagent models pull one")

    speech = talking()
    app = ChatApp(maker(), dictation=Dictation(lambda: ScriptedRecorder(speech.samples), none, ScriptedDetector))
    async with running(app) as pilot:
        await pilot.press("ctrl+r")
        await until(lambda: "there is no speech model; mmagent models pull one" in notes(app))
        assert not app.status.figures.recording and "REC" not in screen_text(app)


async def test_without_the_package_for_microphones_the_command_to_install_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    app = ChatApp(maker(), dictation=Dictation(None, lambda: ScriptedEngine("x"), ScriptedDetector))
    async with running(app) as pilot:
        await pilot.press("ctrl+r")
        await until(lambda: "pip install" in notes(app))
        assert "mmagent[" in notes(app) and not app.status.figures.recording
        assert "Traceback" not in screen_text(app)


async def test_the_level_is_shown_while_somebody_speaks() -> None:
    heard, _ = dictation(talking())
    app = ChatApp(maker(), dictation=heard)
    async with running(app) as pilot:
        await pilot.press("ctrl+r")
        await until(lambda: app.status.figures.level > 0)
        app.do("stop", "")
        await until(lambda: not app.status.figures.recording)
        assert app.status.figures.level == 0


async def test_answers_are_read_aloud_while_that_is_wanted() -> None:
    voice, player = ScriptedVoice(seconds=0.001), ScriptedSpeaker(speed=50)
    app = ChatApp(maker("It is **here**.", "And here."), aloud=Aloud(voice, player))
    async with running(app) as pilot:
        await asked(app, pilot, "where?")
        assert not voice.texts
        app.do("aloud", "")
        await until(lambda: "".join(voice.texts) == "It is here.")
        await shown(app, "aloud")
        await asked(app, pilot, "and?")
        await until(lambda: voice.texts[-1] == "And here.")
        app.do("aloud", "")
        await pilot.pause()
        assert not app.preferences.aloud and "aloud" not in screen_text(app)


async def test_reading_stops_when_somebody_asks_or_stops_it() -> None:
    for end in ("escape", "ctrl+r", "question"):
        voice, player = ScriptedVoice(seconds=1), ScriptedSpeaker()
        heard, _ = dictation(talking())
        app = ChatApp(maker("A very long answer."), aloud=Aloud(voice, player), dictation=heard)
        async with running(app) as pilot:
            app.do("aloud", "")
            await asked(app, pilot, "tell")
            await until(lambda player=player: player.pieces and player.silent_since is None)
            await (asked(app, pilot, "more") if end == "question" else pilot.press(end))
            await until(lambda player=player: player.silent_since is not None and player.heard < 18)


async def test_a_voice_that_fails_is_told() -> None:
    voice = ScriptedVoice(error=ConfigurationError("espeak-ng is not there; install it"))
    app = ChatApp(maker("Yes."), aloud=Aloud(voice, ScriptedSpeaker()))
    async with running(app) as pilot:
        app.do("aloud", "")
        await asked(app, pilot, "tell")
        await until(lambda: "espeak-ng is not there; install it" in notes(app))
        assert answers(app) == ["Yes."]


async def test_released_before_anything_was_heard_it_ends() -> None:
    """While the engine is being loaded nobody is listened to yet, and the microphone closes as soon as it may."""
    loading = threading.Event()
    made: list[ScriptedRecorder] = []

    def record() -> ScriptedRecorder:
        made.append(ScriptedRecorder(talking().samples, speed=1.0))
        return made[-1]

    def load() -> ScriptedEngine:
        assert loading.wait(20)
        return ScriptedEngine("never said")

    app = ChatApp(maker(), dictation=Dictation(record, load, ScriptedDetector))
    async with running(app) as pilot:
        app.composer.write("kept")
        await pilot.press("ctrl+r")
        await until(lambda: app.status.figures.recording)
        await pilot.press("ctrl+r")
        loading.set()
        await until(lambda: not app.status.figures.recording, 5)
        assert app.composer.text == "kept"


async def test_what_is_typed_while_somebody_speaks_stays() -> None:
    heard, _ = dictation(talking())
    app = ChatApp(maker(), dictation=heard)
    async with running(app) as pilot:
        await pilot.press("ctrl+r")
        await until(lambda: "word2" in app.composer.text)
        app.composer.lines.insert(" typed")
        await until(lambda: not app.status.figures.recording)
        assert app.composer.text.endswith("typed") or " typed" in app.composer.text
