"""A conversation by voice with the model that ships: how soon it hears, how soon it falls silent, what it keeps.

The speech model nano listens to the voice note of the shop, which comes in as a microphone gives it: paced, 32 ms after
32 ms. Times are the worst of all turns, on the clock of the wall.

    partial    seconds from the first sound of a sentence until some of its words are shown: bar 1.0
    final      seconds from its last sound until its text is there: bar 0.8, of which a pause of 0.7 ends the turn
    silence    milliseconds from when it is noticed that somebody speaks over an answer, until the loudspeaker is silent
               and nano decodes nothing more (it would never end by itself): bar 150
    memory     MiB that stay when ten minutes of such notes are heard as fast as it goes, after a first minute: bar 32

Prints one JSON line; a missed bar is exit code 1.

    python -m benchmarks.voice            # 10 sentences, 10 interruptions, 10 minutes
    python -m benchmarks.voice --quick    # 2 sentences, 1 interruption, half a minute
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmagent.chat.local import LocalModel
from mmagent.chat.protocol import ModelDone, ModelEvent
from mmagent.media.sound import RATE, waveform
from mmagent.speech.engines.load import load_engine
from mmagent.speech.live import Live
from mmagent.speech.record import Recorder, Recording
from mmagent.speech.turn import Began, Final, Heard, Listener
from mmagent.speech.vad import load_vad
from mmagent.testing.sound import ScriptedRecorder, ScriptedSpeaker, ScriptedVoice

NOTE = Path(__file__).parents[1] / "examples/shop/voice_note.wav"
BARS = {"partial_seconds": 1.0, "final_seconds": 0.8, "silence_ms": 150.0, "memory_mib": 32.0}
LEAD, REST = 0.6, 2.4
"""Seconds of silence before and after a sentence."""
AUDIBLE = 0.02
"""Of the loudest sample; what is below does not count as sound."""


class Endless(LocalModel):
    """Answers over and over, until nobody listens."""

    ended = 0.0
    """When it decoded its last token, by `time.monotonic`."""

    def _events(self, request: Any, cancelled: Any) -> Iterator[ModelEvent]:
        self.ended = 0.0
        try:
            while not cancelled.is_set():
                yield from (event for event in super()._events(request, cancelled) if not isinstance(event, ModelDone))
        finally:
            self.ended = time.monotonic()


def note() -> tuple[np.ndarray, float, float]:
    """The voice note between silences, and when its sound begins and ends."""
    said = np.concatenate(list(waveform(NOTE)))
    loud = np.flatnonzero(np.abs(said) > AUDIBLE * np.abs(said).max())
    sound = np.concatenate([np.zeros(round(LEAD * RATE)), said, np.zeros(round(REST * RATE))]).astype(np.float32)
    return sound, LEAD + float(loud[0]) / RATE, LEAD + float(loud[-1]) / RATE


def listening(engine: Any, recorder: Recorder) -> Listener:
    """Ears as `mmagent voice` has them."""
    return Listener(recorder, Live(engine), load_vad())


async def one_sentence(engine: Any) -> dict[str, Any]:
    """Hear it as it is said: when the first words and the whole text were there."""
    sound, begin, end = note()
    listener, started = listening(engine, ScriptedRecorder(sound)), time.monotonic()
    partial, finals = None, []
    async for event in listener.events():
        now = time.monotonic() - started
        if isinstance(event, Heard) and event.hearing.text and partial is None:
            partial = now - begin
        elif isinstance(event, Final):
            finals.append((now - end, event.text))
    if partial is None or len(finals) != 1:
        raise RuntimeError(f"the voice note was not heard as one turn with words, but as {finals}")
    return {"partial": partial, "final": finals[0][0], "text": finals[0][1]}


async def one_interruption(engine: Any, model: Endless) -> dict[str, float]:
    """Speak over an answer that never ends: when it was noticed, and when everything had stopped."""
    from mmagent import Agent
    from mmagent.speech.voice import Interrupted, talk

    sound, begin, _ = note()
    recorder, speaker = ScriptedRecorder(np.concatenate([sound, sound[: -round(REST * RATE)]])), ScriptedSpeaker()
    began: list[float] = []
    ends: list[float] = []

    def show(event: object) -> None:
        if isinstance(event, Began):
            began.append(time.monotonic())
        elif isinstance(event, Interrupted) and not ends:
            ends.append(time.monotonic())
            assert speaker.silent_since is not None
            ends.append(speaker.silent_since)

    started = time.monotonic()
    talking = asyncio.create_task(talk(listening(engine, recorder), Agent(model, builtins=False), ScriptedVoice(),
                                       speaker, show=show))  # fmt: skip
    while not ends and not talking.done():
        await asyncio.sleep(0.002)
    while ends and not model.ended:
        await asyncio.sleep(0.002)
    if not ends:
        await talking
        raise RuntimeError("nothing was interrupted: no answer was being said when somebody spoke again")
    noticed = began[1]
    talking.cancel()  # the second note would be answered without end, too
    await asyncio.wait({talking})
    return {
        "noticed_seconds": noticed - started - len(sound) / RATE - begin,
        "player_ms": 1000 * (ends[1] - noticed),
        "decoding_ms": 1000 * (model.ended - noticed),
        "all_ms": 1000 * (max(*ends, model.ended) - noticed),
    }


async def memory(engine: Any, minutes: float) -> dict[str, float]:
    """What the process grows by while it hears turn after turn, as fast as it goes."""
    sound, _, _ = note()
    count = max(2, round(60 * minutes * RATE / len(sound)))
    warm = min(count // 2, round(60 * RATE / len(sound)))
    listener = listening(engine, Recording(sound for _ in range(count + warm)))
    sizes, started = [], time.perf_counter()
    async for event in listener.events():
        if isinstance(event, Final):
            sizes.append(resident())
    settled = sizes[min(warm, len(sizes) - 1)]
    return {
        "minutes": round(count * len(sound) / RATE / 60, 1),
        "turns": len(sizes),
        "grown_mib": round(sizes[-1] - settled, 1),
        "most_mib": round(max(sizes) - settled, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


def resident() -> float:
    """MiB of this process in memory, once what nobody holds is gone."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def spread(values: list[float], digits: int) -> dict[str, float]:
    """Median and worst."""
    return {"median": round(statistics.median(values), digits), "worst": round(max(values), digits)}


async def measure(sentences: int, interruptions: int, minutes: float) -> dict[str, Any]:
    """Everything, one after the other."""
    engine, model = load_engine("nano", "cpu"), Endless("nano", device="cpu")
    await asyncio.to_thread(engine.decode, [note()[0][:RATE]], Live(engine).asked)  # loads it
    await asyncio.to_thread(model.load)
    heard = [await one_sentence(engine) for _ in range(sentences)]
    stopped = [await one_interruption(engine, model) for _ in range(interruptions)]
    return {
        "text": heard[0]["text"],
        "partial_seconds": spread([one["partial"] for one in heard], 3),
        "final_seconds": spread([one["final"] for one in heard], 3),
        "silence_ms": spread([one["all_ms"] for one in stopped], 1),
        "of_these": {key: spread([one[key] for one in stopped], 3) for key in stopped[0] if key != "all_ms"},
        "memory": await memory(engine, minutes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    found = asyncio.run(measure(*((2, 1, 0.5) if arguments.quick else (10, 10, 10.0))))
    figures = {key: found[key]["worst"] for key in BARS if key != "memory_mib"}
    figures["memory_mib"] = found["memory"]["grown_mib"]
    missed = [name for name, bar in BARS.items() if figures[name] > bar]
    print(json.dumps({"benchmark": "voice", "threads": arguments.threads, **found, "bars": BARS, "missed": missed}))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
