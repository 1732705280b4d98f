from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from mmagent.engine import Engine, Generation, Grammar, Loaded, Picture, Prompt, Sampler
from mmagent.errors import ContextOverflow, ModelError

Answer = Callable[..., tuple[list[int], Generation]]
Ask = Callable[..., Prompt]
LOOK = SimpleNamespace(
    name="look",
    parameters={"type": "object", "properties": {"id": {"type": "string", "x-quoted": True}}, "required": ["id"]},
)
RED = Picture("sha256:red", Image.new("RGB", (40, 30), "red"))


def test_greedy_tokens_are_those_of_the_network_itself(loaded: Loaded, engine: Engine, ask: Ask) -> None:
    """The cached loop and a plain one without caches choose the same tokens under the same grammar."""
    prompt = ask(("what is this?", RED))
    generation = engine.generate(prompt, grammar=Grammar(loaded.vocabulary), sampler=Sampler(), max_tokens=20)
    tokens = list(generation)
    grammar, plain = Grammar(loaded.vocabulary), list(prompt.ids)
    pixels = prompt.inputs["pixel_values"]
    for token in tokens:
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([plain]), pixel_values=pixels).logits[0, -1]
        assert int(grammar.mask(logits).argmax()) == token
        if token not in loaded.vocabulary.ends:
            grammar.accept(token)
        plain.append(token)


def test_forced_tokens_cost_no_pass_of_their_own(
    engine: Engine, answer: Answer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    run = engine.network.run
    monkeypatch.setattr(engine.network, "run", lambda parts: (passes.append(len(parts[0].tokens)), run(parts))[1])
    prompt = ask("order 17 please")
    tokens, generation = answer(prompt, max_tokens=400, tools=[LOOK], quotable=["order 17 please"], require_call=True)
    usage = generation.usage
    assert usage.forced_tokens >= len('{"name":"look","arguments":{"id":"')
    assert len(tokens) == usage.completion_tokens
    assert len(passes) <= usage.completion_tokens - usage.forced_tokens
    assert passes[0] > len(prompt.ids)  # what is forced at the start is prefilled with the prompt


def test_the_next_step_reuses_all_of_the_step_before(engine: Engine, answer: Answer, ask: Ask) -> None:
    prompt = ask(("what is this?", RED))
    for seed in range(20):  # a sampled answer that is whole UTF-8 and ended by itself
        tokens, first = answer(prompt, seed=seed, max_tokens=200)
        body = engine.loaded.vocabulary.ll.decode_bytes(tokens[:-1])
        if first.stop == "end":
            break
    _, second = answer(ask(("what is this?", RED), body.decode(), "and?"))
    assert second.usage.cached_tokens >= first.usage.prompt_tokens + first.usage.completion_tokens - 1


@pytest.mark.parametrize("limit", [1, 3, 10, 37])
def test_no_more_tokens_than_asked_for(limit: int, answer: Answer, ask: Ask) -> None:
    tokens, generation = answer(
        ask("order 17"), max_tokens=limit, tools=[LOOK], quotable=["order 17"], require_call=True
    )
    assert len(tokens) == limit
    assert generation.stop == "length"


def test_an_answer_ends_where_the_context_ends(loaded: Loaded, ask: Ask) -> None:
    prompt = ask("hello")
    small = Engine(replace(loaded, context_length=len(prompt.ids) + 5), prefix_cache_bytes=0, feature_cache_bytes=0)
    schema = {"type": "string", "minLength": 50}
    generation = small.generate(
        prompt, grammar=Grammar(loaded.vocabulary, output=schema), sampler=Sampler(seed=0), max_tokens=100
    )
    assert len(list(generation)) == 5
    assert generation.stop == "length"


def test_a_prompt_that_is_too_long_is_refused_before_anything_runs(loaded: Loaded, ask: Ask) -> None:
    prompt = ask("hello")
    small = Engine(replace(loaded, context_length=len(prompt.ids)), prefix_cache_bytes=0, feature_cache_bytes=0)
    with pytest.raises(ContextOverflow, match=rf"{len(prompt.ids)} tokens and tiny takes {len(prompt.ids)}; shorten"):
        small.generate(prompt, grammar=Grammar(loaded.vocabulary), sampler=Sampler(), max_tokens=5)


def test_cancelling_stops_at_the_next_token(engine: Engine, ask: Ask) -> None:
    cancelled = Event()
    generation = engine.generate(
        ask("hello"),
        grammar=Grammar(engine.loaded.vocabulary, output={"type": "string", "minLength": 50}),
        sampler=Sampler(temperature=1, seed=0),
        max_tokens=100,
        cancelled=cancelled,
    )
    tokens = []
    for token in generation:
        tokens.append(token)
        if len(tokens) == 4:
            cancelled.set()
    assert len(tokens) == 4
    assert generation.stop == "cancelled"


def test_cancelling_before_the_start_computes_nothing(engine: Engine, ask: Ask) -> None:
    cancelled = Event()
    cancelled.set()
    grammar = Grammar(engine.loaded.vocabulary)
    prompt = ask("hello")
    assert list(engine.generate(prompt, grammar=grammar, sampler=Sampler(), max_tokens=5, cancelled=cancelled)) == []
    assert engine.prefixes.sequences() == []


def test_what_a_closed_answer_computed_is_kept(engine: Engine, ask: Ask) -> None:
    prompt = ask("hello")
    generation = engine.generate(
        prompt, grammar=Grammar(engine.loaded.vocabulary), sampler=Sampler(temperature=1, seed=1), max_tokens=50
    )
    tokens: Any = iter(generation)
    next(tokens)
    tokens.close()
    assert engine.prefixes.sequences()[0][: len(prompt.ids)] == prompt.ids


def test_a_failed_pass_is_not_kept(engine: Engine, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a kernel failed")

    monkeypatch.setattr(engine.network, "run", broken)
    with pytest.raises(RuntimeError):
        list(engine.generate(ask("hi"), grammar=Grammar(engine.loaded.vocabulary), sampler=Sampler(), max_tokens=5))
    assert engine.prefixes.sequences() == []


def test_a_picture_without_a_place_is_refused(engine: Engine, ask: Ask) -> None:
    prompt = ask("no picture here")
    generation = engine.generate(
        Prompt(prompt.ids, (RED,)), grammar=Grammar(engine.loaded.vocabulary), sampler=Sampler(), max_tokens=5
    )
    with pytest.raises(ModelError, match="0 places for its pictures, which need 4"):
        list(generation)


def test_the_same_seed_gives_the_same_answer(answer: Answer, ask: Ask) -> None:
    assert answer(ask("hello"), seed=3)[0] == answer(ask("hello"), seed=3)[0]
    assert len({tuple(answer(ask("hello"), seed=seed)[0]) for seed in range(5)}) > 1
