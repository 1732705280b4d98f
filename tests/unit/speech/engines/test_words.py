"""When words are said: the cheapest path, and which tokens make a word."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmagent.speech.engines.words import Aligned, first_columns, token_times, words_of

PARTS = [" Hello", ",", " wor", "ld", "!", ' "', "Ja", '"', " caf", b"\xc3", b"\xa9", " -", "5", "你", "好", "。"]


def decode(tokens: Sequence[int]) -> str:
    raw = b"".join(part if isinstance(part, bytes) else part.encode() for part in (PARTS[token] for token in tokens))
    return raw.decode(errors="replace")


def said(tokens: Sequence[int], language: str = "en", seconds: float = 30.0) -> list[tuple[str, float, float]]:
    aligned = Aligned([float(place) for place in range(len(tokens) + 1)], [0.5] * len(tokens))
    return [(word.text, word.t0, word.t1) for word in words_of(tokens, aligned, decode, language, seconds)]


def test_tokens_without_a_space_before_them_belong_to_the_word() -> None:
    assert said([0, 2, 3]) == [("Hello", 0, 1), ("world", 1, 3)]


def test_punctuation_belongs_to_the_word_that_it_stands_at_and_takes_no_time() -> None:
    assert said([0, 1, 2, 3, 4]) == [("Hello,", 0, 1), ("world!", 2, 4)]
    assert said([0, 5, 6, 7]) == [("Hello", 0, 1), ('"Ja"', 2, 3)]
    assert said([11, 12]) == [("-5", 1, 2)]


def test_a_letter_of_several_tokens_is_not_cut() -> None:
    assert said([8, 9, 10]) == [("café", 0, 3)]


def test_a_language_without_spaces_has_a_word_for_each_run_of_whole_letters() -> None:
    assert said([13, 14, 15], "zh") == [("你", 0, 1), ("好。", 1, 2)]


def test_words_end_with_the_window() -> None:
    assert said([0, 2, 3], seconds=1.5) == [("Hello", 0, 1), ("world", 1, 1.5)]


@given(st.lists(st.integers(0, len(PARTS) - 1), max_size=30), st.sampled_from(["en", "zh"]))
def test_no_word_and_no_letter_is_lost(tokens: list[int], language: str) -> None:
    words = said(tokens, language)
    assert "".join(word for word, _, _ in words).replace(" ", "") == decode(tokens).replace(" ", "")
    assert all(t0 <= t1 for _, t0, t1 in words)
    assert all(one[1] <= other[1] for one, other in pairwise(words))


def cheapest(cost: NDArray[np.float64]) -> float:
    """By the book, a cell at a time."""
    total = np.full((cost.shape[0] + 1, cost.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i in range(cost.shape[0]):
        for j in range(cost.shape[1]):
            total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return float(total[-1, -1])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 1000))
def test_the_path_is_the_cheapest(rows: int, columns: int, seed: int) -> None:
    cost = np.random.default_rng(seed).normal(size=(rows, columns))
    first = first_columns(cost)
    assert first[0] == 0
    assert all(one <= other for one, other in pairwise(first))
    # between two entries a row is walked to where the next begins, or to the column before it
    ways = [(cost[row, begin : max(end, begin + 1)].sum(), cost[row, begin : end + 1].sum())
            for row, (begin, end) in enumerate(pairwise([*first, columns]))]  # fmt: skip
    least = sum(min(way) for way in ways[:-1]) + ways[-1][0]
    assert abs(least - cheapest(cost)) < 1e-9


def test_tokens_are_timed_by_where_heads_look() -> None:
    frames, begins = 200, [20, 60, 110, 170]
    attention = np.full((3, 2 + 1 + 4 + 1, frames), 1e-4, np.float32)  # head, no times, text, end
    for row, (begin, end) in enumerate(pairwise([0, *begins[1:], frames])):
        attention[:, 2 + row, begin:end] = 1.0
    attention /= attention.sum(-1, keepdims=True)
    times = token_times(attention[:, :7], 2)
    assert len(times) == 4
    assert np.abs(np.array(times[1:]) - np.array(begins[1:]) * 0.02).max() <= 0.06
