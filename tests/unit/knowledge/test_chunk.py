from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmagent.knowledge import chunk
from mmagent.knowledge.chunk import MAX_CHARS, MAX_SECONDS, MAX_WORDS, Passage, sentences
from mmagent.knowledge.extract import Extract, Heading, Mark, Picture
from mmagent.knowledge.read.markdown import headings


def passages(source: str, name: str, *, markdown: bool) -> list[Passage]:
    return chunk.passages(Extract(source, "text/markdown", headings=headings(source) if markdown else []), name)


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


def test_a_passage_says_on_which_page_it_stands_and_where() -> None:
    marks = [
        Mark(0, 5, page=1, box=(0.1, 0.1, 0.5, 0.2)),
        Mark(6, 11, page=1, box=(0.2, 0.3, 0.9, 0.4)),
        Mark(12, 17, page=2, box=(0.1, 0.1, 0.3, 0.2)),
    ]
    found = chunk.passages(Extract("first again third", "application/pdf", "A manual", marks=marks), "file")
    assert [(p.title, p.text, p.page, p.box) for p in found] == [
        ("A manual", "first again", 1, (0.1, 0.1, 0.9, 0.4)),
        ("A manual", "third", 2, (0.1, 0.1, 0.3, 0.2)),
    ]


def test_what_is_heard_is_cut_after_thirty_seconds() -> None:
    marks = [Mark(5 * i, 5 * i + 4, t0=10.0 * i, t1=10.0 * i + 9) for i in range(8)]
    text = " ".join("word" for _ in marks)
    found = chunk.passages(Extract(text, "audio/wav", marks=marks, kind="speech"), "call")
    assert [(p.kind, p.t0, p.t1) for p in found] == [
        ("speech", 0.0, 29.0), ("speech", 30.0, 59.0), ("speech", 60.0, 79.0),
    ]  # fmt: skip
    assert all((p.t1 or 0) - (p.t0 or 0) <= MAX_SECONDS for p in found)


def test_neighbours_know_what_stands_between_them() -> None:
    source = "# T\n" + "This is one sentence of the long policy text. " * 80
    found = passages(source, "x", markdown=True)
    assert len(found) > 1 and [p.gap for p in found] == [*[" "] * (len(found) - 1), None]
    whole = "".join(p.text + (p.gap or "") for p in found)
    assert whole in source


def test_pictures_are_passages_and_a_page_has_its_text() -> None:
    marks = [Mark(0, 3, page=1), Mark(4, 7, page=2)]
    pictures = [Picture("page", page=1), Picture("page", page=2), Picture("image", page=2, text="a lamp")]
    found = chunk.passages(Extract("one two", "application/pdf", marks=marks, pictures=pictures), "scan")
    assert [(p.kind, p.page, p.text) for p in found[2:]] == [
        ("page", 1, "one"),
        ("page", 2, "two"),
        ("image", 2, "a lamp"),
    ]


def test_a_heading_without_words_hides_what_it_covers() -> None:
    found = chunk.passages(Extract("hidden shown", "text/plain", headings=[Heading(0, 7, 0, "")]), "file")
    assert [(p.title, p.text) for p in found] == [("file", "shown")]
