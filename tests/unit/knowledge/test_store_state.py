"""Whatever is added, rewritten, deleted, rebuilt and reopened: manifest, words, vectors and Chroma tell one story."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from mmagent.knowledge import Knowledge, Text
from mmagent.settings import settings as read_settings

NAMES = st.sampled_from(["a.md", "b.md", "deep/c.txt"])
WORDS = st.sampled_from(["lamp", "refund", "ship", "days", "card"])
BODIES = st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=4)), min_size=1, max_size=4)
TENANTS = st.sampled_from(["", "acme"])


class Letters:
    def __init__(self, fingerprint: str = "letters") -> None:
        self.fingerprint = fingerprint

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([[text.count(letter) + 0.01 for letter in "adefilmnprsuy"] for text in texts], np.float32)
        if self.fingerprint != "letters":
            rows = rows[:, ::-1] + 0.5
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class StoreMachine(RuleBasedStateMachine):
    """The model: file to its passages, and (tenant, name) to a text."""

    chroma = False

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.folder = self.home / "docs"
        self.folder.mkdir()
        self.files: dict[str, list[str]] = {}
        self.indexed: dict[str, list[str]] = {}
        self.texts: dict[tuple[str, str], str] = {}
        self.embedder = Letters()
        self.open()

    def open(self) -> None:
        os.environ["MMAGENT_EXACT_SEARCH_LIMIT"] = "0" if self.chroma else "1000"
        read_settings.cache_clear()
        self.knowledge = Knowledge(self.home / "store", embedder=self.embedder)

    @initialize()
    def start(self) -> None:
        self.knowledge.add(self.folder)

    @rule(name=NAMES, sections=BODIES)
    def write(self, name: str, sections: list[tuple[str, list[str]]]) -> None:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        if file.suffix == ".md":
            file.write_text("".join(f"## {title}\n{' '.join(body)}\n" for title, body in sections))
            self.files[name] = [" ".join(body) for _, body in sections]
        else:
            file.write_text(" ".join(sections[0][1]))
            self.files[name] = [" ".join(sections[0][1])]

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        self.files.pop(name, None)

    @rule()
    def add(self) -> None:
        self.knowledge.add(self.folder)
        self.indexed = {name: list(texts) for name, texts in self.files.items()}

    @rule(tenant=TENANTS, name=st.sampled_from("xyz"), body=st.lists(WORDS, min_size=1, max_size=5))
    def put_text(self, tenant: str, name: str, body: list[str]) -> None:
        self.knowledge.add_texts([Text(name, " ".join(body), whole=True)], tenant=tenant)
        self.texts[tenant, name] = " ".join(body)

    @rule(tenant=TENANTS, name=st.sampled_from("xyz"))
    def remove(self, tenant: str, name: str) -> None:
        assert self.knowledge.remove(name, tenant=tenant) == ((tenant, name) in self.texts)
        self.texts.pop((tenant, name), None)

    @rule()
    def reopen(self) -> None:
        self.knowledge.close()
        self.open()

    @rule()
    def rebuild(self) -> None:
        self.knowledge.rebuild()

    @rule()
    def change_the_embedder(self) -> None:
        self.knowledge.close()
        self.embedder = Letters("others" if self.embedder.fingerprint == "letters" else "letters")
        self.open()

    @invariant()
    def all_agree(self) -> None:
        files = [(name, text) for name, texts in self.indexed.items() for text in texts]
        for tenant in ("", "acme"):
            mine = [(name, text) for (owner, name), text in self.texts.items() if owner in ("", tenant)]
            expected = sorted([*files, *mine])
            for mode in ("dense", "lexical"):  # all words that there are: each must find everything
                hits = self.knowledge.search("lamp refund ship days card", 100, tenant=tenant, mode=mode)  # type: ignore[arg-type]
                assert sorted((hit.uri, hit.text) for hit in hits) == expected, mode
        for role, fingerprint, _, vectors in self.spaces():
            mine = fingerprint == self.embedder.fingerprint
            assert role == "text" and vectors == (self.knowledge.stats().units if mine else 0)
        if self.chroma:
            self.knowledge.sync()
            assert self.knowledge.stats().pending == 0
        assert self.knowledge.verify() == []

    def spaces(self) -> list[Any]:
        return [(one.role, one.fingerprint, one.dimension, one.vectors) for one in self.knowledge.stats().spaces]

    def teardown(self) -> None:
        os.environ.pop("MMAGENT_EXACT_SEARCH_LIMIT", None)
        read_settings.cache_clear()
        self.knowledge.close()
        shutil.rmtree(self.home, ignore_errors=True)  # Chroma tidies up after itself, at leisure


class ChromaMachine(StoreMachine):
    chroma = True


def examples(number: int) -> hypothesis_settings:
    """A failure is shown as it was found, for making it smaller takes minutes; STORE_SHRINK=1 does."""
    shrink = [Phase.shrink] if os.environ.get("STORE_SHRINK") else []
    return hypothesis_settings(
        max_examples=int(os.environ.get("STORE_EXAMPLES", number)),
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, *shrink],
    )


class TestStore(StoreMachine.TestCase):
    settings = examples(200)


class TestStoreWithChroma(ChromaMachine.TestCase):
    settings = examples(10)
