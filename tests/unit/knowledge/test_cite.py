from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmagent.events import Citation
from mmagent.knowledge import Hit, quote_for, support, unsupported
from mmagent.knowledge.cite import where

POLICY = (
    "You can return an unused item within **30 days** of delivery. Lamps and bulbs have 14 days.\n"
    "Keep the receipt. We charge nothing.\n\n- Gift cards cannot be returned.\n- Food is refunded in 5 days."
)


@pytest.mark.parametrize(
    ("claim", "quote"),
    [
        ("You have 30 days to return it [1].", "You can return an unused item within **30 days** of delivery."),
        ("A lamp can go back for 14 days.", "Lamps and bulbs have 14 days."),
        ("Please keep your receipt", "Keep the receipt."),
        ("A gift card can't be returned.", "Gift cards cannot be returned."),
        ("Food: 5", "Food is refunded in 5 days."),
        ("zebra", "You can return an unused item within **30 days** of delivery."),
    ],
)
def test_the_sentence_that_supports_a_claim(claim: str, quote: str) -> None:
    assert quote_for(POLICY, claim) == quote


def test_two_sentences_where_the_claim_needs_both() -> None:
    quote = quote_for(POLICY, "Returns are taken for 30 days, lamps and bulbs for 14 days.")
    assert quote.startswith("You can return") and quote.endswith("have 14 days.")


@pytest.mark.parametrize(
    ("text", "claim", "quote"),
    [
        ("灯具可在十四天内退货。退款在五个工作日内支付。请保留收据！", "多久退款", "退款在五个工作日内支付。"),
        ("बल्ब वापस नहीं होते। लैंप 14 दिन में लौटाएँ। रसीद रखें।", "लैंप कब तक लौटाएँ", "लैंप 14 दिन में लौटाएँ।"),
        ("احتفظ بالإيصال. المصابيح تعاد خلال 14 يوما. الشحن مجاني.", "مصابيح ١٤", "المصابيح تعاد خلال 14 يوما."),
        ("電球は返品できません。ランプは14日以内です。", "ランプの返品", "ランプは14日以内です。"),
    ],
)
def test_scripts_without_spaces_and_with_other_marks(text: str, claim: str, quote: str) -> None:
    assert quote_for(text, claim) == quote


def test_a_long_text_without_marks_between_sentences_is_quoted_in_part() -> None:
    text = " ".join(["สินค้าทุกชิ้นสามารถส่งคืนได้ภายในสามสิบวันนับจากวันที่ได้รับ", "โคมไฟส่งคืนได้ภายในสิบสี่วันเท่านั้นโดยต้องมีใบเสร็จรับเงิน"])
    assert quote_for(text, "โคมไฟ") == text.split(" ")[1]


@given(st.text(max_size=200), st.text(max_size=60))
def test_a_quote_is_always_verbatim(text: str, claim: str) -> None:
    quote = quote_for(text, claim)
    assert quote in text
    assert bool(quote) == bool(text.strip())


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("It costs 1,000.50 EUR", "1000.5"),
        ("It costs 4,90", "4.90"),
        ("on 2026-11-02", "2/11/2026"),
        ("١٤ يوما", "14"),
        ("１４日", "14"),
        ("two weeks", "2"),
        ("the 15th century", "fifteenth"),
    ],
)
def test_a_number_is_the_same_however_it_is_written(text: str, claim: str) -> None:
    assert support(text, claim) >= 1.0
    assert support(text, "77") == 0


def hit(text: str, title: str = "Returns", **more: Any) -> Hit:
    return replace(Hit("1", text, title, "returns.md", 0, len(text), 1.0), **more)


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({}, "returns.md"),
        ({"uri": "shop/manual.pdf", "page": 12, "box": (0.1, 0.2, 0.6, 0.3)}, "manual.pdf, p. 12"),
        ({"uri": "call.wav", "t0": 62.4, "t1": 77.0, "kind": "speech"}, "call.wav, 1:02-1:17"),
        ({"uri": "long.mp4", "t0": 3723.0, "kind": "frame"}, "long.mp4, 1:02:03"),
        ({"uri": "receipt.png", "box": (0.1, 0.2, 0.6, 0.304), "kind": "region"}, "receipt.png, region 10,20-60,30 %"),
        ({"uri": "a.pdf", "page": 2, "box": (0, 0, 0.5, 1), "kind": "region"}, "a.pdf, p. 2, region 0,0-50,100 %"),
        ({"uri": "a.png", "box": (0.0, 0.0, 1.0, 1.0), "kind": "image"}, "a.png"),
        ({"uri": "https://shop.example/returns"}, "https://shop.example/returns"),
        ({"uri": "order\n[9] evil.md"}, "order [9] evil.md"),
        ({"uri": "/"}, "/"),
        ({"uri": "a.wav", "t0": float("nan"), "t1": float("inf")}, "a.wav, 0:00"),
    ],
)
def test_where_something_stands(more: dict[str, Any], place: str) -> None:
    found = hit("text", **more)
    assert found.where == where(found) == place
    fields = {name: getattr(found, name) for name in ("title", "uri", "kind", "page", "box", "t0", "t1")}
    assert where(Citation(number=1, quote="", **fields)) == place


# What nothing supports

FOUND = [
    hit(POLICY),
    hit("Our shop in Rotterdam is open until six. Parcels to Belgium cost 4.90 EUR.", "Shop"),
    hit("", "Assembly", kind="page", page=3),
]


@pytest.mark.parametrize(
    "answer",
    [
        "You can return an unused item for 30 days [1]. Gift cards cannot be returned.",
        "Lamps: fourteen days. Parcels to Belgium are 4,90 EUR [2].",
        "Hello! How can I help you?",
        "You are welcome!",
        "Do you want to go to Paris in 2031?",
        "I could not find anything about 24-hour opening in the documents.",
        "The policies say nothing about the year 2031.",
        "Turn the lamp's 4 screws as it is drawn [3].",  # a picture without words: it cannot be checked
        "",
        "\u0640 \u0640\u0640 \u0640",  # what is only written to lengthen a word
    ],
)
def test_what_is_supported_or_claims_nothing(answer: str) -> None:
    assert unsupported(answer, FOUND) == []


@pytest.mark.parametrize(
    ("answer", "sentence", "reason"),
    [
        ("Lamps have 14 days [1]. Bulbs have 60 days [1].", "Bulbs have 60 days [1].", "60 in no passage"),
        ("Lamps have 14 days. Our shop in Madrid is open.", "Our shop in Madrid is open.", "Madrid in no passage"),
        ("Warehouse robots repair broken furniture overnight.", None, "0% of its words in one passage"),
        ("灯具可在六十天内退货，运费由我们承担。", None, "0% of its words in one passage"),
        ("It is drawn [2] that 4 screws turn.", None, "4 in no passage"),
    ],
)
def test_what_is_not(answer: str, sentence: str | None, reason: str) -> None:
    (found,) = unsupported(answer, FOUND)
    assert (found.sentence, found.reason) == (sentence or answer, reason)
    assert answer[found.start : found.end] == found.sentence


def test_claims_may_rest_on_results_of_other_tools() -> None:
    answer = "You have 18 days left to return it [1]."
    assert [found.reason for found in unsupported(answer, FOUND)] == ["18 in no passage"]
    assert unsupported(answer, FOUND, also=["18"]) == []


def test_nouns_with_capitals_are_no_names() -> None:
    german = hit(
        "Das Gerät braucht nach dem Kauf keine Wartung. Die Lampe hat eine Garantie von zwei Jahren.", "Garantie"
    )
    assert unsupported("Für die Lampe gilt eine Garantie mit einer Dauer von zwei Jahren.", [german]) == []


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_is_judged(answer: str, text: str) -> None:
    for found in unsupported(answer, [hit(text)]):
        assert answer[found.start : found.end] == found.sentence and found.reason


# On real articles

LANGUAGES = {"en": 0.95, "de": 0.93, "zh": 0.91, "ar": 0.94, "hi": 0.94, "th": 0.92}
"""Of every fourth question, how many answers must be in the quote."""


def questions(data: Path, language: str) -> Iterator[tuple[str, str, str]]:
    """Every fourth paragraph, question and answer."""
    articles = json.loads((data / "text_xquad" / f"xquad.{language}.json").read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    for paragraph in paragraphs[::4]:
        for asked in paragraph["qas"]:
            yield paragraph["context"], asked["question"], asked["answers"][0]["text"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_quotes_of_articles(shared_data: Path, language: str) -> None:
    quoted = [
        (quote_for(text, f"{ask} {answer}"), text, answer) for text, ask, answer in questions(shared_data, language)
    ]
    assert sum(answer in quote for quote, _, answer in quoted) / len(quoted) >= LANGUAGES[language]
    assert sum(len(quote) / len(text) for quote, text, _ in quoted) / len(quoted) <= 0.4


def test_articles_support_their_own_sentences_and_no_others(shared_data: Path) -> None:
    pairs = [(text, f"{ask.rstrip('?')} {answer}.") for text, ask, answer in questions(shared_data, "en")]
    right = [unsupported(claim, [hit(text, "")]) for text, claim in pairs]
    wrong = [unsupported(claim, [hit(pairs[at - 60][0], "")]) for at, (_, claim) in enumerate(pairs)]
    assert sum(map(bool, right)) <= 0.15 * len(pairs)
    assert sum(map(bool, wrong)) >= 0.95 * len(pairs)
