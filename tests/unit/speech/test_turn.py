"""Turns: when they begin and end, and what comes out of them, in compressed time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagent.errors import MediaError, ModelError
from mmagent.media.sound import RATE
from mmagent.speech.engines import Ask, Decoded
from mmagent.speech.live import Live
from mmagent.speech.record import BLOCK, Recorder, Recording
from mmagent.speech.turn import Began, Ended, Final, Heard, Listener, Rules, TurnEvent, goes_on
from mmagent.testing.sound import ScriptedDetector, ScriptedRecorder, ScriptedSpeech
from tests.blocking import no_blocking  # noqa: F401 # a fixture


def heard_in(
    speech: ScriptedSpeech,
    recorder: Recorder | None = None,
    *,
    rules: Rules | None = None,
    held: Callable[[], bool] | None = None,
) -> Listener:
    recorder = recorder or Recording([speech.samples])
    return Listener(recorder, Live(speech), ScriptedDetector(), rules=rules, held=held)


async def events(listener: Listener) -> list[TurnEvent]:
    return [event async for event in listener.events()]


def finals(events: list[TurnEvent]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


async def test_a_turn_begins_grows_and_ends() -> None:
    speech = ScriptedSpeech("where is the lamp that I bought?")
    found = await events(heard_in(speech))
    assert isinstance(found[0], Began)
    texts = [event.hearing.text for event in found if isinstance(event, Heard)]
    assert texts[0].startswith("where")
    assert all(later.startswith(sooner) for sooner, later in itertools.pairwise(texts))
    (final,) = finals(found)
    assert final.text == "where is the lamp that I bought?"
    assert final.t0 == pytest.approx(1.2, abs=0.05) and final.t1 == pytest.approx(1.2 + 7 * 0.32, abs=0.05)
    assert found[-1] == Ended("pause")
    assert isinstance(found[-2], Final)


async def test_each_turn_is_its_own() -> None:
    found = finals(await events(heard_in(ScriptedSpeech("one lamp.", "two chairs.", "thanks."))))
    assert [final.text for final in found] == ["one lamp.", "two chairs.", "thanks."]
    assert found[0].t1 < found[1].t0 < found[1].t1 < found[2].t0


async def test_silence_and_clicks_are_no_turn() -> None:
    speech = ScriptedSpeech()
    click = np.zeros(RATE, np.float32)
    click[8_000:8_800] = 0.5
    assert await events(heard_in(speech, Recording([np.zeros(RATE, np.float32), click]))) == []
    assert speech.lengths == []


async def test_a_pause_after_a_hanging_word_is_waited_out() -> None:
    speech = ScriptedSpeech("my order number is", "A-1 please.", pause=1.2)
    assert [one.text for one in finals(await events(heard_in(speech)))] == ["my order number is A-1 please."]
    speech = ScriptedSpeech("that is all thanks.", "no more.", pause=1.2)
    assert len(finals(await events(heard_in(speech)))) == 2


@pytest.mark.parametrize(
    "text",
    [
        "my order number is",
        "I want a lamp and",
        "A C M E.",
        "four eight two",
        "well,",
        "4 8",
        "It's A-C-M-",
        "es ist der",
    ],
)
def test_these_go_on(text: str) -> None:
    assert goes_on(text)


@pytest.mark.parametrize("text", ["", "no.", "Where is it?", "two", "I bought two lamps.", "yes", "send it to me!"])
def test_these_are_whole(text: str) -> None:
    assert not goes_on(text)


class Counted(Recording):
    """A recording that says how many seconds of it have been read."""

    at = 0.0

    async def blocks(self) -> AsyncGenerator[NDArray[np.float32], None]:
        async for block in super().blocks():
            self.at += BLOCK / RATE
            yield block


async def test_the_text_is_there_when_the_pause_is_over() -> None:
    speech = ScriptedSpeech("thank you very much.")
    recorder = Counted([speech.samples])
    times: dict[str, float] = {}
    async for event in heard_in(speech, recorder).events():
        if not isinstance(event, Heard) or event.hearing.text:
            times.setdefault(type(event).__name__, recorder.at)
    assert times["Began"] - 1.2 <= 0.2
    assert times["Heard"] - 1.2 <= 0.6
    assert times["Final"] - (1.2 + 4 * 0.32) <= 0.75


async def test_slow_decoding_loses_nothing_and_blocks_nobody(no_blocking: list[str]) -> None:  # noqa: F811
    speech = ScriptedSpeech("one two three lamps and four chairs please.", takes=0.15)
    found = await events(heard_in(speech, ScriptedRecorder(speech.samples, speed=10)))
    assert [one.text for one in finals(found)] == ["one two three lamps and four chairs please."]


async def test_push_to_talk_takes_what_is_said_while_the_key_is_down() -> None:
    speech = ScriptedSpeech("one", "two", "three", pause=1.0)
    recorder = Recording([speech.samples])
    listener = heard_in(speech, recorder)
    listener.held = lambda: 0.5 < listener._now < 3.0  # over the pause after "one", up to that after "two"
    found = await events(listener)
    assert [one.text for one in finals(found)] == ["one two"]
    assert found[-1] == Ended("released")


async def test_push_to_talk_without_a_word_is_an_empty_turn() -> None:
    speech = ScriptedSpeech(pause=2.0)
    listener = heard_in(speech)
    listener.held = lambda: 0.5 < listener._now < 1.0
    assert finals(await events(listener)) == [Final("", pytest.approx(0.5, abs=0.1), pytest.approx(0.5, abs=0.1))]
    assert speech.lengths == []


async def test_a_turn_that_the_end_cuts_off_is_one() -> None:
    speech = ScriptedSpeech("where is it", pause=0)
    found = await events(heard_in(speech))
    assert finals(found)[0].text == "where is it"
    assert found[-1] == Ended("end of sound")


async def test_a_lost_microphone_ends_with_its_error_after_what_was_said() -> None:
    speech = ScriptedSpeech("where is it", pause=0.1)
    recorder = ScriptedRecorder(speech.samples, speed=50, error=MediaError("the microphone was lost"))
    found: list[TurnEvent] = []
    with pytest.raises(MediaError, match="microphone was lost"):
        async for event in heard_in(speech, recorder).events():
            found.append(event)
    assert finals(found)[0].text == "where is it"
    assert recorder.closed


async def test_an_engine_that_fails_is_its_own_error() -> None:
    class Broken(ScriptedSpeech):
        def decode(self, windows: object, ask: Ask) -> list[Decoded]:
            raise ModelError("the engine failed")

    with pytest.raises(ModelError, match="engine failed"):
        await events(heard_in(Broken("where is it")))


async def test_closing_stops_the_recorder() -> None:
    speech = ScriptedSpeech("where is it and where is the rest?")
    recorder = ScriptedRecorder(speech.samples, speed=50)
    stream = heard_in(speech, recorder).events()
    assert isinstance(await anext(stream), Began)
    await stream.aclose()
    assert recorder.closed


async def test_nobody_speaks_for_ever() -> None:
    speech = ScriptedSpeech(" ".join(f"w{n}" for n in range(30)))
    found = await events(heard_in(speech, rules=Rules(longest=4.0)))
    assert found[[type(one) for one in found].index(Ended)] == Ended("too long")
    assert sum(len(one.text.split()) for one in finals(found)) >= 28  # the cut goes through a word


async def test_an_answer_is_harder_to_interrupt_than_silence() -> None:
    speech = ScriptedSpeech("hm", word=0.16)
    assert len(await events(heard_in(speech))) > 0
    listener = heard_in(ScriptedSpeech("hm", word=0.16))
    listener.busy = lambda: True
    assert await events(listener) == []
    await asyncio.sleep(0)
