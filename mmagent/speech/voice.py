"""A conversation by voice: turns are heard, answered, and the answers said. It knows an agent by its events only.

Listener ── Final(text) ──▶ agent.stream ── text ──▶ Sentences ──▶ Voice ──▶ Player
    └────── Began, while an answer is being said: stop the player, then the agent ──┘
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mmagent.errors import MMAgentError
from mmagent.events import Event, StepStarted, TextDelta, TurnFailed
from mmagent.speech.speakable import Sentences, speakable
from mmagent.speech.turn import Began, Final, Listener, TurnEvent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmagent.speech.play import Player
    from mmagent.speech.speak import Voice


class Answers(Protocol):
    """What is asked: `mmagent.Agent`, or anything that answers with its events."""

    def stream(self, *content: str) -> AsyncGenerator[Event, None]:
        """Ask; closing the iterator stops everything behind it."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Somebody spoke over an answer; it has stopped."""

    heard: str
    """The part of the answer that has sounded, as it was written. Of an answer in steps, the part of the last step."""


VoiceEvent: TypeAlias = TurnEvent | Event | Interrupted
Show: TypeAlias = Callable[[VoiceEvent], None]
Keep: TypeAlias = Callable[[str], Awaitable[None]]
"""Is told what was heard of an answer that was interrupted, once the agent's turn is over."""


class Speech:
    """Says a text while it is being written, sentence by sentence; the next one is made while one is played.

    Args:
        voice: Makes the sound.
        player: Plays it.
    """

    def __init__(self, voice: Voice, player: Player) -> None:
        self._voice, self._player = voice, player
        self._sentences = Sentences()
        self._texts: asyncio.Queue[str | None] = asyncio.Queue()
        self._sounds: asyncio.Queue[tuple[str, NDArray[np.float32]] | Exception | None] = asyncio.Queue(maxsize=1)
        self._said: list[str] = []
        self._skip = 0
        """Of these, how many belong to earlier steps."""
        self._written = 0
        self._saying: tuple[str, float] | None = None

    def write(self, text: str) -> None:
        """Add a piece of the text."""
        self._put(self._sentences.feed(text))

    def step(self) -> None:
        """What was written is whole; what comes next is another text, and `heard` counts from there."""
        self._put(self._sentences.finish())
        self._skip = self._written

    def end(self) -> None:
        """Nothing more comes."""
        self._put(self._sentences.finish())
        self._texts.put_nowait(None)

    def _put(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self._written += 1
            self._texts.put_nowait(sentence)

    @property
    def heard(self) -> str:
        """What has sounded of the text since the last `step`: whole sentences, and the whole words of one begun."""
        said = "".join(self._said[self._skip :])
        if self._saying is None or len(self._said) < self._skip:
            return said
        sentence, seconds = self._saying
        return said + _share(sentence, self._player.heard / seconds)

    async def run(self) -> None:
        """Say everything, until `end`; cancelling stops the sound at once.

        Raises:
            MMAgentError: The voice or the player failed.
        """
        making = asyncio.create_task(self._make())
        try:
            while (sound := await self._sounds.get()) is not None:
                if isinstance(sound, Exception):
                    raise sound
                sentence, samples = sound
                if len(samples):
                    self._player.heard = 0.0
                    self._saying = sentence, len(samples) / self._voice.rate
                    await self._player.play(samples, self._voice.rate)
                    self._saying = None
                self._said.append(sentence)
        finally:
            making.cancel()
            await asyncio.wait({making})

    async def _make(self) -> None:
        try:
            while (sentence := await self._texts.get()) is not None:
                await self._sounds.put((sentence, await asyncio.to_thread(self._sound, sentence)))
        except Exception as error:
            await self._sounds.put(error)
        else:
            await self._sounds.put(None)

    def _sound(self, sentence: str) -> NDArray[np.float32]:
        import numpy as np

        words = speakable(sentence)
        pieces = list(self._voice.say(words)) if words else []
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


class VoiceTurn:
    """One answer of an agent, said as it is written. It begins at once.

    Args:
        agent: Who is asked.
        question: What was said.
        voice: Makes the sound.
        player: Plays it.
        show: Is told what happens.
    """

    def __init__(self, agent: Answers, question: str, voice: Voice, player: Player, show: Show) -> None:
        self._show = show
        self.speech = Speech(voice, player)
        self._speaking = asyncio.create_task(self.speech.run())
        self._answering = asyncio.create_task(self._answer(agent, question))

    @property
    def over(self) -> bool:
        """Whether everything has been said."""
        return self._answering.done() and self._speaking.done()

    async def wait(self) -> None:
        """Until everything has been said. An answer that failed has been shown as such and raises nothing.

        Raises:
            MMAgentError: The voice or the player failed.
        """
        await asyncio.wait({self._answering, self._speaking})  # which does not cancel them with itself
        self._answering.result()
        self._speaking.result()

    async def interrupt(self) -> str | None:
        """Stop the sound, then the agent; gives what was heard, None where everything was.

        Raises:
            MMAgentError: The voice or the player had failed.
        """
        if self.over:
            await self.wait()
            return None
        self._speaking.cancel()
        self._answering.cancel()
        await asyncio.wait({self._speaking, self._answering})
        if not self._speaking.cancelled():
            self._speaking.result()
        return self.speech.heard

    async def _answer(self, agent: Answers, question: str) -> None:
        failed = False
        try:
            async with aclosing(agent.stream(question)) as events:
                async for event in events:
                    self._show(event)
                    failed = failed or isinstance(event, TurnFailed)
                    if isinstance(event, StepStarted):
                        self.speech.step()
                    elif isinstance(event, TextDelta):
                        self.speech.write(event.text)
        except MMAgentError as error:  # the conversation goes on
            if not failed:
                self._show(TurnFailed(error=type(error).__name__, message=str(error)))
        finally:
            self.speech.end()


async def talk(
    listener: Listener, agent: Answers, voice: Voice, player: Player, *, show: Show, keep: Keep | None = None
) -> None:
    """Listen and answer, turn after turn, until the sound ends. Speaking over an answer stops it.

    Where the sound waits for its reader, as a recording does, each answer is said to its end first.

    Args:
        listener: Hears the turns; its ``busy`` is set here.
        agent: Who answers.
        voice: Makes the sound.
        player: Plays it.
        show: Is told what happens: what is heard, the agent's events, interruptions.
        keep: Is told what was heard of an answer that was interrupted.

    Raises:
        MMAgentError: The microphone, the engine, the voice or the player failed.
    """
    turn: VoiceTurn | None = None
    listener.busy = lambda: turn is not None and not turn.over
    try:
        async with aclosing(listener.events()) as events:
            async for event in events:
                show(event)
                if isinstance(event, Began) and turn is not None:
                    await _stop(turn, show, keep)
                elif isinstance(event, Final) and event.text:
                    turn = VoiceTurn(agent, event.text, voice, player, show)
                    if not listener.recorder.live:
                        await turn.wait()
        if turn is not None:
            await turn.wait()
    finally:
        if turn is not None and not turn.over:
            await _stop(turn, show, keep)


async def _stop(turn: VoiceTurn, show: Show, keep: Keep | None) -> None:
    heard = await turn.interrupt()
    if heard is not None:
        show(Interrupted(heard))
        if keep is not None:
            await keep(heard)


def _share(sentence: str, share: float) -> str:
    """The whole words of a beginning that is so much of a sentence."""
    if share >= 1:
        return sentence
    head = sentence[: int(max(0.0, share) * len(sentence))]
    return head[: max(head.rfind(mark) for mark in " \n\t") + 1]
