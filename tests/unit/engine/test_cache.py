from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmagent.engine import Engine, Grammar, Loaded, Picture, PrefixCache, Prompt, Sampler
from mmagent.engine.cache import Kept, KeyMaker, common_prefix

RED = Picture("sha256:red", Image.new("RGB", (40, 30), "red"))
BLUE = Picture("sha256:blue", Image.new("RGB", (40, 30), "blue"))


def fresh_logits(loaded: Loaded, prompt: Prompt) -> torch.Tensor:
    """What the network says without any cache of ours."""
    inputs = {name: value for name, value in prompt.inputs.items() if name != "input_ids"}
    with torch.no_grad():
        logits: torch.Tensor = loaded.model(input_ids=torch.tensor([prompt.ids]), **inputs).logits[0, -1]
    return logits


def cached_logits(engine: Engine, prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, int]:
    """What it says through the caches, and how many tokens were reused; the sequence is then kept."""
    seen: list[torch.Tensor] = []
    sampler = Sampler()
    choose = sampler.sample
    monkeypatch.setattr(sampler, "sample", lambda logits: (seen.append(logits.clone()), choose(logits))[1])
    grammar = Grammar(engine.loaded.vocabulary)
    monkeypatch.setattr(grammar, "mask", lambda logits: logits)
    monkeypatch.setattr(grammar, "accept", lambda token: None)
    generation = engine.generate(prompt, grammar=grammar, sampler=sampler, max_tokens=1)
    list(generation)
    return seen[0], generation.usage.cached_tokens


@pytest.mark.parametrize("seed", range(4))
def test_logits_are_the_same_with_and_without_the_caches(
    seed: int, loaded: Loaded, engine: Engine, ask: Callable[..., Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    turns: list[Any] = []
    for _ in range(6):
        words = "".join(rng.choices("abc def 12?", k=rng.randint(1, 30)))
        turns.append((words, rng.choice((RED, BLUE))) if rng.random() < 0.5 else words)
        prompt = ask(*turns)
        logits, _ = cached_logits(engine, prompt, monkeypatch)
        torch.testing.assert_close(logits, fresh_logits(loaded, prompt), atol=1e-4, rtol=0)


def test_a_longer_conversation_computes_only_what_is_new(
    engine: Engine, ask: Callable[..., Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(("what is this?", RED))
    assert cached_logits(engine, first, monkeypatch)[1] == 0
    assert cached_logits(engine, ask(("what is this?", RED), "red", "sure?"), monkeypatch)[1] == len(first.ids)


def test_two_pictures_under_the_same_text_never_share(
    loaded: Loaded, engine: Engine, ask: Callable[..., Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue = ask(("what is this?", RED, "tell me")), ask(("what is this?", BLUE, "tell me"))
    assert red.ids == blue.ids
    cached_logits(engine, red, monkeypatch)
    logits, reused = cached_logits(engine, blue, monkeypatch)
    assert reused == red.ids.index(loaded.model.config.image_token_id)
    torch.testing.assert_close(logits, fresh_logits(loaded, blue), atol=1e-4, rtol=0)
    assert (logits - fresh_logits(loaded, red)).abs().max() > 1e-3


def test_the_vision_tower_runs_once_for_each_picture(
    loaded: Loaded, engine: Engine, ask: Callable[..., Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    encode = loaded.model.get_image_features
    monkeypatch.setattr(
        loaded.model, "get_image_features", lambda pixel_values, **_: (runs.append(1), encode(pixel_values))[1],
    )  # fmt: skip
    for words in ("one", "two", "three"):
        cached_logits(engine, ask((words, RED)), monkeypatch)
    assert len(runs) == 1
    cached_logits(engine, ask(("one", BLUE)), monkeypatch)
    assert len(runs) == 2


def test_a_second_picture_leaves_the_first_where_it_was(
    loaded: Loaded, engine: Engine, ask: Callable[..., Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    encode = loaded.model.get_image_features
    monkeypatch.setattr(
        loaded.model, "get_image_features", lambda pixel_values, **_: (runs.append(1), encode(pixel_values))[1]
    )
    first = ask(("what is this?", RED))
    cached_logits(engine, first, monkeypatch)
    reused = cached_logits(engine, ask(("what is this?", RED), "red", ("and this?", BLUE)), monkeypatch)[1]
    assert (len(runs), reused) == (2, len(first.ids))


class Row:
    """As many bytes as positions."""

    def __init__(self, length: int) -> None:
        self.length = length

    @property
    def nbytes(self) -> int:
        return self.length

    def fork(self, length: int) -> Row:
        assert length <= self.length
        return Row(length)


def kept(*tokens: int, done: int | None = None) -> Kept:
    return Kept(list(tokens), np.array(tokens), Row(len(tokens) if done is None else done))


def test_an_entry_that_is_extended_is_handed_over_and_one_that_differs_is_copied() -> None:
    cache = PrefixCache(1000)
    entry = kept(1, 2, 3, 4)
    cache.put(entry)
    row, length = cache.take(np.array([1, 2, 9]))
    assert (length, row is entry.row, row.length) == (2, False, 2)
    row, length = cache.take(np.array([1, 2, 3, 4, 5]))
    assert (length, row is entry.row) == (4, True)
    assert cache.take(np.array([1, 2, 3, 4, 5])) == (None, 0)


def test_a_running_sequence_is_copied_as_far_as_it_is_computed() -> None:
    running = kept(1, 2, 3, 4, 5, 6, done=3)
    row, length = PrefixCache(0).take(np.array([1, 2, 3, 4, 9]), [running])
    assert (length, row.length, running.row.length) == (3, 3, 3)


def test_a_picture_is_taken_whole_or_not_at_all() -> None:
    cache = PrefixCache(1000)
    cache.put(kept(1, -1, -1, -1, done=3))
    assert cache.take(np.array([1, -1, -1, -1, 5]), cuts=[range(1, 4)])[1] == 1


def test_the_oldest_go_first_when_there_are_too_many_bytes() -> None:
    cache = PrefixCache(10)
    for first in (1, 2, 3):
        cache.put(kept(first, 7, 7, 7))
    assert cache.size == 8
    assert cache.sequences() == [[3, 7, 7, 7], [2, 7, 7, 7]]
    cache.take(np.array([2, 7, 8]))  # used: now 3 is the oldest
    cache.put(kept(4, 7, 7, 7))
    assert cache.sequences() == [[4, 7, 7, 7], [2, 7, 7, 7]]


def test_what_is_larger_than_the_cache_does_not_empty_it() -> None:
    cache = PrefixCache(10)
    cache.put(kept(1, 2, 3))
    cache.put(kept(*range(11)))
    assert cache.sequences() == [[1, 2, 3]]


def test_nothing_is_kept_without_room() -> None:
    cache = PrefixCache(0)
    cache.put(kept(1, 2))
    assert cache.sequences() == []


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_common_prefix_is_the_longest(left: list[int], right: list[int]) -> None:
    length = common_prefix(np.array(left, np.int64), np.array(right, np.int64))
    assert left[:length] == right[:length]
    assert length == min(len(left), len(right)) or left[length] != right[length]


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=6), st.lists(st.integers(0, 2), min_size=1)
)
def test_what_is_taken_is_always_a_prefix_and_the_longest(sequences: list[list[int]], wanted: list[int]) -> None:
    cache = PrefixCache(10_000)
    for sequence in sequences:
        cache.put(kept(*sequence))
    best = max((min(common_prefix(np.array(one), np.array(wanted)), len(wanted) - 1) for one in sequences), default=0)
    row, length = cache.take(np.array(wanted))
    assert length == best
    assert (row is None) == (length == 0)
    assert row is None or row.length == length


def test_each_picture_has_its_own_key_and_the_same_one_again() -> None:
    maker = KeyMaker()
    first = maker.keys([5, 6, 6, 7, 6], [("a", range(1, 3)), ("b", range(4, 5))])
    assert first.tolist() == [5, -1, -1, 7, -2]
    assert maker.keys([6, 6], [("b", range(0, 2))]).tolist() == [-2, -2]


def test_features_are_dropped_oldest_first() -> None:
    from mmagent.engine.features import FeatureCache, Features

    cache = FeatureCache(100)
    for name in "abc":
        cache.put(name, Features(torch.zeros(10)))
    assert (cache.get("a"), cache.size) == (None, 80)
    cache.get("b")
    cache.put("d", Features(torch.zeros(10)))
    assert cache.get("c") is None
    assert cache.get("b") is not None
    cache.clear()
    assert cache.size == 0
