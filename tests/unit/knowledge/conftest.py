from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


class WordHash:
    """Texts that share words have near vectors; no weights, the same on every machine."""

    def __init__(self, name: str = "words", dimension: int = 64) -> None:
        self.fingerprint, self.dimension = name, dimension
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += texts
        rows = np.full((len(texts), self.dimension), 1e-3, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row[int(hashlib.sha256(f"{self.fingerprint}{word}".encode()).hexdigest(), 16) % self.dimension] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def embedder() -> WordHash:
    return WordHash()


@pytest.fixture
def make_embedder() -> Callable[..., WordHash]:
    return WordHash


RETURNS = """# Returns

We want you to be happy.

## Return window

You can return an unused item within **30 days** of delivery. Lamps and bulbs have 14 days.
Keep the receipt.

## Refunds

Refunds are paid within 5 working days to the card that was used.
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    (folder / "more").mkdir(parents=True)
    (folder / "returns.md").write_text(RETURNS)
    (folder / "more" / "shipping.txt").write_text("Standard shipping costs 4.90 EUR. Orders above 50 EUR ship free.")
    return folder
