"""One channel of a recording, from samples to segments. It knows an engine by its port, no files and no channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from mmagent.media.sound import RATE
from mmagent.speech import Dropped, Segment, Word
from mmagent.speech.engines import Ask, Decoded, Engine, Piece
from mmagent.speech.guards import Doubt, Guards, compression, says_something, without_loops
from mmagent.speech.language import Language
from mmagent.speech.vad import Span, SpanRules, Spans, Vad
from mmagent.speech.windows import Window, overlaps, windows_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEFT_OVER = 2.0
"""Seconds of speech after the last words of an answer from which these are listened to again."""

_CONTEXT = 400
"""Characters of what was said before that an engine is given."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a recording is heard."""

    ask: Ask
    """What engines are asked; its language is None where that is to be heard."""
    guards: Guards
    new_vad: Callable[[], Vad]
    batch: int
    """Windows that the engine decodes at once."""
    conditioned: bool
    """Whether the engine sees what was said before."""


class Channel:
    """Hears samples as they come, a few windows at a time.

    Args:
        engine: What decodes.
        options: How.
        samples: Pieces ``[N]`` at 16 kHz.
        speaker: Who speaks.
        report: Is told how many seconds are done.
    """

    def __init__(
        self,
        engine: Engine,
        options: Options,
        samples: Iterator[NDArray[np.float32]],
        speaker: str | None,
        report: Callable[[float], None],
    ) -> None:
        self._engine, self._options, self._guards = engine, options, options.guards
        self._samples, self._speaker, self._report = samples, speaker, report
        self.duration = 0.0
        """Seconds so far."""
        self.stopped = False
        """Set it to end after the windows that are being decoded."""
        self.spans: list[tuple[float, float]] = []
        """Where somebody speaks."""
        self.dropped: list[Dropped] = []
        self._language = Language()
        self._end = 0.0
        """Where the last segment ended."""
        self._before = ""
        """What was said last, where the engine is to know it."""

    @property
    def speech(self) -> float:
        """Seconds of it."""
        return union(self.spans)

    @property
    def language(self) -> str | None:
        """The one that was given, or is heard."""
        return self._options.ask.language or self._language.code

    @property
    def language_probability(self) -> float | None:
        """How sure that is; None where it was given."""
        return self._language.probability

    def segments(self) -> Iterator[Segment]:
        """In order."""
        windows = windows_of(self._find(), self._engine.seconds)
        while not self.stopped and (batch := list(islice(windows, self._options.batch))):
            yield from self._hear(batch)
            self._report(batch[-1].t1)
        if not self.stopped:
            self._report(self.duration)

    def _find(self) -> Iterator[Span]:
        """The spans of speech."""
        finder, count = Spans(self._options.new_vad(), SpanRules(longest=self._engine.seconds)), 0
        for piece in self._samples:
            count += len(piece)
            self.duration = count / RATE
            yield from finder.feed(piece)
        yield from finder.finish()

    def _hear(self, windows: Sequence[Window]) -> list[Segment]:
        """What is said in some windows; what an answer left out is listened to again."""
        codes = self._languages(windows)
        said: list[list[Segment]] = [[] for _ in windows]
        nobody = set[int]()
        todo = list(enumerate(windows))
        while todo:
            answers = self._decode([window for _, window in todo], [codes[index] for index, _ in todo])
            rest: list[tuple[int, Window]] = []
            for (index, window), (answer, doubt) in zip(todo, answers, strict=True):
                pieces, end = _whole(answer, self._options.ask.max_tokens)
                if doubt == "low confidence" and len(window.spans) > 1:
                    rest += [(index, alone) for alone in window.alone()]
                    continue
                said[index] += (believed := self._believed(window, answer, pieces, doubt, codes[index]))
                nobody |= {index} if doubt == "no speech" else set()
                begin = window.t0 + end
                if believed and end >= 1.0 and window.speech(begin) >= (LEFT_OVER if pieces is answer.pieces else 0.5):
                    rest.append((index, window.rest(begin)))
                elif believed:
                    times = [(segment.t0, segment.t1) for segment in believed]
                    rest += [(index, alone) for alone in window.alone() if not overlaps(alone.spans[0], times)]
            todo = rest
        speech = [one for index, one in enumerate(windows) if said[index] or index not in nobody]
        self.spans += [span for one in speech for span in one.spans]
        return self._in_order([_snapped(one, window) for one, window in zip(said, windows, strict=True)])

    def _languages(self, windows: Sequence[Window]) -> list[str | None]:
        if self._options.ask.language or not self._engine.languages:
            return [self._options.ask.language] * len(windows)
        heard = self._engine.detect([window.samples for window in windows])
        return self._language.hear([(one, window.speech()) for one, window in zip(heard, windows, strict=True)])

    def _decode(self, windows: Sequence[Window], codes: Sequence[str | None]) -> list[tuple[Decoded, Doubt | None]]:
        """An answer for each window, warmer ones where the first is not believed, and why the last one is not."""
        found: dict[int, tuple[Decoded, Doubt | None]] = {}
        for temperature in self._guards.temperatures:
            tries = [at for at in range(len(windows)) if at not in found or _hopeful(found[at][1])]
            for code in sorted({codes[at] for at in tries}, key=str):
                group = [at for at in tries if codes[at] == code]
                ask = self._ask(code, temperature)
                answers = self._engine.decode([windows[at].samples for at in group], ask)
                for at, answer in zip(group, answers, strict=True):
                    doubt = self._guards.doubt(answer)
                    if doubt is None or at not in found:  # of those that are not believed the first is the likeliest
                        found[at] = answer, doubt
        return [found[at] for at in range(len(windows))]

    def _ask(self, code: str | None, temperature: float) -> Ask:
        asked = self._options.ask
        prompt = f"{asked.prompt} {self._before}".strip() if self._options.conditioned else asked.prompt
        return replace(asked, language=code, prompt=prompt, temperature=temperature)

    def _believed(
        self, window: Window, answer: Decoded, pieces: Sequence[Piece], doubt: Doubt | None, code: str | None
    ) -> list[Segment]:
        """The segments of an answer; what is not believed is written down as dropped."""
        kept, looped = without_loops(pieces)
        if doubt == "repetition" and looped and answer.logprob >= self._guards.logprob:
            doubt = None if compression(" ".join(one.text for one in kept)) <= self._guards.compression else doubt
        self._before = ""
        if doubt:
            if doubt == "low confidence" or any(says_something(piece.text) for piece in pieces):
                self.dropped.append(Dropped(round(window.t0, 3), round(window.t1, 3), doubt))
            return []
        self.dropped += [self._drop(window, piece, "repetition") for piece in looped]
        segments = []
        for piece in kept:
            if not says_something(piece.text):
                continue
            if (times := window.within(window.t0 + piece.t0, window.t0 + max(piece.t0, piece.t1))) is None:
                self.dropped.append(self._drop(window, piece, "silence"))
                continue
            segments.append(self._segment(window, piece, times, answer.logprob, code))
        self._before = " ".join(segment.text for segment in segments)[-_CONTEXT:]
        return segments

    def _drop(self, window: Window, piece: Piece, reason: str) -> Dropped:
        return Dropped(round(window.t0 + piece.t0, 3), round(window.t0 + max(piece.t0, piece.t1), 3), reason)

    def _segment(
        self, window: Window, piece: Piece, times: tuple[float, float], logprob: float, code: str | None
    ) -> Segment:
        words, at = list[Word](), times[0]
        for word in piece.words:
            begin = min(max(window.nearest(window.t0 + word.t0), at), times[1])
            at = min(max(window.nearest(window.t0 + word.t1), begin), times[1])
            words.append(Word(round(begin, 3), round(at, 3), word.text, word.probability))
        if words:
            logprob = sum(math.log(max(word.probability, 1e-9)) for word in words) / len(words)
        confidence = round(math.exp(min(0.0, logprob)), 4)
        text = " ".join(piece.text.split())
        return Segment(round(times[0], 3), round(times[1], 3), text, tuple(words), confidence, code, self._speaker)

    def _in_order(self, said: Sequence[Sequence[Segment]]) -> list[Segment]:
        """None begins before the one before ends."""
        found = []
        for segment in (one for segments in said for one in segments):
            t0 = max(segment.t0, self._end)
            self._end = max(segment.t1, t0)
            words = (replace(word, t0=max(word.t0, t0), t1=max(word.t1, t0)) for word in segment.words)
            found.append(replace(segment, t0=t0, t1=self._end, words=tuple(words)))
        return found


def _hopeful(doubt: Doubt | None) -> bool:
    """Whether another try may be believed."""
    return doubt in ("repetition", "low confidence")


def _whole(answer: Decoded, most: int) -> tuple[Sequence[Piece], float]:
    """The pieces of an answer and where they end, without the last one where the limit of tokens cut that off."""
    pieces = answer.pieces
    if len(pieces) > 1 and len(answer.tokens) >= most:
        pieces = pieces[:-1]
    return pieces, max((piece.t1 for piece in pieces), default=0.0)


def _snapped(segments: Sequence[Segment], window: Window) -> list[Segment]:
    """In order, and from where the speech begins to where it ends: an engine's times are coarser than a detector's."""
    found = sorted(segments, key=lambda one: one.t0)
    for begin, end in window.spans:
        inside = [at for at, one in enumerate(found) if one.t0 < end and one.t1 > begin]
        if inside and 0 < found[inside[0]].t0 - begin < LEFT_OVER:
            found[inside[0]] = replace(found[inside[0]], t0=round(begin, 3))
        if inside and 0 < end - found[inside[-1]].t1 < LEFT_OVER:
            found[inside[-1]] = replace(found[inside[-1]], t1=round(end, 3))
    return found


def union(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that some spans cover together."""
    total, end = 0.0, 0.0
    for t0, t1 in sorted(spans):
        total += max(0.0, t1 - max(t0, end))
        end = max(end, t1)
    return total
