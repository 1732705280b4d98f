"""The decoder in torch operations against transformers' own forward, on tiny random checkpoints of every family.

The decode step, which CUDA records and replays, runs here over the same static tensors without being recorded.
"""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from mmagent.engine import Loaded
from mmagent.engine.decoder.blocks import read_blocks
from mmagent.engine.decoder.fused import TorchNetwork
from mmagent.engine.decoder.fused_rows import CacheShape, Slots, TorchRow
from mmagent.engine.decoder.network import Part
from mmagent.engine.load import load
from mmagent.errors import ModelError
from mmagent.testing import (
    FAMILIES,
    expected_logits,
    insets_of,
    parity_prompts,
    tiny_checkpoint,
)

LIMIT = 1e-3
"""Largest difference of a logit from transformers' in float32."""
MORE = [7, 11, 13, 11, 17]

_loaded: dict[str, Loaded] = {}


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    name = request.param
    if name not in _loaded:
        _loaded[name] = load(tiny_checkpoint(name, tmp_path_factory.mktemp("families") / name), "cpu", "float32")
    return _loaded[name]


every_family = pytest.mark.parametrize("checkpoint", FAMILIES, indirect=True)


def network_of(loaded: Loaded, dtype: str = "float32", *, static: bool = False, slots: int = 8) -> TorchNetwork:
    blocks = read_blocks(loaded.model)
    assert blocks is not None
    network = TorchNetwork(blocks, device="cpu", dtype=dtype, slots=slots)
    network.steps = static
    return network


def close(given: torch.Tensor, wanted: torch.Tensor) -> None:
    assert given.shape == wanted.shape and given.dtype == torch.float32
    assert (given - wanted).abs().max() <= LIMIT


@every_family
@pytest.mark.parametrize("static", [False, True], ids=["ragged", "static"])
def test_logits_equal_those_of_transformers(checkpoint: Loaded, static: bool) -> None:
    """Prefill and decode, alone and in a batch."""
    network = network_of(checkpoint, static=static)
    prompts = parity_prompts(checkpoint)
    wanted = [expected_logits(checkpoint, prompt, MORE) for prompt in prompts]
    insets = [insets_of(checkpoint, prompt, whole_pictures=network.whole_pictures) for prompt in prompts]
    for prompt, its, logits in zip(prompts, insets, wanted, strict=True):
        row = network.row()
        alone = [network.run([Part(row, prompt.ids, len(prompt.ids), its)])[0]]
        alone += [network.run([Part(row, [token], 1, its)])[0] for token in MORE]
        close(torch.cat(alone), logits)
    rows = [network.row() for _ in prompts]
    parts = [Part(row, p.ids, len(p.ids), its) for row, p, its in zip(rows, prompts, insets, strict=True)]
    together = [[part] for part in network.run(parts)]
    for token in MORE:
        steps = network.run([Part(row, [token], 1, its) for row, its in zip(rows, insets, strict=True)])
        for got, step in zip(together, steps, strict=True):
            got.append(step)
    for got, logits in zip(together, wanted, strict=True):
        close(torch.cat(got), logits)


@every_family
@pytest.mark.parametrize("static", [False, True], ids=["ragged", "static"])
def test_chunks_forks_and_kept_rows(checkpoint: Loaded, static: bool) -> None:
    network = network_of(checkpoint, static=static)
    prompt = parity_prompts(checkpoint)[0]
    ids, insets = prompt.ids, insets_of(checkpoint, prompt, whole_pictures=network.whole_pictures)
    wanted = expected_logits(checkpoint, prompt, [])
    cut = len(ids) - 9  # after the pictures
    row = network.row()
    got = [network.run([Part(row, ids[:cut], cut, insets)])[0], network.run([Part(row, ids[cut:-6], 3, insets)])[0]]
    got += [network.run([Part(row, [token], 1, insets)])[0] for token in ids[-6:-3]]
    fork, kept = row.fork(len(ids) - 5), row.detached()
    again = network.run([Part(fork, ids[-5:], 5, insets)])[0]
    got.append(network.run([Part(kept, ids[-3:], 3, insets)])[0])
    close(torch.cat(got), wanted)
    close(again, wanted[-5:])
    assert kept.length == len(ids) and kept.slots is None
    kept.length -= 2  # cut, and extended anew
    close(network.run([Part(kept, ids[-2:], 2, insets)])[0], wanted[-2:])


@pytest.mark.parametrize("checkpoint", [name for name in FAMILIES if name not in ("gemma3",)], indirect=True)
def test_a_picture_cut_by_a_chunk_is_the_same(checkpoint: Loaded) -> None:
    """But where its tokens see each other: those pictures are run in one piece."""
    network = network_of(checkpoint)
    prompt = parity_prompts(checkpoint)[-2]
    insets = insets_of(checkpoint, prompt, whole_pictures=network.whole_pictures)
    row, got = network.row(), []
    for start in range(0, len(prompt.ids), 7):
        part = prompt.ids[start : start + 7]
        got += network.run([Part(row, part, len(part), insets)])
    close(torch.cat(got), expected_logits(checkpoint, prompt, []))


@pytest.mark.parametrize("checkpoint", ["llama", "gemma3_text"], indirect=True)
def test_rows_come_and_go_while_others_decode(checkpoint: Loaded) -> None:
    """More rows than slots, of lengths beyond the first bucket, in changing company."""
    network = network_of(checkpoint, static=True, slots=4)
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(20, 250, (size,), generator=generator).tolist() for size in (5, 250, 30, 520, 60, 2)]
    with torch.no_grad():
        wanted = [checkpoint.model(torch.tensor([text + MORE])).logits[0] for text in texts]
    rows = [network.row() for _ in texts]
    network.run([Part(row, text, 0) for row, text in zip(rows, texts, strict=True)])
    at = dict.fromkeys(range(6), 0)
    for company in ([0], [0, 1], [3, 0], [5, 4, 3, 2, 1, 0], [2], [4, 1], [5, 2, 3], [1], [3, 4]):
        steps = network.run([Part(rows[index], [MORE[at[index]]]) for index in company])
        for index, got in zip(company, steps, strict=True):
            close(got, wanted[index][len(texts[index]) + at[index]][None])
            at[index] += 1
    assert network.decode_step.slots.count == 4


def test_slots_are_freed_by_rows_that_leave_or_are_dropped() -> None:
    shape = CacheShape(1, 1, 4, torch.float32, torch.device("cpu"))
    slots = Slots(shape, 2)
    first, second, third = (TorchRow(shape) for _ in range(3))
    for value, row in enumerate((first, second, third), 1):
        row.reserve(10)
        row.keys[:, :, :10] = value
        row.length = 10
    assert slots.place([first], 1) == 1 and slots.place([first, second], 1) == 2
    assert slots.place([second], 1) == 2  # the other may go on with the next pass
    assert slots.place([second, third], 1) == 2 and first.slots is None  # whoever does not run now makes room
    for value, row in enumerate((first, second, third), 1):
        assert torch.equal(row.keys[:, :, :10], torch.full((1, 1, 10, 4), float(value)))
    del third, row
    gc.collect()
    assert slots.place([second], 1) == 1 and slots.place([second, first], 1) == 2
    second.length = 900
    before = slots.moves
    second.reserve(901)
    assert slots.capacity == 1024 and slots.moves == before + 1
    assert second.keys.data_ptr() == slots.keys[:, second.slot].data_ptr()
    copy = first.detached()
    assert copy.capacity == 10 and copy.nbytes == 2 * 10 * 4 * 4 and torch.equal(copy.keys, first.keys[:, :, :10])


@pytest.mark.parametrize("checkpoint", ["llama", "qwen2"], indirect=True)
@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 0.03), ("int8", 0.03)])
def test_smaller_types_are_near(checkpoint: Loaded, dtype: str, limit: float) -> None:
    network = network_of(checkpoint, dtype)
    prompt = parity_prompts(checkpoint)[0]
    row = network.row()
    got = [network.run([Part(row, prompt.ids, len(prompt.ids))])[0]]
    got += [network.run([Part(row, [token])])[0] for token in MORE]
    wanted = expected_logits(checkpoint, prompt, MORE)
    error = (torch.cat(got) - wanted).norm() / wanted.norm()
    assert 1e-6 < error < limit


@pytest.mark.parametrize("checkpoint", ["llama"], indirect=True)
def test_the_module_may_go(checkpoint: Loaded, tmp_path: Path) -> None:
    other = load(tiny_checkpoint("llama", tmp_path), "cpu", "float32")
    network = network_of(other)
    prompt = parity_prompts(other)[0]
    for layer in other.model.model.layers:
        layer.to("meta")
    got = network.run([Part(network.row(), prompt.ids, len(prompt.ids))])[0]
    close(got, expected_logits(checkpoint, prompt, []))


@pytest.mark.parametrize("checkpoint", ["llama"], indirect=True)
def test_int8_is_refused_where_there_is_no_product(checkpoint: Loaded) -> None:
    blocks = read_blocks(checkpoint.model)
    assert blocks is not None
    with pytest.raises(ModelError, match="use bfloat16"):
        TorchNetwork(blocks, device="meta", dtype="int8")
