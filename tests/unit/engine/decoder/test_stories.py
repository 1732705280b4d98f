"""A published network and the text that its author published of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mmagent.engine.decoder.blocks import read_blocks
from mmagent.engine.decoder.native import NativeNetwork, native_dtypes
from mmagent.engine.decoder.network import Part
from mmagent.testing import read_stories

FOLDER = Path(__file__).parents[5] / "shared/data/weights_stories260K"
BEGIN = 1

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the published weights are not there: {FOLDER}"),
    pytest.mark.skipif("float32" not in native_dtypes(), reason="this CPU or build has no native kernels"),
]


@pytest.fixture(scope="module")
def stories() -> tuple[Any, list[bytes]]:
    return read_stories(FOLDER)


def write(network: Any, count: int, seed: int | None = None) -> list[int]:
    """Tokens after the begin token: greedy, or drawn at temperature 1."""
    row, token, tokens = network.row(), BEGIN, []
    generator = torch.Generator().manual_seed(seed or 0)
    for _ in range(count):
        logits = network.run([Part(row, [token])])[0][0]
        token = (
            int(logits.argmax()) if seed is None else int(torch.multinomial(logits.softmax(0), 1, generator=generator))
        )
        tokens.append(token)
        if token == BEGIN:
            break
    return tokens


def perplexity(network: Any, stories: list[list[int]]) -> float:
    loss, count = 0.0, 0
    for tokens in stories:
        logits = network.run([Part(network.row(), [BEGIN, *tokens[:-1]], len(tokens))])[0]
        loss += float(torch.nn.functional.cross_entropy(logits, torch.tensor(tokens), reduction="sum"))
        count += len(tokens)
    return math.exp(loss / count)


def test_the_published_text_is_reproduced(stories: tuple[Any, list[bytes]]) -> None:
    model, vocabulary = stories
    blocks = read_blocks(model)
    assert blocks is not None
    published = (FOLDER / "stories260K.md").read_text().split("-t 0.0\n")[1].split("\n```")[0]
    text = b"".join(vocabulary[token] for token in write(NativeNetwork(blocks, "float32"), 256)).decode().strip()
    assert text == published


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_rounded_weights_cost_less_than_a_percent_of_perplexity(stories: tuple[Any, list[bytes]], dtype: str) -> None:
    if dtype not in native_dtypes():
        pytest.skip(f"this CPU has no {dtype} kernels")
    blocks = read_blocks(stories[0])
    assert blocks is not None
    exact = NativeNetwork(blocks, "float32")
    texts = [write(exact, 256, seed) for seed in range(1, 17)]
    assert perplexity(NativeNetwork(blocks, dtype), texts) <= 1.01 * perplexity(exact, texts)
