from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmagent.engine import Engine, Generation, Grammar, Loaded, Picture, Prompt, Sampler, Vocabulary, build_prompt
from mmagent.engine.decoder.blocks import read_blocks
from mmagent.engine.decoder.fused import TorchNetwork
from mmagent.engine.decoder.module import ModuleNetwork
from mmagent.engine.decoder.native import NativeNetwork, native_dtypes
from mmagent.engine.load import load
from mmagent.testing import tiny_vlm


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def loaded(tiny_path: Path) -> Loaded:
    return load(tiny_path, "cpu", "float32")


@pytest.fixture(scope="session")
def vocabulary(loaded: Loaded) -> Vocabulary:
    return loaded.vocabulary


@pytest.fixture
def network_of(loaded: Loaded) -> Callable[[str], Any]:
    """Makes a way to run the network's decoder, by name."""

    def make(kind: str) -> Any:
        blocks = read_blocks(loaded.model)
        assert blocks is not None
        if kind == "native":
            if "float32" not in native_dtypes():
                pytest.skip("this CPU or build has no native kernels")
            return NativeNetwork(blocks, "float32")
        if kind == "torch":
            return TorchNetwork(blocks, device=loaded.device, dtype="float32")
        return ModuleNetwork(loaded.model, loaded.device, loaded.dtype)

    return make


@pytest.fixture(params=["native", "torch", "module"])
def engine(request: pytest.FixtureRequest, loaded: Loaded, network_of: Callable[[str], Any]) -> Engine:
    """One for each way to run a decoder."""
    return Engine(loaded, network=network_of(request.param), prefix_cache_bytes=1 << 26, feature_cache_bytes=1 << 26)


@pytest.fixture
def ask(loaded: Loaded) -> Callable[..., Prompt]:
    """A prompt out of strings and pictures; user and assistant take turns."""

    def make(*turns: Any, tools: tuple[dict[str, Any], ...] = ()) -> Prompt:
        messages, pictures = [], []
        for index, turn in enumerate(turns):
            blocks: list[dict[str, Any]] = []
            for part in turn if isinstance(turn, tuple) else (turn,):
                if isinstance(part, Picture):
                    pictures.append(part)
                    blocks.append({"type": "image", "image": part.image})
                else:
                    blocks.append({"type": "text", "text": part})
            messages.append({"role": ("user", "assistant")[index % 2], "content": blocks})
        return build_prompt(loaded, messages, list(tools), pictures)

    return make


@pytest.fixture
def answer(engine: Engine) -> Callable[..., tuple[list[int], Generation]]:
    """Generate and return the tokens and the finished generation."""

    def run(
        prompt: Prompt, *, max_tokens: int = 24, seed: int | None = 0, **grammar: Any
    ) -> tuple[list[int], Generation]:
        generation = engine.generate(
            engine.restore(prompt),
            grammar=Grammar(engine.loaded.vocabulary, **grammar),
            sampler=Sampler(temperature=0 if seed is None else 1, seed=seed),
            max_tokens=max_tokens,
        )
        return list(generation), generation

    return run
