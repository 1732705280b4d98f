"""The rules by which tokens follow each other, whatever a network would like to say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagent.speech.engines import Ask
from mmagent.speech.engines.base import Answer, Prompt
from mmagent.speech.engines.greedy import decode
from mmagent.speech.engines.network import State
from tests.unit.speech.engines.test_tokens import TOKENS

SIZE = TOKENS.first_time + 1501


class Moody:
    """A network whose logits are random; each row is a window of its own, whatever batch it is in."""

    def __init__(self, spread: float, times: float) -> None:
        self.spread, self.times = spread, times

    def start(self, heard: torch.Tensor, most: int) -> State:
        return State([(heard, heard)], [(heard, heard)])

    def step(self, state: State, tokens: torch.Tensor, places: list[int]) -> torch.Tensor:
        state.length += tokens.shape[1]
        return torch.stack([self._logits(int(row[0, 0]), state.length, len(places)) for row in state.heard[0][0]])

    def _logits(self, window: int, length: int, places: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(1000 * window + length)
        logits = torch.randn(places, SIZE, generator=random) * self.spread
        logits[:, TOKENS.first_time :] += self.times
        logits[:, TOKENS.end] += 0.5 * self.spread
        return logits


def answers(windows: list[int], spread: float, times: float, most: int = 30, temperature: float = 0.0) -> list[Answer]:
    heard = torch.tensor(windows, dtype=torch.float32)[:, None, None]
    network: Any = Moody(spread, times)
    tokens, start = TOKENS.prompt(Ask("en"), 448)
    return decode(network, heard, TOKENS, Prompt(tokens, start, most, Ask("en", temperature=temperature)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 500), st.sampled_from([0.5, 2.0, 5.0]), st.sampled_from([-8.0, -3.0, 0.0]))
def test_times_come_in_pairs_and_never_fall(window: int, spread: float, times: float) -> None:
    for temperature in (0.0, 1.0):
        (answer,) = answers([window], spread, times, temperature=temperature)
        said = [token - TOKENS.first_time for token in answer.tokens]  # negative: text
        assert 0 <= said[0] <= 50
        assert not set(answer.tokens) & set(TOKENS.suppressed)
        stamps = [token for token in said if token >= 0]
        assert stamps == sorted(stamps)
        for before, token, after in zip(said, said[1:], said[2:], strict=False):
            if before < 0 <= token:
                assert after >= 0, "a time that ends words is followed by a time"
            if before >= 0 and token >= 0:
                assert after < 0, "no three times in a row"
            if before >= 0 > token and after >= 0:
                assert after > before, "words take time"
        assert answer.logprob <= 0
        assert 0 <= answer.no_speech <= 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=6))
def test_a_batch_gives_each_window_what_it_gets_alone(windows: list[int]) -> None:
    alone = [answers([window], 2.0, -4.0)[0] for window in windows]
    for one, other in zip(alone, answers(windows, 2.0, -4.0), strict=True):
        assert one.tokens == other.tokens
        assert one.logprob == pytest.approx(other.logprob, abs=1e-5)


def test_an_answer_ends_where_it_has_to() -> None:
    (answer,) = answers([3], 0.1, -3.0, most=7)
    assert len(answer.tokens) <= 7


def test_drawing_gives_the_same_each_time_and_something_else_than_greed() -> None:
    drawn = answers([1, 2], 1.0, -6.0, temperature=0.8)
    assert drawn == answers([1, 2], 1.0, -6.0, temperature=0.8)
    assert [each.tokens for each in drawn] != [each.tokens for each in answers([1, 2], 1.0, -6.0)]
