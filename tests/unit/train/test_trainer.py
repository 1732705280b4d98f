"""Training as users rely on it: what does not learn stays, the average is saved, and a bad step is not taken."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from mmagent.chat.local import LocalModel
from mmagent.errors import ModelError
from mmagent.evaluate.ask import Asker
from mmagent.model import MMAgentForConditionalGeneration
from mmagent.train import Progress, Sample, Watch, load, train
from mmagent.train import trainer as module
from mmagent.train.encode import Batch
from mmagent.train.lesson import Answers, Lesson
from mmagent.train.sources import make_source
from mmagent.train.stream import Stream
from mmagent.train.trainer import Run
from tests.unit.train.toys import SHAPE, toy


def run(recipe: Any, out: Path) -> Run:
    return Run(recipe, out, Watch(), 0)


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 12 steps, with an average."""
    made = run(toy(steps=12, ema=0.8, check_every=12), tmp_path_factory.mktemp("trained") / "toy")
    made.go()
    return made


def test_it_tells_how_it_goes(tmp_path: Path) -> None:
    told: list[tuple[str, Progress | str]] = []

    class Listener(Watch):
        def said(self, line: str) -> None:
            told.append(("said", line))

        def stepped(self, progress: Progress) -> None:
            told.append(("stepped", progress))

        def checked(self, progress: Progress) -> None:
            told.append(("checked", progress))

    folder = train(toy(steps=12, check_every=12), tmp_path / "toy", watch=Listener(), workers=1)
    assert [what for what, _ in told] == ["said", "said", "stepped", "stepped", "checked"]
    steps = [one for _, one in told if isinstance(one, Progress)]
    assert [one.step for one in steps] == [10, 12, 12]
    assert {"loss", "marks", "contrastive", "gradient", "rate", "tokens_per_second"} <= steps[0].figures.keys()
    assert {"right digits"} <= steps[2].figures.keys()
    lines = [json.loads(line) for line in (tmp_path / "toy" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 12, 12]
    record = json.loads((folder / "training.json").read_text())
    assert record["tokens"] == steps[-1].tokens
    assert 12 * 64 < steps[-1].tokens <= 12 * 128
    assert record["recipe"]["name"] == "toy"


def test_it_learns(tmp_path: Path) -> None:
    made = run(toy(steps=30, warmup=2), tmp_path / "toy")
    stream = Stream(made.recipe, made.encoder)
    losses = [made.step(step, stream.draw(0))["loss"] for step in range(30)]
    assert losses[-1] < 0.7 * losses[0]


def test_workers_that_make_batches_ahead_change_nothing(trained: Run, tmp_path: Path) -> None:
    other = Run(trained.recipe, tmp_path / "toy", Watch(), 1)
    other.go()
    for name, weight in weights(trained.bare).items():
        assert torch.equal(weight, other.bare.get_parameter(name)), name


def test_what_is_saved_is_the_average(trained: Run, tmp_path: Path) -> None:
    saved = MMAgentForConditionalGeneration.from_pretrained(trained.out / "model", dtype=torch.float32)
    other = run(trained.recipe, tmp_path / "toy")
    stream, average = Stream(other.recipe, other.encoder), weights(other.network)
    for step in range(12):
        other.step(step, stream.draw(step))
        keep = min(0.8, (step + 1) / (step + 11))
        average = {name: keep * average[name] + (1 - keep) * p.detach() for name, p in other.network.named_parameters()}
    last = weights(other.network)
    for name, weight in saved.named_parameters():
        torch.testing.assert_close(weight, average[name], rtol=2**-7, atol=1e-5, msg=name)  # saved in bfloat16
        if weight.ndim == 2:
            assert not torch.allclose(weight, last[name], rtol=2**-7, atol=1e-5), name


def test_without_an_average_the_last_weights_are_saved(tmp_path: Path) -> None:
    made = run(toy(steps=2), tmp_path / "toy")
    saved = MMAgentForConditionalGeneration.from_pretrained(made.go(), dtype=torch.float32)
    for name, weight in saved.named_parameters():
        assert torch.equal(weight, made.network.get_parameter(name).bfloat16().float()), name


@pytest.mark.parametrize("part", ["vision", "connector", "decoder", "contrastive"])
def test_parts_that_do_not_learn_stay_as_they_are(part: str, tmp_path: Path) -> None:
    begins = {
        "vision": "vision_tower.",
        "connector": "connector.",
        "decoder": "language_model.",
        "contrastive": "contrastive.",
    }
    made = run(toy(train=[part], weight_decay=0.5, ema=0.5), tmp_path / "toy")
    before, stream = weights(made.network), Stream(made.recipe, made.encoder)
    for step in range(2):
        made.step(step, stream.draw(step))
    changed = {name for name, weight in weights(made.network).items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith(begins[part]) for name in changed)


def diverge(after: int) -> Any:
    """A learning rate that is far too high from a step on."""
    return lambda step, recipe: 1e30 if step >= after else 1.0


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "schedule", diverge(4))
    with pytest.raises(ModelError) as error:
        train(toy(steps=9, save_every=2), tmp_path / "toy", workers=0)
    said = str(error.value)
    assert "the loss of step 5, batch 0 (samples of digits) is not a number" in said
    assert "the checkpoint of step 4 is kept" in said
    assert f"--start {tmp_path / 'toy' / 'model'} --out ... --set matrix_lr" in said
    assert sorted(path.name for path in (tmp_path / "toy" / "checkpoints").iterdir()) == ["2", "4"]
    monkeypatch.undo()
    folder = train(toy(steps=9, save_every=2), tmp_path / "toy", workers=0)  # goes on from step 4
    for name, weight in MMAgentForConditionalGeneration.from_pretrained(folder).named_parameters():
        assert weight.isfinite().all(), name


def test_a_gradient_that_is_no_number_changes_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run(toy(), tmp_path / "toy")
    batches, before = Stream(made.recipe, made.encoder)[0], weights(made.bare)
    real = Lesson.forward

    def steep(self: Lesson, batch: Batch) -> Answers:
        answers = real(self, batch)
        answers.text = answers.text + (answers.text - answers.text.detach()).clamp(min=0).sqrt() * 0
        return answers  # the same loss; its slope is 0 · ∞

    monkeypatch.setattr(Lesson, "forward", steep)
    with pytest.raises(
        ModelError, match=r"the gradient of step 0 \(samples of digits\) is not a number; no checkpoint"
    ):
        made.step(0, batches)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(made.bare).items())


def test_how_a_step_is_cut_into_batches_says_nothing(tmp_path: Path) -> None:
    """Gradients of marks and words are means over the step, not over its batches."""
    made = run(toy(losses={"text": 1, "marks": 1}, tokens_per_step=400, clip=1e9), tmp_path / "toy")
    made.optimizers, made.peaks = [], []  # so that gradients stay where they are
    gradients: list[dict[str, torch.Tensor]] = []
    for size in (128, 4096):
        stream = Stream(made.recipe.model_copy(update={"tokens_per_batch": size}), made.encoder)
        batches = stream.draw(0)
        assert (len(batches) > 1) == (size == 128)
        made.step(0, batches)
        gradients.append({name: p.grad for name, p in made.bare.named_parameters() if p.grad is not None})
        made.bare.zero_grad(set_to_none=True)
    few, one = gradients
    assert one.keys() == few.keys()
    largest = max(float(grad.abs().max()) for grad in one.values())
    for name, grad in one.items():
        if not name.startswith(("marks.cells", "marks.fine")):
            torch.testing.assert_close(grad, few[name], rtol=0.1, atol=2e-2 * largest, msg=name)


def test_a_second_caption_of_the_same_words_is_no_wrong_answer(tmp_path: Path) -> None:
    from mmagent.train.encode import collate

    made = run(toy(losses={"text": 0, "contrastive": 1}), tmp_path / "toy")
    draw = make_source("digits", {"length": 1, "side": 32})
    rng = random.Random(0)
    examples = [made.encoder.encode(draw(rng)) for _ in range(30)]
    firsts = {tuple(one.captions[0]): one for one in reversed(examples)}
    alone = [one for one in examples if firsts[tuple(one.captions[0])] is one]
    with torch.no_grad():
        with_twins, without = made.bare(collate(examples, 32)), made.bare(collate(alone, 32))
    assert len(alone) == 10
    torch.testing.assert_close(with_twins.contrastive, without.contrastive, rtol=1e-5, atol=1e-6)
    assert with_twins.matched == without.matched
    assert not len(with_twins.wanted)


@pytest.mark.parametrize("fusion", ["cross_attention", "late"])
def test_networks_that_see_beside_the_text_learn_to_see(fusion: str, tmp_path: Path) -> None:
    made = run(toy(shape=SHAPE | {"fusion": fusion}, steps=30), tmp_path / "toy")
    stream = Stream(made.recipe, made.encoder)
    losses = [made.step(step, stream.draw(0))["loss"] for step in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    gates = [p for name, p in made.network.named_parameters() if "gate" in name and p.ndim < 2]
    assert gates and all(p.abs().max() > 0 for p in gates)


def test_runs_of_both_precisions_in_one_process(tmp_path: Path) -> None:
    for precision in ("bf16", "fp32", "bf16"):
        made = run(toy(steps=1, precision=precision), tmp_path / precision)
        assert math.isfinite(made.step(0, Stream(made.recipe, made.encoder)[0])["loss"])


def test_a_finished_run_gives_its_model_again(trained: Run, tmp_path: Path) -> None:
    lost = (trained.out / "model").rename(tmp_path / "lost")  # as a kill between checkpoint and model leaves it
    folder = train(trained.recipe, trained.out, workers=0)
    assert (folder / "model.safetensors").read_bytes() == (lost / "model.safetensors").read_bytes()


def test_fresh_begins_at_the_beginning(tmp_path: Path) -> None:
    train(toy(steps=4, save_every=2), tmp_path / "toy", workers=0)
    train(toy(steps=4, save_every=2, seed=3), tmp_path / "toy", workers=0, resume=False)
    lines = (tmp_path / "toy" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4]
    alone = train(toy(steps=4, save_every=2, seed=3), tmp_path / "other", workers=0)
    again = tmp_path / "toy" / "model"
    assert (again / "model.safetensors").read_bytes() == (alone / "model.safetensors").read_bytes()


def test_a_million_parameters_learn_to_read_from_nothing(tmp_path: Path) -> None:
    """The recipe ``tiny``, whole: what it made is asked through the real engine, on pictures that it has not seen."""
    recipe = load("tiny")
    folder = train(recipe, tmp_path / "tiny", workers=0)
    draw, rng = make_source(recipe.data[0].source, recipe.data[0].options), random.Random("unseen")
    model, right = LocalModel(folder, device="cpu"), 0
    with Asker(model) as ask:
        for _ in range(200):
            sample = draw(rng)
            question = Sample(sample.messages[:1], [], sample.pictures)
            right += ask(question, max_tokens=8).text == sample.messages[1]["content"]
    assert right >= 190
