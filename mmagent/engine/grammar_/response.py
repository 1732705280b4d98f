"""From generated tokens to text and tool calls, as they come. It knows the tool format, no tools and no network."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmagent.errors import ModelError

if TYPE_CHECKING:
    from mmagent.engine.grammar import ToolFormat
    from mmagent.engine.vocabulary import Vocabulary


@dataclass(frozen=True)
class ParsedCall:
    """A whole call."""

    name: str
    arguments: dict[str, Any]


class Response:
    """Takes one answer's tokens and gives its parts back: pieces of text, and calls once they are whole.

    A piece ends between characters; what may be the start of a call or of a stop string is held back until it is not.

    Args:
        vocabulary: Of the model that answers.
        format: How it writes calls.
        stop: Strings at whose first occurrence in the text the answer ends.
    """

    def __init__(self, vocabulary: Vocabulary, format: ToolFormat, stop: Sequence[str] = ()) -> None:
        self._vocabulary, self._format = vocabulary, format
        self._stop = tuple(filter(None, stop))
        self._markers = self._stop if format.special else (*self._stop, format.open)
        special = (format.open, format.close) if format.special else ()
        self._open, self._close = (*map(vocabulary.special, special), None, None)[:2]
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._in_call = False
        self.calls = 0
        """Whole calls so far."""
        self.stopped = False
        """Whether a stop string was met; it and what follows are no part of the answer."""

    def feed(self, token: int) -> Iterator[str | ParsedCall]:
        """The parts that this token completes."""
        if self.stopped:
            return
        if self._open is not None and token in (self._open, self._close):
            if token == self._close:
                yield self._parse(self._held)
            elif text := self._flush():
                yield text
            self._held, self._in_call = "", token == self._open
            return
        self._held += self._utf8.decode(self._vocabulary.bytes_of(token))
        yield from self._cut()

    def finish(self) -> Iterator[str]:
        """What was held back at the end; an unfinished call is dropped."""
        if not self.stopped and not self._in_call and (text := self._flush()):
            yield text

    def _flush(self) -> str:
        text, self._held = self._held + self._utf8.decode(b"", final=True), ""
        return text

    def _cut(self) -> Iterator[str | ParsedCall]:
        while not self.stopped:
            if self._in_call:
                if self._format.special or self._format.close not in self._held:
                    return
                call, _, self._held = self._held.partition(self._format.close)
                self._in_call = False
                yield self._parse(call)
                continue
            found = [(at, -len(mark), mark) for mark in self._markers if (at := self._held.find(mark)) >= 0]
            end = min(found)[0] if found else len(self._held) - _overlap(self._held, self._markers)
            text, self._held = self._held[:end], self._held[end:]
            if text and (text.strip() or not self.calls):  # white space between calls is no text
                yield text
            if not found:
                return
            mark = min(found)[2]
            self.stopped, self._in_call = mark in self._stop, mark not in self._stop
            self._held = self._held[len(mark) :]

    def _parse(self, text: str) -> ParsedCall:
        try:
            value = json.loads(text)
            call = ParsedCall(value["name"], value["arguments"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"the model wrote a call that cannot be read: {text[:200]!r}; ask again") from error
        self.calls += 1
        return call


def _overlap(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of ``text`` that begins a marker."""
    longest = max(map(len, markers), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-size:]) for marker in markers):
            return size
    return 0
