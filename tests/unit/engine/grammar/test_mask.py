from __future__ import annotations

import pytest
import torch

from mmagent.engine.grammar.mask import Bitmask


def filled(width: int, allowed: set[int]) -> Bitmask:
    mask = Bitmask(width)
    for token in allowed:
        word = int(mask.bits[token // 32]) | 1 << token % 32
        mask.bits[token // 32] = word - (1 << 32) if word >= 1 << 31 else word
    return mask


ALLOWED = {0, 7, 8, 31, 32, 63, 70}


@pytest.mark.parametrize("width", [71, 96])
@pytest.mark.parametrize("size", [40, 71, 96, 130])
def test_only_allowed_logits_stay(width: int, size: int) -> None:
    logits = torch.randn(size)
    before = logits.clone()
    filled(width, ALLOWED).apply(logits)
    left = {int(token) for token in torch.isfinite(logits).nonzero()}
    assert left == {token for token in ALLOWED if token < size}
    assert all(logits[token] == before[token] for token in left)
    assert (logits[sorted(set(range(size)) - left)] == -torch.inf).all()


def test_a_device_unpacks_the_bits_as_the_cpu_does() -> None:
    mask = filled(96, ALLOWED)
    assert torch.equal(mask._barred(torch.device("cpu")), mask._on_cpu() == -torch.inf)


def test_new_bits_are_seen() -> None:
    mask = filled(64, {3})
    assert torch.isfinite(mask.apply(torch.zeros(64))).nonzero().tolist() == [[3]]
    mask.bits[:] = filled(64, {40}).bits
    assert torch.isfinite(mask.apply(torch.zeros(64))).nonzero().tolist() == [[40]]
