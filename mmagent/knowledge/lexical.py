"""Words to look up: how any language becomes tokens of FTS5, and BM25 over what FTS5 keeps.

It knows SQLite's full-text search and no documents. FTS5 takes what stands between spaces for a word, so scripts that
put none (Chinese, Japanese, Thai ...) are given to it as overlapping pairs of characters. FTS5 keeps the truth; its
own ``bm25()`` looks at every row one by one, so what was read of a word is kept here as arrays, and scored by numpy
with its formula and constants (https://www.sqlite.org/fts5.html#the_bm25_function), titles counting twice. Only the
weight of a word is Lucene's, ``log(1 + (N - n + 0.5) / (n + 0.5))``, which is above 0 in small stores too.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_QUERY_TERMS = 64
"""Words of a query that are looked up: the most frequent in it, the first of those."""
LONG_QUERY = 40
"""Words from which a query is a story: its words count as often as they come, English function words do not."""
K1, B = 1.2, 0.75
TITLE_WEIGHT = 2.0
_SMALL = 1000
"""Units from which a word that most of them have is not looked up: it tells next to nothing and takes the longest."""
_CACHE_BYTES = 64 * 1024 * 1024
"""Of postings that are kept."""

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)
"""Runs of Thai, Lao, Burmese, Khmer, Chinese and Japanese."""
_FUNCTION_WORDS = frozenset(  # of English
    re.findall(
        r"\w+",
        """a about after all also am an and any are as at be been before being but by can could did do does for from had
        has have he her him his how i if in into is it its just me more my no not of on only or other our out over own
        s she should so some such t than that the their them then there these they this to up very was we were what
        when where which who whom why will with would you your""",
    )
)


def segmented(text: str) -> str:
    """A text as FTS5 can cut it into words: characters composed and folded, those that know no spaces in pairs.

    >>> segmented("退货期限是30天")
    ' 退货 货期 期限 限是 30 天 '
    """
    if text.isascii():
        return text
    return _UNSPACED.sub(_pairs, unicodedata.normalize("NFKC", text).casefold())


def _pairs(match: re.Match[str]) -> str:
    run = match[0]
    return f" {' '.join(run[at : at + 2] for at in range(max(1, len(run) - 1)))} "


def words(text: str) -> list[str]:
    """The words of a query in order, segmented; nothing in them means anything to FTS5."""
    return "".join(char if unicodedata.category(char)[0] in "LNM" else " " for char in segmented(text)).split()


@dataclass(frozen=True)
class _Posting:
    """Where a term stands."""

    units: NDArray[np.int64]
    """Numbers, ascending."""
    impacts: NDArray[np.float32]
    """What it adds to the score of each."""

    @property
    def nbytes(self) -> int:
        return int(self.units.nbytes + self.impacts.nbytes)


@dataclass
class _Lengths:
    """How long units are, in tokens, by number."""

    of: NDArray[np.float32]
    count: int
    mean: float


class Words:
    """The word index of one connection, which its owner locks.

    Args:
        query: Runs SQL and gives all rows.
    """

    def __init__(self, query: Callable[[str, Sequence[Any]], list[Any]]) -> None:
        self._query = query
        self._version: object = None
        self._postings: OrderedDict[str, _Posting] = OrderedDict()
        self._bytes = 0
        self._lengths: _Lengths | None = None

    def search(self, text: str, k: int, version: object, allowed: bytes | None = None) -> list[tuple[int, float]]:
        """The numbers of the ``k`` units with the best BM25 for any of the words, each with its score, best first.

        Args:
            text: Any text at all.
            k: How many at most.
            version: Changes with the index; what is known of it is read anew then.
            allowed: A byte for each number, 0 where the unit must not be found; all may by default.
        """
        import numpy as np

        wanted = _weighted(words(text))
        if not wanted:
            return []
        lengths = self._known(version)
        scores = np.zeros(len(lengths.of), np.float32)
        for term, weight in wanted.items():
            posting = self._posting(term, lengths, always=allowed is not None)
            scores[posting.units] += weight * posting.impacts
        if allowed is not None:
            mask = np.frombuffer(allowed, np.uint8)
            scores[len(mask) :] = 0
            scores[: len(mask)] *= mask[: len(scores)]
        found = np.flatnonzero(scores)
        if len(found) > k:
            found = found[np.argpartition(-scores[found], k - 1)[:k]]
        order = np.lexsort((found, -scores[found]))
        return [(int(unit), float(scores[unit])) for unit in found[order]]

    def _known(self, version: object) -> _Lengths:
        if self._lengths is None or version != self._version:
            self._postings.clear()
            self._bytes = 0
            self._lengths, self._version = self._read_lengths(), version
        return self._lengths

    def _read_lengths(self) -> _Lengths:
        """FTS5 keeps the tokens of each row's columns as varints, of which one below 128 is one byte."""
        import numpy as np

        rows = self._query("SELECT id, sz FROM lexical_docsize", ())
        lengths = np.zeros(rows[-1][0] + 1 if rows else 1, np.float32)
        total = 0
        for unit, sizes in rows:
            length = sizes[0] + sizes[1] if len(sizes) == 2 else sum(_varints(sizes))
            lengths[unit] = length
            total += length
        return _Lengths(lengths, len(rows), total / len(rows) if rows else 1.0)

    def _posting(self, term: str, lengths: _Lengths, *, always: bool) -> _Posting:
        """Where a term stands; nowhere, if most units have it and whoever asks may find all of them."""
        key = f"{term} {always}"
        if key in self._postings:
            self._postings.move_to_end(key)
            return self._postings[key]
        self._postings[key] = posting = self._read_posting(term, lengths, always)
        self._bytes += posting.nbytes
        while self._bytes > _CACHE_BYTES and len(self._postings) > 1:
            self._bytes -= self._postings.popitem(last=False)[1].nbytes
        return posting

    def _read_posting(self, term: str, lengths: _Lengths, always: bool) -> _Posting:
        """As one text for each column: thousands of rows would take longer to become Python's than to be found."""
        import numpy as np

        rows = self._query("SELECT col = 'title', group_concat(doc) FROM temp.terms WHERE term = ? GROUP BY 1", (term,))
        columns = [(np.fromstring(text, np.int64, sep=","), TITLE_WEIGHT if title else 1.0) for title, text in rows]
        units = np.unique(np.concatenate([found for found, _ in columns])) if columns else np.empty(0, np.int64)
        if len(units) > lengths.count / 2 and lengths.count > _SMALL and not always:
            units = units[:0]
        frequencies = np.zeros(len(units), np.float32)
        for found, weight in columns if len(units) else ():
            frequencies += weight * np.bincount(np.searchsorted(units, found), minlength=len(units))
        idf = np.log1p((lengths.count - len(units) + 0.5) / (len(units) + 0.5))
        norm = K1 * (1 - B + B * lengths.of[units] / lengths.mean)
        return _Posting(units, (idf * frequencies * (K1 + 1) / (frequencies + norm)).astype(np.float32))


def _weighted(given: list[str]) -> dict[str, float]:
    """The terms of a query and how much each counts."""
    counted: Counter[str] = Counter()
    if len(given) <= LONG_QUERY:
        counted.update(dict.fromkeys(given, 1))
    else:
        counted.update(word for word in given if word.lower() not in _FUNCTION_WORDS)
    terms: Counter[str] = Counter()
    for word, count in counted.items():
        if term := stem(word):
            terms[term] = max(terms[term], count) if len(given) <= LONG_QUERY else terms[term] + count
    return {term: float(count) for term, count in terms.most_common(MAX_QUERY_TERMS)}


def _varints(data: bytes) -> list[int]:
    """SQLite's variable-length integers: seven bits a byte, the highest first."""
    found, value = [], 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            found.append(value)
            value = 0
    return found


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """The term that FTS5 makes of a word; empty where it makes none. Found by asking it."""
    with _lock:
        database = _stemmer()
        database.execute("DELETE FROM one")
        database.execute("INSERT INTO one VALUES (?)", (word,))
        rows = database.execute("SELECT term FROM terms").fetchall()
    return str(rows[0][0]) if rows else ""


_lock = Lock()


@lru_cache(maxsize=1)
def _stemmer() -> sqlite3.Connection:
    from mmagent.knowledge.schema import TOKENIZER

    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    database.execute(f"CREATE VIRTUAL TABLE one USING fts5(word, {TOKENIZER})")
    database.execute("CREATE VIRTUAL TABLE terms USING fts5vocab('one', 'row')")
    return database
