"""Words of any language, and the same BM25 as FTS5's own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mmagent.knowledge import lexical
from mmagent.knowledge.chunk import Passage, identified
from mmagent.knowledge.lexical import segmented, stem, words
from mmagent.knowledge.manifest import AssetRow, Manifest


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Manifest]:
    manifest = Manifest(tmp_path / "manifest.sqlite3", write=True)
    yield manifest
    manifest.close()


def put(manifest: Manifest, name: str, *texts: tuple[str, str]) -> None:
    with manifest.transaction():
        asset = manifest.put_asset(AssetRow("", name, name))
        manifest.put_units(asset, identified("", name, [Passage(title, text, 0, 0) for title, text in texts]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("退货期限是30天", ["退货", "货期", "期限", "限是", "30", "天"]),
        ("日本語のテスト", ["日本", "本語", "語の", "のテ", "テス", "スト"]),
        ("การคืนเงิน", ["กา", "าร", "รค", "คื", "ืน", "นเ", "เง", "งิ", "ิน"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Größe ﬁne cafe\u0301", ["grösse", "fine", "café"]),
        ('a "quoted" AND (NEAR) -x*', ["a", "quoted", "AND", "NEAR", "x"]),
        ("\ud83d\ude00 🙂 …", []),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert words(text.encode("utf-8", "replace").decode()) == expected


def test_what_is_found_in_them(manifest: Manifest) -> None:
    put(manifest, "zh", ("退货", "灯具的退货期限是十四天。"), ("运费", "满五十欧元免运费。"))
    put(manifest, "th", ("คืนสินค้า", "ลูกค้าสามารถคืนสินค้าได้ภายใน 30 วัน"))
    put(manifest, "de", ("Größen", "Die Größe der Lampen; Straße, CAFÉ."))
    put(manifest, "hi", ("वापसी", "ग्राहक उत्पाद वापस कर सकते हैं।"))

    def first(query: str) -> str:
        rows = manifest.units([manifest.lexical(query, 1)[0][0]])
        return str(next(iter(rows.values()))["uri"])

    assert [first(q) for q in ("退货期限", "สินค้าคืน", "größe", "GROSSE", "cafe", "उत्पाद")] == [
        "zh", "th", "de", "de", "de", "hi",
    ]  # fmt: skip
    assert manifest.lexical("nothing of this", 5) == [] == manifest.lexical("", 5)


WORDS = st.sampled_from(
    ["lamp", "lamps", "refund", "refunds", "running", "ran", "the", "of", "a", "30", "30.5", "Größe", "退货期限", "x-y"]
)
TEXTS = st.lists(WORDS, min_size=0, max_size=200).map(" ".join)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8),
    gone=st.integers(0, 7),
    query=st.lists(WORDS, min_size=1, max_size=6, unique=True),
)
def test_scores_are_those_of_fts5_but_for_the_weight_of_a_word(
    documents: list[tuple[str, str]], gone: int, query: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    manifest = Manifest(tmp_path_factory.mktemp("words") / "m.sqlite3", write=True)
    try:
        for number, texts in enumerate(documents):
            put(manifest, str(number), texts)
        manifest.lexical(" ".join(query), 9)  # what was kept of it must not outlive the change
        with manifest.transaction():
            manifest.remove_asset("", str(gone))
        count = manifest.count("units")
        expected: dict[int, float] = {}
        for term in dict.fromkeys(stem(word) for word in words(" ".join(query))):
            rows = manifest.execute(
                "SELECT rowid, -bm25(lexical, 2, 1) FROM lexical WHERE lexical MATCH ?", (f'"{term}"',)
            )
            theirs = max(math.log((count - len(rows) + 0.5) / (len(rows) + 0.5)), 1e-6)
            ours = math.log1p((count - len(rows) + 0.5) / (len(rows) + 0.5))
            for number, score in rows:
                expected[number] = expected.get(number, 0.0) + score / theirs * ours
        assert dict(manifest.lexical(" ".join(query), 100)) == pytest.approx(expected, rel=1e-3)
    finally:
        manifest.close()


def test_a_story_counts_words_as_often_as_they_come_and_no_function_words(manifest: Manifest) -> None:
    put(manifest, "a", ("", "the wallet was stolen"), ("", "the card was blocked"), ("", "you and the they"))
    put(manifest, "b", *[("", f"nothing {n}") for n in range(9)])
    story = "my card and the card and " + "they and the you " * 12 + " a card, a wallet"
    found = manifest.units([number for number, _ in manifest.lexical(story, 9)])
    assert [row["text"] for row in found.values()] == ["the wallet was stolen", "the card was blocked"]
    (best, score), (_, other) = manifest.lexical(story, 9)
    assert found[best]["text"] == "the card was blocked" and score > 2 * other


def test_what_may_not_be_found_is_not(manifest: Manifest) -> None:
    put(manifest, "a", ("", "lamp one"), ("", "lamp two"), ("", "lamp three"))
    everything = {number for number, _ in manifest.lexical("lamp", 9)}
    (one, *others) = sorted(everything)
    allowed = bytearray(one + 1)
    allowed[one] = 1
    assert [number for number, _ in manifest.lexical("lamp", 9, bytes(allowed))] == [one]
    assert manifest.lexical("lamp", 9, b"") == [] and others


def test_postings_that_are_kept_stay_within_their_bytes(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "_CACHE_BYTES", 100)
    put(manifest, "a", *[("", f"lamp number {n} word{n % 7}") for n in range(40)])
    for n in range(7):
        assert len(manifest.lexical(f"lamp word{n}", 100)) == 40
    assert sum(one.nbytes for one in manifest.words._postings.values()) <= 40 * 12


@given(st.text(max_size=60))
def test_segmenting_keeps_every_letter(text: str) -> None:
    import unicodedata

    folded = text if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    assert {char for char in folded if not char.isspace()} == {char for char in segmented(text) if not char.isspace()}


def test_very_long_texts_have_their_length_counted(manifest: Manifest) -> None:
    put(manifest, "a", ("t " * 130, "w " * 20_000 + "lamp"), ("", "lamp"), *[("", f"other {n}") for n in range(5)])
    rows = manifest.execute("SELECT rowid, -bm25(lexical, 2, 1) FROM lexical WHERE lexical MATCH 'lamp'", ())
    ratio = math.log1p(5.5 / 2.5) / math.log(5.5 / 2.5)
    assert dict(manifest.lexical("lamp", 9)) == pytest.approx({unit: score * ratio for unit, score in rows}, rel=1e-3)


def test_words_that_most_units_have_are_not_looked_up_in_a_large_store(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(manifest, "a", *[("", f"lamp {n}") for n in range(20)])
    assert len(manifest.lexical("lamp", 99)) == 20
    monkeypatch.setattr(lexical, "_SMALL", 10)
    put(manifest, "b", ("", "a chair"))
    assert [score > 0 for _, score in manifest.lexical("lamp chair", 99)] == [True]
