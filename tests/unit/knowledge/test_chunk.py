from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmagent.knowledge.chunk import MAX_CHARS, MAX_WORDS, passages, sentences


def titles(source: str, name: str = "file") -> list[tuple[str, str]]:
    return [(passage.title, passage.text) for passage in passages(source, name, markdown=True)]


def test_title_is_document_title_and_heading_path() -> None:
    source = (
        "# Returns\n\nHello.\n\n## Window\n\nThirty days.\n\n### Lamps\n\nFourteen.\n\n## Refunds\n\nTo your card.\n"
    )
    assert titles(source) == [
        ("Returns", "Hello."),
        ("Returns > Window", "Thirty days."),
        ("Returns > Window > Lamps", "Fourteen."),
        ("Returns > Refunds", "To your card."),
    ]


def test_a_document_without_a_first_level_heading_is_called_by_its_name() -> None:
    assert titles("Before.\n\n## Window\nThirty days.", "returns") == [
        ("returns", "Before."),
        ("returns > Window", "Thirty days."),
    ]


def test_no_part_of_a_title_is_said_twice() -> None:
    assert titles("# Returns\n## Returns\nText.") == [("Returns", "Text.")]
    assert titles("# One\na\n# Two\nb\n## One\nc") == [("One", "a"), ("One > Two", "b"), ("One > Two", "c")]


def test_sections_are_never_merged_and_empty_ones_give_nothing() -> None:
    assert titles("# T\n## A\n\n## B\nb\n## C\nc") == [("T > B", "b"), ("T > C", "c")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# Code\n```sh\n# no heading\n```\n", [("Code", "```sh\n# no heading\n```")]),
        ("Title\n=====\n\nText.\n\nPart\n----\nMore.", [("Title", "Text."), ("Title > Part", "More.")]),
        ("a\nb\n---\nc", [("file", "a\nb\n---\nc")]),
        ("- item\n---\nc", [("file", "- item\n---\nc")]),
        ("---\ntitle: x\n---\n# Real\nText.", [("Real", "Text.")]),
        ("#hashtag is no heading", [("file", "#hashtag is no heading")]),
        ("# Closed ##\nText.", [("Closed", "Text.")]),
        ("# The **bold** [link](http://x) `code`\nText.", [("The bold link code", "Text.")]),
        ("# T\r\n\r\none\r\ntwo\r\n", [("T", "one\r\ntwo")]),
    ],
)
def test_markdown(source: str, expected: list[tuple[str, str]]) -> None:
    assert titles(source) == expected


def test_plain_text_has_no_headings() -> None:
    assert [p.title for p in passages("# Not a heading\ntext", "notes", markdown=False)] == ["notes"]


def test_a_long_section_is_cut_between_sentences() -> None:
    sentence = "This is sentence number one hundred of the long policy text. "
    found = passages("# T\n" + sentence * 60, "x", markdown=True)
    assert len(found) > 2
    assert all(p.text.startswith("This is") and p.text.endswith("text.") for p in found)
    assert {p.title for p in found} == {"T"}


@given(st.text(alphabet=st.sampled_from("ab1 .\n\r#-=`*。é|"), max_size=400), st.booleans())
def test_passages_are_verbatim_ordered_and_within_the_limit(source: str, markdown: bool) -> None:
    end = 0
    for passage in passages(source, "x", markdown=markdown):
        assert passage.text == source[passage.start : passage.end]
        assert passage.text.strip() == passage.text != ""
        assert passage.start >= end
        assert len(passage.text) <= MAX_CHARS and len(passage.text.split()) <= MAX_WORDS
        end = passage.end


@given(st.lists(st.sampled_from(["word", "x" * 2000, "End.", "\n\n", "\n- item", "漢字。"]), max_size=400))
def test_nothing_of_a_text_is_lost(parts: list[str]) -> None:
    source = " ".join(parts)
    found = passages(source, "x", markdown=False)
    assert "".join("".join(p.text.split()) for p in found) == "".join(source.split())


def test_sentences_are_sentences_items_and_rows() -> None:
    text = "We ship fast. It costs 4.90 EUR!\nStill free e.g. on Mondays.\n\n- One\n- Two\n| a | b |"
    assert [text[a:b] for a, b in sentences(text)] == [
        "We ship fast.",
        "It costs 4.90 EUR!",
        "Still free e.g. on Mondays.",
        "- One",
        "- Two",
        "| a | b |",
    ]
