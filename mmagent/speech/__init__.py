"""Speech to text and back. It knows samples and words, no documents and stores; importing it loads no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.speech.transcribe import Transcriber, load_transcriber

__all__ = ["Segment", "Transcriber", "Transcript", "Word", "load_transcriber"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word that was said."""

    t0: float
    """When it begins, in seconds from the start of the recording."""
    t1: float
    """When it ends, in seconds; never before ``t0``, and within a stretch of speech."""
    text: str
    """As it is written, punctuation included, without spaces around it."""
    probability: float = 1.0
    """That the engine gave it, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Some words that were said."""

    t0: float
    """When they begin, in seconds."""
    t1: float
    """When they end, in seconds; never before ``t0``."""
    text: str
    words: tuple[Word, ...] = ()
    """Its words with their times, where they were asked for."""
    confidence: float = 1.0
    """The geometric mean of its tokens' probabilities, from 0 to 1."""
    language: str | None = None
    """As an ISO 639-1 code such as ``en``; None where the engine knows only one."""
    speaker: str | None = None
    """Who speaks, where that was asked for."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in a recording."""

    segments: tuple[Segment, ...]
    """In order of their beginnings; of one speaker none overlaps the next."""
    duration: float
    """Of the recording, in seconds."""
    speech: float
    """Seconds of it in which somebody speaks; 0 means that nobody does, and then there are no segments."""
    language: str | None = None
    language_probability: float | None = None
    """How sure the engine is of it, from 0 to 1; None where the language was given, or there is but one."""
    dropped: tuple[Dropped, ...] = field(default=())
    """Stretches whose words were not believed, with the reason: nothing is left out in silence."""

    @property
    def text(self) -> str:
        """All words, a space between segments."""
        return " ".join(segment.text for segment in self.segments)

    @property
    def no_speech(self) -> bool:
        """Whether nobody says anything."""
        return not self.segments


@dataclass(frozen=True, slots=True)
class Dropped:
    """A stretch of a recording in which words were decoded that are not believed."""

    t0: float
    t1: float
    reason: str
    """``silence``, ``no speech``, ``repetition`` or ``low confidence``."""


def __getattr__(name: str) -> Any:
    if name in ("Transcriber", "load_transcriber"):
        from mmagent.speech import transcribe

        return getattr(transcribe, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
