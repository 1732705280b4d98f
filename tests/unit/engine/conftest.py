from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmagent.engine import Decoder, Generation, Grammar, Loaded, Picture, Prompt, Sampler, Vocabulary, build_prompt
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
def decoder(loaded: Loaded) -> Decoder:
    return Decoder(loaded, prefix_cache_bytes=1 << 26, feature_cache_bytes=1 << 26)


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
def answer(decoder: Decoder) -> Callable[..., tuple[list[int], Generation]]:
    """Generate and return the tokens and the finished generation."""

    def run(
        prompt: Prompt, *, max_tokens: int = 24, seed: int | None = 0, **grammar: Any
    ) -> tuple[list[int], Generation]:
        generation = decoder.generate(
            decoder.restore(prompt),
            grammar=Grammar(decoder.loaded.vocabulary, **grammar),
            sampler=Sampler(temperature=0 if seed is None else 1, seed=seed),
            max_tokens=max_tokens,
        )
        return list(generation), generation

    return run
