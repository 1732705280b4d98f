"""The port behind which Whisper runs: windows of samples in, timed text out. It knows no files and no silence.

Each adapter is a file of its own: `transformers`, `faster` (faster-whisper) and `original` (openai-whisper).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmagent.speech import Word


@dataclass(frozen=True, slots=True)
class Ask:
    """How windows are to be decoded."""

    language: str | None = None
    """ISO 639-1 code; None only for an engine that is not multilingual."""
    task: Literal["transcribe", "translate"] = "transcribe"
    prompt: str = ""
    """Words that came before or that are likely (names, formats); the engine sees the last 200 tokens of them."""
    words: bool = False
    """Give the times of words."""
    temperature: float = 0.0
    """0 is greedy."""
    max_tokens: int = 224
    """Of an answer."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text between two timestamps of a window."""

    t0: float
    """Seconds from the start of the window."""
    t1: float
    text: str
    """Without spaces around it."""
    tokens: tuple[int, ...]
    """Its text tokens."""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Decoded:
    """What an engine made of one window."""

    pieces: tuple[Piece, ...]
    logprob: float
    """The mean log-probability of its tokens, the end included."""
    no_speech: float
    """The probability of `<|nospeech|>` at the first place, from 0 to 1."""
    tokens: tuple[int, ...]
    """All it said: text and timestamps, neither prompt nor end."""


class Engine(Protocol):
    """A Whisper network, loaded when it is first needed. One call at a time; calls from several threads wait."""

    name: str
    """``transformers``, ``faster-whisper`` or ``openai-whisper``."""

    @property
    def fingerprint(self) -> str:
        """Differs where the same window may get other words."""

    @property
    def seconds(self) -> float:
        """The longest window that it hears; 30 in those that were released."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes it knows; empty where it knows only one language."""

    @property
    def translates(self) -> bool:
        """Whether it can translate to English."""

    def detect(self, windows: Sequence[NDArray[np.float32]]) -> list[Mapping[str, float]]:
        """The probability of each language, for each window ``[N]`` (16 kHz, at most `seconds`)."""

    def decode(self, windows: Sequence[NDArray[np.float32]], ask: Ask) -> list[Decoded]:
        """What is said in each window, all windows in one batch where the engine can.

        Raises:
            InputError: It does not know the language (the message lists those it knows), or cannot translate.
            ModelError: The engine failed.
        """
