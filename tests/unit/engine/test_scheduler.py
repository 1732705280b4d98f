"""Answers side by side: each is what it would be alone, whoever joins, leaves, or runs out of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest
import torch

from mmagent.engine import Engine, Generation, Grammar, Loaded, Prompt, Sampler
from mmagent.engine.decoder.network import Part
from mmagent.errors import ModelError

Fresh = Callable[..., Engine]
Ask = Callable[..., Prompt]
WORDS = [
    "hello",
    "where is order A-48213?",
    "a",
    "what is this lamp? " * 20,
    "tell me a story",
    "7 + 5",
    "?",
    "return it",
]


def begin(engine: Engine, prompt: Prompt, max_tokens: int = 24, seed: int | None = None, **more: Any) -> Generation:
    sampler = Sampler() if seed is None else Sampler(temperature=1, seed=seed)
    grammar = Grammar(engine.loaded.vocabulary, regex=r"(?s:.){60,}")
    return engine.generate(prompt, grammar=grammar, sampler=sampler, max_tokens=max_tokens, **more)


@pytest.fixture
def fresh(loaded: Loaded, network_of: Callable[[str], Any]) -> Fresh:
    """Makes engines that keep nothing."""

    def make(kind: str = "native", **more: Any) -> Engine:
        return Engine(loaded, network=network_of(kind), prefix_cache_bytes=0, feature_cache_bytes=0, **more)

    return make


def together(generations: Sequence[Generation]) -> list[list[int]]:
    with ThreadPoolExecutor(len(generations)) as threads:
        return list(threads.map(list, generations))


@pytest.mark.parametrize("kind", ["native", "torch", "module"])
@pytest.mark.parametrize("seed", [None, 5])
def test_each_answer_is_what_it_is_alone(kind: str, seed: int | None, fresh: Fresh, ask: Ask) -> None:
    prompts = [ask(words) for words in WORDS]
    alone = [list(begin(fresh(kind), prompt, seed=seed)) for prompt in prompts]
    engine = fresh(kind)
    assert together([begin(engine, prompt, seed=seed) for prompt in prompts]) == alone
    assert together([begin(fresh(kind, max_rows=3), prompt, seed=seed) for prompt in prompts]) == alone


def test_answers_share_passes(fresh: Fresh, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fresh()
    sizes: list[int] = []
    run = engine.network.run
    monkeypatch.setattr(engine.network, "run", lambda parts: (sizes.append(len(parts)), run(parts))[1])
    generations = [begin(engine, ask(words)) for words in WORDS]
    for generation in generations:
        engine.join(generation)
    together(generations)
    assert max(sizes) == len(WORDS)


def test_who_comes_later_joins_and_who_is_done_leaves(fresh: Fresh, ask: Ask) -> None:
    engine = fresh()
    first, second = begin(engine, ask("one"), max_tokens=40), begin(engine, ask("two"), max_tokens=5)
    tokens = iter(first)
    head = [next(tokens) for _ in range(3)]
    assert list(second) == list(begin(fresh(), ask("two"), max_tokens=5))
    assert [*head, *tokens] == list(begin(fresh(), ask("one"), max_tokens=40))


def test_a_long_prompt_does_not_hold_up_the_others(fresh: Fresh, ask: Ask) -> None:
    engine = fresh()
    engine.network = Slow(engine.network, 0)
    short, long = begin(engine, ask("hi"), max_tokens=30), begin(engine, ask("word " * 200), max_tokens=2)
    stream = iter(short)
    next(stream)
    engine.join(long)
    taken = [next(stream) for _ in range(10)]
    assert len(taken) == 10
    assert long.waiting  # ten tokens later the long prompt is still being read
    stream.close()  # type: ignore[attr-defined]
    while long.waiting:
        engine.drive(long)
    assert long.tokens[len(long.prompt.ids)] == next(iter(begin(fresh(), long.prompt, max_tokens=1)))
    engine.leave(long)


@dataclass
class Slow:
    """A network that takes its time over each token."""

    inner: Any
    seconds: float
    chunk = 8
    reuses = batches = True
    guesses = 0
    whole_pictures = False
    running: Event = field(default_factory=Event)

    def row(self) -> Any:
        return self.inner.row()

    def run(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        self.running.set()
        time.sleep(self.seconds)
        return list(self.inner.run(parts))


def test_cancelling_is_heard_between_two_passes(fresh: Fresh, ask: Ask) -> None:
    engine = fresh()
    engine.network = Slow(engine.network, 0.02)
    cancelled = Event()
    generation = begin(engine, ask("word " * 300), cancelled=cancelled)
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(list, generation)
        assert engine.network.running.wait(5)
        cancelled.set()
        began = time.perf_counter()
        job.result(timeout=5)
        assert time.perf_counter() - began < 1  # two passes of 20 ms; the margin is for busy machines
    assert generation.stop == "cancelled"
    assert generation.usage.completion_tokens == 0


def test_a_failure_of_one_grammar_ends_that_answer_only(fresh: Fresh, ask: Ask) -> None:
    engine = fresh()
    bad, good = begin(engine, ask("one")), begin(engine, ask("two"))

    def broken(_: Any) -> Any:
        raise ModelError("the grammar could not go on")

    bad._grammar.mask = broken  # type: ignore[method-assign]

    def outcome(generation: Generation) -> Any:
        try:
            return list(generation)
        except ModelError as error:
            return str(error)

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(outcome, [bad, good]))
    assert results == ["the grammar could not go on", list(begin(fresh(), ask("two")))]


class Full:
    """A network that is out of memory for the first so many passes of more than one token."""

    def __init__(self, inner: Any, times: int) -> None:
        self.inner, self.times = inner, times
        self.chunk, self.guesses, self.reuses, self.whole_pictures = 512, 0, True, False
        self.batches = True

    def row(self) -> Any:
        return self.inner.row()

    def run(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        if self.times > 0 and any(len(part.tokens) > 100 for part in parts):
            self.times -= 1
            raise MemoryError
        return list(self.inner.run(parts))


def test_out_of_memory_first_gives_up_the_caches(
    fresh: Fresh, loaded: Loaded, network_of: Callable[[str], Any], ask: Ask
) -> None:
    engine = Engine(loaded, network=network_of("native"), prefix_cache_bytes=1 << 26, feature_cache_bytes=1 << 26)
    list(begin(engine, ask("something to keep")))
    assert engine.prefixes.size > 0
    engine.network = Full(engine.network, 1)
    tokens = list(begin(engine, ask("word " * 60)))
    assert tokens == list(begin(fresh(), ask("word " * 60)))


def test_out_of_memory_for_good_refuses_the_largest_and_spares_the_rest(fresh: Fresh, ask: Ask) -> None:
    engine = fresh()
    engine.network = Full(engine.network, 1000)
    large, small = begin(engine, ask("word " * 60)), begin(engine, ask("hi"))
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.submit(list, large), threads.submit(list, small)
        with pytest.raises(ModelError, match=r"ran out of memory at \d+ tokens; shorten the conversation"):
            one.result()
        assert other.result() == list(begin(fresh(), ask("hi")))


def test_a_prefix_that_is_being_computed_is_waited_for_not_computed_twice(
    fresh: Fresh, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fresh()
    ran: list[int] = []
    run = engine.network.run
    monkeypatch.setattr(
        engine.network, "run", lambda parts: (ran.append(sum(len(part.tokens) for part in parts)), run(parts))[1]
    )
    common = "the same instructions for everybody. " * 10
    prompts = [ask(common + words) for words in ("one", "two", "three")]
    alone = [list(begin(fresh(), prompt, max_tokens=4)) for prompt in prompts]
    generations = [begin(engine, prompt, max_tokens=4) for prompt in prompts]
    for generation in generations:
        engine.join(generation)
    assert together(generations) == alone
    assert sum(ran) < 2 * len(prompts[0].ids)


def test_what_was_said_before_is_guessed_and_the_text_stays_the_same(fresh: Fresh, ask: Ask) -> None:
    """Greedy answers of random weights go round in circles, which is what a guess is good for."""

    def answer(guesses: int) -> tuple[list[int], int, int]:
        engine = fresh()
        engine.network.guesses = guesses
        passes = 0
        run = engine.network.run

        def counted(parts: Sequence[Part]) -> Any:
            nonlocal passes
            passes += 1
            return run(parts)

        engine.network.run = counted
        generation = begin(engine, ask("hello"), max_tokens=200)
        return list(generation), passes, generation.guessed_tokens

    plain, many, none = answer(0)
    guessed, few, some = answer(4)
    assert guessed == plain
    assert (many, none) == (200, 0)
    assert few == many - some
    assert few < 120


def test_closing_an_answer_does_not_wait_for_another_to_end(fresh: Fresh, ask: Ask) -> None:
    engine = fresh()
    engine.network = Slow(engine.network, 0.005)
    long, short = begin(engine, ask("one"), max_tokens=400), begin(engine, ask("two"), max_tokens=400)
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(list, long)
        stream: Any = iter(short)
        next(stream)
        began = time.perf_counter()
        stream.close()
        waited = time.perf_counter() - began
        long.cancelled.set()
        job.result(timeout=5)
    assert waited < 0.5  # a pass is 5 ms; to the end of the other answer it would be 2 s


def test_a_pass_that_fails_for_one_is_tried_without_it(fresh: Fresh, ask: Ask) -> None:
    engine = fresh()
    inner = engine.network

    class Picky(Slow):
        def run(self, parts: Sequence[Part]) -> list[torch.Tensor]:
            if any(len(part.tokens) == len(bad.prompt.ids) for part in parts):
                raise RuntimeError("a kernel failed")
            return list(self.inner.run(parts))

    engine.network = Picky(inner, 0)
    engine.network.chunk = 512
    bad, good = begin(engine, ask("a prompt of its own length")), begin(engine, ask("two"))
    engine.join(bad)
    engine.join(good)
    assert list(good) == list(begin(fresh(), ask("two")))
    with pytest.raises(RuntimeError, match="a kernel failed"):
        list(bad)


def test_tokens_that_the_network_does_not_know_are_refused(fresh: Fresh, loaded: Loaded) -> None:
    with pytest.raises(ModelError, match="has token 9999 and tiny knows 265"):
        begin(fresh(), Prompt([1, 9999]))
    with pytest.raises(ModelError, match="the prompt is empty"):
        begin(fresh(), Prompt([]))


def test_an_answer_that_is_whole_at_the_limit_is_whole(fresh: Fresh, ask: Ask) -> None:
    engine = fresh()
    grammar = Grammar(engine.loaded.vocabulary, choices=["ab"])
    answer = engine.generate(ask("?"), grammar=grammar, sampler=Sampler(), max_tokens=2)
    assert len(list(answer)) == 2
    assert answer.stop == "end"


def test_guesses_never_take_the_room_of_another_row(fresh: Fresh, ask: Ask) -> None:
    """Eight answers with four guesses each in a room of 16: all go on in each pass."""
    engine = fresh()
    generations = [begin(engine, ask(words), max_tokens=200) for words in "abcdefgh"]

    def count() -> list[int]:
        return [len(one.tokens) - len(one.prompt.ids) for one in generations]

    def drive() -> None:
        engine.network.chunk = 16
        generations[0]._ready.clear()
        engine.drive(generations[0])

    for generation in generations:
        engine.join(generation)
    while min(count()) == 0:
        drive()
    before = count()
    for _ in range(15):
        drive()
    assert all(now >= then + 15 for now, then in zip(count(), before, strict=True))
    for generation in generations:
        engine.leave(generation)
