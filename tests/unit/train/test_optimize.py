"""How weights change: only the parts that should, by the optimizer they need, and their average as it is defined."""

from __future__ import annotations

import pytest
import torch

from mmagent.testing.tiny import byte_tokenizer
from mmagent.train.lesson import Lesson
from mmagent.train.network import build
from mmagent.train.optimize import Average, freeze, optimizers, schedule
from mmagent.train.recipe import Losses, Part, Shape
from tests.unit.train.toys import SHAPE, toy

PARTS: tuple[Part, ...] = ("vision", "connector", "decoder", "contrastive")


@pytest.fixture
def lesson() -> Lesson:
    return Lesson(build(Shape.model_validate(SHAPE), byte_tokenizer()), Losses(marks=1))


def test_every_weight_belongs_to_one_part(lesson: Lesson) -> None:
    learning = []
    for part in PARTS:
        freeze(lesson, [part])
        learning.append({name for name, parameter in lesson.named_parameters() if parameter.requires_grad})
        assert learning[-1]
    assert sum(map(len, learning)) == len(set().union(*learning)) == len(list(lesson.named_parameters()))


@pytest.mark.parametrize("fusion", ["cross_attention", "late"])
def test_fusions_belong_to_the_connector(fusion: str) -> None:
    lesson = Lesson(build(Shape.model_validate(SHAPE | {"fusion": fusion}), byte_tokenizer()), Losses())
    freeze(lesson, ["connector"])
    learning = {name for name, parameter in lesson.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("network.fusion.") for name in learning)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_each_learning_weight_has_one_optimizer(lesson: Lesson, name: str) -> None:
    freeze(lesson, ["decoder", "connector"])
    made = optimizers(lesson, toy(optimizer=name))
    held = [parameter for optimizer in made for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(one) for one in held} == {id(one) for one in lesson.parameters() if one.requires_grad}
    assert len(held) == len({id(one) for one in held})
    assert [type(one).__name__ for one in made] == ["Muon" if name == "muon" else "AdamW", "AdamW"]
    assert {id(one) for one in made[0].param_groups[0]["params"]}.isdisjoint(
        {id(lesson.network.get_input_embeddings().weight)}
    )


def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine() -> None:
    recipe = toy(steps=110, warmup=10, last_lr=0.1)
    assert [round(schedule(step, recipe), 6) for step in (0, 4, 9, 10)] == [0.1, 0.5, 1.0, 1.0]
    assert schedule(60, recipe) == pytest.approx(0.55)
    assert schedule(109, recipe) == pytest.approx(0.1, abs=1e-3)
    assert schedule(0, toy(warmup=0)) == 1.0


def test_the_average_is_the_one_it_says() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    average, wanted, told = Average(module, 0.9), module.weight.detach().clone(), []
    for count in range(1, 200):
        module.weight.data.normal_()
        keep = min(0.9, count / (count + 10))
        wanted = keep * wanted + (1 - keep) * module.weight.detach()
        average.update(module)
        told.append(keep)
    torch.testing.assert_close(average.weights["weight"], wanted)
    assert told[0] < 0.1 and told[-1] == 0.9
    last = module.weight.detach().clone()
    average.swap(module)
    torch.testing.assert_close(module.weight.detach(), wanted)
    average.swap(module)
    assert torch.equal(module.weight, last)
    assert "bias" not in average.weights


def test_the_average_goes_through_a_checkpoint() -> None:
    module = torch.nn.Linear(3, 2)
    one, other = Average(module, 0.9), Average(module, 0.9)
    module.weight.data.normal_()
    one.update(module)
    other.load(one.count, one.weights)
    module.weight.data.normal_()
    one.update(module)
    other.update(module)
    torch.testing.assert_close(one.weights, other.weights)
