"""A search gives the same hits whether vectors are compared exactly or through Chroma."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmagent.knowledge import Knowledge
from mmagent.settings import settings

TOPICS = ("lamps", "refunds", "shipping", "warranty", "gift cards", "bulbs", "repairs", "opening hours")


class Letters:
    fingerprint = "letters"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([[text.lower().count(chr(97 + i)) + 0.01 for i in range(26)] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_exact_and_chroma_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number, topic in enumerate(TOPICS):
        (docs / f"{topic}.md").write_text(f"# About {topic}\n\nEverything on {topic} takes {number} days.\n")
    found = {}
    for limit, search in (("1000", "exact"), ("0", "chroma")):
        monkeypatch.setenv("MMAGENT_EXACT_SEARCH_LIMIT", limit)
        settings.cache_clear()
        with Knowledge.of_folder(docs, embedder=Letters()) as knowledge:
            assert knowledge.stats().search == search
            found[search] = [knowledge.search(f"what about {topic}?") for topic in TOPICS]
            assert knowledge.verify() == []
    assert found["exact"] == found["chroma"]
    assert [hits[0].title for hits in found["exact"]] == [f"About {topic}" for topic in TOPICS]
