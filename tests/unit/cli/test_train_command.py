"""``mmagent train``: what it prints, where things go, and what Ctrl-C leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mmagent.cli import train as command
from mmagent.cli.main import main
from mmagent.errors import ConfigurationError
from mmagent.train import Progress, Recipe, Watch

TOY = """
name: toy
about: "a toy"
stage: instruct
shape:
  vocab_size: 300
  vocabulary_samples: 20
  width: 32
  layers: 1
  heads: 2
  feed_forward: 32
  vision: {image_side: 16, stem_channels: [8, 8], width: 24, layers: 1, heads: 3}
  projection: null
data: [{source: digits, options: {length: 1, side: 32}}]
steps: 20
tokens_per_step: 64
tokens_per_batch: 64
max_tokens: 256
precision: fp32
warmup: 1
check_every: 20
check_samples: 2
save_every: 10
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Ran:
    """What the command line asked of training."""

    def __init__(self, watched: Any = None) -> None:
        self.watched = watched or (lambda watch: None)
        self.recipe: Recipe
        self.out: Path
        self.options: dict[str, Any] = {}

    def __call__(self, recipe: Recipe, out: Path, *, watch: Watch, **options: Any) -> Path:
        self.recipe, self.out, self.options = recipe, out, options
        out.mkdir(parents=True, exist_ok=True)
        self.watched(watch)
        return out / "model"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_run_from_beginning_to_end(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(toy, "--workers", 0) == 0
    out, err = capsys.readouterr()
    assert out == 'toy is in runs/toy/model; use it with: mmagent run --model runs/toy/model "..."\n'
    lines = err.splitlines()
    assert any(line.startswith("step 10 of 20  loss ") and " tokens/s" in line for line in lines)
    assert any(line.startswith("step 20 of 20  loss ") and line.endswith(" left") for line in lines)
    assert any(line.startswith("check at step 20, right: ") and "digits" in line for line in lines)
    assert (tmp_path / "runs" / "toy" / "curves.svg").read_text().startswith("<svg")
    assert (tmp_path / "runs" / "toy" / "model" / "config.json").is_file()


def test_options_reach_the_recipe(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = Ran()
    monkeypatch.setattr("mmagent.train.trainer.train", ran)
    options = ["--out", "there/x", "--start", "somewhere", "--steps", 7, "--seed", 3, "--workers", 2]
    assert run(toy, *options, "--set", "losses.marks=0.2", "--set", "data.0.weight=2", "--set", "shape=null") == 0
    assert (ran.recipe.start, ran.recipe.steps, ran.recipe.seed) == ("somewhere", 7, 3)
    assert (ran.recipe.losses.marks, ran.recipe.data[0].weight, ran.recipe.shape) == (0.2, 2.0, None)
    assert ran.recipe.data[0].options == {"length": 1, "side": 32}
    assert ran.out == Path("there/x")
    assert ran.options == {"resume": True, "workers": 2}


def test_fresh_begins_anew(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = Ran()
    monkeypatch.setattr("mmagent.train.trainer.train", ran)
    assert run(toy, "--fresh") == 0
    assert ran.options["resume"] is False


def test_only_the_first_of_many_processes_speaks(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def watched(watch: Watch) -> None:
        watch.said("hello")
        watch.stepped(Progress(10, 20, 1000, {"loss": 1.0}))

    monkeypatch.setattr("mmagent.train.trainer.train", Ran(watched))
    monkeypatch.setenv("RANK", "1")
    assert run(toy) == 0
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    assert run(toy) == 0
    assert capsys.readouterr().err == "hello\nstep 10 of 20  loss 1\n"


def test_adapters_are_trained_by_their_own_code(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmagent.train.lora")
    ran = Ran()
    monkeypatch.setattr("mmagent.train.lora.train_lora", ran)
    assert run(toy, "--set", "stage=lora", "--set", "lora={rank: 4}", "--start", "nano") == 0
    assert ran.recipe.lora is not None
    assert ran.recipe.lora.rank == 4


def test_the_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from mmagent.train.recipe import load, names

    assert run("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(load(name).about in line for name, line in zip(names(), lines, strict=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which recipe?"),
        (["nope"], "there is no recipe 'nope'"),
        (["TOY", "--set", "losses"], "is no KEY=VALUE"),
        (["TOY", "--set", "lossses.text=1"], "did you mean 'losses'"),
        (["TOY", "--set", "losses.txt=1"], "did you mean 'text'"),
        (["TOY", "--set", "data.7.weight=1"], "does not fit the recipe"),
        (["TOY", "--set", "name.first=1"], "does not fit the recipe"),
        (["TOY", "--set", "steps=many"], "steps"),
        (["plot", "."], "folder of a run"),
        (["preview", "nope"], "there is no recipe 'nope'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    toy: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*(str(toy) if one == "TOY" else one for one in arguments)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_command_that_is_written_wrong_is_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prevew", "tiny") == 2
    assert "there is no recipe or command 'prevew'; did you mean preview?" in capsys.readouterr().err


def test_values_are_yaml_and_the_file_stays_as_it_is(toy: Path) -> None:
    recipe = command.read_recipe(str(toy), ["train=[decoder]", "shape.vision.width=48"], steps=5)
    assert (recipe.train, recipe.steps) == (["decoder"], 5)
    assert recipe.shape is not None
    assert (recipe.shape.vision.width, recipe.shape.vision.image_side) == (48, 16)
    assert command.read_recipe(str(toy)).steps == 20
    with pytest.raises(ConfigurationError):
        command.read_recipe(str(toy), ["train=[ears]"])


def test_ctrl_c_says_where_it_goes_on_and_leaves_nothing_half(toy: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mmagent", "train", toy, "--steps", "100000", "--out", "out", "--workers", "1"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoints = tmp_path / "out" / "checkpoints"
    for _ in range(1200):
        if process.poll() is not None or (
            checkpoints.is_dir() and any(p.name.isdigit() for p in checkpoints.iterdir())
        ):
            break
        time.sleep(0.1)  # another process: there is nothing to wait on
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    newest = max(int(path.name) for path in checkpoints.iterdir())
    assert f"goes on from step {newest}\n" in err
    assert err.endswith("error: interrupted\n")
    assert "Traceback" not in err
    assert out == ""
    assert not list((tmp_path / "out").rglob("*.part"))


def test_before_the_first_checkpoint_it_begins_again(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def watched(watch: Watch) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmagent.train.trainer.train", Ran(watched))
    assert run(toy, "--fresh") == 130
    err = capsys.readouterr().err
    assert "without --fresh goes on from the beginning" in err


@pytest.mark.parametrize(
    ("seconds", "said"), [(9.4, "9 s"), (600, "10 min"), (5400, "1 h 30 min"), (3599, "1 h 00 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert command.duration(seconds) == said
