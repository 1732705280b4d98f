"""What training draws of NLVR: pictures like the files', sentences that are true or false as is said, files refused."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmagent.errors import InputError, NotFound
from mmagent.train.draw.blocks import draw_boxes
from mmagent.train.sample import Sample
from mmagent.train.sources import make_source
from mmagent.train.sources.claim_forms import claim, claim_that_is
from mmagent.train.sources.claims import is_towers
from mmagent.train.sources.nlvr import ORDERS, invent, read


def drawn(count: int, **options: Any) -> list[Sample]:
    draw, rng = make_source("nlvr", options), random.Random(4)
    return [draw(rng) for _ in range(count)]


def answers(samples: list[Sample]) -> Counter[str]:
    return Counter(
        message["content"]
        for sample in samples
        for message in sample.messages
        if message["content"] in ("true", "false")
    )


def plain(sentence: str) -> str:
    return re.sub(r"\s+", " ", sentence.strip().rstrip(".").lower())


@pytest.fixture(scope="module")
def dev() -> Path:
    folder = Path("../shared/data/vqa_nlvr_dev")
    if not folder.is_dir():
        pytest.skip(f"the folder {folder} is absent")
    return folder


def test_samples_follow_from_the_dice_and_true_is_as_frequent_as_false() -> None:
    one, two = drawn(200), drawn(200)
    assert [sample.messages for sample in one] == [sample.messages for sample in two]
    found = answers(one)
    assert 0.45 < found["true"] / found.total() < 0.55


def test_drawn_boxes_are_nlvrs_kinds_with_items_that_do_not_overlap() -> None:
    rng = random.Random(0)
    made = [invent(rng) for _ in range(200)]
    assert 0.3 < sum(map(is_towers, made)) / len(made) < 0.8
    for boxes in made:
        assert len(boxes) == 3
        image, marks = draw_boxes(boxes)
        assert image.size == (400, 100)
        assert len(marks) == sum(map(len, boxes))
        for number, one in enumerate(marks):
            for other in marks[:number]:
                apart = [one.box[i] >= other.box[i + 2] or other.box[i] >= one.box[i + 2] for i in (0, 1)]
                assert any(apart), (one, other)


def test_a_sentence_is_as_true_as_was_wanted() -> None:
    rng = random.Random(1)
    found = Counter(
        ("There is a box." in (text := claim_that_is(rng, invent(rng), wanted)) or "There is no box." in text)
        for wanted in (True, False)
        for _ in range(150)
    )
    assert found[True] <= 3  # the last resort, where nothing else was found


def test_pictures_look_like_the_files(dev: Path) -> None:
    rows = random.Random(0).sample(read(dev), 12)
    for row in rows:
        for order, path in zip(ORDERS, row["files"], strict=True):
            with Image.open(path) as file:
                real = np.asarray(file.convert("RGB")).astype(int)
            ours = np.asarray(draw_boxes([row["structured_rep"][index] for index in order])[0]).astype(int)
            assert np.abs(ours - real).mean() < 1, path


def test_truth_agrees_with_what_people_said(dev: Path) -> None:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in read(dev):
        rows.setdefault(plain(row["sentence"]), []).append(row)
    rng, known = random.Random(2), {}
    for _ in range(30_000):
        text, holds = claim(rng, rng.random() < 0.6)
        if plain(text) in rows:
            known.setdefault(plain(text), holds)
    judged = [
        holds(row["structured_rep"]) == (row["label"] == "true") for text, holds in known.items() for row in rows[text]
    ]
    assert len(judged) > 250
    assert sum(judged) / len(judged) > 0.97  # people err


def test_real_pictures_come_with_real_sentences_and_generated_ones(dev: Path) -> None:
    samples = drawn(60, path=str(dev), real=1.0)
    real = {plain(row["sentence"]) for row in read(dev)}
    for sample in samples:
        asked = [m["content"][-1]["text"] for m in sample.messages if m["role"] == "user"]
        assert sample.pictures[0].image.size == (400, 100)
        assert sample.pictures[0].marks
        assert any(plain(re.sub(r" (True or false|Is that true)\?$", "", text)) in real for text in asked)


def test_bad_rows_are_refused_or_skipped(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no NLVR"):
        read(tmp_path)
    good = {"sentence": "There is a tower.", "label": "true", "identifier": "1-0", "directory": "0"}
    item = {"type": "square", "color": "Black", "size": 20, "x_loc": 40, "y_loc": 80}
    lines = [json.dumps(good | {"structured_rep": [[item]] * number}) for number in (3, 2)]
    (tmp_path / "dev.json").write_text("\n".join(lines))
    with pytest.raises(InputError, match="line 2 cannot be read"):
        read(tmp_path)
    assert len(read(tmp_path, "skip")) == 1
