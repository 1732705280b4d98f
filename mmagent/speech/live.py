"""What is being said, while it is being said. It knows an engine and a growing buffer, no microphone and no turns.

The buffer is decoded again and again. A word is sure once two decodings in a row agree on it (LocalAgreement-2, in
"Turning Whisper into Real-Time Transcription System", Macháček et al., 2023), and what is sure never changes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from threading import Lock
from typing import TYPE_CHECKING

from mmagent.media.sound import RATE
from mmagent.speech.engines import Ask
from mmagent.speech.guards import Guards

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmagent.speech.engines import Decoded, Engine, Piece

SPARE = 2.0
"""Seconds of an engine's window that are left free; of a longer buffer the beginning is settled."""
SURE = 0.5
"""The probability from which a language is kept."""

_LEAST = RATE // 10
_SEARCH, _FRAME = 3 * RATE, RATE // 10
"""Where in a long buffer a quiet place is looked for, and how long such a place is."""
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff"
"""Scripts that write no spaces; each character counts as a word."""
_WORD = re.compile(rf"\s*(?:[{_ALONE}]|[^\s{_ALONE}]+)")


@dataclass(frozen=True, slots=True)
class Hearing:
    """What has been heard so far."""

    committed: str = ""
    """What is sure: a later one begins with it."""
    tentative: str = ""
    """What comes after it, and may yet change."""

    @property
    def text(self) -> str:
        """Both."""
        return f"{self.committed}{self.tentative}".strip()


@dataclass(frozen=True, slots=True)
class _Unit:
    """A word, with the space before it."""

    text: str
    key: str
    """What two decodings must agree on: letters and digits."""
    piece: int


class Live:
    """Decodes the speech of one turn as it grows. `feed` and `look` may be called by different threads.

    Args:
        engine: What decodes.
        ask: How. Without a language, the one that is heard is taken, and kept once it is sure.
        guards: Which decodings are not believed; what was believed before then stays. None: as `Transcriber`.
    """

    def __init__(self, engine: Engine, ask: Ask | None = None, guards: Guards | None = None) -> None:
        self.engine, self.asked, self._guards = engine, ask or Ask(), guards or Guards()
        self._longest = round((engine.seconds - SPARE) * RATE)
        self._lock = Lock()
        self.begin()

    def begin(self) -> None:
        """Forget everything: another turn begins. Call it while nothing looks."""
        self._ask = self.asked
        self._language_is_sure = self.asked.language is not None or not self.engine.languages
        self._pieces: list[NDArray[np.float32]] = []
        self._committed = ""
        self._fresh: list[_Unit] = []
        """The committed words that are still in the buffer."""
        self._tail: list[_Unit] = []
        """What the last decoding said after them."""

    @property
    def hearing(self) -> Hearing:
        """What has been heard up to the last look."""
        with self._lock:
            return Hearing(self._committed, "".join(unit.text for unit in self._tail))

    @property
    def language(self) -> str | None:
        """The one that is spoken, as far as it is known."""
        return self._ask.language

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Add speech, ``[N]`` at 16 kHz."""
        with self._lock:
            self._pieces.append(samples)

    def look(self) -> Hearing:
        """Decode what there is, at most a window of it. It takes as long as the engine does: call it in a thread.

        Raises:
            ModelError: The engine failed.
        """
        while True:
            window, over = self._window()
            if len(window) >= _LEAST:
                self._choose_language(window)
                (decoded,) = self.engine.decode([window], self._ask)
                self._take(decoded, len(window), settle=over)
            if not over:
                return self.hearing

    def finish(self) -> Hearing:
        """All is sure now; a last `look` comes before it where there is speech that none has seen."""
        with self._lock:
            self._commit(self._tail)
            self._tail = []
        return self.hearing

    def _window(self) -> tuple[NDArray[np.float32], bool]:
        """The buffer, or its beginning up to a quiet place where it is too long to be decoded at once."""
        import numpy as np

        with self._lock:
            self._pieces = [np.concatenate(self._pieces)] if self._pieces else [np.zeros(0, np.float32)]
            buffer = self._pieces[0]
        if len(buffer) <= self._longest:
            return buffer, False
        begin = self._longest - _SEARCH
        frames = buffer[begin : self._longest].reshape(-1, _FRAME)
        quietest = int(np.square(frames).sum(axis=1).argmin())
        return buffer[: begin + quietest * _FRAME + _FRAME // 2], True

    def _choose_language(self, window: NDArray[np.float32]) -> None:
        if self._language_is_sure:
            return
        (heard,) = self.engine.detect([window])
        best = max(heard, key=lambda code: heard[code])
        self._ask = replace(self._ask, language=best)
        self._language_is_sure = heard[best] >= SURE and len(window) >= RATE

    def _take(self, decoded: Decoded, length: int, *, settle: bool) -> None:
        """Compare a decoding with the one before, and forget the sound that is done with.

        Args:
            decoded: What the engine made of the beginning of the buffer.
            length: Samples that it heard.
            settle: Whether these are never decoded again.
        """
        with self._lock:
            words = None if self._guards.doubt(decoded) else _words(decoded.pieces)
            if words is not None:  # else what was believed before is kept
                known = _aligned(self._fresh, words)
                rest = words[known:]
                pairs = zip(self._tail, rest, strict=False)
                agreed = sum(1 for _ in takewhile(lambda pair: pair[0].key == pair[1].key, pairs))
                self._commit(rest[:agreed])
                self._tail = rest[agreed:]
                if known >= len(self._fresh):  # else words of it were not heard this time; they are still there
                    self._fresh = words[: known + agreed]
                    if not settle:
                        self._drop_whole_pieces(decoded.pieces, length)
            if settle:
                self._settle(words, length)

    def _settle(self, words: Sequence[_Unit] | None, length: int) -> None:
        """Forget the sound that was heard; what is sure already may go beyond it."""
        self._commit(self._tail)
        done = len(self._fresh) if words is None else _aligned(words, self._fresh)
        self._fresh, self._tail = self._fresh[done:], []
        self._drop(length)

    def _commit(self, units: Sequence[_Unit]) -> None:
        added = "".join(unit.text for unit in units)
        self._committed += added if self._committed else added.lstrip()

    def _drop_whole_pieces(self, pieces: Sequence[Piece], length: int) -> None:
        """Forget the sound of pieces whose words are all sure, but never the last piece: it may go on."""
        unsure = self._tail[0].piece if self._tail else len(pieces) - 1
        whole = min(unsure, len(pieces) - 1)
        if whole > 0 and 0 < (end := round(pieces[whole - 1].t1 * RATE)) < length:
            self._drop(end)
            self._fresh = [unit for unit in self._fresh if unit.piece >= whole]

    def _drop(self, count: int) -> None:
        import numpy as np

        self._pieces = [np.concatenate(self._pieces)[count:]]


def _words(pieces: Sequence[Piece]) -> list[_Unit]:
    units: list[_Unit] = []
    for number, piece in enumerate(pieces):
        for text in _WORD.findall(f" {piece.text.strip()}"):
            if key := "".join(filter(str.isalnum, text)).casefold():
                units.append(_Unit(text, key, number))
            elif units:  # a dash that stands alone belongs to the word before
                units[-1] = replace(units[-1], text=units[-1].text + text)
    return units


def _aligned(known: Sequence[_Unit], words: Sequence[_Unit]) -> int:
    """How many words at the beginning are those that are known: the prefix with the least edit distance to them."""
    costs = list(range(len(words) + 1))
    for row, unit in enumerate(known, start=1):
        before, costs[0] = costs[0], row
        for column, word in enumerate(words, start=1):
            best = min(before + (unit.key != word.key), costs[column] + 1, costs[column - 1] + 1)
            before, costs[column] = costs[column], best
    return min(range(len(costs)), key=lambda count: (costs[count], abs(count - len(known))))
