"""A run keeps off what is not its own, and says in a line what is wrong with what it finds."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmagent.errors import ConfigurationError, InputError, ModelError, NotFound, StoreError
from mmagent.train import Watch, train
from mmagent.train.checkpoints import Checkpoints
from mmagent.train.folder import claim
from mmagent.train.sources import SOURCES
from mmagent.train.trainer import Run
from tests.unit.train.toys import toy


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with two checkpoints."""
    out = tmp_path_factory.mktemp("kept") / "toy"
    train(toy(steps=4, save_every=2, ema=0.8), out, workers=0)
    return out


@pytest.fixture
def out(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    from shutil import copytree

    return copytree(kept, tmp_path / "toy")


def again(out: Path, **changes: Any) -> Path:
    return train(toy(**{"steps": 6, "save_every": 2, "ema": 0.8} | changes), out, workers=0)


@pytest.mark.parametrize("name", ["notes.txt", "model/precious.py", "checkpoints.txt", "tokenizer/mine.txt"])
def test_a_folder_of_something_else_is_left_alone(name: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    for resume in (True, False):
        with pytest.raises(ConfigurationError, match="choose another folder with --out"):
            train(toy(), tmp_path / "mine", resume=resume, workers=0)
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("place", ["/proc/toy", "file/toy", "file"])
def test_a_folder_that_cannot_be_made_says_so(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be a run's folder"):
        claim(Path(place) if place.startswith("/") else tmp_path / place)


@pytest.mark.parametrize("name", ["/home/me/x", "../..", "", ".hidden", "a b", "[red]x"])
def test_the_name_of_a_recipe_is_a_plain_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        toy(name=name)


def test_what_was_to_begin_afresh_but_cannot_leaves_the_old_run(out: Path) -> None:
    with pytest.raises(ConfigurationError, match="no model to start from"):
        train(toy(start="nowhere"), out, resume=False, workers=0)
    with pytest.raises(NotFound):
        train(toy(data=[{"source": "nlvr", "options": {"path": "nowhere"}}]), out, resume=False, workers=0)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["2", "4"]


def test_a_vocabulary_of_other_data_is_learnt_again(tmp_path: Path) -> None:
    first = train(toy(steps=1), tmp_path / "toy", workers=0)
    shape = toy().shape
    assert shape is not None
    more = shape.model_copy(update={"vocab_size": shape.vocab_size + 20}).model_dump()
    second = train(toy(steps=1, shape=more), tmp_path / "toy", resume=False, workers=0)
    assert first == second
    words = [p for n, p in load_file(second / "model.safetensors").items() if "embed_tokens" in n]
    assert words[0].shape[0] == shape.vocab_size + 20


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


@pytest.mark.parametrize("file", ["optimizer.bin", "random_states_0.pkl", "custom_checkpoint_0.pkl"])
def test_a_checkpoint_of_a_stranger_runs_no_code(file: str, out: Path, tmp_path: Path) -> None:
    (out / "checkpoints" / "4" / file).write_bytes(pickle.dumps(Evil(str(tmp_path / "pwned"))))
    try:
        again(out)
    except StoreError as error:
        assert "is damaged; remove that folder to go on from step 2" in str(error)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("file", ["run.json", "model.safetensors", "optimizer.bin", "average.safetensors"])
def test_a_damaged_checkpoint_is_named(file: str, out: Path) -> None:
    path = out / "checkpoints" / "4" / file
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(StoreError, match=r"4 is damaged; remove that folder to go on from step 2"):
        again(out)


def test_lines_of_a_log_that_are_none_are_left_out(out: Path) -> None:
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{}\n5\n{"step": 4, "tokens": 9, "loss": NaN}\nnull\n')
    assert (again(out) / "config.json").is_file()


def test_a_run_that_is_further_says_so(out: Path) -> None:
    with pytest.raises(ConfigurationError, match="is at step 4 already, of 2"):
        again(out, steps=2)


def test_what_was_left_out_of_a_recipe_may_be_written_down(out: Path) -> None:
    assert (again(out, steps=5, clip=1.0, weight_decay=0.05) / "config.json").is_file()


def test_weights_that_are_no_numbers_are_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def steep(self: Run, step: int, batches: Any) -> dict[str, float]:
        with torch.no_grad():
            next(self.bare.parameters()).fill_(torch.inf)
        return {}

    monkeypatch.setattr(Run, "step", steep)
    with pytest.raises(ModelError, match="after step 0 is not all numbers; no checkpoint was written yet"):
        train(toy(steps=1), tmp_path / "toy", workers=0)
    assert not (tmp_path / "toy" / "model").exists()


def test_what_goes_wrong_in_a_worker_is_told_as_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "broken", f"{__name__}:broken")
    with pytest.raises(InputError) as error:
        train(toy(data=[{"source": "broken"}]), tmp_path / "toy", workers=1)
    assert str(error.value) == "line 7 cannot be read"


def broken() -> Any:
    """A source that is good for the vocabulary and bad for the run."""
    from mmagent.train.sources.digits import digits

    draw, left = digits(1, 32), [30]

    def drawn(rng: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise InputError("line 7 cannot be read")
        return draw(rng)

    return drawn


def test_a_model_to_start_from_that_is_damaged_is_named(out: Path, tmp_path: Path) -> None:
    weights = out / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        train(toy(start=str(out / "model"), shape=None), tmp_path / "next", workers=0)
    (out / "model" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigurationError, match="another family"):
        train(toy(start=str(out / "model"), shape=None), tmp_path / "next", workers=0)
    (out / "model" / "config.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"config\.json is damaged"):
        train(toy(start=str(out / "model"), shape=None), tmp_path / "next", workers=0)


def test_the_head_of_marks_goes_on_in_the_next_stage(kept: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"start": str(kept / "model"), "shape": None}
    made = Run(toy(**changes, parts={"marks": str(kept / "model")}), tmp_path / "next", Watch(), 0)
    assert made.bare.marks is not None
    for name, weight in load_file(kept / "marks.safetensors").items():
        assert torch.equal(made.bare.marks.get_parameter(name), weight), name
    assert not (kept / "model" / "marks.safetensors").exists()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"marks\.safetensors cannot be read; train that recipe"):
        Run(toy(**changes, parts={"marks": str(tmp_path / "bare")}), tmp_path / "other", Watch(), 0)


@pytest.mark.parametrize(
    "said", ["write failed", "[enforce fail at inline_container.cc:672] . unexpected pos 500992 vs 500884"]
)
def test_what_torch_says_of_a_full_disk_is_said_plainly(said: str, tmp_path: Path) -> None:
    part = tmp_path / "checkpoints" / "1.part"
    part.mkdir(parents=True)
    with pytest.raises(StoreError, match="make room on the disk"), Checkpoints(part.parent, {}).writing(part):
        raise RuntimeError(said)
    assert not part.exists()


def test_tied_weights_are_saved_once(kept: Path) -> None:
    names = load_file(kept / "model" / "model.safetensors").keys()
    assert sum("lm_head" in name or "embed_tokens" in name for name in names) == 1


def test_a_hostile_average_is_of_no_other_weights(out: Path) -> None:
    save_file({"other": torch.zeros(2)}, out / "checkpoints" / "4" / "average.safetensors")
    with pytest.raises(StoreError, match="is damaged"):
        again(out)
