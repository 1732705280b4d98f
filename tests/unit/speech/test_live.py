"""Live decoding: what is sure stays, every word comes once, and a look costs no more than a window."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagent.speech.engines import Ask, Decoded, Piece
from mmagent.speech.live import SPARE, Live
from mmagent.testing.sound import ScriptedSpeech

HALF = 8_000


class Says:
    """An engine that says one thing after the other, whatever it hears."""

    name, fingerprint, translates = "says", "says", False

    seconds = 30.0

    def __init__(self, *answers: Decoded, languages: tuple[str, ...] = (), heard: Sequence[Mapping[str, float]] = ()):
        self.answers, self.languages, self.heard = list(answers), languages, list(heard)
        self.asks: list[Ask] = []

    def detect(self, windows: Sequence[Any]) -> list[Mapping[str, float]]:
        return [self.heard.pop(0)]

    def decode(self, windows: Sequence[Any], ask: Ask) -> list[Decoded]:
        self.asks.append(ask)
        return [self.answers.pop(0)]


def says(*texts: str, logprob: float = -0.1, no_speech: float = 0.0) -> Decoded:
    """Pieces of a tenth of a second."""
    pieces = tuple(Piece(number / 10, number / 10 + 0.1, text, ()) for number, text in enumerate(texts))
    return Decoded(pieces, logprob, no_speech, ())


def looks(live: Live, count: int) -> list[str]:
    """What is sure after each look, half a second of sound before each."""
    sure = []
    for _ in range(count):
        live.feed(np.ones(HALF, np.float32))
        sure.append(live.look().committed)
    return sure


def test_a_word_is_sure_once_two_looks_agree_on_it() -> None:
    live = Live(Says(says("where is"), says("where is my"), says("where is my order")))
    assert looks(live, 2) == ["", "where is"]
    assert live.hearing.tentative == " my"
    assert live.hearing.text == "where is my"
    assert looks(live, 1) == ["where is my"]
    assert live.finish().committed == "where is my order"
    assert live.finish().tentative == ""


def test_punctuation_and_case_are_no_disagreement() -> None:
    live = Live(Says(says("yes please."), says("Yes, please send")))
    assert looks(live, 2)[-1] == "Yes, please"


def test_what_is_sure_stays_though_a_later_look_hears_it_otherwise() -> None:
    live = Live(Says(says("two lamps"), says("two lamps and"), says("too lamps and a"), says("to lamb and a chair")))
    assert looks(live, 4) == ["", "two lamps", "two lamps and", "two lamps and a"]
    assert live.finish().committed == "two lamps and a chair"


def test_a_look_that_hears_less_makes_no_word_come_twice() -> None:
    whole = [says("a b c d")] * 2
    live = Live(Says(*whole, says("a b"), *[says("a b c d e")] * 2))
    assert looks(live, 5) == ["", "a b c d", "a b c d", "a b c d", "a b c d e"]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d.", "-", "e,", "字典", "…"]), max_size=5).map(" ".join)
DECODINGS = st.lists(WORDS, max_size=4).map(lambda texts: says(*texts))


@given(st.lists(DECODINGS, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_the_sure_part_only_grows_whatever_the_engine_says(decodings: list[Decoded]) -> None:
    live = Live(Says(*decodings))
    sure = [*looks(live, len(decodings)), live.finish().committed]
    assert all(later.startswith(sooner) for sooner, later in itertools.pairwise(sure))


@given(st.lists(st.integers(3_000, 20_000), min_size=1, max_size=20), st.integers(1, 30), st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_an_engine_that_is_right_gives_every_word_once(chunks: list[int], words: int, sentence: int) -> None:
    said = [f"w{n}" + ("." if n % sentence == 0 else "") for n in range(words)]
    speech = ScriptedSpeech(" ".join(said), pause=0)
    live = Live(speech)
    at = 0
    for size in itertools.cycle(chunks):
        live.feed(speech.samples[at : at + size])
        live.look()
        at += size
        if at >= len(speech.samples):
            break
    assert live.finish().text.split() == said


def test_two_minutes_are_heard_in_windows_of_a_sentence() -> None:
    said = [f"w{n}" + ("." if n % 10 == 9 else "") for n in range(360)]
    speech = ScriptedSpeech(" ".join(said), pause=0)
    live = Live(speech)
    for at in range(0, len(speech.samples), HALF):
        live.feed(speech.samples[at : at + HALF])
        live.look()
    assert live.finish().text.split() == said
    assert max(speech.lengths) < 8 * 16_000  # two sentences and a look


def test_speech_without_an_end_is_cut_at_a_quiet_place() -> None:
    said = [f"w{n}" for n in range(120)]
    speech = ScriptedSpeech(" ".join(said), gap=0.1, pause=0)
    live = Live(speech)
    for at in range(0, len(speech.samples), 2 * HALF):
        live.feed(speech.samples[at : at + 2 * HALF])
        live.look()
    assert live.finish().text.split() == said
    assert max(speech.lengths) <= (speech.seconds - SPARE) * 16_000


def test_no_window_is_longer_than_the_engine_hears() -> None:
    said = [f"w{n}" for n in range(60)]
    speech = ScriptedSpeech(" ".join(said), gap=0.1, pause=0)
    speech.seconds = 10.0
    live = Live(speech)
    for at in range(0, len(speech.samples), HALF):
        live.feed(speech.samples[at : at + HALF])
        live.look()
    assert live.finish().text.split() == said
    assert max(speech.lengths) <= (10 - SPARE) * 16_000


def test_a_backlog_is_heard_whole() -> None:
    said = [f"w{n}" for n in range(120)]
    speech = ScriptedSpeech(" ".join(said), gap=0.1, pause=0)
    live = Live(speech)
    live.feed(speech.samples)
    live.look()
    assert live.finish().text.split() == said


def test_loops_and_words_out_of_silence_are_not_believed() -> None:
    loop = says("thank you. " * 40)
    silence = says("thanks for watching", logprob=-1.4, no_speech=0.9)
    live = Live(Says(says("hello"), loop, silence))
    looks(live, 3)
    assert live.finish().committed == "hello"


def test_words_are_characters_where_a_script_has_no_spaces() -> None:
    live = Live(Says(says("我要退"), says("我要退货")))
    assert looks(live, 2)[-1] == "我要退"


def test_the_language_is_kept_once_it_is_sure() -> None:
    heard = [{"en": 0.4, "de": 0.3}, {"en": 0.1, "de": 0.8}, {"en": 1.0}]
    engine = Says(*[says("ja")] * 4, languages=("en", "de"), heard=heard)
    live = Live(engine)
    looks(live, 4)
    assert [ask.language for ask in engine.asks] == ["en", "de", "de", "de"]
    assert live.language == "de"
    live.begin()
    assert live.language is None


def test_a_language_that_is_given_is_not_detected() -> None:
    live = Live(Says(says("ja"), languages=("en", "de")), Ask(language="de"))
    looks(live, 1)
    assert live.language == "de"


@pytest.mark.parametrize("samples", [0, 100])
def test_nothing_to_hear_is_not_decoded(samples: int) -> None:
    live = Live(Says())
    live.feed(np.zeros(samples, np.float32))
    assert live.look().text == ""
