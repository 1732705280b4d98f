"""Packed rows: a sample is to the network what it is alone, in what it says and in what it learns."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

from mmagent.model import MMAgentForConditionalGeneration
from mmagent.testing.tiny import byte_tokenizer
from mmagent.train.encode import Encoder, Example, collate, normalise
from mmagent.train.lesson import Lesson
from mmagent.train.network import build
from mmagent.train.packing import IGNORED, Row, pack, register
from mmagent.train.recipe import Losses, Shape
from mmagent.train.sources.digits import digits
from tests.unit.train.toys import SHAPE, talk

FUSIONS = ("early", "cross_attention", "late")


def make(fusion: str) -> MMAgentForConditionalGeneration:
    torch.manual_seed(0)
    network = build(Shape.model_validate(SHAPE | {"fusion": fusion}), byte_tokenizer())
    for name, parameter in network.named_parameters():
        if "gate" in name and parameter.ndim < 2:  # at 0 pictures would have no say
            parameter.data.fill_(0.7)
        elif "embed_tokens" in name:  # as large as those of a trained network: attention is not flat
            parameter.data.mul_(20)
    return network


@pytest.fixture(scope="module", params=FUSIONS)
def network(request: pytest.FixtureRequest) -> Iterator[MMAgentForConditionalGeneration]:
    yield make(request.param)


def examples(network: MMAgentForConditionalGeneration) -> list[Example]:
    """Samples of several lengths: with a picture, with two, and with none."""
    encoder = Encoder(byte_tokenizer(), network.config.image_seq_length, 32, 4)
    rng = random.Random(1)
    drawn = [digits(2, 32)(rng), talk()(rng), digits(3, 32, questions=3)(rng), digits(1, 32)(rng), talk(3)(rng)]
    second = digits(2, 32)(rng)
    drawn[3].messages.extend(second.messages)
    drawn[3].pictures.extend(second.pictures)
    return [encoder.encode(sample) for sample in drawn]


def packed_loss(network: MMAgentForConditionalGeneration, rows: list[Example]) -> torch.Tensor:
    network.set_attn_implementation({"text_config": register(), "vision_config": "sdpa"})
    return Lesson(network, Losses())(collate(rows, 32)).text


def alone_loss(network: MMAgentForConditionalGeneration, row: Example) -> torch.Tensor:
    """By transformers' own attention and nothing of `mmagent.train` but ids, labels and pixels."""
    network.set_attn_implementation("eager")
    pixels = (
        torch.stack([torch.from_numpy(one.copy()) for one in row.pixels]).permute(0, 3, 1, 2) if row.pixels else None
    )
    made = network(
        input_ids=torch.tensor([row.row.ids]),
        pixel_values=None if pixels is None else normalise(pixels),
        use_cache=False,
    )
    wanted = torch.tensor(row.row.labels)[1:]
    return F.cross_entropy(made.logits[0, :-1], wanted, ignore_index=IGNORED, reduction="sum")


def test_packed_samples_lose_and_learn_as_each_alone(network: MMAgentForConditionalGeneration) -> None:
    rows = examples(network)
    network.zero_grad(set_to_none=True)
    together = packed_loss(network, rows)
    together.backward()
    learnt = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    alone = torch.stack([alone_loss(network, row) for row in rows])
    alone.sum().backward()
    torch.testing.assert_close(together, alone.sum(), rtol=1e-5, atol=1e-5)
    learnt_alone = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert learnt.keys() == learnt_alone.keys()
    largest = max(float(grad.abs().max()) for grad in learnt.values())
    for name, grad in learnt_alone.items():
        torch.testing.assert_close(learnt[name], grad, rtol=1e-4, atol=1e-6 * largest, msg=name)


def test_logits_are_those_of_each_alone(network: MMAgentForConditionalGeneration) -> None:
    rows = examples(network)
    network.set_attn_implementation({"text_config": register(), "vision_config": "sdpa"})
    with torch.no_grad():
        answers = Lesson(network, Losses())(collate(rows, 32))
        network.set_attn_implementation("eager")
        alone = [Lesson(network, Losses())(collate([row], 32)) for row in rows]
    assert torch.equal(answers.wanted, torch.cat([one.wanted for one in alone]))
    assert torch.equal(answers.got, torch.cat([one.got for one in alone]))
    torch.testing.assert_close(answers.text, torch.stack([one.text for one in alone]).sum(), rtol=1e-5, atol=1e-5)


def test_no_sample_sees_another(network: MMAgentForConditionalGeneration) -> None:
    rows = examples(network)
    rows[0].pixels[0] = 255 - rows[0].pixels[0]
    rows[0].row.ids[-6] = 99
    with torch.no_grad():
        changed = packed_loss(network, rows) - alone_loss(network, rows[0])
        whole = examples(network)
        left = packed_loss(network, whole) - alone_loss(network, whole[0])
    torch.testing.assert_close(changed, left, rtol=1e-5, atol=1e-4)


def test_the_order_of_samples_says_nothing(network: MMAgentForConditionalGeneration) -> None:
    rows = examples(network)
    with torch.no_grad():
        torch.testing.assert_close(packed_loss(network, rows), packed_loss(network, rows[::-1]), rtol=1e-5, atol=1e-4)


def test_places_begin_anew_and_first_tokens_do_not_count() -> None:
    packed = pack([Row([5, 6, 7], [5, 6, 7]), Row([8, 9], [8, IGNORED])])
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert packed.labels.tolist() == [[IGNORED, 6, 7, IGNORED, IGNORED]]
    ids, labels = packed.unpack(0)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert labels.tolist() == [[IGNORED, 6, 7], [IGNORED, IGNORED, IGNORED]]
