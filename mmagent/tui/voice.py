"""The microphone for the composer, and answers read aloud. It knows speech and a player, no agent and no screen.

The engine is loaded when somebody first speaks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import aclosing
from typing import TYPE_CHECKING

from mmagent.errors import MMAgentError

if TYPE_CHECKING:
    from mmagent.speech.engines import Engine
    from mmagent.speech.play import Player
    from mmagent.speech.record import Recorder
    from mmagent.speech.speak import Voice
    from mmagent.speech.turn import Detector, Listener
    from mmagent.tui.background import Background


class Dictation:
    """Writes down what is said until it is told to stop. Its methods run in the background's loop.

    Args:
        recorder: Makes the microphone; None: that of this machine.
        engine: Makes what decodes; None: that of the settings.
        detector: Makes what tells speech from the rest; None: the best that is installed.
    """

    def __init__(
        self,
        recorder: Callable[[], Recorder] | None = None,
        engine: Callable[[], Engine] | None = None,
        detector: Callable[[], Detector] | None = None,
    ) -> None:
        self._recorder, self._engine, self._detector = recorder, engine, detector
        self._ears: tuple[Engine, Detector] | None = None
        self._now: Recorder | None = None
        self._held = self._begun = False

    @property
    def level(self) -> float:
        """How loud it is now, from 0 to 1."""
        return self._now.level if self._now is not None else 0.0

    def hold(self) -> None:
        """Somebody wants to speak; comes before `listen`."""
        self._held = True

    def release(self) -> None:
        """Enough was said."""
        self._held = False

    async def listen(self, heard: Callable[[str], None]) -> str:
        """What is said from now on, until it is released.

        Args:
            heard: Is told what has been heard so far, again and again.

        Returns:
            All of it; empty where nothing was understood.

        Raises:
            ConfigurationError: There is no microphone, or no engine.
            MissingExtra: The package for microphones is not installed.
            MediaError: The microphone was lost; what was said before was told to ``heard``.
        """
        import asyncio

        from mmagent.speech.engines import Ask
        from mmagent.speech.live import Live
        from mmagent.speech.record import Microphone
        from mmagent.speech.turn import Listener

        try:
            self._now, self._begun = (self._recorder or Microphone)(), False
            if self._ears is None:
                self._ears = await asyncio.to_thread(self._load)
            engine, detector = self._ears
            listener = Listener(self._now, Live(engine, Ask()), detector, held=lambda: self._held)
            listening = asyncio.create_task(self._listen(listener, heard))
            try:
                while not listening.done() and (self._held or self._begun):
                    await asyncio.wait({listening}, timeout=0.05)
                return await listening if listening.done() else ""  # released before a word: there is nothing to end
            finally:
                listening.cancel()
                await asyncio.wait({listening})
        finally:
            self._now, self._held = None, False

    async def _listen(self, listener: Listener, heard: Callable[[str], None]) -> str:
        from mmagent.speech.turn import Began, Ended, Final, Heard

        text = ""
        async with aclosing(listener.events()) as events:
            async for event in events:
                if isinstance(event, Began):
                    self._begun = True
                elif isinstance(event, Heard):
                    heard(event.hearing.text)
                elif isinstance(event, Final):
                    text = event.text
                    heard(text)
                elif isinstance(event, Ended) and event.why != "end of sound":  # else the microphone may be lost
                    break
        return text

    def _load(self) -> tuple[Engine, Detector]:
        from mmagent.cli.voice import load_detector, load_ears

        return (self._engine or load_ears)(), (self._detector or load_detector)()


class Aloud:
    """Reads answers aloud, one at a time."""

    def __init__(self, voice: Voice | None = None, player: Player | None = None) -> None:
        self._voice, self._player = voice, player
        self._reading: Future[None] | None = None

    def begin(self, background: Background, text: str, failed: Callable[[str], None]) -> None:
        """Read a text in the background, and no longer what is being read.

        Args:
            background: Where.
            text: What.
            failed: Is told there why it cannot be heard.
        """
        self.hush()
        reading = self._reading = background.submit(self.say(text))

        def ended(done: Future[None]) -> None:
            if not done.cancelled() and isinstance(error := done.exception(), MMAgentError):
                failed(str(error))

        reading.add_done_callback(ended)

    def hush(self) -> None:
        """Stop the sound."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def say(self, text: str) -> None:
        """Read a text.

        Raises:
            ConfigurationError: There is no voice or no loudspeaker.
        """
        from mmagent.speech.play import Loudspeaker
        from mmagent.speech.speak import load_voice
        from mmagent.speech.voice import Speech

        self._voice = self._voice or load_voice()
        self._player = self._player or Loudspeaker()
        speech = Speech(self._voice, self._player)
        speech.write(text)
        speech.end()
        await speech.run()
