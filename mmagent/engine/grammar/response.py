"""From generated tokens to thoughts, text and tool calls, as they come. It knows the tool format, no tools and no
network.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mmagent.errors import ModelError

if TYPE_CHECKING:
    from mmagent.engine.grammar.formats import ToolFormat
    from mmagent.engine.vocabulary import Vocabulary

_FIRST_MARK = 0xD800
"""A control token of a mark stands in the text as a lone surrogate, which no UTF-8 spells: no text can forge it."""


@dataclass(frozen=True)
class ParsedCall:
    """A whole call."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Thought:
    """A piece of what the model thought before its answer."""

    text: str


Part: TypeAlias = str | Thought | ParsedCall


class Response:
    """Takes one answer's tokens and gives its parts back: pieces of thoughts and text, and calls once they are whole.

    A piece ends between characters; what may be the start of a mark or of a stop string is held back until it is not.

    Args:
        vocabulary: Of the model that answers.
        format: How it writes calls; None where it has none to write, and what looks like a call is text.
        stop: Strings at whose first occurrence in the text the answer ends.
        reasoning: The marks around thoughts.
        reasoning_open: Whether the prompt ends within a thought.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        format: ToolFormat | None,
        stop: Sequence[str] = (),
        reasoning: tuple[str, str] | None = None,
        reasoning_open: bool = False,
    ) -> None:
        self._vocabulary, self._format = vocabulary, format
        self._signs: dict[int, str] = {}
        self._open, self._close = map(self._sign, (format.open, format.close) if format else ("", ""))
        self._think, self._thought = map(self._sign, reasoning or ("", ""))
        self._unsigned = {ord(sign): "" for sign in self._signs.values()}
        self._bare = format is not None and format.bare
        self._stop = tuple(filter(None, stop))
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._mode: Literal["thought", "text", "call"] = "thought" if reasoning and reasoning_open else "text"
        self._begun = False
        """Whether the answer has more than white space and thoughts."""
        self.calls = 0
        """Whole calls so far."""
        self.stopped = False
        """Whether a stop string was met; it and what follows are no part of the answer."""

    def feed(self, token: int) -> Iterator[Part]:
        """The parts that this token completes."""
        if self.stopped:
            return
        sign = self._signs.get(token)
        if sign is None:
            self._held += self._utf8.decode(self._vocabulary.bytes_of(token))
        else:
            self._held += self._utf8.decode(b"", final=True) + sign
        yield from self._cut()

    def finish(self) -> Iterator[Part]:
        """What was held back at the end; an unfinished call is dropped."""
        if self.stopped:
            return
        self._held += self._utf8.decode(b"", final=True)
        text, self._held = self._held, ""
        if self._mode == "thought":
            yield from self._muse(text)
        elif self._mode == "text" or (self._bare and (_is_json(text) or not text.lstrip().startswith('{"name"'))):
            yield from self._say(text)  # an answer in JSON is no call
        elif not self._bare and self._close in text:
            raise _unreadable(text)

    def _sign(self, mark: str) -> str:
        """The mark as it stands in the text, its control tokens replaced by signs that nothing else spells."""
        parts = self._vocabulary.split(mark)
        for part in parts:
            if isinstance(part, int):
                self._signs.setdefault(part, chr(_FIRST_MARK + len(self._signs)))
        return "".join(self._signs[part] if isinstance(part, int) else part for part in parts)

    def _cut(self) -> Iterator[Part]:
        """Hand out what is certain of the text that is held."""
        before = None
        while not self.stopped and before != (before := (self._mode, self._held)):
            yield from {"thought": self._cut_thought, "text": self._cut_text, "call": self._cut_call}[self._mode]()

    def _cut_thought(self) -> Iterator[Part]:
        end, found = _find(self._held, (self._thought,))
        thought, self._held = self._held[:end], self._held[end + len(found) :]
        yield from self._muse(thought)
        if found:
            self._mode = "text"

    def _cut_text(self) -> Iterator[Part]:
        if not self._begun and (self._think or self._bare) and self._turns():
            return
        end, found = _find(self._held, (*self._stop, *filter(None, [self._open])))
        text, self._held = self._held[:end], self._held[end + len(found) :]
        yield from self._say(text)
        if found:
            self.stopped, self._mode = found in self._stop, "call" if found == self._open else "text"

    def _turns(self) -> bool:
        """Whether the answer begins with a thought or a call without marks, or may yet."""
        start = self._held.lstrip()
        if self._think and start.startswith(self._think):
            self._mode, self._held = "thought", start[len(self._think) :]
        elif self._bare and start.startswith("{"):
            self._mode = "call"
        return self._mode != "text" or self._think.startswith(start) or not start

    def _muse(self, text: str) -> Iterator[Thought]:
        if text := text.translate(self._unsigned):
            yield Thought(text)

    def _say(self, text: str) -> Iterator[str]:
        if (self._think or self.calls) and not self._begun:  # after thoughts, and between calls, white space is no text
            text = text.lstrip()
        if text := text.translate(self._unsigned):
            self._begun = True
            yield text

    def _cut_call(self) -> Iterator[Part]:
        assert self._format is not None
        if self._bare:
            if self._held.rstrip().endswith("}") and (calls := self._parse(self._held)):
                self._held = ""
                yield from calls
            return
        at = self._held.find(self._close)
        while at >= 0:
            calls = self._parse(self._held[:at])
            if calls or _is_sign(self._close):
                if not calls:
                    raise _unreadable(self._held)
                self._held, self._mode, self._begun = self._held[at + len(self._close) :], "text", False
                yield from calls
                return
            at = self._held.find(self._close, at + 1)  # a string of the call may spell the mark

    def _parse(self, text: str) -> list[ParsedCall]:
        """The calls in the text between two marks; none where it is not whole."""
        assert self._format is not None
        try:
            values = json.loads(f"[{text}]")
            calls = [ParsedCall(value["name"], value[self._format.arguments]) for value in values]
        except (ValueError, KeyError, TypeError, RecursionError):
            return []
        if not all(isinstance(call.arguments, dict) for call in calls):
            return []
        self.calls += len(calls)
        return calls


def _find(text: str, marks: Sequence[str]) -> tuple[int, str]:
    """Where the first of the marks begins, and which; else where what may become one begins."""
    found = [(at, -len(mark), mark) for mark in marks if (at := text.find(mark)) >= 0]
    return (min(found)[0], min(found)[2]) if found else (len(text) - _overlap(text, marks), "")


def _overlap(text: str, marks: Sequence[str]) -> int:
    """Length of the longest end of ``text`` that begins a mark."""
    longest = max(map(len, marks), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks):
            return size
    return 0


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_sign(mark: str) -> bool:
    return any(0xD800 <= ord(char) < 0xE000 for char in mark)


def _unreadable(text: str) -> ModelError:
    return ModelError(f"the model wrote a call that cannot be read: {text[:200]!r}; ask again")
