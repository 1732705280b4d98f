"""The decoder on an NVIDIA GPU: our kernels against torch's operations, recorded steps against transformers' forward.

Needs torch, transformers and pytest alone, so that it runs where nothing else is installed (see `make gpu`). Without a
GPU all are skipped; ``TRITON_INTERPRET=1`` runs those of the kernels on a CPU that has triton.
"""

from __future__ import annotations

import importlib.util
import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmagent.engine.decoder import fused_ops
from mmagent.engine.decoder.blocks import Blocks, read_blocks
from mmagent.engine.decoder.fused import TorchNetwork
from mmagent.engine.decoder.fused_weights import Matrix
from mmagent.engine.decoder.network import Insets, Part

GPU = torch.cuda.is_available()
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if GPU else "cpu"

on_gpu = pytest.mark.skipif(not GPU, reason="there is no NVIDIA GPU that this torch can use")
with_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or not (GPU or INTERPRETED),
    reason="our kernels need triton and an NVIDIA GPU",
)

LAYERS: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "pad_token_id": 0,
}  # fmt: skip
MIXED = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
DECODERS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 20},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 32},
    "smollm3": {},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16, **MIXED},
}
MORE = [7, 11, 13, 11, 17, 19]


def decoder(kind: str, device: str = DEVICE, dtype: torch.dtype = torch.float32) -> Any:
    """A random network of transformers, the same at every call."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **LAYERS, **DECODERS[kind])).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.1
        parameter.data = noise if parameter.dim() > 1 else parameter.data + noise
    return model.to(device, dtype)


def blocks_of(model: Any) -> Blocks:
    blocks = read_blocks(model)
    assert blocks is not None
    return blocks


def text(size: int, seed: int = 0) -> list[int]:
    return torch.randint(20, 320, (size,), generator=torch.Generator().manual_seed(seed)).tolist()


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE, dtype)


def near(given: torch.Tensor, wanted: torch.Tensor) -> None:
    limit = 1e-4 if given.dtype == torch.float32 else 1.5e-2
    assert given.shape == wanted.shape and given.dtype == wanted.dtype
    assert (given.float() - wanted.float()).norm() <= limit * wanted.float().norm()


types = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
counts = pytest.mark.parametrize("count", [1, 2, 4])


@pytest.fixture
def kernels() -> Any:
    from mmagent.engine.decoder import fused_kernels

    return fused_kernels


@with_triton
@types
@counts
@pytest.mark.parametrize("bias", [False, True])
def test_products(kernels: Any, dtype: torch.dtype, count: int, bias: bool) -> None:
    x, norm = random(count, 200, dtype=dtype), random(200).abs() + 0.5
    up = Matrix(random(120, 200, dtype=dtype) / 10, random(120, dtype=dtype) if bias else None)
    down = Matrix(random(200, 60, dtype=dtype) / 10, random(200, dtype=dtype) if bias else None)
    near(kernels.project(x, norm, up, 1e-5), fused_ops.project(x, norm, up, 1e-5))
    for activation in ("silu", "gelu_pytorch_tanh"):
        inner = fused_ops.gated(x, norm, up, activation, 1e-5)
        near(kernels.gated(x, norm, up, activation, 1e-5), inner)
    for after in (None, norm):
        given, wanted = x.clone(), x.clone()
        kernels.add(given, inner, down, after, 1e-5)
        fused_ops.add(wanted, inner, down, after, 1e-5)
        near(given, wanted)


@with_triton
@types
@counts
@pytest.mark.parametrize(
    ("head_dim", "kv_heads", "group"), [(16, 2, 2), (24, 2, 3), (64, 3, 3), (128, 1, 7), (256, 1, 2)]
)
def test_attention(kernels: Any, dtype: torch.dtype, count: int, head_dim: int, kv_heads: int, group: int) -> None:
    if not GPU and dtype == torch.bfloat16:
        pytest.skip("the interpreter multiplies the bits of bfloat16 as integers")
    capacity, heads = 1024, kv_heads * group
    keys, values = (random(2, 5, kv_heads, capacity, head_dim, dtype=dtype)[1, :count] for _ in range(2))
    qkv = random(count, (heads + 2 * kv_heads) * head_dim, dtype=dtype)
    angles = random(count, 3, 2, head_dim // 2)[:, 1]
    places = torch.tensor([3, 700, 12, 1023], device=DEVICE)[:count]
    norm = random(head_dim).abs() + 0.5
    for norms in ((None, None), (norm, 2 * norm)):
        layer: Any = SimpleNamespace(q_norm=norms[0], k_norm=norms[1])
        given, wanted = (keys.clone(), values.clone()), (keys.clone(), values.clone())
        q = fused_ops.turn_and_store(qkv, layer, angles, *wanted, places, 1e-5)
        near(kernels.turn_and_store(qkv, layer, angles, *given, places, 1e-5), q)
        near(given[0], wanted[0])
        assert torch.equal(given[1], wanted[1])
    for ends, window, bucket in (
        ([1, 2, 100, 256], 0, 256),
        ([700, 1, 1000, 64], 0, 1024),
        ([700, 1, 1000, 65], 50, 1024),
        ([701, 30, 513, 512], 300, 1024),
    ):
        last = torch.tensor(ends, device=DEVICE)[:count]
        near(
            kernels.attend(q, keys, values, last, window, bucket, head_dim**-0.5),
            fused_ops.attend(q, keys, values, last, window, bucket, head_dim**-0.5),
        )


def check_rows(network: TorchNetwork, model: Any, sizes: list[int]) -> None:
    """Rows alone, in company, and beyond the first bucket, against the whole sequence at once."""
    texts = [text(size, size) for size in sizes]
    with torch.no_grad():
        wanted = [model(torch.tensor([one + MORE], device=DEVICE)).logits[0].float() for one in texts]
    rows = [network.row() for _ in texts]
    first = network.run([Part(row, one, len(one)) for row, one in zip(rows, texts, strict=True)])
    for got, logits, size in zip(first, wanted, sizes, strict=True):
        near(got, logits[:size])
    for at, token in enumerate(MORE):
        company = range(len(rows)) if at % 2 == 0 else reversed(range(len(rows)))
        groups = [list(company)] if at < 3 else [[index] for index in company]  # together, then alone
        for group in groups:
            steps = network.run([Part(rows[index], [token]) for index in group])
            for index, got in zip(group, steps, strict=True):
                near(got, wanted[index][sizes[index] + at][None])


@with_triton
@pytest.mark.parametrize("kind", DECODERS)
def test_a_step_of_our_kernels_equals_transformers(kernels: Any, kind: str) -> None:
    model = decoder(kind)
    network = TorchNetwork(blocks_of(model), device=DEVICE, dtype="float32", slots=4)
    network.steps, network.decode_step = True, network.new_step(kernels)
    check_rows(network, model, [40, 253])


@on_gpu
@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("ours", [True, False], ids=["triton", "torch"])
def test_recorded_steps_equal_transformers(kind: str, ours: bool) -> None:
    model = decoder(kind)
    network = TorchNetwork(blocks_of(model), device=DEVICE, dtype="float32", slots=4)
    if not ours:
        network.decode_step = network.new_step(fused_ops)
    check_rows(network, model, [5, 254, 30, 600, 61])


@on_gpu
@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_bfloat16_is_as_near_to_float32_as_transformers_is(kind: str) -> None:
    ids = text(300)
    with torch.no_grad():
        exact = decoder(kind)(torch.tensor([ids], device=DEVICE)).logits[0, -100:]
        model = decoder(kind, dtype=torch.bfloat16)
        theirs = model(torch.tensor([ids], device=DEVICE)).logits[0, -100:].float()
    network = TorchNetwork(blocks_of(model), device=DEVICE, dtype="bfloat16")
    row = network.row()
    network.run([Part(row, ids[:-100], 0)])
    ours = torch.cat([network.run([Part(row, [token])])[0] for token in ids[-100:]])
    assert (ours - exact).norm() <= 1.5 * (theirs - exact).norm()


@on_gpu
@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_pictures_equal_those_on_the_cpu(kind: str) -> None:
    """Features, angles of three kinds, pictures seen as a whole, what is added to the first layers."""
    ids = text(60)
    places = torch.arange(20, 32)
    ends = torch.arange(1, 61)
    ends[20:32] = 32
    features = torch.randn(12, 64, generator=torch.Generator().manual_seed(1))
    results = []
    for device in ("cpu", DEVICE):
        insets = Insets(places, features.to(device), deep=(features.to(device), -features.to(device)), ends=ends)
        network = TorchNetwork(blocks_of(decoder(kind, device)), device=device, dtype="float32")
        row = network.row()
        parts = [network.run([Part(row, ids[:40], 40, insets)]), network.run([Part(row, ids[40:], 20, insets)])]
        parts += [network.run([Part(row, [token], 1, insets)]) for token in MORE]
        results.append(torch.cat([part[0].cpu() for part in parts]))
    near(results[1], results[0])


@on_gpu
def test_a_step_waits_for_nothing_and_is_recorded_once() -> None:
    network = TorchNetwork(blocks_of(decoder("llama")), device=DEVICE, dtype="bfloat16")
    row = network.row()
    network.run([Part(row, text(10))])
    network.run([Part(row, [7])])
    recorded = dict(network.decode_step.graphs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for token in MORE:
            network.run([Part(row, [token])])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert network.decode_step.graphs == recorded


@on_gpu
def test_rows_are_forked_kept_and_taken_up_again() -> None:
    model = decoder("qwen3")
    network = TorchNetwork(blocks_of(model), device=DEVICE, dtype="float32", slots=2)
    ids = text(80)
    with torch.no_grad():
        wanted = model(torch.tensor([ids], device=DEVICE)).logits[0]
    row = network.row()
    network.run([Part(row, ids[:50])])
    near(network.run([Part(row, [ids[50]])])[0], wanted[50][None])
    fork, kept = row.fork(45), row.detached()
    assert kept.nbytes == 2 * 3 * 2 * 51 * 32 * 4
    both = network.run([Part(kept, [ids[51]]), Part(fork, ids[45:60], 3)])
    near(both[0], wanted[51][None])
    near(both[1], wanted[57:60])
    near(network.run([Part(fork, [ids[60]])])[0], wanted[60][None])
