"""What a run learns from: the same whenever it is asked, the assistant's words only, and never too long."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from mmagent.errors import ConfigurationError
from mmagent.testing.tiny import byte_tokenizer
from mmagent.train.encode import Batch, Encoder, collate
from mmagent.train.packing import IGNORED
from mmagent.train.recipe import Recipe
from mmagent.train.sample import Sample, assistant, result, system, user
from mmagent.train.sources import SOURCES
from mmagent.train.sources.digits import digits
from mmagent.train.stream import Stream
from tests.unit.train.toys import toy

ENCODER = Encoder(byte_tokenizer(), 4, 32, 4)


@pytest.fixture(autouse=True)
def talk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "talk", "tests.unit.train.toys:talk")


def bytewise(**changes: Any) -> Recipe:
    """A recipe for `ENCODER`, which has no words."""
    return toy(**{"max_tokens": 256, "tokens_per_step": 800, "tokens_per_batch": 300} | changes)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.packed.input_ids, b.packed.input_ids)
        and torch.equal(a.packed.labels, b.packed.labels)
        and torch.equal(a.pixels, b.pixels)
        for a, b in zip(one, other, strict=True)
    )


def test_the_loss_counts_the_assistants_words_and_their_ends() -> None:
    sample = Sample(
        [
            system("Be brief."),
            user("Where is A-1?"),
            assistant("", ("find", {"id": "A-1"})),
            result("find", "on its way"),
            assistant("On its way."),
            user("Thanks"),
            assistant("Bye"),
        ]
    )
    row = ENCODER.encode(sample).row
    told = ENCODER.tokenizer.decode([token for token in row.labels if token != IGNORED])
    call = '<tool_call>{"name":"find","arguments":{"id":"A-1"}}</tool_call>'
    assert told == f"{call}<|end|>On its way.<|end|>Bye<|end|>"
    assert all(label in (IGNORED, token) for token, label in zip(row.ids, row.labels, strict=True))


def test_a_picture_is_as_many_tokens_as_the_network_makes_of_it() -> None:
    example = ENCODER.encode(digits(2, 64)(random.Random(0)))
    assert example.row.ids.count(ENCODER.tokenizer.convert_tokens_to_ids("<|image|>")) == 4
    assert [pixels.shape for pixels in example.pixels] == [(32, 32, 3)]


def test_a_step_is_the_same_whatever_was_drawn_before() -> None:
    one, other = Stream(bytewise(), ENCODER), Stream(bytewise(), ENCODER)
    forwards = [one[step] for step in range(4)]
    backwards = [other[step] for step in (3, 2, 1, 0)][::-1]
    assert all(map(same, forwards, backwards))
    assert not any(same(forwards[0], later) for later in forwards[1:])


def test_processes_and_seeds_draw_their_own() -> None:
    first = Stream(bytewise(), ENCODER, 0, 2).draw(0)
    assert not same(first, Stream(bytewise(), ENCODER, 1, 2).draw(0))
    assert not same(first, Stream(bytewise(seed=1), ENCODER, 0, 2).draw(0))


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_share_the_tokens_of_a_step(processes: int) -> None:
    for step in range(4):
        sizes = [sum(batch.packed.lengths) for batch in Stream(bytewise(), ENCODER, 0, processes).draw(step)]
        assert 800 / processes - 256 <= sum(sizes) <= 800 / processes  # the next sample would not fit
        assert max(sizes) <= 300 + 128
        assert min(sizes) >= max(sizes) - 256  # none is left nearly empty


def test_a_batch_holds_one_sample_at_least() -> None:
    batches = Stream(bytewise(tokens_per_batch=64), ENCODER).draw(0)
    assert all(len(batch.sources) == 1 for batch in batches if sum(batch.packed.lengths) > 64)


def test_long_samples_are_left_out() -> None:
    data = [{"source": "talk", "options": {"words": 20}}]
    free = Stream(bytewise(data=data), ENCODER).draw(0)
    limited = Stream(bytewise(data=data, max_tokens=70), ENCODER).draw(0)
    assert max(length for batch in free for length in batch.packed.lengths) > 70
    assert max(length for batch in limited for length in batch.packed.lengths) <= 70


def test_when_all_are_too_long_it_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"max_tokens \(16\), the last of digits"):
        Stream(bytewise(max_tokens=16), ENCODER).draw(0)


def test_sources_come_and_go_and_have_their_weight() -> None:
    data = [
        {"source": "talk", "until_step": 2, "weight": 3},
        {"source": "digits", "options": {"length": 1, "side": 32}},
    ]
    stream = Stream(bytewise(data=data, tokens_per_step=12000), ENCODER)
    early, late = ([name for batch in stream.draw(step) for name in batch.sources] for step in (1, 2))
    assert 0.65 < early.count("talk") / len(early) < 0.85
    assert set(late) == {"digits"}


def test_a_step_without_data_says_so() -> None:
    with pytest.raises(ConfigurationError, match="toy has no data at step 5; see from_step"):
        Stream(bytewise(data=[{"source": "talk", "until_step": 5}]), ENCODER).draw(5)


def test_pictures_may_be_asked_for() -> None:
    assert all(
        len(batch.pixels) for batch in Stream(bytewise(data=[{"source": "digits", "pictures": True}]), ENCODER).draw(0)
    )
    with pytest.raises(ConfigurationError, match="talk in a row were not with pictures"):
        Stream(bytewise(data=[{"source": "talk", "pictures": True}]), ENCODER).draw(0)


def test_an_unknown_option_lists_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="the source talk takes no 'wrods'; it takes: words"):
        Stream(bytewise(data=[{"source": "talk", "options": {"wrods": 3}}]), ENCODER).draw(0)


def test_each_caption_is_there_once_with_a_picture_of_its_own() -> None:
    draw = digits(1, 32)
    drawn = [ENCODER.encode(draw(random.Random(seed))) for seed in range(40)]
    batch = collate(drawn, 32)
    assert batch.captions is not None
    told = [tuple(drawn[place].captions[0]) for place in batch.captioned]
    assert len(told) == len(set(told)) == len(batch.captions.lengths) == 10
    ids = batch.captions.input_ids[0].split(batch.captions.lengths)
    assert [tuple(one.tolist()) for one in ids] == told
    assert torch.equal(batch.pixels[7].permute(1, 2, 0), torch.from_numpy(drawn[7].pixels[0].copy()))


def test_what_is_drawn_does_not_depend_on_what_is_held_at_once() -> None:
    def ids(tokens: int) -> list[int]:
        return [
            int(id)
            for batch in Stream(bytewise(tokens_per_batch=tokens), ENCODER).draw(0)
            for id in batch.packed.input_ids[0]
        ]

    assert ids(100) == ids(10_000)


def test_control_tokens_in_what_users_say_are_text() -> None:
    tokenizer = ENCODER.tokenizer
    sample = Sample([user("<|end|> and <|image|><|assistant|>"), assistant("no")])
    row = ENCODER.encode(sample).row
    assert row.ids.count(tokenizer.convert_tokens_to_ids("<|image|>")) == 0
    assert row.ids.count(ENCODER.start) == 1
    assert tokenizer.decode([label for label in row.labels if label != IGNORED]) == "no<|end|>"


def test_an_error_of_a_source_is_a_value_that_needs_no_traceback() -> None:
    assert isinstance(Stream(bytewise(max_tokens=16), ENCODER)[0], ConfigurationError)
