"""Which answers are believed: loops are said once, and what is made up is not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagent.speech import Word
from mmagent.speech.engines import Piece
from mmagent.speech.guards import Guards, compression, says_something, without_loops
from mmagent.testing import decoded

SPEECH = "And so my fellow Americans ask not what your country can do for you"


def pieces(*texts: str) -> list[Piece]:
    return [Piece(float(at), at + 1.0, text, ()) for at, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("logprob", "no_speech", "text", "doubt"),
    [
        (-0.3, 0.1, SPEECH, None),
        (-0.3, 0.9, SPEECH, None),
        (-1.5, 0.9, SPEECH, "no speech"),
        (-1.5, 0.1, SPEECH, "low confidence"),
        (math.nan, 0.1, SPEECH, "low confidence"),
        (-0.3, 0.1, "thank you " * 30, "repetition"),
    ],
)
def test_an_answer_is_believed_or_it_is_said_why_not(
    logprob: float, no_speech: float, text: str, doubt: str | None
) -> None:
    assert Guards().doubt(decoded((0, 5, text), logprob=logprob, no_speech=no_speech)) == doubt


def test_the_first_of_a_loop_is_kept() -> None:
    kept, looped = without_loops(pieces("Hello. " + "Thank you. " * 30, "Goodbye."))
    assert [piece.text for piece in kept] == ["Hello. Thank you.", "Goodbye."]
    assert len(looped) == 1


def test_a_loop_goes_on_from_piece_to_piece() -> None:
    kept, looped = without_loops(pieces(*["Thanks for watching this!"] * 9, "Bye."))
    assert [piece.text for piece in kept] == ["Thanks for watching this!", "Bye."]
    assert [piece.t0 for piece in looped] == list(range(1, 9))


def test_a_loop_without_spaces() -> None:
    kept, _ = without_loops(pieces("谢谢观看" * 12))
    assert [piece.text for piece in kept] == ["谢谢观看"]


@pytest.mark.parametrize(
    "text", ["No, no, no, no.", "It is 0 0 0 0 7 7 7", "two two two three three three", "very very very good", SPEECH]
)
def test_what_people_say_twice_is_no_loop(text: str) -> None:
    assert without_loops(pieces(text)) == (pieces(text), [])


def test_words_of_a_loop_go_too() -> None:
    words = tuple(Word(float(at), at + 1.0, text) for at, text in enumerate(["a", *["you"] * 12]))
    kept, _ = without_loops([Piece(0, 13, "a" + " you" * 12, (), words)])
    assert kept[0].text == "a you" and [word.text for word in kept[0].words] == ["a", "you"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.sampled_from(["one", "two", "ja", "nein!", "谢", "..."]), max_size=30), max_size=5))
def test_nothing_is_added_and_twice_is_as_good_as_once(texts: list[list[str]]) -> None:
    given_pieces = pieces(*(" ".join(words) for words in texts))
    kept, looped = without_loops(given_pieces)
    by_time = {piece.t0: piece for piece in given_pieces}
    for piece in kept:
        left = iter(by_time[piece.t0].text.split())
        assert all(word in left for word in piece.text.split())  # in order
    assert {piece.t0 for piece in by_time.values()} == {piece.t0 for piece in kept} | {piece.t0 for piece in looped}


def test_dots_and_notes_are_no_words() -> None:
    assert not says_something("... ♪♪") and says_something("好") and says_something("7")
    assert compression("") < 1 < compression("la " * 100)
