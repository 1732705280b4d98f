"""Prompts, what is refused, and text between times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmagent.errors import ConfigurationError, InputError
from mmagent.speech.engines import Ask
from mmagent.speech.engines.tokens import Tokens, tokens_of_tokenizer
from mmagent.speech.engines.words import Aligned
from mmagent.testing.whisper import vocabulary


def made(multilingual: bool = True) -> Tokens:
    tokenizer, _ = vocabulary()
    return tokens_of_tokenizer(tokenizer.backend_tokenizer, multilingual, [35])


TOKENS, ENGLISH = made(), made(multilingual=False)
TEXT = st.integers(0, 255)


def test_languages_stand_between_the_start_and_the_tasks() -> None:
    assert list(TOKENS.languages) == ["en", "de"]
    assert ENGLISH.languages == {}
    assert TOKENS.end not in TOKENS.suppressed
    assert {TOKENS.start, TOKENS.previous, TOKENS.no_times, *TOKENS.languages.values()} <= set(TOKENS.suppressed)


def test_a_prompt_names_language_and_task() -> None:
    _, special = vocabulary()
    names = ["<|startoftranscript|>", "<|de|>", "<|translate|>"]
    assert TOKENS.prompt(Ask("de", "translate"), 448) == ([special[name] for name in names], 0)
    assert ENGLISH.prompt(Ask(), 448) == ([special["<|startoftranscript|>"]], 0)


def test_words_that_came_before_are_cut_to_the_last_that_fit() -> None:
    tokens, start = TOKENS.prompt(Ask("en", prompt="x" * 500 + " AB-12"), 448)
    assert tokens[0] == TOKENS.previous
    assert start == 201
    assert bytes(tokens[1:start]).endswith(b"xxx AB-12")
    assert TOKENS.prompt(Ask("en", prompt="x" * 500), 64)[1] == 32


def test_special_tokens_in_a_users_prompt_are_no_special_tokens() -> None:
    tokens, start = TOKENS.prompt(Ask("en", prompt="<|endoftext|> <|0.00|>"), 448)
    assert all(token < TOKENS.end for token in tokens[1:start])


@pytest.mark.parametrize(
    ("tokens", "ask", "words"),
    [
        (TOKENS, Ask("xx"), "'xx' is not known; detect it, or give one of: en, de"),
        (TOKENS, Ask(), "give one of: en, de"),
        (ENGLISH, Ask("de"), "one language only"),
        (TOKENS, Ask("en", "translate"), "cannot translate"),
    ],
)
def test_what_a_network_does_not_know_is_refused_with_what_it_knows(tokens: Tokens, ask: Ask, words: str) -> None:
    with pytest.raises(InputError, match=words):
        tokens.check(ask, translates=False)


def test_a_vocabulary_of_something_else_is_refused() -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(ConfigurationError, match="has no <|startoftranscript|>".replace("|", r"\|")):
        tokens_of_tokenizer(Tokenizer(models.BPE({"a": 0}, [])), False, ())


def time(step: int) -> int:
    return TOKENS.first_time + step


def test_pieces_are_text_between_times() -> None:
    said = [time(0), *b" Hello.", time(100), time(150), *b" Bye", time(200)]
    found = TOKENS.decoded(said, -0.5, 0.1, 11.0)
    assert [(piece.t0, piece.t1, piece.text) for piece in found.pieces] == [(0.0, 2.0, "Hello."), (3.0, 4.0, "Bye")]
    assert found.tokens == tuple(said)


def test_words_go_to_their_pieces() -> None:
    said = [time(0), *b" a b", time(50), time(50), *b" c", time(100)]
    aligned = Aligned([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1.0] * 6)
    first, second = TOKENS.decoded(said, 0.0, 0.0, 11.0, aligned, "en").pieces
    assert [word.text for word in first.words] == ["a", "b"]
    assert [(word.text, word.t0, word.t1) for word in second.words] == [("c", 0.4, 0.6)]


@given(st.lists(st.one_of(TEXT, st.integers(time(0), time(1500))), max_size=40), st.floats(0.1, 30.0))
def test_pieces_are_in_order_and_within_the_window_and_lose_no_text(said: list[int], seconds: float) -> None:
    pieces = TOKENS.pieces(said, seconds)
    assert [token for _, _, tokens in pieces for token in tokens] == TOKENS.text(said)
    at = 0.0
    for t0, t1, _ in pieces:
        assert at <= t0 <= t1 <= seconds
        at = t1
