"""What a search gives, and the words of it that support a claim. It knows nothing of stores and indexes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmagent.knowledge.chunk import sentences


@dataclass(frozen=True)
class Hit:
    """A passage that a search found."""

    id: str
    """The same for the same passage of the same document, whatever the query."""
    text: str
    """The passage: a verbatim span of the document."""
    title: str
    """Document title and heading path, e.g. ``"Returns > Return window"``."""
    uri: str
    """The document's path, relative to the folder it was added with where there is one."""
    start: int
    """Where the passage begins, in characters of the document decoded from UTF-8, line ends as they are."""
    end: int
    """Where it ends (exclusive)."""
    score: float
    """Fused rank score: higher is better; comparable within one search only."""


_TOKEN = re.compile(r"\d+(?:[.,:/-]\d+)*|[^\W\d_]+")
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|ies|es|s|e|y)$")
_LEAD = re.compile(r"(?:(?:[-*+>]|\d+[.)])\s+|\|\s*)+")
_COMMON = (
    "a an and are as at be been but by can did do does for from had has have i if in into is it its may me my no not of"
    " on or our shall so than that the their them then there they this to us was we were what when where which who will"
    " with within would you your"
)
_FILLERS = frozenset(_COMMON.split())
_NUMBER, _WORD, _FILLER = 3.0, 1.0, 0.05
_EXTRA_SENTENCE = 1.5
"""What a further sentence has to bring, in weight of claim words, to be quoted too."""
_LONGEST = 3
"""Sentences in a quote."""


def quote_for(text: str, claim: str) -> str:
    """The sentence or neighbouring sentences of ``text`` that support ``claim`` best.

    Sentences are compared by the words they share with the claim, of which numbers weigh most; a second or third one
    is quoted only for what it adds. Where nothing is shared it is the first sentence.

    Returns:
        A verbatim substring of ``text``; empty only where ``text`` is blank.
    """
    spans = sentences(text)
    if not spans:
        return ""
    wanted = _tokens(claim)
    found = [_tokens(text[start:end]) & wanted.keys() for start, end in spans]

    def shared_weight(window: tuple[int, int]) -> tuple[float, int, int]:
        first, last = window
        shared: set[str] = set().union(*found[first : last + 1])
        weight = sum(wanted[token] for token in shared) - _EXTRA_SENTENCE * (last - first)
        return weight, first - last, -first

    windows = [(a, b) for a in range(len(spans)) for b in range(a, min(a + _LONGEST, len(spans)))]
    first, last = max(windows, key=shared_weight)
    start, end = spans[first][0], spans[last][1]
    lead = _LEAD.match(text, start, end)
    quote = text[lead.end() if lead and lead.end() < end else start : end]
    if quote not in text:  # a slice always is; a quote that is none must never leave this function
        raise AssertionError("a quote is not a verbatim part of its passage")
    return quote


def support(text: str, claim: str) -> float:
    """How much of ``claim`` stands in ``text``: the weight of the words they share, 3 for a number, 1 for a word."""
    wanted = _tokens(claim)
    return sum(wanted[token] for token in _tokens(text) & wanted.keys())


def _tokens(text: str) -> dict[str, float]:
    """Normalised words and numbers, each with its weight."""
    weights: dict[str, float] = {}
    for token in _TOKEN.findall(text.lower()):
        if token[0].isdigit():
            weights[token] = _NUMBER
        else:
            weights[_ENDING.sub("", token)] = _FILLER if token in _FILLERS else _WORD
    return weights
