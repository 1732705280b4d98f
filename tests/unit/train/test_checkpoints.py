"""Runs that are cut off: whatever ends a process, the next one goes on to the same curve and the same weights."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from mmagent.errors import ConfigurationError, StoreError
from mmagent.train import train
from mmagent.train.recipe import Recipe
from mmagent.train.trainer import Run
from tests.unit.train.toys import toy

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="lives are forks of this process")

LIVES = 6
"""That end before the run does, wherever they are."""


def live(work: Any, *given: Any) -> int:
    """Do that in a process of its own; returns its exit code, negative for the signal that ended it."""
    process = multiprocessing.get_context("fork").Process(target=work, args=given)
    process.start()
    process.join(120)
    code = process.exitcode
    assert code is not None
    return code


def curve(out: Path) -> list[dict[str, float]]:
    """All that ``metrics.jsonl`` says but the speed."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


def killed(recipe: Recipe, out: Path, seconds: float) -> None:
    """Train, and end without a word after some time of it."""
    real = Run.steps

    def steps(self: Run, first: int) -> None:
        clock = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        clock.daemon = True
        clock.start()
        real(self, first)

    Run.steps = steps  # type: ignore[method-assign] # in this process alone
    train(recipe, out, workers=0)


def test_a_run_that_was_killed_again_and_again_is_as_one_that_was_not(tmp_path: Path) -> None:
    recipe = toy(steps=40, save_every=3, check_every=15, ema=0.9)
    train(recipe, tmp_path / "whole", workers=0)
    rng, codes = random.Random(4), []
    for _ in range(LIVES):
        codes.append(live(killed, recipe, tmp_path / "killed", rng.uniform(0.05, 0.6)))
    train(recipe, tmp_path / "killed", workers=0)
    assert -signal.SIGKILL in codes
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    one, other = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert one == other


def test_what_a_kill_left_behind_is_no_checkpoint(tmp_path: Path) -> None:
    recipe, out = toy(steps=4, save_every=2), tmp_path / "toy"
    train(recipe, out, workers=0)
    (out / "checkpoints" / "9.part").mkdir()
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "tok')
    more = toy(steps=6, save_every=2)
    train(more, out, workers=0)
    train(more, tmp_path / "whole", workers=0)
    assert [line["step"] for line in curve(out)] == [4, 6]
    assert sorted(path.name for path in (out / "checkpoints").iterdir() if path.name.isdigit()) == ["4", "6"]


def test_another_recipe_does_not_go_on_from_it(tmp_path: Path) -> None:
    train(toy(steps=2), tmp_path / "toy", workers=0)
    with pytest.raises(ConfigurationError, match=r"differs in matrix_lr, seed; choose another folder with --out, or"):
        train(toy(steps=2, seed=5, matrix_lr=1e-3), tmp_path / "toy", workers=0)


def full(recipe: Recipe, out: Path, kilobytes: int) -> None:
    """Train where files can't grow beyond some size, and leave what was said."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))
    try:
        train(recipe, out, workers=0)
    except StoreError as error:
        out.with_name("said").write_text(str(error))
        os._exit(3)


@pytest.mark.parametrize("kilobytes", [1, 8, 30, 60])
def test_a_full_disk_keeps_the_last_checkpoint(kilobytes: int, tmp_path: Path) -> None:
    out, whole, longer = tmp_path / "toy", tmp_path / "whole", toy(steps=8, save_every=2)
    for folder in (out, whole):
        train(toy(steps=4, save_every=2), folder, workers=0)
    model = (out / "model" / "model.safetensors").read_bytes()
    assert live(full, longer, out, kilobytes) == 3
    said = out.with_name("said").read_text()
    assert "cannot be written" in said
    assert "the checkpoint of step 4 is whole; make room on the disk, and run the same command again" in said
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["2", "4"]
    assert (out / "model" / "model.safetensors").read_bytes() == model
    one, other = (train(longer, folder, workers=0) / "model.safetensors" for folder in (out, whole))
    assert one.read_bytes() == other.read_bytes()
