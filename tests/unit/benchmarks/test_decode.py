"""The benchmarks' own arithmetic, and that the systems they compare compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from benchmarks.decode import BASE, Samples, Table, markdown, prompt_ids, rows
from benchmarks.peers import checkpoints
from benchmarks.peers.checkpoints import SHAPES, Shape, checkpoint, parameters
from benchmarks.peers.system import open_system
from benchmarks.peers.worker import SystemAbsent, Worker


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(SHAPES, "tiny", Shape(128, 192, 2, 2, 1, 320))
    return checkpoint("tiny", tmp_path)


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_counted_as_torch_counts_them(name: str) -> None:
    from mmagent.testing.tiny import byte_tokenizer

    with torch.device("meta"):
        model = LlamaForCausalLM(checkpoints._config(SHAPES[name], byte_tokenizer()))
    assert SHAPES[name].parameters == model.num_parameters()


def test_our_engine_says_what_transformers_says(tiny: Path) -> None:
    ids = prompt_ids(320)[:20]
    theirs, ours = (
        open_system(module, tiny, "float32", torch.get_num_threads()) for module in ("torch_transformers", "own_engine")
    )
    theirs.prefill(ids)
    ours.prefill(ids)
    assert ours.decode(12) == theirs.decode(12)
    logits = [np.frombuffer(system.logits(ids), "<f4") for system in (theirs, ours)]
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-4)
    assert parameters(tiny) == SHAPES["tiny"].parameters


def test_a_worker_measures_and_explains(tiny: Path) -> None:
    import sys

    with Worker(sys.executable, "torch_transformers", 1) as worker:
        worker.ask("open", folder=str(tiny), form="bfloat16")
        assert worker.ask("prefill", form="bfloat16", ids=[20, 21])["seconds"] > 0
        assert len(worker.ask("decode", form="bfloat16", count=3)["tokens"]) == 3
        with pytest.raises(SystemAbsent, match="KeyError: 'float7'"):
            worker.ask("open", folder=str(tiny), form="float7")
    with pytest.raises(SystemAbsent, match=r"not installed: No module named '(llama_cpp|gguf)'"):
        Worker(sys.executable, "llama_cpp_bare", 1)


def test_figures_of_a_table() -> None:
    samples = {
        BASE: Samples(decode=[10.0, 20.0, 40.0], prefill=[1.0, 2.0, 3.0], cosine=0.9999, same_tokens=128),
        "mmagent int8": Samples(decode=[100.0], prefill=[5.0], cosine=0.999, same_tokens=7),
    }
    table = Table("some", 1_000_000_000, samples, {"OpenVINO int8": "not installed"}, [200.0], [0.0, 0.05])
    base, ours = rows(table)
    assert (base["tokens_per_s"], base["min"], base["max"], base["ratio"], base["gb_per_s"]) == (20, 10, 40, 1, 40)
    assert (ours["ratio"], ours["gb_per_s"], ours["bandwidth_percent"]) == (5, 100, 50)
    assert "OpenVINO int8 is absent: not installed." in markdown(table)
