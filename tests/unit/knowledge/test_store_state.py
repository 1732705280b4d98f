"""Whatever is written, rewritten and deleted: manifest, word index, vectors, outbox and Chroma tell the same story."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from mmagent.knowledge import Knowledge

NAMES = st.sampled_from(["a.md", "b.md", "deep/c.txt"])
WORDS = st.sampled_from(["lamp", "refund", "ship", "days", "card"])
BODIES = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=4)), min_size=1, max_size=4)


class Letters:
    fingerprint = "letters"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([[text.count(letter) + 0.01 for letter in "adefilmnprsuy"] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.folder = self.home / "docs"
        self.folder.mkdir()
        self.model: dict[str, list[str]] = {}
        self.knowledge = Knowledge(self.home / "store", embedder=Letters())

    @initialize(sync=st.booleans())
    def start(self, sync: bool) -> None:
        self.through_chroma = sync

    @rule(name=NAMES, sections=BODIES)
    def write(self, name: str, sections: list[tuple[str, list[str]]]) -> None:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        if file.suffix == ".md":
            file.write_text("".join(f"## {title}\n{' '.join(body)}\n" for title, body in sections))
            self.model[name] = [" ".join(body) for _, body in sections]
        else:
            file.write_text(" ".join(sections[0][1]))
            self.model[name] = [" ".join(sections[0][1])]

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        self.model.pop(name, None)

    @rule()
    def reopen(self) -> None:
        self.knowledge.close()

    @rule()
    def sync(self) -> None:
        self.knowledge.add(self.folder)
        if self.through_chroma:
            self.knowledge.sync()
            assert self.knowledge.stats().pending == 0

    @invariant()
    def all_agree(self) -> None:
        self.knowledge.add(self.folder)
        assert self.knowledge.verify() == []
        hits = self.knowledge.search("lamp refund", k=100)
        expected = sorted((name, text) for name, texts in self.model.items() for text in texts)
        assert sorted((hit.uri, hit.text) for hit in hits) == expected
        for hit in hits:
            assert (self.folder / hit.uri).read_text()[hit.start : hit.end] == hit.text

    def teardown(self) -> None:
        self.knowledge.close()
        shutil.rmtree(self.home, ignore_errors=True)  # Chroma tidies up after itself, at leisure


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = hypothesis_settings(
    max_examples=int(os.environ.get("STORE_EXAMPLES", "8")), stateful_step_count=10, deadline=None
)
