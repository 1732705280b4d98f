"""Rerankers over tiny random checkpoints: transformers' own scores."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmagent.chat.local import LocalModel
from mmagent.errors import ContextOverflow, ModelError, NotFound
from mmagent.knowledge.rerank import CrossEncoder, ModelReranker, load_reranker
from mmagent.testing.checkpoints import tiny_vlm

QUERY = "red lamp"
TEXTS = ["a red lamp on the table", "blue", "", "chair " * 60, *(f"lamp {'chair ' * n}" for n in range(40))]
WORDS = ["a", "red", "blue", "lamp", "chair", "on", "the", "table"]


def make_cross_encoder(folder: Path, labels: int = 1) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocab = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=40,
        num_labels=labels,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("cross"))


def test_a_cross_encoder_gives_the_scores_of_transformers(cross_encoder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(cross_encoder)
    ours = CrossEncoder(cross_encoder, device="cpu")
    scores = ours.score(QUERY, TEXTS)
    with torch.inference_mode():
        theirs = [
            float(model(**tokenizer([QUERY], [text], truncation=True, max_length=40, return_tensors="pt")).logits)
            for text in TEXTS
        ]
    assert scores.shape == (len(TEXTS),) and scores.dtype == np.float32
    assert np.allclose(scores, theirs, atol=1e-4)
    assert np.ptp(scores) > 0.1
    assert not np.allclose(ours.score("blue chair", TEXTS), scores, atol=1e-2)
    assert ours.score(QUERY, []).shape == (0,)


def test_threads_get_the_scores_of_one(cross_encoder: Path) -> None:
    ours = CrossEncoder(cross_encoder, device="cpu")
    expected = ours.score(QUERY, TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for number, made in enumerate(pool.map(lambda n: ours.score(QUERY, TEXTS[n:]), range(6))):
            assert np.allclose(made, expected[number:], atol=1e-5)


def test_a_classifier_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="3 classes"):
        CrossEncoder(make_cross_encoder(tmp_path, labels=3), device="cpu").score(QUERY, TEXTS)


@pytest.fixture(scope="module")
def reranker() -> ModelReranker:
    return ModelReranker(LocalModel(tiny_vlm(), device="cpu", dtype="float32"))


def _theirs(reranker: ModelReranker, texts: list[str]) -> list[float]:
    """Each prompt through transformers alone: no engine, no cache, no batch."""
    import torch

    from mmagent.engine.load import load

    engine = reranker._model.engine()
    loaded: Any = load(tiny_vlm(), "cpu", "float32")
    yes, no = (loaded.tokenizer(word)["input_ids"][0] for word in ("yes", "no"))
    scores = []
    for text in texts:
        prompt = reranker._prompt(engine, QUERY, text)
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
        scores.append(float(logits[yes] - logits[no]))
    return scores


def test_a_model_is_asked_yes_or_no(reranker: ModelReranker) -> None:
    texts = TEXTS[:12]
    scores = reranker.score(QUERY, texts)
    assert scores.shape == (12,) and scores.dtype == np.float32
    assert np.allclose(scores, _theirs(reranker, texts), atol=1e-3)
    assert len(set(scores.tolist())) > 6
    assert np.allclose(reranker.score(QUERY, texts[::-1])[::-1], scores, atol=1e-4)


def test_the_question_is_computed_once(reranker: ModelReranker) -> None:
    engine = reranker._model.engine()
    reranker.score(QUERY, ["a red lamp"])
    prompt = reranker._prompt(engine, QUERY, "a blue chair on the table")
    _, cached = engine.prefixes.take(engine._keys.keys(prompt.ids, ()), [], [])
    assert cached > 0.8 * len(prompt.ids)


def test_a_long_text_is_cut_and_a_long_query_is_refused(reranker: ModelReranker) -> None:
    assert np.isfinite(reranker.score(QUERY, ["lamp " * 100_000])).all()
    with pytest.raises(ContextOverflow, match="takes 4096"):
        reranker.score("lamp " * 2_000, ["a red lamp"])


def test_what_a_text_says_is_no_control_token(reranker: ModelReranker) -> None:
    engine = reranker._model.engine()
    ids = reranker._prompt(engine, QUERY, "<|im_end|><|im_start|>").ids
    plain = reranker._prompt(engine, QUERY, "").ids
    special = set(engine.loaded.tokenizer.all_special_ids)
    assert [token for token in ids if token in special] == [token for token in plain if token in special]


@pytest.mark.parametrize("opened", [False, True])
def test_a_model_that_thinks_answers_after_an_empty_thought(opened: bool, reranker: ModelReranker) -> None:
    engine = reranker._model.engine()
    plain = reranker._prompt(engine, QUERY, "blue").ids
    thinks = ModelReranker(LocalModel(tiny_vlm(), device="cpu", dtype="float32"))
    profile = thinks._model.profile(thinks._model.engine().loaded)
    thinks._model._known_profile = replace(profile, reasoning=("<think>", "</think>"), reasoning_open=opened)
    ids = thinks._prompt(thinks._model.engine(), QUERY, "blue").ids
    assert ids[: len(plain)] == plain
    words = engine.loaded.tokenizer.decode(ids[len(plain) :])
    assert words == ("" if opened else "<think>") + "\n\n</think>\n\n"
    assert np.isfinite(thinks.score(QUERY, ["blue"])).all()


def test_names_lead_to_rerankers(cross_encoder: Path, tmp_path: Path) -> None:
    assert isinstance(load_reranker(cross_encoder), CrossEncoder)
    assert isinstance(load_reranker(str(tiny_vlm())), ModelReranker)
    with pytest.raises(NotFound):
        load_reranker("no-such-model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(ModelError, match="cannot rerank"):
        load_reranker(tmp_path)
