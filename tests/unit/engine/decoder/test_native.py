"""The compiled kernels: what they run on, how rows grow, and what happens where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmagent.engine import Engine, Grammar, Loaded, Sampler, build_prompt
from mmagent.engine.decoder import native
from mmagent.engine.decoder.blocks import read_blocks
from mmagent.engine.decoder.fused import TorchNetwork
from mmagent.engine.decoder.module import ModuleNetwork
from mmagent.engine.decoder.native import NativeNetwork, native_dtypes
from mmagent.engine.decoder.network import Part, open_network
from mmagent.engine.load import load, pick_decoder_dtype
from mmagent.errors import ConfigurationError
from mmagent.testing import tiny_vlm

CPU = torch.device("cpu")
native_only = pytest.mark.skipif("float32" not in native_dtypes(), reason="this CPU or build has no native kernels")


@pytest.fixture
def network(loaded: Loaded) -> NativeNetwork:
    blocks = read_blocks(loaded.model)
    assert blocks is not None
    return NativeNetwork(blocks, "float32")


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that was installed where there is no C++ compiler."""
    monkeypatch.setattr(native, "find_spec", lambda name: None)
    native._library.cache_clear()
    yield
    monkeypatch.undo()
    native._library.cache_clear()


@native_only
def test_a_row_grows_and_keeps_what_it_has(network: NativeNetwork) -> None:
    ids = [7 + index % 200 for index in range(700)]
    whole = network.run([Part(network.row(), ids, len(ids))])[0]
    row = network.row()
    parts = [network.run([Part(row, ids[start : start + 50], 50)])[0] for start in range(0, 700, 50)]
    assert torch.equal(torch.cat(parts), whole)
    assert row.capacity >= row.length == 700


@native_only
def test_forgetting_the_end_of_a_row_is_as_if_it_had_never_been(network: NativeNetwork) -> None:
    row = network.row()
    network.run([Part(row, [7, 8, 9, 200, 201, 202])])
    row.length = 3
    again = network.run([Part(row, [10, 11], 2)])[0]
    assert torch.equal(again, network.run([Part(network.row(), [7, 8, 9, 10, 11], 2)])[0])


@native_only
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_the_number_of_threads_changes_nothing(loaded: Loaded, threads: int) -> None:
    blocks = read_blocks(loaded.model)
    assert blocks is not None
    ids = list(range(7, 90))
    one, some = (NativeNetwork(blocks, "float32", threads=count) for count in (1, threads))
    wanted = one.run([Part(one.row(), ids, len(ids))])[0]
    for _ in range(20):  # threads come and go as the system likes
        assert torch.equal(some.run([Part(some.row(), ids, len(ids))])[0], wanted)


@native_only
def test_threads_that_come_late_find_nothing_of_the_next_pass(loaded: Loaded) -> None:
    """More threads than cores, and passes whose sizes differ: who is asleep in one pass wakes up in another."""
    blocks = read_blocks(loaded.model)
    assert blocks is not None
    one, many = (NativeNetwork(blocks, "float32", threads=count) for count in (1, 8))
    sizes = [1, 37, 1, 1, 5, 1, 120, 2, 1, 64]
    wanted = {size: one.run([Part(one.row(), list(range(7, 7 + size)))])[0] for size in set(sizes)}
    for _ in range(60):
        for size in sizes:
            assert torch.equal(many.run([Part(many.row(), list(range(7, 7 + size)))])[0], wanted[size])


def test_a_library_for_another_processor_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """On ARM the kernels' file is compiled too, but there is nothing in it."""
    monkeypatch.setattr(native, "find_spec", lambda name: SimpleNamespace(origin="somewhere"))
    monkeypatch.setattr(native.ctypes, "CDLL", lambda path: SimpleNamespace(mmagent_kinds=lambda: 0))
    native._library.cache_clear()
    try:
        assert native_dtypes() == ()
    finally:
        monkeypatch.undo()
        native._library.cache_clear()


@native_only
def test_networks_run_side_by_side_in_threads(loaded: Loaded) -> None:
    blocks = read_blocks(loaded.model)
    assert blocks is not None
    wanted = NativeNetwork(blocks, "float32").run([Part(NativeNetwork(blocks, "float32").row(), [7, 8, 9])])[0]
    results: list[torch.Tensor] = []

    def work() -> None:
        network = NativeNetwork(blocks, "float32", threads=2)
        for _ in range(30):
            results.append(network.run([Part(network.row(), [7, 8, 9])])[0])

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 120
    assert all(torch.equal(result, wanted) for result in results)


@native_only
def test_weights_are_let_go_once_they_are_packed(tmp_path: Any) -> None:
    loaded = load(tiny_vlm(tmp_path / "tiny"), "cpu", "float32")
    before = Engine(loaded, prefix_cache_bytes=0, feature_cache_bytes=0)
    prompt = build_prompt(loaded, [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], [])

    def answer(engine: Engine) -> list[int]:
        return list(engine.generate(prompt, grammar=Grammar(loaded.vocabulary), sampler=Sampler(), max_tokens=8))

    wanted = answer(before)
    engine = Engine(loaded, release=True, prefix_cache_bytes=0, feature_cache_bytes=0)
    assert loaded.model.language_model.model.layers[0].mlp.up_proj.weight.numel() == 0
    assert answer(engine) == wanted


@native_only
def test_the_fastest_way_is_chosen(loaded: Loaded) -> None:
    network = open_network(replace(loaded, decoder_dtype="int8" if "int8" in native_dtypes() else "float32"))
    assert isinstance(network, NativeNetwork)
    assert network.dtype == ("int8" if "int8" in native_dtypes() else "float32")


@pytest.mark.usefixtures("without_kernels")
def test_without_the_kernels_the_same_decoder_runs_in_torch(loaded: Loaded) -> None:
    assert native_dtypes() == ()
    network = open_network(loaded)
    assert isinstance(network, TorchNetwork)
    blocks = read_blocks(loaded.model)
    assert blocks is not None
    module = ModuleNetwork(loaded.model, CPU, torch.float32)
    ids = list(range(7, 30))
    given = network.run([Part(network.row(), ids)])[0]
    torch.testing.assert_close(given, module.run([Part(module.row(), ids)])[0], atol=1e-3, rtol=0)


@pytest.mark.usefixtures("without_kernels")
def test_int8_without_the_kernels_is_a_choice_but_not_the_default(loaded: Loaded) -> None:
    assert pick_decoder_dtype("auto", CPU, torch.float32) == "float32"
    network = open_network(replace(loaded, decoder_dtype=pick_decoder_dtype("int8", CPU, torch.float32)))
    assert network.run([Part(network.row(), [7, 8, 9])])[0].isfinite().all()


def test_int8_is_for_cpus() -> None:
    with pytest.raises(ConfigurationError, match="int8 is for CPUs, not for cuda; set MMAGENT_DTYPE to auto"):
        pick_decoder_dtype("int8", torch.device("cuda"), torch.bfloat16)
    assert pick_decoder_dtype("auto", torch.device("cuda"), torch.bfloat16) == "bfloat16"
    assert pick_decoder_dtype("float32", CPU, torch.float32) == "float32"
