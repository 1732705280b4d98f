"""transformers' own ``generate``, eager, with its default attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

FORMS = {"float32": (torch.float32, False), "bfloat16": (torch.bfloat16, False), "static": (torch.bfloat16, True)}
ROOM = 192
"""Tokens of a static cache at least: it is attended to whole, and ``generate`` makes it as long as it must be."""


def versions() -> str:
    """What this runs on."""
    return f"transformers {transformers.__version__}, torch {torch.__version__}"


def open_system(folder: Path, form: str, threads: int) -> Transformers:
    """``float32``, ``bfloat16``, or bfloat16 with a ``static`` cache."""
    torch.set_num_threads(threads)
    dtype, static = FORMS[form]
    return Transformers(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval(), static)


class Transformers:
    """A `System`."""

    def __init__(self, model: Any, static: bool) -> None:
        self._model, self._static = model, static
        model.generation_config.eos_token_id = None
        self._ids: list[int] = []
        self._past: Any = None

    def prefill(self, ids: Sequence[int]) -> None:
        """See `System`."""
        token = int(self._forward(ids).argmax())
        self._ids = [*ids, token]

    def decode(self, count: int) -> list[int]:
        """See `System`. ``generate`` goes on from the cache, so it runs the network ``count`` times."""
        output = self._model.generate(
            torch.tensor([self._ids]), past_key_values=self._past, do_sample=False, max_new_tokens=count
        )
        tokens: list[int] = output[0, len(self._ids) :].tolist()
        return tokens

    def logits(self, ids: Sequence[int]) -> bytes:
        """See `System`."""
        return self._forward(ids).float().numpy().astype(np.float32).tobytes()

    @torch.no_grad()
    def _forward(self, ids: Sequence[int]) -> torch.Tensor:
        config = self._model.config
        size = max(ROOM + 1, len(ids) + 1)
        self._past = StaticCache(config=config, max_cache_len=size) if self._static else DynamicCache(config=config)
        output = self._model(torch.tensor([ids]), past_key_values=self._past, use_cache=True, logits_to_keep=1)
        return torch.as_tensor(output.logits[0, -1])
