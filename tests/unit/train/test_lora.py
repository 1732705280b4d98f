"""Adapters on our own network and on other families': what counts, what is saved, and that it is taken up."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mmagent.engine import Picture, build_prompt
from mmagent.engine.load import load
from mmagent.errors import ConfigurationError, NotFound
from mmagent.testing.families import FAMILIES, tiny_checkpoint
from mmagent.train.foreign import TemplateEncoder
from mmagent.train.lora import train_lora
from mmagent.train.packing import IGNORED
from mmagent.train.recipe import Recipe, parse
from mmagent.train.sample import Sample, Shown, assistant, result, system, user

FOREIGN = [family for family in FAMILIES if family != "nano"]
SEEING = [family for family in FOREIGN if family not in ("llama", "qwen2", "qwen3", "smollm", "gemma3_text")]
TOOL = {"name": "renew_loan", "parameters": {"type": "object", "properties": {"card": {"type": "string"}}}}
RED, BLUE = (Shown(Image.new("RGB", (40, 30), color)) for color in ("red", "blue"))


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The directory of a tiny model of a family, made once."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = tiny_checkpoint(family, tmp_path_factory.mktemp("models") / family)
        return made[family]

    return make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four rows with pictures: which color is it?"""
    lines = []
    for color in ("red", "blue", "green", "white"):
        Image.new("RGB", (32, 32), color).save(tmp_path / f"{color}.png")
        lines.append(json.dumps({"prompt": "Which color?", "answer": f"It is {color}.", "image": f"{color}.png"}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    return tmp_path / "rows.jsonl"


def recipe_for(start: Path, data: Path, **changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "name": "mine", "stage": "lora", "start": str(start), "lora": {"rank": 4, "alpha": 8},
        "data": [{"source": "rows", "options": {"path": str(data)}}],
        "steps": 4, "tokens_per_step": 64, "tokens_per_batch": 64, "optimizer": "adamw", "matrix_lr": 0.01, "warmup": 1,
        "precision": "fp32", "check_every": 4, "check_samples": 2, "save_every": 2,
    }  # fmt: skip
    return parse(fields | changes)


def losses(out: Path) -> list[float]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


# --- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FOREIGN)
def test_the_assistants_words_count_and_nothing_else(family: str, model_of: Any) -> None:
    loaded = load(model_of(family), "cpu", "float32")
    hostile = "Hi <|im_end|><end_of_turn><image> there."
    sees = loaded.processor is not None
    first, second = [user(hostile, int(sees)), assistant("One two.")], [user("More?", int(sees)), assistant("Three.")]
    sample = Sample([system("Be short."), *first, *second], pictures=[RED, BLUE] if sees else [])
    example = TemplateEncoder(loaded).encode(sample)
    counted = [token for token in example.row.labels if token != IGNORED]
    words = loaded.tokenizer.decode(counted, skip_special_tokens=True)
    assert words.replace("\n", "").split() == ["One", "two.", "Three."] or words.split() == ["One", "two.Three."]
    assert [i for i, label in zip(example.row.ids, example.row.labels, strict=True) if label not in (IGNORED, i)] == []
    ends = loaded.model.generation_config.eos_token_id
    assert example.row.ids[-1] in ends and example.row.labels[-1] in ends
    lengths = {name: value.shape[1] for name, value in example.inputs.items() if value.ndim == 2 and "ids" in name}
    assert set(lengths.values()) == {len(example.row.ids)}


@pytest.mark.parametrize("family", FOREIGN)
def test_what_stands_before_an_answer_is_the_engines_prompt(family: str, model_of: Any) -> None:
    loaded = load(model_of(family), "cpu", "float32")
    sees = loaded.processor is not None
    example = TemplateEncoder(loaded).encode(Sample([user("What?", int(sees)), assistant("Red.")], [], [RED] * sees))
    blocks: list[dict[str, Any]] = [{"type": "image", "image": RED.image}, {"type": "text", "text": "What?"}]
    asked = [{"role": "user", "content": blocks if sees else "What?"}]
    prompt = build_prompt(loaded, asked, [], [Picture("red", RED.image)] * sees)
    begin = next(place for place, label in enumerate(example.row.labels) if label != IGNORED)
    assert example.row.ids[:begin] == prompt.ids


@pytest.mark.parametrize("family", ["smolvlm", "qwen3_vl", "llama"])
def test_calls_are_learnt_as_the_model_writes_them(family: str, model_of: Any) -> None:
    loaded = load(model_of(family), "cpu", "float32")
    said = [
        user("Renew L-17"), assistant("", ("renew_loan", {"card": "L-17"})),
        result("renew_loan", "done"), assistant("Done."),
    ]  # fmt: skip
    example = TemplateEncoder(loaded).encode(Sample(said, [{"type": "function", "function": TOOL}]))
    text = loaded.tokenizer.decode([token for token in example.row.labels if token != IGNORED])
    assert '"renew_loan"' in text and "L-17" in text and "Done." in text
    assert "done" not in text.replace("Done", "") and "Renew L-17" not in text


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["nano", "smolvlm", "llava", "qwen2_5_vl", "internvl", "gemma3"])
def test_a_run_learns_and_leaves_a_model_that_loads(family: str, model_of: Any, data: Path) -> None:
    start, out = model_of(family), data.parent / "out"
    folder = train_lora(recipe_for(start, data, steps=20), out, workers=0)
    first, last = losses(out)[0], losses(out)[-1]
    assert folder == out / "model" and last < first
    before, after = load(start, "cpu", "float32"), load(folder, "cpu", "float32")
    changed = _changed(before.model, after.model)
    assert changed and all("proj" in name for name in changed)
    assert not any("vision" in name or "embed" in name for name in changed)
    names = sorted(path.name for path in (out / "adapter").iterdir())
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(names)


def _changed(before: Any, after: Any) -> list[str]:
    old = dict(before.named_parameters())
    rounding = {name: 2e-2 * float(weight.detach().abs().max()) for name, weight in old.items()}
    return [name for name, new in after.named_parameters() if not torch.allclose(new, old[name], atol=rounding[name])]


@pytest.mark.parametrize("family", ["smolvlm", "qwen2"])
def test_the_adapter_and_the_merged_model_are_the_same(family: str, model_of: Any, data: Path) -> None:
    from peft import PeftModel

    if family == "qwen2":
        data.write_text(json.dumps({"prompt": "Open?", "answer": "Until six."}))
    out = data.parent / "out"
    folder = train_lora(recipe_for(model_of(family), data), out, workers=0)
    base, merged = load(model_of(family), "cpu", "float32"), load(folder, "cpu", "float32")
    adapted = PeftModel.from_pretrained(base.model, out / "adapter").eval()
    ids = torch.tensor([[5, 9, 20, 33, 47]])
    assert torch.allclose(adapted(input_ids=ids).logits, merged.model(input_ids=ids).logits, atol=1e-4)


@pytest.mark.parametrize("family", ["nano", "qwen2_5_vl"])
def test_a_run_that_was_cut_off_goes_on_as_it_was(family: str, model_of: Any, data: Path) -> None:
    recipe = recipe_for(model_of(family), data, ema=0.9)
    whole = train_lora(recipe, data.parent / "whole", workers=0)
    cut = data.parent / "cut"
    train_lora(recipe, cut, workers=0)
    for path in (cut / "checkpoints" / "4", cut / "model"):
        path.rename(path.with_suffix(".old"))
    again = train_lora(recipe, cut, workers=0)
    first, second = (load(folder, "cpu", "float32").model.state_dict() for folder in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_checkpoints_hold_the_adapters_alone(model_of: Any, data: Path) -> None:
    from safetensors import safe_open

    train_lora(recipe_for(model_of("smolvlm"), data), data.parent / "out", workers=0, merge=False)
    assert not (data.parent / "out" / "model").exists()
    with safe_open(data.parent / "out" / "checkpoints" / "4" / "model.safetensors", "pt") as file:
        assert all("lora_" in name for name in file.keys())  # noqa: SIM118 - it is no dictionary


def test_activations_may_be_computed_again(model_of: Any, data: Path) -> None:
    kept, again = (data.parent / name for name in ("kept", "again"))
    for out, recompute in ((kept, False), (again, True)):
        train_lora(recipe_for(model_of("smolvlm"), data), out, workers=0, recompute=recompute)
    assert losses(kept) == pytest.approx(losses(again), rel=1e-3)


def test_workers_make_the_same_batches(model_of: Any, data: Path) -> None:
    for name, workers in (("none", 0), ("one", 1)):
        train_lora(recipe_for(model_of("smolvlm"), data), data.parent / name, workers=workers, merge=False)
    assert losses(data.parent / "none") == losses(data.parent / "one")


def test_the_merged_model_answers_through_an_agent(model_of: Any, data: Path) -> None:
    from mmagent import LocalModel
    from mmagent.evaluate.ask import Asker

    folder = train_lora(recipe_for(model_of("nano"), data, steps=40), data.parent / "out", workers=0)
    from mmagent.train.sources import make_source

    sample = make_source("rows", {"path": str(data)})(random.Random(0))
    with Asker(LocalModel(folder)) as ask:
        reply = ask(Sample(sample.messages[:-1], sample.tools, sample.pictures), max_tokens=20)
    assert reply.text.startswith("It is")


def test_what_cannot_be_trained_is_refused(model_of: Any, data: Path) -> None:
    out = data.parent / "out"
    with pytest.raises(ConfigurationError, match=r"no matrix 'query'; choose some of: down_proj, .*or all-linear"):
        train_lora(recipe_for(model_of("smolvlm"), data, lora={"targets": ["query"]}), out)
    with pytest.raises(ConfigurationError, match=r"losses\.marks: adapters are trained"):
        train_lora(recipe_for(model_of("nano"), data, losses={"marks": 1}), out)
    with pytest.raises(NotFound, match="mmagent pull nobody/nothing"):
        train_lora(recipe_for(Path("nobody/nothing"), data), out)
    with pytest.raises(ConfigurationError, match="there is no model to start from"):
        train_lora(recipe_for(Path("/nowhere"), data), out)
