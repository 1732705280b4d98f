from __future__ import annotations

from types import SimpleNamespace

import pytest

from mmagent.engine import Vocabulary
from mmagent.errors import ModelError


def test_a_mark_is_split_into_control_tokens_and_text(vocabulary: Vocabulary) -> None:
    opened = vocabulary.special("<tool_call>")
    assert vocabulary.split("<tool_call>\n") == [opened, "\n"]
    assert vocabulary.split("a<tool_call><tool_call>") == ["a", opened, opened]
    assert vocabulary.split("<think>") == ["<think>"]
    assert vocabulary.split("") == []


def test_control_tokens_spell_nothing_that_text_can(vocabulary: Vocabulary) -> None:
    opened = vocabulary.special("<tool_call>")
    assert opened is not None and vocabulary.is_special(opened)
    letters = [token for letter in "<tool_call>" for token in vocabulary.ll.tokenize_str(letter)]
    assert vocabulary.bytes_of(opened) == b""
    assert vocabulary.spell(letters) == b"<tool_call>" != vocabulary.spell([opened])
    assert not any(map(vocabulary.is_special, letters))


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    with pytest.raises(ModelError, match="no end token"):
        Vocabulary(SimpleNamespace(eos_token_id=None))
