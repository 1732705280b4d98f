"""An engine and a voice detector that do what a test wants. They know the ports of mmagent.speech only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from mmagent.media.sound import RATE
from mmagent.speech.engines import Ask, Decoded, Piece
from mmagent.speech.vad import Vad

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

Answer: TypeAlias = "str | Decoded | Callable[[NDArray[np.float32], Ask], str | Decoded]"
"""Words for a whole window, an answer, or what makes one of either."""


class ScriptedEngine:
    """Gives the answers of a script, a window each; the last one for ever.

    Args:
        answers: What it says.
        languages: The codes that it knows.
        hears: The probability of each language, a window each and the last one for ever; none: the first language.
        translates: Whether it can.
    """

    name = "scripted"
    fingerprint = "scripted"
    seconds = 30.0

    def __init__(
        self,
        *answers: Answer,
        languages: Sequence[str] = ("en", "de"),
        hears: Sequence[Mapping[str, float]] = (),
        translates: bool = True,
    ) -> None:
        self.languages, self.translates = tuple(languages), translates
        self._answers, self._hears = list(answers) or [""], list(hears)
        self.heard: list[tuple[float, Ask]] = []
        """Seconds of each window that was decoded, and how."""
        self.batches: list[int] = []
        """Windows of each call."""

    def detect(self, windows: Sequence[NDArray[np.float32]]) -> list[Mapping[str, float]]:
        """See `mmagent.speech.engines.Engine`."""
        return [_next(self._hears) if self._hears else {self.languages[0]: 1.0} for _ in windows]

    def decode(self, windows: Sequence[NDArray[np.float32]], ask: Ask) -> list[Decoded]:
        """See `mmagent.speech.engines.Engine`."""
        self.batches.append(len(windows))
        self.heard += [(len(window) / RATE, ask) for window in windows]
        return [self._answer(window, ask) for window in windows]

    def _answer(self, window: NDArray[np.float32], ask: Ask) -> Decoded:
        said = _next(self._answers)
        if callable(said):
            said = said(window, ask)
        return decoded((0.0, len(window) / RATE, said)) if isinstance(said, str) else said


def decoded(*pieces: tuple[float, float, str], logprob: float = -0.2, no_speech: float = 0.0) -> Decoded:
    """An answer of an engine.

    Args:
        pieces: Begin and end in the window, in seconds, and text.
        logprob: The mean log-probability of its tokens.
        no_speech: The probability that nobody speaks.
    """
    made = [Piece(t0, t1, text, tuple(range(len(text.split())))) for t0, t1, text in pieces if text]
    return Decoded(tuple(made), logprob, no_speech, tuple(token for piece in made for token in piece.tokens))


class LoudVad(Vad):
    """Takes whatever is loud for speech, so that a tone will do.

    Args:
        least: Root mean square from which a frame is loud.
    """

    movement = 0.0

    def __init__(self, least: float = 0.01) -> None:
        self.least = least

    def probability(self, frame: NDArray[np.float32]) -> float:
        """See `mmagent.speech.vad.Vad`."""
        return float((frame * frame).mean() ** 0.5 >= self.least)


def _next(script: list[T]) -> T:
    return script.pop(0) if len(script) > 1 else script[0]
