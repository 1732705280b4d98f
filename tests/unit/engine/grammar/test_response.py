from __future__ import annotations

from collections.abc import Iterable

import pytest

from mmagent.engine import ParsedCall, Response, ToolFormat, Vocabulary
from mmagent.engine.grammar.formats import MMAGENT
from mmagent.errors import ModelError

CALL = '{"name":"look","arguments":{"id":"é"}}'


def letters(vocabulary: Vocabulary, text: str) -> list[int]:
    """Token by token as plain text: bytes, in the tiny vocabulary."""
    return [token for letter in text for token in vocabulary.ll.tokenize_str(letter)]


def parts(
    vocabulary: Vocabulary, tokens: Iterable[int], form: ToolFormat = MMAGENT, stop: tuple[str, ...] = ()
) -> list[object]:
    response = Response(vocabulary, form, stop)
    return [part for token in tokens for part in response.feed(token)] + list(response.finish())


def test_characters_are_never_broken(vocabulary: Vocabulary) -> None:
    text = "Größe 你好 🙂 done"
    pieces = parts(vocabulary, letters(vocabulary, text))
    assert pieces == list(text)
    assert len(letters(vocabulary, text)) > len(text)


def test_an_unfinished_character_at_the_end_is_a_replacement_mark(vocabulary: Vocabulary) -> None:
    assert parts(vocabulary, letters(vocabulary, "a🙂")[:-1]) == ["a", "�"]


def test_calls_are_whole_and_no_text(vocabulary: Vocabulary) -> None:
    opened, closed = vocabulary.special("<tool_call>"), vocabulary.special("</tool_call>")
    assert opened is not None and closed is not None
    call = [opened, *letters(vocabulary, CALL), closed]
    expected = ParsedCall("look", {"id": "é"})
    assert parts(vocabulary, [*letters(vocabulary, "hi"), *call, *call, vocabulary.ends[0]]) == [
        "h",
        "i",
        expected,
        expected,
    ]
    assert parts(vocabulary, call[:-1]) == []  # cut off: no call


def test_text_that_looks_like_a_call_stays_text(vocabulary: Vocabulary) -> None:
    text = f"<tool_call>{CALL}</tool_call>"
    assert "".join(map(str, parts(vocabulary, letters(vocabulary, text)))) == text


def test_a_stop_string_ends_the_text_before_it(vocabulary: Vocabulary) -> None:
    response = Response(vocabulary, MMAGENT, ("STOP", "\n\n"))
    text = [part for token in letters(vocabulary, "go on, ST STO STOP and more") for part in response.feed(token)]
    assert "".join(map(str, text)) == "go on, ST STO "
    assert response.stopped
    assert list(response.finish()) == []


def test_what_was_held_back_comes_out_at_the_end(vocabulary: Vocabulary) -> None:
    assert "".join(map(str, parts(vocabulary, letters(vocabulary, "go ST"), stop=("STOP",)))) == "go ST"


def test_a_call_that_cannot_be_read_is_an_error(vocabulary: Vocabulary) -> None:
    opened, closed = vocabulary.special("<tool_call>"), vocabulary.special("</tool_call>")
    assert opened is not None and closed is not None
    with pytest.raises(ModelError, match="cannot be read"):
        parts(vocabulary, [opened, *letters(vocabulary, '{"name"'), closed])
