"""Recordings of any length become timed text: speech is found, decoded in windows, and believed or not.

It knows engines by their port and sound as samples, no documents and stores.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mmagent.errors import ConfigurationError
from mmagent.media.sound import Sound, waveform
from mmagent.speech import Segment, Transcript
from mmagent.speech.channel import Channel, Options, union
from mmagent.speech.engines import Ask, Engine
from mmagent.speech.guards import Guards
from mmagent.speech.language import check_language, check_task
from mmagent.speech.length import in_hand, seconds_of
from mmagent.speech.vad import Vad, VadKind, load_vad

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIPELINE = 3
"""Grows when the same answers of an engine become another text."""
SPEAKERS = ("left", "right")
"""Who speaks on the channels of a recording with two."""

Done: TypeAlias = Callable[[float, float | None], None]
"""Is told how many seconds are done, of how many; None where the file does not say."""


class Transcriber:
    """Writes down what is said, with times; nothing where nobody speaks.

    Args:
        engine: An engine, or where a Whisper model lies; nothing is ever downloaded. None: as `load_transcriber`.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``, for a model that lies somewhere.
        language: ISO 639-1 code; None: what is heard.
        task: ``translate`` writes English, whatever is spoken.
        prompt: Words that are likely, or text in the style that is wanted.
        hot_words: Names, products, forms of order numbers that an engine should know.
        words: Give the times of words too.
        speakers: ``channels``: the two channels of a recording are two speakers, each heard alone.
        vad: What tells speech from the rest, or what makes such a detector for each recording.
        batch: Windows that the engine decodes at once.
        condition_on_previous_text: Let the engine see what was said before. It spells names alike then, and goes on
            with loops and inventions; windows are decoded one by one.
        guards: From where on answers are not believed; None: as usual, with the engine's least log-probability.
        max_seconds: The longest recording; None: the setting ``max_index_seconds``.

    Raises:
        NotFound: There is no such model.
        ConfigurationError: Something is missing in it, or the engine cannot translate.
        InputError: It does not know the language; the message lists those that it knows.
    """

    def __init__(
        self,
        engine: Engine | str | Path | None = None,
        *,
        device: str = "auto",
        language: str | None = None,
        task: Literal["transcribe", "translate"] = "transcribe",
        prompt: str = "",
        hot_words: Sequence[str] = (),
        words: bool = False,
        speakers: Literal["channels"] | None = None,
        vad: VadKind | Callable[[], Vad] = "auto",
        batch: int = 8,
        condition_on_previous_text: bool = False,
        guards: Guards | None = None,
        max_seconds: float | None = None,
    ) -> None:
        self.engine = _engine(engine, device)
        check_task(task, self.engine.translates, self.engine.name)
        if speakers not in (None, "channels"):
            raise ConfigurationError(f"speakers cannot be told apart by {speakers!r}; take 'channels', or leave it out")
        if batch < 1:
            raise ConfigurationError(f"a batch of {batch} windows cannot be decoded; take 1 or more")
        self.language = check_language(language, self.engine.languages)
        hints = ", ".join(" ".join(word.split()) for word in hot_words if word.strip())
        self.ask = Ask(self.language, task, " ".join(filter(None, (prompt.strip(), hints))), words)
        believed = guards or Guards()
        new_vad = vad if callable(vad) else lambda: load_vad(vad)
        batch = 1 if condition_on_previous_text else batch
        self._options = Options(self.ask, believed, new_vad, batch, condition_on_previous_text)
        self.speakers, self.max_seconds = speakers, max_seconds
        self._vad = vad if isinstance(vad, str) else getattr(vad, "__qualname__", "own")

    @cached_property
    def fingerprint(self) -> str:
        """Differs where the same recording may get other words."""
        how = (self.ask, self._options.guards, self._options.conditioned, self.speakers, self._vad)
        parts = (PIPELINE, self.engine.fingerprint, *how)
        return f"speech-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"

    def transcribe(
        self, source: Sound, *, name: str | None = None, rate: int | None = None, progress: Done | None = None
    ) -> Transcript:
        """What is said in a recording or video; no segments where nobody speaks or it has no sound.

        Args:
            source: A file's bytes, its path, the open file, or samples ``[N]`` or ``[N, channels]``.
            name: What to call it in error messages; None: the name of the file.
            rate: Of samples that are given, in Hz; None: 16,000.
            progress: Is told how far it is.

        Raises:
            NotFound: There is no such file.
            MediaError: It cannot be decoded.
            LimitError: It is larger or longer than allowed.
            ModelError: The engine cannot be loaded or cannot go on.
        """
        return self.stream(source, name=name, rate=rate, progress=progress).transcript()

    async def atranscribe(
        self, source: Sound, *, name: str | None = None, rate: int | None = None, progress: Done | None = None
    ) -> Transcript:
        """`transcribe` in a thread. Cancelled, it ends with the windows that are being decoded."""
        stream = await asyncio.to_thread(self.stream, source, name=name, rate=rate, progress=progress)
        try:
            return await asyncio.to_thread(stream.transcript)
        finally:
            stream.stop()

    def stream(
        self, source: Sound, *, name: str | None = None, rate: int | None = None, progress: Done | None = None
    ) -> Stream:
        """The segments as they come, a few windows at a time; see `transcribe`, which raises the same."""
        source = in_hand(source)
        total = seconds_of(source, rate) if progress else None
        report: Callable[[float], None] = (lambda done: progress(done, total)) if progress else (lambda done: None)
        channels: dict[int | None, str | None] = {None: None}
        if self.speakers:
            channels = dict(enumerate(SPEAKERS))
        heard = [
            Channel(self.engine, self._options, self._samples(source, name, rate, channel), who, report)
            for channel, who in channels.items()
        ]
        return Stream(heard)

    def segments(self, data: bytes, name: str) -> list[Segment]:
        """What is said in a file, in order; see `transcribe`."""
        return list(self.stream(data, name=name))

    def _samples(
        self, source: Sound, name: str | None, rate: int | None, channel: int | None
    ) -> Iterator[NDArray[np.float32]]:
        return waveform(source, name, rate=rate, channel=channel, max_seconds=self.max_seconds)


class Stream:
    """Segments as they come, and what is known of the recording so far; made by `Transcriber.stream`."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = channels
        self._said: list[Segment] = []
        self._coming = merge(*(one.segments() for one in channels), key=lambda segment: segment.t0)

    def __iter__(self) -> Iterator[Segment]:
        while (segment := next(self._coming, None)) is not None:
            self._said.append(segment)
            yield segment

    def stop(self) -> None:
        """End after the windows that are being decoded, from any thread."""
        for one in self._channels:
            one.stopped = True

    def transcript(self) -> Transcript:
        """Hear the rest, and give all that was said, what was iterated over before included."""
        for _ in self:
            pass
        most = max(self._channels, key=lambda one: one.speech)
        return Transcript(
            tuple(self._said),
            round(max(one.duration for one in self._channels), 3),
            round(union([span for one in self._channels for span in one.spans]), 3),
            most.language,
            most.language_probability,
            tuple(sorted((drop for one in self._channels for drop in one.dropped), key=lambda drop: drop.t0)),
        )


def load_transcriber(model: str | Path | None = None, device: str = "auto", **options: Any) -> Transcriber:
    """The speech model of a place, of the settings, or nano.

    Args:
        model: Where it lies, or ``nano``; None: the setting ``speech_model``, else nano, which hears little.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        options: Of `Transcriber`.

    Raises:
        ConfigurationError: None is set and nano is not in this installation, or something is missing in the folder.
        NotFound: There is no such model.
    """
    return Transcriber(model, device=device, **options)


def _engine(engine: Engine | str | Path | None, device: str) -> Engine:
    if engine is not None and not isinstance(engine, str | Path):
        return engine
    from mmagent.speech.engines.load import chosen, load_engine

    return load_engine(chosen(engine), device=device)
