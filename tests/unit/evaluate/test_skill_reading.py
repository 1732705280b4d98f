"""What the figures of reading and of pairs mean: which answers are right, and that what is missing is said."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmagent.chat.local import LocalModel
from mmagent.chat.scripted import ScriptedModel
from mmagent.evaluate.skills import reading as skill
from mmagent.evaluate.skills.pairs import draw_pairs, pairs, scored
from mmagent.evaluate.skills.reading import BAR, document_questions, is_right, reading, receipt_questions
from mmagent.train.sources import make_source

RECEIPTS = Path("../shared/data/receipts_sroie")
BARRED = ["reading: order number", "reading: date", "reading: total"]


def asked_of(count: int) -> list[skill.Asked]:
    return [*document_questions(count, 0), *skill.chart_questions(max(1, count // 4), 0)]


def test_a_model_that_reads_has_all_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    scores = reading(ScriptedModel([one.answer for one in asked_of(8)]), count=8, told=told.append)
    assert [score.name for score in scores[:3]] == BARRED
    assert all(score.share == 1 and score.bar == BAR for score in scores[:3])
    assert all(score.share == 1 and score.bar is None for score in scores[3:])
    assert "reading: chart" in [score.name for score in scores]
    assert told[0].startswith("skipped: ")


def test_a_model_that_says_the_same_to_all_is_told_what_was_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scores = reading(ScriptedModel(["A-12345"] * 99), count=4, told=lambda _: None)
    assert all(score.right == 0 and "A-12345" in score.wrong[0] for score in scores[:3])


@pytest.mark.parametrize(
    ("answer", "right"), [("48.90", True), (" 48.90\n", True), ("48,90", False), ("48.90 EUR", False), ("", False)]
)
def test_an_answer_is_right_sign_by_sign(answer: str, right: bool) -> None:
    assert is_right(answer, "48.90") is right


def test_questions_are_not_those_of_training() -> None:
    held_out = [one.sample.pictures[0].image.tobytes() for one in document_questions(4, 0)]
    draw = make_source("documents", {})
    assert not set(held_out) & {draw(random.Random(seed)).pictures[0].image.tobytes() for seed in range(4)}


@pytest.mark.skipif(not RECEIPTS.is_dir(), reason="the receipts in ../shared/data/receipts_sroie are absent")
def test_scanned_receipts_are_asked_for_date_and_total() -> None:
    asked = list(receipt_questions(RECEIPTS, 3))
    assert {one.groups for one in asked} == {("reading: scanned receipt, date",), ("reading: scanned receipt, total",)}
    assert all(one.answer and one.sample.pictures for one in asked)


# --- pairs ---


def test_recall_counts_each_way_apart() -> None:
    pictures = np.eye(4, dtype=np.float32)
    texts = np.eye(4, dtype=np.float32)
    texts[3] = texts[0]  # the last caption is like the first picture
    image_to_text, text_to_image = scored(pictures, texts, ["a", "b", "c", "d"])
    assert (image_to_text.name, image_to_text.right, image_to_text.total) == ("image to text r@1", 3, 4)
    assert (text_to_image.name, text_to_image.right, text_to_image.bar) == ("text to image r@1", 3, 0.90)
    assert text_to_image.wrong == ("d | a",)


def test_pairs_have_captions_of_their_own_and_come_again() -> None:
    shown = draw_pairs(12, 0)
    assert len({one.caption for one in shown}) == len(shown) == 12
    assert [one.caption for one in draw_pairs(12, 0)] == [one.caption for one in shown]
    assert sum(any(kind in one.caption for kind in ("receipt", "invoice", "screen", "label")) for one in shown) >= 6


def test_a_model_without_a_head_is_not_scored() -> None:
    config = SimpleNamespace(projection_dim=None, model_type="mmagent")
    network = SimpleNamespace(config=config, name_or_path="nowhere")
    model: Any = SimpleNamespace(name="plain", engine=lambda: SimpleNamespace(loaded=SimpleNamespace(model=network)))
    told: list[str] = []
    assert pairs(model, told=told.append) == []
    assert told == ["skipped: plain has no contrastive head"]


def test_a_network_with_a_head_is_scored_both_ways(tmp_path: Path) -> None:
    import torch
    from transformers import AutoProcessor

    from mmagent.model import MMAgentConfig, MMAgentForConditionalGeneration
    from mmagent.model.processor import build_processor
    from mmagent.testing.checkpoints import tiny_vlm

    plain = tiny_vlm()
    config = MMAgentConfig.from_pretrained(plain, projection_dim=16)
    torch.manual_seed(0)
    MMAgentForConditionalGeneration(config).save_pretrained(tmp_path)
    build_processor(AutoProcessor.from_pretrained(plain).tokenizer, config).save_pretrained(tmp_path)
    scores = pairs(LocalModel(tmp_path), count=6)
    assert [(score.name, score.total) for score in scores] == [("image to text r@1", 6), ("text to image r@1", 6)]
