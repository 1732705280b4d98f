"""What a search gives, where it stands, and which words of it support a claim. It knows no stores and no indexes."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Protocol

from mmagent.knowledge.chunk import Span, sentences
from mmagent.knowledge.extract import Box


@dataclass(frozen=True)
class Hit:
    """A passage, or a picture, that a search found."""

    id: str
    """The same for the same passage of the same document, whatever the query."""
    text: str
    """The passage: a verbatim span of the document. Of a picture, what is known of it in words; often nothing."""
    title: str
    """Document title and heading path, e.g. ``"Returns > Return window"``."""
    uri: str
    """The document's path, relative to the folder it was added with where there is one."""
    start: int
    """Where the passage begins, in characters of the document's text."""
    end: int
    """Where it ends (exclusive)."""
    score: float
    """Fused rank score: higher is better; comparable within one search only."""
    kind: str = "text"
    """``text``, ``speech``, or a picture: ``image``, ``page``, ``region`` or ``frame``."""
    page: int | None = None
    """Page or slide, from 1."""
    box: Box | None = None
    """Left, top, right and bottom on the page or picture, as shares (0 to 1) of its width and height."""
    t0: float | None = None
    """When it begins to be heard or seen, in seconds."""
    t1: float | None = None
    """When it ends, in seconds."""
    mime_type: str = "text/plain"
    """Of the document."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the document was added with."""
    asset: str = ""
    """The document's id in its store."""

    @property
    def where(self) -> str:
        """The place in a few words, see `where`."""
        return where(self)

    @property
    def is_picture(self) -> bool:
        """Whether it was found by what it shows, and not by its words."""
        return self.kind in PICTURES


PICTURES = frozenset(("image", "page", "region", "frame"))
"""The kinds of hits that are looked at."""


class Located(Protocol):
    """What has a place in a document: a `Hit`, or a citation."""

    @property
    def uri(self) -> str: ...
    @property
    def page(self) -> int | None: ...
    @property
    def box(self) -> Box | None: ...
    @property
    def t0(self) -> float | None: ...
    @property
    def t1(self) -> float | None: ...
    @property
    def kind(self) -> str | None: ...


def where(found: Located) -> str:
    """The place of a hit or a citation: ``manual.pdf, p. 12``, ``call.wav, 1:02-1:17``, ``a.png, region 5,9-60,30 %``.

    Of a region, the two corners are given in per cent of the width and height, from the top left. The box of a
    passage of text on a page is not told: the page and the quote are enough to find it.
    """
    name = found.uri if "://" in found.uri else PurePath(found.uri).name or found.uri
    parts = [" ".join(name.split())]
    if found.page is not None:
        parts.append(f"p. {found.page}")
    if found.t0 is not None:
        begins = _clock(found.t0)
        ends = begins if found.t1 is None else _clock(found.t1)
        parts.append(begins if ends == begins else f"{begins}-{ends}")
    if found.box is not None and (found.page is None or found.kind in PICTURES):
        left, top, right, bottom = (round(100 * share) for share in found.box)
        if (left, top, right, bottom) != (0, 0, 100, 100):
            parts.append(f"region {left},{top}-{right},{bottom} %")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    whole = int(seconds) if math.isfinite(seconds) and seconds > 0 else 0
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


# The words of a text

_ACCENTS = "".join(chr(code) for code in range(0x300, 0x1E00) if unicodedata.category(chr(code)).startswith("M"))
"""Vowel signs and accents that are characters of their own, in words of Hindi, Thai, Arabic ..."""
_TOKEN = re.compile(rf"\d+(?:[.,:/-]\d+)*|(?:[^\W\d_][{_ACCENTS}\u200c\u200d]*)+")
_THOUSANDS = re.compile(r"(\d{1,3}(?:[.,]\d{3})+)(?:[.,](\d{1,2}|\d{4,}))?")
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|ies|es|s|e|y)$")
_IDEOGRAPH = "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
_ALPHABET = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNSPACED = re.compile(f"([{_IDEOGRAPH}]+)|([{_ALPHABET}]+)")
"""Chinese, Japanese, and Korean with its many endings; Thai, Lao, Burmese, Khmer: spaces do not tell words apart."""
_HARAKAT = re.compile("[\u0640\u064b-\u0652\u0670]")
_ARTICLE = re.compile("^[\u0648\u0641]?(?:[\u0628\u0643]?\u0627\u0644|\u0644\u0644)(?=\\w{2})")
"""The Arabic article, and what is written together with it: and, so, with, like, for."""
_STEM = 7
"""Characters of a word that are compared: most languages put what changes at its end."""
_COMMON = (
    "a an and are as at be been but by can could did do does for from had has have he her his how i if in into is it"
    " its may me my no not of on one or our shall she so st than that th the their them then there these they this"
    " those to us was we were what when where which who why will with within would yes you your"
)
_FILLERS = frozenset(_COMMON.split())
_CARDINALS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
_ORDINALS = (
    "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMERALS = {word: str(value) for value, word in enumerate([*_CARDINALS.split(), "eighteen", "nineteen"], start=2)}
_NUMERALS |= {word: str(value) for value, word in enumerate(_ORDINALS.split(), start=3)}
_NUMERALS |= {word: str(value) for value, word in zip(range(20, 100, 10), _TENS.split(), strict=True)}
_NUMBER, _WORD, _FILLER = 3.0, 1.0, 0.05
_GRAM = 0.5
"""Of a gram: two neighbouring characters, or three of an alphabet, where spaces do not tell words apart."""

_CACHED = 4_000
"""Characters of a text whose words are kept for the next question about it."""


def support(text: str, claim: str) -> float:
    """How much of ``claim`` stands in ``text``: the weight of the words they share, 3 for a number, 1 for a word.

    In scripts without spaces between words it is 0.5 for two neighbouring characters (three of Thai and its like).
    """
    wanted = _tokens(claim)
    return sum(wanted[token] for token in _tokens(text).keys() & wanted.keys())


def _tokens(text: str) -> Mapping[str, float]:
    """Normalised words, numbers and grams, each with its weight."""
    return _cached(text) if len(text) <= _CACHED else _counted(text)


def _counted(text: str) -> Mapping[str, float]:
    weights: dict[str, float] = {}
    for token in _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()):
        if token[0].isdecimal():
            parts = _numbers(token)
            for part in parts:
                weights[part] = max(weights.get(part, 0.0), _NUMBER / len(parts))
        else:
            for key, weight in _keys(token):
                weights[key] = max(weights.get(key, 0.0), weight)
    return weights


_cached = lru_cache(maxsize=256)(_counted)


def _numbers(token: str) -> list[str]:
    """A number however it is written: "1,000" and "1000" are one, and so are "4.90" and "4,9"; a date is its parts."""
    found = []
    for part in re.split("[:/-]", "".join(c if c in ".,:/-" else str(unicodedata.decimal(c)) for c in token)):
        if grouped := _THOUSANDS.fullmatch(part):
            part = re.sub("[.,]", "", grouped[1]) + (f".{grouped[2]}" if grouped[2] else "")
        whole, point, decimals = part.replace(",", ".").partition(".")
        decimals = decimals if "." in decimals else decimals.rstrip("0")
        found.append((whole.lstrip("0") or "0") + (point + decimals if decimals else ""))
    return found


def _keys(word: str) -> Iterator[tuple[str, float]]:
    """What a word is compared by."""
    at = 0
    for run in _UNSPACED.finditer(word):
        yield from _key(word[at : run.start()])
        length = 2 if run[1] else 3
        grams = [run[0][i : i + length] for i in range(max(1, len(run[0]) - length + 1))]
        yield from ((gram, _GRAM) for gram in grams)
        at = run.end()
    yield from _key(word[at:])


def _key(word: str) -> Iterator[tuple[str, float]]:
    if word in _NUMERALS:
        yield _NUMERALS[word], _WORD
    elif word in _FILLERS:
        yield word, _FILLER
    elif stem := _ENDING.sub("", _ARTICLE.sub("", _HARAKAT.sub("", word))):
        yield stem[:_STEM], _WORD


# Quotes

_FURTHER = re.compile(r"[\u0964\u0965\u061f\u06d4\u0589\u1362]+[\"'\u201d\u2019)\]]*\s*")
"""Ends of sentences in Hindi, Arabic, Urdu, Armenian and Ethiopic, beside those that passages are cut at."""
_SPACES = re.compile(r"\s+")
_CLAUSE = 60
"""Characters, at least, of a part of a text in Thai and its like, which have no mark between sentences, only spaces."""
_LEAD = re.compile(r"(?:(?:[-*+>]|\d+[.)])\s+|\|\s*)+")
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
    spans = _sentences(text)
    if not spans:
        return ""
    wanted = _tokens(claim)
    found = [_tokens(text[start:end]).keys() & wanted.keys() for start, end in spans]

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


def _sentences(text: str) -> list[Span]:
    """As `chunk.sentences`, and cut where other scripts end a sentence, or only leave a space."""
    spans = [part for start, end in sentences(text) for part in _cut(text, start, end, _FURTHER, 0)]
    return [part for start, end in spans for part in _clauses(text, start, end)]


def _clauses(text: str, start: int, end: int) -> list[Span]:
    unspaced = sum(match.end() - match.start() for match in _THAI_LIKE.finditer(text, start, end))
    return _cut(text, start, end, _SPACES, _CLAUSE) if 2 * unspaced > end - start else [(start, end)]


def _cut(text: str, start: int, end: int, boundary: re.Pattern[str], least: int) -> list[Span]:
    """The parts of ``text[start:end]`` between boundaries, stripped, none empty; all but the last of some length."""
    parts: list[Span] = []
    for match in boundary.finditer(text, start, end):
        if match.end() - start >= least:
            parts.append((start, match.end()))
            start = match.end()
    stripped = (
        (a + len(text[a:b]) - len(text[a:b].lstrip()), a + len(text[a:b].rstrip())) for a, b in [*parts, (start, end)]
    )
    return [(a, b) for a, b in stripped if a < b]


_THAI_LIKE = re.compile(f"[{_ALPHABET}]+")


# What nothing supports

_SHARE = 0.4
"""Of the weight of a sentence's words, what must stand in one passage: the largest share, in steps of 0.05, by which at
most one in ten of the paraphrases in the first half of XQuAD's articles, in 12 languages, is found out wrongly."""
_LEAST = 1.5
"""Weight of words below which a sentence without numbers claims nothing: "Of course!"."""
_CITED = re.compile(r"\s*\[(\d{1,4})\]")
_QUESTION = re.compile(r"(?:[?\uff1f\u061f\u037e]|(?<=[\u0370-\u03ff]);)[\"'\u201d\u2019)\]\s]*$")
_POLITE = (
    "hello hi dear welcome thank thanks please sorry glad happy great sure course help ask question assist let know"
    " anything else need further more about enjoy nice best regards okay ok"
)
_COURTESY = frozenset(stem for word in _POLITE.split() for stem, _ in _key(word))
_NOT_FOUND = re.compile(
    r"\b(?:I|we)\b.{0,40}(?:\bnot|n['\u2019]t|\bno|\bunable)\b.{0,40}\b(?:find|found|know|see|tell|say|sure|have|answer)\b"
    r"|\b(?:documents?|passages?|policies|sources?|text)\b.{0,40}(?:\bnot|n['\u2019]t|\bno|\bnothing)\b"
    r"|\b(?:nothing|no\b.{0,30})\b.{0,40}\b(?:documents?|passages?|policies|sources?)\b",
    re.IGNORECASE | re.DOTALL,
)
"""Sentences that say that something is not in the documents; no document says so."""


_NAME = 4
"""Characters by which names are compared."""
_CAPITALS = 0.22
"""Share of capitalised words from which on they are nouns, not names."""
_OPENED = re.compile("[.!?:\"\u201c\u201e\u00ab\u2018'(\\[]\\s*$")
"""Before a word that may begin a sentence."""


@dataclass(frozen=True)
class Unsupported:
    """A sentence of an answer that no passage supports."""

    sentence: str
    start: int
    """Where it begins, in characters of the answer."""
    end: int
    """Where it ends (exclusive)."""
    reason: str
    """Why it was found out: the numbers or names that stand in no passage, or how few of its words do."""


def unsupported(answer: str, hits: Sequence[Hit], *, also: Iterable[str] = ()) -> list[Unsupported]:
    """The sentences of an answer that nothing supports, found by rules: no model is asked, and nothing is understood.

    A sentence is unsupported if a number or a name in it stands in no passage, or if no passage has two fifths of its
    words, by weight. Questions, courtesies and "I could not find that" claim nothing. What cites a picture without
    words cannot be checked, and is passed over. So is not found out: a wrong claim made of words of one passage. And
    an answer in another language than its passages has only numbers and names in common with them.

    Args:
        answer: What was answered, with or without marks such as ``[1]``.
        hits: What was found; number 1 comes first.
        also: Other texts that claims may rest on, such as results of other tools.
    """
    sources = [f"{hit.title}\n{hit.text}" for hit in hits] + list(also)
    known = [_tokens(source).keys() for source in sources]
    everything = frozenset[str]().union(*known)
    names = _tell_names(sources)
    found = []
    for start, end in _sentences(answer):
        sentence = answer[start:end]
        marks = [int(number) for number in _CITED.findall(sentence)]
        if any(
            0 < mark <= len(hits) and hits[mark - 1].is_picture and not hits[mark - 1].text.strip() for mark in marks
        ):
            continue
        if reason := _reason(_CITED.sub("", sentence).strip(), known, everything, names):
            found.append(Unsupported(sentence, start, end, reason))
    return found


def _reason(claim: str, known: Sequence[Set[str]], everything: Set[str], names: bool) -> str:
    """Why a claim is unsupported; empty where it is not, or claims nothing."""
    wanted = {key: weight for key, weight in _tokens(claim).items() if weight > _FILLER and key not in _COURTESY}
    numbers = [key for key in wanted if key[0].isdecimal()]
    if _QUESTION.search(claim) or _NOT_FOUND.search(claim[:500]) or (not numbers and sum(wanted.values()) < _LEAST):
        return ""
    if missing := [key for key in numbers if key not in everything]:
        return f"{', '.join(missing)} in no passage"
    if names and (missing := [name for name in _names(claim) if not _begins(name, everything)]):
        return f"{', '.join(missing)} in no passage"
    total = sum(wanted.values())
    share = max((sum(wanted[key] for key in keys & wanted.keys()) for keys in known), default=0.0) / total
    return f"{share:.0%} of its words in one passage" if share < _SHARE else ""


def _names(claim: str) -> list[str]:
    """Words within a sentence that begin with a capital."""
    words = list(_TOKEN.finditer(claim))[1:]
    return [
        word[0]
        for word in words
        if word[0][0].isupper()
        and len(word[0]) > 1
        and not _OPENED.search(claim[max(0, word.start() - 4) : word.start()])
    ]


def _begins(name: str, known: Set[str]) -> bool:
    """Whether a known word begins as a name does: names are bent, too. Common words are no names."""
    stems = [key[:_NAME] for key, weight in _tokens(name).items() if weight > _FILLER]
    return not stems or any(key.startswith(stem) for stem in stems for key in known)


def _tell_names(sources: Sequence[str]) -> bool:
    """Whether capitals tell names in these texts: in German they do not, where every noun has one."""
    words = sum(len(_TOKEN.findall(source)) for source in sources)
    return sum(len(_names(source)) for source in sources) < _CAPITALS * words
