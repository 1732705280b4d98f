"""Every way to run a decoder against transformers' own forward, on tiny random checkpoints of every family.

To add a family, add its text model to `FAMILIES` of `mmagent.engine.decoder.blocks` and a tiny checkpoint to
`mmagent.testing`. What is wrong then shows here: a wrong norm offset, bias, window or rotation is a difference of 1e-2
and more.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmagent.engine import Loaded
from mmagent.engine.decoder.blocks import FAMILIES as DECODERS
from mmagent.engine.decoder.blocks import Blocks, read_blocks
from mmagent.engine.decoder.module import ModuleNetwork
from mmagent.engine.decoder.native import NativeNetwork, native_dtypes
from mmagent.engine.decoder.network import Part
from mmagent.engine.load import load
from mmagent.testing import (
    FAMILIES,
    expected_logits,
    insets_of,
    parity_prompts,
    tiny_checkpoint,
)

LIMIT = 1e-3
"""Largest difference of a logit from transformers' in float32."""

native_only = pytest.mark.skipif("float32" not in native_dtypes(), reason="this CPU or build has no native kernels")


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


_loaded: dict[str, Loaded] = {}


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, family_folder: Path) -> Loaded:
    name = request.param
    if name not in _loaded:
        _loaded[name] = load(tiny_checkpoint(name, family_folder / name), "cpu", "float32")
    return _loaded[name]


def close(given: torch.Tensor, wanted: torch.Tensor) -> None:
    assert given.shape == wanted.shape
    assert (given - wanted).abs().max() <= LIMIT


def test_which_decoders_have_a_checkpoint_here(family_folder: Path) -> None:
    from transformers import AutoConfig

    import mmagent.model  # noqa: F401

    kinds = set()
    for name in FAMILIES:
        folder = tiny_checkpoint(name, family_folder / name)
        kinds.add(AutoConfig.from_pretrained(folder).get_text_config(decoder=True).model_type)
    assert set(DECODERS) - kinds == {"mistral", "smollm3", "qwen2_vl_text"}  # close kin of llama and qwen2_5_vl_text
    assert kinds <= set(DECODERS)


@native_only
@pytest.mark.parametrize("checkpoint", FAMILIES, indirect=True)
def test_logits_equal_those_of_transformers(checkpoint: Loaded) -> None:
    """Prefill and decode, alone, in a batch, and in chunks."""
    blocks = read_blocks(checkpoint.model)
    assert blocks is not None
    network = NativeNetwork(blocks, "float32")
    more = [7, 11, 13, 11]
    everything, rows = [], []
    for prompt in parity_prompts(checkpoint):
        wanted = expected_logits(checkpoint, prompt, more)
        row, insets = network.row(), insets_of(checkpoint, prompt, whole_pictures=network.whole_pictures)
        alone = [network.run([Part(row, prompt.ids, len(prompt.ids), insets)])[0]]
        alone += [network.run([Part(row, [token], 1, insets)])[0] for token in more]
        close(torch.cat(alone), wanted)
        everything.append((prompt, insets, torch.cat(alone)))
        rows.append(network.row())
    together = network.run([
        Part(row, prompt.ids, len(prompt.ids), insets)
        for row, (prompt, insets, _) in zip(rows, everything, strict=True)
    ])  # fmt: skip
    for got, (prompt, _, alone) in zip(together, everything, strict=True):
        assert torch.equal(got, alone[: len(prompt.ids)])  # bit for bit, whatever else is in the batch
    steps = network.run([Part(row, more, 4, insets) for row, (_, insets, _) in zip(rows, everything, strict=True)])
    for got, (_, _, alone) in zip(steps, everything, strict=True):
        assert torch.equal(got, alone[-4:])


@native_only
@pytest.mark.parametrize("checkpoint", FAMILIES, indirect=True)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_chunks_forks_and_steps_are_the_same_bit_for_bit(checkpoint: Loaded, dtype: str) -> None:
    if dtype not in native_dtypes():
        pytest.skip(f"this CPU has no {dtype} kernels")
    blocks = read_blocks(checkpoint.model)
    assert blocks is not None
    network = NativeNetwork(blocks, dtype)
    prompt = parity_prompts(checkpoint)[0]
    insets, ids = insets_of(checkpoint, prompt, whole_pictures=network.whole_pictures), prompt.ids
    whole = network.run([Part(network.row(), ids, len(ids), insets)])[0]
    cut = len(ids) - 9  # after the pictures
    row = network.row()
    first = network.run([Part(row, ids[:cut], cut, insets)])[0]
    fork = row.fork(cut - 1)
    rest = [network.run([Part(row, [token], 1, insets)])[0] for token in ids[cut:]]
    again = network.run([Part(fork, ids[cut - 1 :], 10, insets)])[0]
    assert torch.equal(torch.cat([first, *rest]), whole)
    assert torch.equal(again, whole[cut - 1 :])


@pytest.mark.parametrize("checkpoint", FAMILIES, indirect=True)
def test_the_modules_own_forward_is_the_fallback(checkpoint: Loaded) -> None:
    network = ModuleNetwork(checkpoint.model, checkpoint.device, checkpoint.dtype)
    for prompt in parity_prompts(checkpoint):
        insets = insets_of(checkpoint, prompt, whole_pictures=False) if network.reuses else None
        row = network.row(prompt.inputs)
        got = [network.run([Part(row, prompt.ids, 1, insets)])[0]]
        got += [network.run([Part(row, [token], 1, insets)])[0] for token in (7, 11)]
        close(torch.cat(got), expected_logits(checkpoint, prompt, [7, 11])[-3:])


def wrong_norm(blocks: Blocks) -> Blocks:
    return replace(blocks, norm=blocks.norm + 1)


def wrong_rotation(blocks: Blocks) -> Blocks:
    return replace(blocks, rotations=(None,) * len(blocks.rotations))


def narrow_window(blocks: Blocks) -> Blocks:
    return replace(blocks, layers=tuple(replace(layer, window=2) for layer in blocks.layers))


def wrong_scale(blocks: Blocks) -> Blocks:
    return replace(blocks, scale=blocks.scale * 2)


def wrong_activation(blocks: Blocks) -> Blocks:
    return replace(blocks, activation="gelu_pytorch_tanh")


@native_only
@pytest.mark.parametrize("checkpoint", ["llama"], indirect=True)
@pytest.mark.parametrize("mistake", [wrong_norm, wrong_rotation, narrow_window, wrong_scale, wrong_activation])
def test_a_mistake_in_a_family_shows(checkpoint: Loaded, mistake: Any) -> None:
    blocks = read_blocks(checkpoint.model)
    assert blocks is not None
    prompt = parity_prompts(checkpoint)[0]
    network = NativeNetwork(mistake(blocks), "float32")
    got = network.run([Part(network.row(), prompt.ids, len(prompt.ids))])[0]
    assert (got - expected_logits(checkpoint, prompt, [])).abs().max() > 5 * LIMIT


@pytest.mark.parametrize("checkpoint", ["llama"], indirect=True)
def test_what_a_family_cannot_hold_falls_back(checkpoint: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_blocks(checkpoint.model) is not None
    monkeypatch.setattr(checkpoint.model.config, "hidden_act", "relu")
    assert read_blocks(checkpoint.model) is None
    monkeypatch.undo()
    monkeypatch.delitem(DECODERS, "llama")
    assert read_blocks(checkpoint.model) is None
