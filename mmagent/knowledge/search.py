"""One search: rankings of every space and of words, fused, and made into hits. It knows the manifest and indexes.

query ─┬─ text ────┬─ words ─────────── BM25 ─────────┐
       ├─ picture ─┤                                  ├─ fused ─ reranked ─ merged ─► hits
       └─ sound ───┴─ vectors ─ each space, nearest ──┘
                      held to tenant, filter and kinds by one mask, everywhere
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from mmagent.errors import InputError, StoreError
from mmagent.knowledge.chunk import embedded, sentences
from mmagent.knowledge.cite import Hit
from mmagent.knowledge.embed import Embedder
from mmagent.knowledge.filters import condition
from mmagent.knowledge.lexical import LONG_QUERY
from mmagent.knowledge.manifest import Manifest, Role
from mmagent.knowledge.query import Query
from mmagent.knowledge.spaces import check_dimension, vectors_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmagent.knowledge.index import Index
    from mmagent.knowledge.rerank import Reranker

Mode = Literal["hybrid", "dense", "lexical"]
Fusion = Literal["scores", "ranks"]
Ranking = Sequence[tuple[int, float]]
"""Units by number with their scores, best first."""

CANDIDATES = 50
"""Taken from each ranking before they are fused."""
DENSE_WEIGHT, LEXICAL_WEIGHT, PICTURE_WEIGHT = 0.6, 0.4, 0.6
"""What each ranking counts in a fused score; how they were found is in docs/decisions.md."""
LEAST_BM25 = 3.0
"""A query whose best unit has less than this matches no word that tells much."""
RRF_K = 60
"""Reciprocal rank fusion, Cormack et al. 2009: score = sum of weight / (k + rank)."""
WINDOW_WORDS, MAX_WINDOWS = 60, 16
"""A query that is a story is embedded in parts of so many words, and so many of them."""
SAMPLE = 256
"""Pictures that say how near any picture is to a query."""
RERANKED = 20
"""Units that a reranker reads."""
LONGEST_MERGE = 3
"""Passages that become one hit."""
_MASKS = 16


def fuse(rankings: Sequence[tuple[Ranking, float]], how: Fusion = "scores") -> dict[int, float]:
    """One score for each unit of several rankings (best first), each with its weight.

    Args:
        rankings: A unit that is missing in one counts as 0 there.
        how: ``scores``: the weighted sum (a convex combination, Bruch et al., arXiv 2210.11934); ``ranks``: weighted
            reciprocal rank fusion.
    """
    fused: dict[int, float] = {}
    for ranking, weight in rankings:
        for rank, (unit, score) in enumerate(ranking, start=1):
            fused[unit] = fused.get(unit, 0.0) + weight * (1 / (RRF_K + rank) if how == "ranks" else score)
    return fused


@dataclass(frozen=True)
class Wanted:
    """What a search is held to, and what becomes of what it finds.

    Raises:
        InputError: It cannot be.
    """

    k: int
    tenant: str = ""
    where: Mapping[str, Any] | None = None
    kinds: Collection[str] | None = None
    mode: Mode = "hybrid"
    fusion: Fusion = "scores"
    merge: bool = False
    per_asset: int | None = None

    def __post_init__(self) -> None:
        for value, known in ((self.mode, get_args(Mode)), (self.fusion, get_args(Fusion))):
            if value not in known:
                raise InputError(f"there is no {value!r} to search by; there are {', '.join(known)}")
        if self.per_asset is not None and self.per_asset < 1:
            raise InputError(f"{self.per_asset} hits of each document are none; ask for at least 1")
        if isinstance(self.kinds, str) or not all(isinstance(kind, str) for kind in self.kinds or ()):
            raise InputError(f'kinds are a list such as ["text", "page"], not {self.kinds!r}')


@dataclass(frozen=True)
class Mask:
    """The units that may be found."""

    numbers: NDArray[np.int64]
    """Ascending."""
    allowed: bytes
    """A byte for each number."""


def query_method(embedder: Embedder) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """How an embedder embeds queries: some do it in another way than documents."""
    method: Callable[[Sequence[str]], NDArray[np.float32]] = getattr(embedder, "embed_query", embedder.embed)
    return method


class Searcher:
    """Searches one store.

    Args:
        manifest: Of a reader.
        index_of: The index of a space by its number.
        embedder: Of texts.
        picture_embedder: Of pictures and texts, where there is one.
        reranker: Reads the best units again, where there is one.
    """

    def __init__(
        self,
        manifest: Manifest,
        index_of: Callable[[int], Index],
        embedder: Embedder,
        picture_embedder: Any = None,
        reranker: Reranker | None = None,
    ) -> None:
        self._manifest, self._index_of = manifest, index_of
        self._embedder, self._picture_embedder, self._reranker = embedder, picture_embedder, reranker
        self._masked = lru_cache(maxsize=_MASKS)(self._make_mask)
        self._sampled = lru_cache(maxsize=4)(self._make_sample)

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self._manifest.closed

    def search(self, query: Query, wanted: Wanted) -> list[Hit]:
        """The units that fit a query best, best first."""
        depth = max(CANDIDATES, 4 * wanted.k)
        hits, more = self._search(query, wanted, depth)
        while more and len(hits) < wanted.k and wanted.per_asset is not None:  # too many of them are of one document
            depth *= 4
            hits, more = self._search(query, wanted, depth)
        return hits

    def _search(self, query: Query, wanted: Wanted, depth: int) -> tuple[list[Hit], bool]:
        """The best hits among so many candidates of each ranking, and whether there may be more candidates."""
        mask = self._mask(wanted)
        if mask is not None and not len(mask.numbers):
            return [], False
        scores = fuse(list(self._rankings(query, wanted, mask, depth)), wanted.fusion)
        best = sorted(scores, key=lambda unit: (-scores[unit], unit))[: max(depth, RERANKED)]
        held = condition(wanted.tenant, wanted.where, wanted.kinds)  # again: something may have changed since the mask
        rows = self._manifest.units(best, *held)
        found = [(rows[unit], scores[unit]) for unit in best if unit in rows]
        if self._reranker is not None and query.texts:
            found = self._reranked(" ".join(query.texts), found)
        return _hits(found, wanted), len(best) >= depth

    def units_of(self, tenant: str, uri: str) -> list[Hit]:
        """All units of the documents of a name, in order, as hits of score 0."""
        return [_hit([row], 0.0) for row in self._manifest.units_of(tenant, uri)]

    def _rankings(self, query: Query, wanted: Wanted, mask: Mask | None, depth: int) -> Iterator[tuple[Ranking, float]]:
        """Scores of vectors and words on scales that can be added; those of a single ranking are what they are."""
        among = None if mask is None else mask.numbers
        hybrid = wanted.mode == "hybrid"
        for text in query.texts:
            if wanted.mode != "lexical":
                vectors = vectors_of(query_method(self._embedder), _parts(text))
                found = self._nearest("text", self._embedder, vectors, depth, among)
                lowest = found[-1][1] if found and hybrid else 0.0  # what a unit that is not among them has at most
                yield [(unit, cosine - lowest) for unit, cosine in found], DENSE_WEIGHT if hybrid else 1.0
                yield from self._pictures(query_method, [text], depth, among)
            if wanted.mode != "dense":
                found = self._manifest.lexical(text, depth, None if mask is None else mask.allowed)
                best = max(found[0][1], LEAST_BM25) if found and hybrid else 1.0
                yield [(unit, score / best) for unit, score in found], LEXICAL_WEIGHT if hybrid else 1.0
        if query.pictures:
            yield from self._pictures(lambda embedder: embedder.embed_pictures, query.pictures, depth, among)

    def _pictures(
        self, method: Callable[[Any], Any], things: Sequence[Any], depth: int, among: NDArray[np.int64] | None
    ) -> Iterator[tuple[Ranking, float]]:
        """The pictures nearest to texts or pictures: how far each is on the way from any picture to the nearest one."""
        embedder = self._picture_embedder
        if embedder is None:
            return
        for vector in vectors_of(method(embedder), things):
            found = self._nearest("picture", embedder, vector[None], depth, among)
            if found:
                usual = self._usual(embedder, vector)
                way = max(found[0][1] - usual, 1e-6)
                yield [(unit, max(cosine - usual, 0.0) / way) for unit, cosine in found], PICTURE_WEIGHT

    def _nearest(
        self, role: Role, embedder: Embedder, vectors: NDArray[np.float32], k: int, among: NDArray[np.int64] | None
    ) -> Ranking:
        """The units nearest to the vectors ``[N, D]`` of a query, by the root mean square of their cosines."""
        import numpy as np

        found = self._manifest.space(role, embedder.fingerprint)
        if found is None:
            return []
        check_dimension(self._manifest, role, embedder, vectors.shape[1])
        index = self._index_of(found[0])
        if len(vectors) == 1:
            return index.search(vectors[0], k, among)
        union = np.unique([unit for vector in vectors for unit, _ in index.search(vector, k, among)]).astype(np.int64)
        try:
            rows = self._manifest.rows(found[0], union).astype(np.float32)  # [M, D]
        except StoreError:  # a unit that was found has gone meanwhile
            return []
        means = np.sqrt((np.maximum(rows @ vectors.T, 0) ** 2).mean(1))  # [M]
        order = np.lexsort((union, -means))[:k]
        return [(int(union[at]), float(means[at])) for at in order]

    def _usual(self, embedder: Embedder, vector: NDArray[np.float32]) -> float:
        """How near pictures are to a query on average."""
        space = self._manifest.space("picture", embedder.fingerprint)
        return float(self._sampled(self._manifest.version, space[0]) @ vector) if space else 0.0

    def _make_sample(self, version: object, space: int) -> NDArray[np.float32]:
        """The mean of a sample of the vectors of a space, ``[D]``."""
        import numpy as np

        numbers = self._manifest.numbers(space)
        chosen = numbers[np.linspace(0, len(numbers) - 1, min(SAMPLE, len(numbers))).astype(int)]
        return np.asarray(self._manifest.rows(space, chosen).astype(np.float32).mean(0))

    def _mask(self, wanted: Wanted) -> Mask | None:
        """The mask of a search; None where it may find everything."""
        version = self._manifest.version
        if not wanted.where and wanted.kinds is None and not self._manifest.has_tenants:
            return None
        kinds = None if wanted.kinds is None else frozenset(wanted.kinds)
        sql, values = condition(wanted.tenant, wanted.where, kinds)
        return self._masked(version, sql, json.dumps(values))

    def _make_mask(self, version: object, sql: str, values: str) -> Mask:
        import numpy as np

        numbers = self._manifest.select(sql, json.loads(values))
        allowed = np.zeros(int(numbers[-1]) + 1 if len(numbers) else 0, np.uint8)
        allowed[numbers] = 1
        return Mask(numbers, allowed.tobytes())

    def _reranked(self, text: str, found: list[tuple[sqlite3.Row, float]]) -> list[tuple[sqlite3.Row, float]]:
        """The best units in the order of what the reranker makes of them; the others stay behind them."""
        assert self._reranker is not None
        best, rest = found[:RERANKED], found[RERANKED:]
        if not best:
            return found
        scores = self._reranker.score(text, [embedded(row["title"], row["text"]) for row, _ in best])
        order = sorted(range(len(best)), key=lambda at: (-float(scores[at]), at))
        return [(best[at][0], float(scores[at])) for at in order] + rest


def _parts(text: str) -> list[str]:
    """A query; one that is a story in parts of whole sentences."""
    if len(text.split()) <= LONG_QUERY:
        return [text]
    parts: list[str] = []
    for start, end in sentences(text):
        sentence = text[start:end]
        if parts and len(parts[-1].split()) + len(sentence.split()) <= WINDOW_WORDS:
            parts[-1] += f" {sentence}"
        else:
            parts.append(sentence)
    return parts[:MAX_WINDOWS]


def _hits(found: list[tuple[sqlite3.Row, float]], wanted: Wanted) -> list[Hit]:
    """The best units as hits: neighbours merged if asked for, so many of each asset, so many in all."""
    groups: list[tuple[list[sqlite3.Row], float]] = []
    of_asset: dict[int, int] = {}
    for row, score in found:
        if wanted.merge and any(_joins(group, row) for group, _ in groups):
            continue
        if len(groups) == wanted.k:
            if wanted.merge:
                continue  # what follows may still belong to what is there
            break
        of_asset[row["asset"]] = of_asset.get(row["asset"], 0) + 1
        if wanted.per_asset is None or of_asset[row["asset"]] <= wanted.per_asset:
            groups.append(([row], score))
    return [_hit(group, score) for group, score in groups]


def _joins(group: list[sqlite3.Row], row: sqlite3.Row) -> bool:
    """Takes a passage into a group of neighbours, if it is one of theirs."""
    first, last = group[0], group[-1]
    if row["asset"] != first["asset"] or len(group) == LONGEST_MERGE:
        return False
    if row["position"] == last["position"] + 1 and last["gap"] is not None:
        group.append(row)
        return True
    if row["position"] == first["position"] - 1 and row["gap"] is not None:
        group.insert(0, row)
        return True
    return False


def _hit(group: list[sqlite3.Row], score: float) -> Hit:
    first, last = group[0], group[-1]
    text = "".join(row["text"] + (row["gap"] or "") for row in group[:-1]) + last["text"]
    boxes = [json.loads(row["box"]) for row in group if row["box"]]
    return Hit(
        id=first["id"],
        text=text,
        title=first["title"],
        uri=first["uri"],
        start=first["start"],
        end=last["end"],
        score=score,
        kind=first["kind"],
        page=first["page"],
        box=tuple(f(side) for f, side in zip((min, min, max, max), zip(*boxes, strict=True), strict=True))
        if boxes
        else None,
        t0=first["t0"],
        t1=last["t1"],
        mime_type=first["mime_type"],
        metadata=json.loads(first["metadata"]),
        asset=str(first["asset"]),
    )
