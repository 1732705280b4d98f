"""When somebody speaks and when they are done: blocks of sound in, turns out. It knows no device and no answer."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from mmagent.errors import MMAgentError
from mmagent.media.sound import RATE
from mmagent.speech.live import Hearing, Live
from mmagent.speech.record import BLOCK, Recorder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SECONDS = BLOCK / RATE


class Detector(Protocol):
    """Tells speech from everything else, block after block."""

    def probability(self, frame: NDArray[np.float32]) -> float:
        """That somebody speaks in a block ``[512]`` at 16 kHz, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Began:
    """Somebody speaks."""

    t: float
    """When it was noticed, in seconds from the first block."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What has been heard of the turn so far."""

    hearing: Hearing


@dataclass(frozen=True, slots=True)
class Final:
    """What was said in the turn."""

    text: str
    """Empty where nothing was understood."""
    t0: float
    """When the speech began, in seconds."""
    t1: float
    """When it ended; the end of a turn is noticed later."""
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn is over; comes after `Final`."""

    why: Literal["pause", "released", "too long", "end of sound"]


TurnEvent: TypeAlias = Began | Heard | Final | Ended


@dataclass(frozen=True, slots=True)
class Rules:
    """When a turn begins and ends. Times are seconds."""

    threshold: float = 0.5
    """The probability from which a block is speech."""
    begin: float = 0.12
    """Speech that begins a turn."""
    interrupt: float = 0.2
    """Speech that begins one while an answer is being said."""
    pause: float = 0.7
    """Silence that ends a turn."""
    long_pause: float = 1.6
    """Silence that ends it after a hanging word, or in the middle of a number that is being spelled."""
    look: float = 0.5
    """New speech after which it is decoded again."""
    glance: float = 0.2
    """Silence after which all is decoded, so that the text is there when the turn ends."""
    lead: float = 0.3
    """Kept of what comes before speech, and after it."""
    longest: float = 120.0
    """A turn is no longer than that."""

    def patience(self, text: str) -> float:
        """How long a pause after these words has to be to end the turn."""
        return self.long_pause if goes_on(text) else self.pause


_HANGING = re.compile(  # English, German, French, Spanish
    "a|an|the|my|your|our|their|its|and|or|but|because|if|while|than|with|without|of|for|from|to|at|as|is|are|was|"
    "i|i'm|it's|um|uh|er|hmm|dash|minus|slash|"
    "der|die|das|ein|eine|einen|einem|mein|meine|meiner|ist|sind|und|oder|aber|weil|dass|wenn|mit|von|für|zum|zur|"
    "ähm|äh|strich|"
    "le|la|les|un|une|mon|ma|mes|est|et|ou|mais|que|de|du|des|avec|pour|dans|sur|euh|tiret|"
    "el|los|las|una|mi|mis|y|o|pero|porque|con|del|por|para|guion"
)
_SPELLED = re.compile(
    r"\w|\d{1,4}|(?:\w-)+\w?|"
    "zero|oh|one|two|three|four|five|six|seven|eight|nine|null|eins|zwei|drei|vier|fünf|sechs|sieben|acht|neun|"
    "deux|trois|quatre|cinq|sept|huit|neuf|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve"
)
"""A letter or a digit, or a few digits in one."""
_MARKS = ".,!?;:…\"'»«”“)("


def goes_on(text: str) -> bool:
    """Whether whoever said this is probably in the middle of something.

    So it is after a word that nothing ends with ("and", "my"), after a comma or a dash, and after two or more letters
    or digits that were said one by one.
    """
    words = text.split()
    if not words:
        return False
    last = words[-1].casefold()
    if last.endswith((",", "-", "…", "...", ":")):
        return True
    if last.endswith(("?", "!")):
        return False
    *_, before, last = ["", *(word.casefold().strip(_MARKS) for word in words[-2:])]
    return bool(_HANGING.fullmatch(last) or (_SPELLED.fullmatch(before) and _SPELLED.fullmatch(last)))


class Listener:
    """Cuts sound into turns and says what is heard in each, as it is heard.

    Args:
        recorder: Where the sound comes from.
        live: What decodes it.
        detector: What tells speech from the rest.
        rules: When a turn begins and ends.
        held: Push-to-talk: whether the key is down. A turn is as long as that, whatever is said. None: hands-free.
        busy: Whether an answer is being said, which is harder to interrupt than silence.
    """

    def __init__(
        self,
        recorder: Recorder,
        live: Live,
        detector: Detector,
        *,
        rules: Rules | None = None,
        held: Callable[[], bool] | None = None,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.recorder, self.live, self.detector = recorder, live, detector
        self.rules, self.held, self.busy = rules or Rules(), held, busy
        self._before: deque[NDArray[np.float32]] = deque(maxlen=round((self.rules.lead + self.rules.begin) / _SECONDS))
        self._now = 0.0
        self._reset()

    def _reset(self) -> None:
        self._in_turn, self._t0, self._t1 = False, 0.0, 0.0
        self._run = 0
        """Blocks of speech, less those of none since."""
        self._voiced = 0
        """Blocks of speech in the turn."""
        self._unseen = 0.0
        """Seconds of speech that no look has been at."""
        self._look: asyncio.Task[Hearing] | None = None

    async def events(self) -> AsyncGenerator[TurnEvent, None]:
        """Turn after turn, until the sound ends. One that the end cuts off is a turn too.

        Raises:
            MediaError: The microphone was lost; the turn that it was in has been given before.
            ModelError: The engine failed.
        """
        lost: MMAgentError | None = None
        try:
            async with aclosing(self.recorder.blocks()) as blocks:
                while True:
                    try:
                        block = await anext(blocks)
                    except StopAsyncIteration:
                        break
                    except MMAgentError as error:
                        lost = error
                        break
                    for event in await self._hear(block):
                        yield event
            if self._in_turn:
                for event in await self._end("end of sound"):
                    yield event
            if lost:
                raise lost
        finally:
            if self._look is not None:  # a thread cannot be stopped
                await asyncio.wait({self._look})
            self._reset()

    async def _hear(self, block: NDArray[np.float32]) -> list[TurnEvent]:
        speech = self.detector.probability(block) >= self.rules.threshold
        self._now += _SECONDS
        if not self._in_turn:
            return self._wait(block, speech)
        self._go_on(block, speech)
        events = await self._looked()
        if why := self._over():
            events += await self._end(why)
        return events

    def _wait(self, block: NDArray[np.float32], speech: bool) -> list[TurnEvent]:
        """Between turns."""
        self._before.append(block)
        self._run = self._run + 1 if speech else max(0, self._run - 1)
        least = self.rules.interrupt if self.busy() else self.rules.begin
        if not (self.held() if self.held else self._run * _SECONDS >= least):
            return []
        self.live.begin()
        self._in_turn, self._voiced = True, self._run
        self._t0, self._t1 = max(0.0, self._now - max(1, self._run) * _SECONDS), self._now
        self._unseen = self._run * _SECONDS
        self._flush()
        return [Began(self._now)]

    def _go_on(self, block: NDArray[np.float32], speech: bool) -> None:
        """Within a turn: sound goes to the decoder, except for the inside of long pauses."""
        self._before.append(block)
        if speech:
            self._t1 = self._now
            self._voiced += 1
            self._unseen += _SECONDS
        if speech or self._now - self._t1 <= self.rules.lead:
            self._flush()

    def _flush(self) -> None:
        while self._before:
            self.live.feed(self._before.popleft())

    async def _looked(self) -> list[TurnEvent]:
        """Begin a look where one is due; what the last one saw, once it is done."""
        events: list[TurnEvent] = []
        if self._look is None and self._due():
            self._unseen = 0.0
            self._look = asyncio.create_task(asyncio.to_thread(self.live.look))
        if self._look is not None and (self._look.done() or not self.recorder.live):
            events.append(Heard(await asyncio.shield(self._look)))
            self._look = None
        return events

    def _due(self) -> bool:
        silence = self._now - self._t1
        return self._unseen >= (self.rules.look if silence < self.rules.glance else _SECONDS / 2)

    def _over(self) -> Literal["pause", "released", "too long"] | None:
        if self._now - self._t0 >= self.rules.longest:
            return "too long"
        if self.held:
            return None if self.held() else "released"
        silence = self._now - self._t1
        seen = self._look is None and not self._unseen
        return "pause" if seen and silence >= self.rules.patience(self.live.hearing.text) else None

    async def _end(self, why: Literal["pause", "released", "too long", "end of sound"]) -> list[TurnEvent]:
        if self._look is not None:
            await asyncio.shield(self._look)
        if self._unseen and self._voiced * _SECONDS >= self.rules.begin:
            self._look = asyncio.create_task(asyncio.to_thread(self.live.look))
            await asyncio.shield(self._look)
        text, t0, t1 = self.live.finish().text, self._t0, self._t1
        self._reset()
        return [Final(text, round(t0, 3), round(t1, 3), self.live.language), Ended(why)]
