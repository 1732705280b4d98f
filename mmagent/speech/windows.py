"""Spans of speech become windows for an engine, and times in a window those of the recording. It knows no words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmagent.media.sound import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmagent.speech.vad import Span

GAP = 3.0
"""Seconds without speech that a window has inside at most. They are silent in it, whatever the recording has there."""


@dataclass(frozen=True, slots=True)
class Window:
    """Speech that an engine hears at once, with the pauses in it."""

    t0: float
    """Where it begins in the recording, in seconds."""
    samples: NDArray[np.float32]
    """``[N]`` at 16 kHz."""
    spans: tuple[tuple[float, float], ...]
    """Where somebody speaks, in seconds of the recording."""

    @property
    def t1(self) -> float:
        """Where its speech ends, in seconds of the recording."""
        return self.spans[-1][1]

    def speech(self, t0: float = 0.0) -> float:
        """Seconds of speech in it from a time of the recording on."""
        return sum(max(0.0, end - max(begin, t0)) for begin, end in self.spans)

    def within(self, t0: float, t1: float) -> tuple[float, float] | None:
        """The part from the first to the last speech between two times; None where nobody speaks between them."""
        inside = [(begin, end) for begin, end in self.spans if (begin < t1 and end > t0) or begin <= t0 == t1 <= end]
        return (max(t0, inside[0][0]), min(t1, inside[-1][1])) if inside else None

    def nearest(self, t: float) -> float:
        """The time itself where somebody speaks, else the nearest one."""
        return min((min(max(t, begin), end) for begin, end in self.spans), key=lambda near: abs(near - t))

    def alone(self) -> list[Window]:
        """Its spans, each in a window of its own; none where there is only one."""
        if len(self.spans) < 2:
            return []
        places = [
            (begin, end, round((begin - self.t0) * RATE), round((end - self.t0) * RATE)) for begin, end in self.spans
        ]
        return [Window(begin, self.samples[first:last], ((begin, end),)) for begin, end, first, last in places]

    def rest(self, t: float) -> Window:
        """What is left of it from a time of the recording on, at which or after which there is speech."""
        spans = tuple((max(begin, t), end) for begin, end in self.spans if end > t)
        begin = spans[0][0]
        return Window(begin, self.samples[round((begin - self.t0) * RATE) :], spans)


def overlaps(span: tuple[float, float], others: Iterable[tuple[float, float]]) -> bool:
    """Whether any of the others has a time in common with it."""
    return any(begin < span[1] and end > span[0] for begin, end in others)


def windows_of(spans: Iterable[Span], longest: float) -> Iterator[Window]:
    """Neighbouring spans joined; each span is in one window, and only the spans of one window are held.

    Args:
        spans: In order, none longer than a window.
        longest: Seconds of a window.
    """
    held: list[Span] = []
    for span in spans:
        if held and (span.t1 - held[0].t0 > longest or span.t0 - held[-1].t1 > GAP):
            yield _joined(held)
            held = []
        held.append(span)
    if held:
        yield _joined(held)


def _joined(spans: list[Span]) -> Window:
    import numpy as np

    t0 = spans[0].t0
    samples = np.zeros(max(round((span.t0 - t0) * RATE) + len(span.samples) for span in spans), np.float32)
    for span in spans:
        begin = round((span.t0 - t0) * RATE)
        samples[begin : begin + len(span.samples)] = span.samples
    return Window(t0, samples, tuple((span.t0, span.t1) for span in spans))
