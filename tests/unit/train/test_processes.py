"""Many processes: they end with the same weights, and a step teaches them what it would teach one."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from mmagent.train import Watch
from mmagent.train.recipe import Recipe
from mmagent.train.stream import Stream
from mmagent.train.trainer import Run
from tests.unit.train.toys import toy

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forks of this one")

PROCESSES = 2


def together(work: Any, *given: Any) -> None:
    """Do that in two processes, as ``accelerate launch --cpu --num_processes 2`` sets them up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    started = []
    for rank in range(PROCESSES):
        started.append(context.Process(target=_as_rank, args=(rank, port, work, *given)))
        started[-1].start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * PROCESSES


def _as_rank(rank: int, port: int, work: Any, *given: Any) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(PROCESSES)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    work(rank, *given)
    torch.distributed.destroy_process_group()


def trained(rank: int, recipe: Recipe, folder: Path) -> None:
    """A whole run; leaves this process's weights."""
    run = Run(recipe, folder / "toy", Watch(), 0)
    assert run.accelerator.num_processes == PROCESSES
    run.go()
    torch.save(run.bare.state_dict(), folder / f"{rank}.pt")


def test_all_end_with_the_same_weights_and_go_on_as_they_were(tmp_path: Path) -> None:
    recipe = toy(steps=6, save_every=3, ema=0.9)
    for name, steps in (("whole", (6,)), ("halved", (3, 6))):
        (tmp_path / name).mkdir()
        for last in steps:
            together(trained, recipe.model_copy(update={"steps": last, "last_lr": 1.0}), tmp_path / name)
    one, other = (torch.load(tmp_path / "whole" / f"{rank}.pt") for rank in range(PROCESSES))
    assert all(torch.equal(one[name], other[name]) for name in one)
    line = json.loads((tmp_path / "whole" / "toy" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 6
    assert 6 * 64 < line["tokens"] <= 6 * 128  # of both
    assert (tmp_path / "whole" / "toy" / "model" / "model.safetensors").is_file()


def gradients(run: Run, batches: list[Any]) -> dict[str, torch.Tensor]:
    """Of one step, clipped as they are; no weight changes."""
    run.optimizers, run.peaks = [], []
    run.step(0, batches)
    return {name: p.grad.clone() for name, p in run.bare.named_parameters() if p.grad is not None}


def learnt(rank: int, recipe: Recipe, folder: Path) -> None:
    """One step of this process's own samples; leaves the gradients."""
    run = Run(recipe, folder / "toy", Watch(), 0)
    batches = Stream(recipe, run.encoder, rank, PROCESSES)[0]
    torch.save(gradients(run, batches), folder / f"{rank}.pt")


@pytest.mark.parametrize("train", [["vision", "connector", "decoder", "contrastive"], ["decoder"]])
def test_a_step_teaches_two_what_it_would_teach_one(train: list[str], tmp_path: Path) -> None:
    recipe = toy(train=train, losses={"text": 1, "contrastive": 0.1, "marks": 0.1}, tokens_per_step=600)
    together(learnt, recipe, tmp_path)
    alone = Run(recipe, tmp_path / "toy", Watch(), 0)
    union = [batch for rank in range(PROCESSES) for batch in Stream(recipe, alone.encoder, rank, PROCESSES)[0]]
    assert len(union) > 2 * PROCESSES
    wanted = gradients(alone, union)
    for rank in range(PROCESSES):
        got = torch.load(tmp_path / f"{rank}.pt")
        assert got.keys() >= wanted.keys()
        for name, grad in wanted.items():
            torch.testing.assert_close(got[name], grad, rtol=1e-4, atol=1e-6, msg=name)
