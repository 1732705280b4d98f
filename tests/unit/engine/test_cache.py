from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from mmagent.engine import Decoder, Loaded, Picture, PrefixCache, Prompt

RED = Picture("sha256:red", Image.new("RGB", (40, 30), "red"))
BLUE = Picture("sha256:blue", Image.new("RGB", (40, 30), "blue"))


def fresh_logits(loaded: Loaded, prompt: Prompt) -> torch.Tensor:
    """What the network says without any cache of ours."""
    inputs = {name: value for name, value in prompt.inputs.items() if name != "input_ids"}
    with torch.no_grad():
        logits: torch.Tensor = loaded.model(input_ids=torch.tensor([prompt.ids]), **inputs).logits[0, -1]
    return logits


def cached_logits(decoder: Decoder, prompt: Prompt) -> tuple[torch.Tensor, int]:
    """What it says through the caches, and how many tokens were reused; the sequence is then kept."""
    sequence = decoder.open(prompt)
    reused = sequence.past.get_seq_length()
    logits = decoder.forward(sequence.tokens[reused:], sequence.past, sequence.inputs)
    decoder.prefixes.put(sequence.tokens, sequence.keys, sequence.past)
    return logits, reused


@pytest.mark.parametrize("seed", range(4))
def test_logits_are_the_same_with_and_without_the_caches(
    seed: int, loaded: Loaded, decoder: Decoder, ask: Callable[..., Prompt]
) -> None:
    rng = random.Random(seed)
    turns: list[Any] = []
    for _ in range(6):
        words = "".join(rng.choices("abc def 12?", k=rng.randint(1, 30)))
        turns.append((words, rng.choice((RED, BLUE))) if rng.random() < 0.5 else words)
        prompt = ask(*turns)
        logits, _ = cached_logits(decoder, prompt)
        torch.testing.assert_close(logits, fresh_logits(loaded, prompt), atol=1e-4, rtol=0)


def test_a_longer_conversation_computes_only_what_is_new(decoder: Decoder, ask: Callable[..., Prompt]) -> None:
    first = ask(("what is this?", RED))
    assert cached_logits(decoder, first)[1] == 0
    assert cached_logits(decoder, ask(("what is this?", RED), "red", "sure?"))[1] == len(first.ids)


def test_two_pictures_under_the_same_text_never_share(
    loaded: Loaded, decoder: Decoder, ask: Callable[..., Prompt]
) -> None:
    red, blue = ask(("what is this?", RED, "tell me")), ask(("what is this?", BLUE, "tell me"))
    assert red.ids == blue.ids
    cached_logits(decoder, red)
    logits, reused = cached_logits(decoder, blue)
    assert reused == blue.ids.index(loaded.model.config.image_token_id)
    torch.testing.assert_close(logits, fresh_logits(loaded, blue), atol=1e-4, rtol=0)


def test_a_branch_leaves_the_other_branch_whole(decoder: Decoder, ask: Callable[..., Prompt]) -> None:
    one, other = ask("same beginning, one end"), ask("same beginning, other end")
    cached_logits(decoder, one)
    cached_logits(decoder, other)
    assert cached_logits(decoder, one)[1] == len(one.ids) - 1
    assert cached_logits(decoder, other)[1] == len(other.ids) - 1


def test_the_last_token_is_always_run(decoder: Decoder, ask: Callable[..., Prompt]) -> None:
    prompt = ask("again")
    first, _ = cached_logits(decoder, prompt)
    again, reused = cached_logits(decoder, prompt)
    assert reused == len(prompt.ids) - 1
    torch.testing.assert_close(first, again, atol=1e-5, rtol=0)


def test_the_cache_stays_within_its_bytes(loaded: Loaded, ask: Callable[..., Prompt]) -> None:
    one = Decoder(loaded, prefix_cache_bytes=1 << 30, feature_cache_bytes=0)
    cached_logits(one, ask("x" * 50))
    decoder = Decoder(loaded, prefix_cache_bytes=2 * one.prefixes.size, feature_cache_bytes=0)
    prompts = [ask(letter * 50) for letter in "abcd"]
    for prompt in prompts:
        cached_logits(decoder, prompt)
        assert 0 < decoder.prefixes.size <= decoder.prefixes.max_bytes
    assert [prompt.ids in decoder.prefixes.sequences() for prompt in prompts] == [False, False, True, True]


def test_without_bytes_nothing_is_kept(loaded: Loaded, ask: Callable[..., Prompt]) -> None:
    decoder = Decoder(loaded, prefix_cache_bytes=0, feature_cache_bytes=0)
    cached_logits(decoder, ask("hello"))
    assert decoder.prefixes.sequences() == []
    assert PrefixCache(0).take([1, 2, 3]) == (None, 0)


def test_the_vision_tower_runs_once_for_each_picture(
    loaded: Loaded, decoder: Decoder, ask: Callable[..., Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    forward = loaded.model.vision_tower.forward
    monkeypatch.setattr(loaded.model.vision_tower, "forward", lambda x: (runs.append(len(x)), forward(x))[1])
    cached_logits(decoder, ask(("one", RED)))
    cached_logits(decoder, ask(("another", RED, BLUE)))
    cached_logits(decoder, ask(("one more", BLUE, RED, RED)))
    assert runs == [1, 1]


def test_features_are_dropped_when_there_are_too_many(loaded: Loaded, ask: Callable[..., Prompt]) -> None:
    decoder = Decoder(
        loaded, prefix_cache_bytes=0, feature_cache_bytes=4 * 48 * 4
    )  # one picture: 4 tokens of 48 floats
    cached_logits(decoder, ask((RED, BLUE)))
    assert decoder.features.get(BLUE.key) is not None
    assert decoder.features.get(RED.key) is None
    assert decoder.features.size == decoder.features.max_bytes
