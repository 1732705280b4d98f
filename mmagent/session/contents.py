"""What a search and a sweep of media see in an entry, alike in every journal. Pure: it knows no disk and no database.

Words are compared without case and accents. Scripts that put no spaces between words (Chinese, Japanese, Thai) are cut
into overlapping pairs of characters, so that any part of a sentence is found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmagent.errors import InputError

CANDIDATES = 200
"""A search ranks the latest entries that have all its words, this many at most."""
_SEARCHED_CHARACTERS = 100_000
"""Of one entry; what a tool read from a book is not searched to its end."""
_TERM_CHARACTERS = 64
_QUERY_TERMS = 32
_BEFORE, _AFTER = 30, 60
_FILE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_MARKS = re.compile("[\u0300-\u036f\u3099\u309a]+")
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\U00020000-\U0003ffff])"
)
_UNSPACED_RUN = re.compile(_UNSPACED.pattern.strip("()") + "+")


@dataclass(frozen=True)
class Term:
    """One word that a search asks for."""

    text: str
    prefix: bool
    """Whether longer words that begin with it fit too."""


def check_name(name: str) -> None:
    """Refuse a session name that a database cannot keep.

    Raises:
        InputError: It is empty, or has a NUL or half a character in it.
    """
    if not name or "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError(f"a session cannot be called {name!r}; use letters, digits, '.', '_' and '-'")


def said(kind: str, data: Mapping[str, Any]) -> str:
    """The text that a user, a model or a tool said in an entry; ``""`` where nobody said any."""
    message = data.get("message") if kind == "message" else None
    if not isinstance(message, Mapping) or message.get("role") == "system":
        return ""
    blocks = message.get("content")
    if not isinstance(blocks, list | tuple):
        return ""
    texts = (block.get("text") for block in blocks if isinstance(block, Mapping) and block.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str))


def media(data: Any) -> frozenset[str]:
    """The ids of the media that an entry refers to: whatever reads like one, wherever it stands."""
    return frozenset(_media(data))


def _media(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        if len(data) == 71 and _FILE_ID.fullmatch(data):
            yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _media(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _media(value)


def terms(text: str) -> frozenset[str]:
    """The words of a text as a search compares them; letters, digits and ``_`` only."""
    words = set(_words(text))
    if text.isascii():
        return frozenset(word[:_TERM_CHARACTERS] for word in words)
    return frozenset(term for word in words for term in _indexed(word))


def wanted(words: str) -> tuple[Term, ...]:
    """The words of a query. None: nothing fits it."""
    found: list[Term] = []
    for word in _words(words):
        for part in _UNSPACED_RUN.split(word):  # in turn: before, between and after runs without spaces
            if part:
                found.append(Term(part[:_TERM_CHARACTERS], prefix=False))
        for run in _UNSPACED_RUN.findall(word):
            pairs = [run[at : at + 2] for at in range(max(1, len(run) - 1))]
            found += [Term(pair, prefix=len(pair) == 1) for pair in pairs]
    if found and not _UNSPACED.match(found[-1].text):
        found[-1] = Term(found[-1].text, prefix=True)
    return tuple(dict.fromkeys(found))[-_QUERY_TERMS:]


def fits(text: str, query: Sequence[Term]) -> bool:
    """Whether all words of a query stand in a text."""
    there = terms(text)
    return bool(query) and all(
        any(one.startswith(term.text) for one in there) if term.prefix else term.text in there for term in query
    )


def score(text: str, query: Sequence[Term]) -> float:
    """How well a text that has all words fits: how densely they stand in it."""
    folded = _fold(text)
    return sum(folded.count(term.text) for term in query) / (len(folded) + 50)


def excerpt(text: str, query: Sequence[Term]) -> str:
    """The first place of the query's words and what stands around it, in one line."""
    at = min((place for term in query if (place := _place(text, term.text)) >= 0), default=0)
    begin, end = max(0, at - _BEFORE), at + _AFTER
    shown = " ".join(text[begin:end].split())
    return ("…" if begin else "") + shown + ("…" if end < len(text) else "")


def _fold(text: str) -> str:
    text = text[:_SEARCHED_CHARACTERS]
    return text.lower() if text.isascii() else _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold()))


def _words(text: str) -> list[str]:
    return _WORD.findall(_fold(text))


def _indexed(word: str) -> Iterator[str]:
    if word.isascii():
        yield word[:_TERM_CHARACTERS]
        return
    for part in _UNSPACED_RUN.split(word):
        if part:
            yield part[:_TERM_CHARACTERS]
    for run in _UNSPACED_RUN.findall(word):
        yield from (run[at : at + 2] for at in range(len(run)))


def _place(text: str, term: str) -> int:
    """Where in a text a folded word begins; -1: nowhere."""
    folded = _fold(text)
    found = re.search(rf"(?<!\w){term}", folded)
    at = found.start() if found else folded.find(term)
    if at < 0 or len(folded) == len(text):
        return at
    length = 0
    for place, character in enumerate(text):  # some characters fold to none or to several
        length += len(_fold(character))
        if length > at:
            return place
    return -1
