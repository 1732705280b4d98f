from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from mmagent.engine import Sampler

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def draws(**settings: float) -> Counter[int]:
    sampler = Sampler(seed=0, **settings)  # type: ignore[arg-type]
    return Counter(sampler.sample(LOGITS) for _ in range(2000))


def test_greedy_takes_the_most_probable() -> None:
    assert Sampler().sample(LOGITS) == 0


def test_draws_follow_the_probabilities() -> None:
    counts = draws(temperature=1)
    for token, probability in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert counts[token] / 2000 == pytest.approx(probability, abs=4 * math.sqrt(0.25 / 2000))


def test_a_low_temperature_sharpens() -> None:
    assert draws(temperature=0.3)[0] > draws(temperature=1)[0] > draws(temperature=3)[0]


def test_top_k_and_top_p_cut_the_tail() -> None:
    assert set(draws(temperature=1, top_k=2)) == {0, 1}
    assert set(draws(temperature=1, top_k=9)) == {0, 1, 2, 3}
    assert set(draws(temperature=1, top_p=0.6)) == {0, 1}  # 0.5 does not reach it, 0.8 does
    assert set(draws(temperature=1, top_p=0.4)) == {0}


def test_barred_tokens_are_never_drawn() -> None:
    sampler = Sampler(temperature=5, seed=1)
    barred = LOGITS.masked_fill(torch.tensor([True, False, True, False]), -torch.inf)
    assert {sampler.sample(barred) for _ in range(200)} == {1, 3}


def test_a_seed_repeats_the_draws() -> None:
    one, same, other = (Sampler(temperature=1, seed=seed) for seed in (1, 1, 2))
    drawn = [[sampler.sample(LOGITS) for _ in range(30)] for sampler in (one, same, other)]
    assert drawn[0] == drawn[1] != drawn[2]
