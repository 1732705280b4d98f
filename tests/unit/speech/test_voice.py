"""A conversation by voice, in compressed time: answers begin early, and stop when somebody speaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagent.errors import ModelError, StoreLocked
from mmagent.events import Event, StepStarted, TextDelta, TurnFailed
from mmagent.media.sound import RATE
from mmagent.speech.live import Live
from mmagent.speech.record import BLOCK, Recorder, Recording
from mmagent.speech.turn import Began, Final, Listener
from mmagent.speech.voice import Interrupted, VoiceEvent, _share, talk
from mmagent.testing.sound import ScriptedDetector, ScriptedRecorder, ScriptedSpeaker, ScriptedSpeech, ScriptedVoice
from tests.blocking import _waited, no_blocking  # noqa: F401 # a fixture


def clock() -> float:
    """Seconds of this thread, without those in which it waited for a processor."""
    return time.monotonic() - _waited()


class Heard(ScriptedRecorder):
    """A first part, silence until so many sentences of the answer were begun, and the rest."""

    def __init__(self, speech: ScriptedSpeech, seconds: float, player: ScriptedSpeaker, sentences: int) -> None:
        at = round(seconds * RATE / BLOCK) * BLOCK
        super().__init__(speech.samples[:at], speed=40)
        self.rest = ScriptedRecorder(speech.samples[at:], speed=40)
        self.player, self.sentences = player, sentences

    async def blocks(self) -> AsyncGenerator[NDArray[np.float32], None]:
        async for block in super().blocks():
            yield block
        while len(self.player.pieces) < self.sentences:
            await asyncio.sleep(0.001)
            yield np.zeros(BLOCK, np.float32)
        async for block in self.rest.blocks():
            yield block


class Answering:
    """An agent that says its answers word by word; an error is raised where one stands."""

    def __init__(self, *answers: list[Any], pause: float = 0.0) -> None:
        self.answers, self.pause = list(answers), pause
        self.asked: list[str] = []
        self.go_on: asyncio.Event | None = None
        """Waited for before the fifth word."""
        self.closed: list[float] = []

    async def stream(self, *content: str) -> AsyncGenerator[Event, None]:
        self.asked += content
        try:
            for number, step in enumerate(self.answers.pop(0), start=1):
                yield StepStarted(step=number)
                if isinstance(step, Exception):
                    raise step
                for count, word in enumerate(step.split(" ")):
                    await asyncio.sleep(self.pause)
                    if count == 5 and self.go_on:
                        await self.go_on.wait()
                    yield TextDelta(step=number, text=f"{word} ")
        finally:
            self.closed.append(clock())


class Told:
    """What was shown, and when."""

    def __init__(self) -> None:
        self.events: list[VoiceEvent] = []
        self.times: list[float] = []
        self.kept: list[str] = []

    def show(self, event: VoiceEvent) -> None:
        self.events.append(event)
        self.times.append(clock())

    async def keep(self, heard: str) -> None:
        self.kept.append(heard)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def converse(
    speech: ScriptedSpeech, agent: Answering, player: ScriptedSpeaker, voice: ScriptedVoice, recorder: Recorder
) -> Told:
    told = Told()
    listener = Listener(recorder, Live(speech), ScriptedDetector())
    await talk(listener, agent, voice, player, show=told.show, keep=told.keep)
    return told


async def test_questions_of_a_recording_are_answered_one_after_the_other() -> None:
    speech = ScriptedSpeech("where is my lamp?", "and the chair?")
    agent = Answering(["It is here. It is new [1]."], ["It is there."])
    voice, player = ScriptedVoice(), ScriptedSpeaker(speed=200)
    told = await converse(speech, agent, player, voice, Recording([speech.samples]))
    assert agent.asked == ["where is my lamp?", "and the chair?"]
    assert voice.texts == ["It is here.", "It is new.", "It is there."]
    assert not told.of(Interrupted) and told.kept == []


async def test_the_first_sentence_is_said_while_the_second_is_being_written() -> None:
    speech = ScriptedSpeech("where is it?")
    agent = Answering(["It is here. " + "Word " * 20])
    agent.go_on = asyncio.Event()

    class Player(ScriptedSpeaker):
        async def play(self, samples: Any, rate: int) -> None:
            assert agent.go_on
            agent.go_on.set()
            await super().play(samples, rate)

    async with asyncio.timeout(20):
        await converse(speech, agent, Player(speed=500), ScriptedVoice(), Recording([speech.samples]))


async def test_speaking_over_an_answer_stops_it_at_once(no_blocking: list[str]) -> None:  # noqa: F811
    speech = ScriptedSpeech("where is my lamp?", "stop it please.", pause=1.2)
    sentences = [f"This is sentence number {n} of them. " for n in range(200)]
    agent = Answering(["".join(sentences)], ["Good."], pause=0.001)
    player, voice = ScriptedSpeaker(speed=20), ScriptedVoice(seconds=0.03)
    told = await converse(speech, agent, player, voice, Heard(speech, 3.2, player, 3))
    assert agent.asked == ["where is my lamp?", "stop it please."]
    (interrupted,) = told.of(Interrupted)
    noticed = [at for event, at in zip(told.events, told.times, strict=True) if isinstance(event, Began)][1]
    done = told.times[told.events.index(interrupted)]
    assert done - noticed < 0.15
    assert agent.closed[0] - noticed < 0.15
    assert told.kept == [interrupted.heard]
    answer = "".join(sentences)
    assert answer.startswith(interrupted.heard) and len(answer) > len(interrupted.heard)
    assert interrupted.heard.count("them. ") >= 2
    heard = sum(player.pieces[:-1]) / 0.03  # characters that sounded, the spaces between sentences apart
    assert len(interrupted.heard) == pytest.approx(heard, abs=2 * len(sentences[0]))


async def test_of_an_answer_that_is_whole_only_what_was_heard_counts() -> None:
    speech = ScriptedSpeech("where is it?", "thanks.", pause=1.2)
    agent = Answering(
        ["Let me look.", "It is in the shop. " + "You can fetch it there until the evening. " * 9], ["Bye."]
    )
    player, voice = ScriptedSpeaker(speed=20), ScriptedVoice(seconds=0.05)
    told = await converse(speech, agent, player, voice, Heard(speech, 2.9, player, 3))
    (heard,) = told.kept
    assert heard.startswith("It is in the shop. ") and len(heard) < 300
    assert voice.texts[0] == "Let me look."


async def test_an_answer_that_fails_ends_no_conversation() -> None:
    speech = ScriptedSpeech("one?", "two?", "three?")
    locked = StoreLocked("another process is in a turn")
    agent = Answering(["Well. ", ModelError("the model failed")], [locked], ["Three."])
    voice = ScriptedVoice()
    told = await converse(speech, agent, ScriptedSpeaker(speed=500), voice, Recording([speech.samples]))
    assert [event.message for event in told.of(TurnFailed)] == ["the model failed", "another process is in a turn"]
    assert voice.texts == ["Well.", "Three."]


async def test_a_voice_that_fails_ends_it_with_its_error() -> None:
    speech = ScriptedSpeech("one?", "two?")
    voice = ScriptedVoice(error=ModelError("the voice failed"))
    for recorder in (Recording([speech.samples]), ScriptedRecorder(speech.samples, speed=40)):
        with pytest.raises(ModelError, match="the voice failed"):
            await converse(speech, Answering(["One. Two. Three."], ["Two."]), ScriptedSpeaker(), voice, recorder)


async def test_leaving_stops_everything() -> None:
    speech = ScriptedSpeech("one?", pause=2.0)
    agent, player = Answering(["An answer that takes its time. " * 20]), ScriptedSpeaker()
    recorder = ScriptedRecorder(speech.samples, speed=20)
    told = Told()
    listener = Listener(recorder, Live(speech), ScriptedDetector())
    talking = asyncio.create_task(talk(listener, agent, ScriptedVoice(), player, show=told.show, keep=told.keep))
    async with asyncio.timeout(20):
        while not player.pieces:
            await asyncio.sleep(0.005)
    talking.cancel()
    await asyncio.wait({talking})
    assert talking.cancelled() and recorder.closed and player.silent_since is not None and len(told.kept) == 1


async def test_nothing_understood_is_not_asked() -> None:
    class Deaf(ScriptedSpeech):
        def decode(self, windows: Any, ask: Any) -> Any:
            return [one for one in super().decode([window * 0 for window in windows], ask)]

    speech = Deaf("mumble mumble mumble")
    agent = Answering()
    told = await converse(speech, agent, ScriptedSpeaker(), ScriptedVoice(), Recording([speech.samples]))
    assert [final.text for final in told.of(Final)] == [""] and agent.asked == []


def test_a_share_of_a_sentence_ends_with_a_word() -> None:
    assert _share("You can return it.", 0.5) == "You can "
    assert _share("You can return it.", 0) == ""
    assert _share("You can return it. ", 1.2) == "You can return it. "
