"""A real vision-language model for tests, with random weights. It knows where temporary files go, and no network."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from mmagent.testing import tiny


def tiny_vlm(path: str | Path | None = None, *, seed: int = 0) -> Path:
    """A folder with a random vision-language model of some 60,000 parameters, processor and all.

    Pictures are 32 × 32 pixels and 4 tokens; the vocabulary is bytes; the context is 4,096 tokens.

    Args:
        path: Where to save it; None: in a temporary folder, once for each seed, until the process ends.
        seed: Of the weights.
    """
    return _kept(seed) if path is None else tiny.tiny_vlm(path, seed=seed)


@lru_cache
def _kept(seed: int) -> Path:
    folder = tempfile.mkdtemp(prefix="mmagent-tiny-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return tiny.tiny_vlm(Path(folder) / "tiny", seed=seed)
