"""What training draws of the shop's world, of drills, products and what is beyond a small model."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from mmagent.errors import ConfigurationError
from mmagent.train.sample import Sample
from mmagent.train.shop import beyond as words
from mmagent.train.shop import photos, pictures, tools
from mmagent.train.shop.cases import draw_picture
from mmagent.train.shop.phrases import is_held_out
from mmagent.train.sources import make_source
from mmagent.train.sources.drills import KINDS

SOURCES: list[tuple[str, dict[str, Any]]] = [
    ("shop", {}), ("products", {}), ("beyond", {}), *(("drills", {"kind": kind}) for kind in KINDS)
]  # fmt: skip


def drawn(name: str, options: dict[str, Any], count: int, seed: int = 0) -> list[Sample]:
    draw, rng = make_source(name, options), random.Random(seed)
    return [draw(rng) for _ in range(count)]


def said(sample: Sample, role: str) -> list[str]:
    texts = []
    for message in sample.messages:
        if message["role"] == role:
            content = message["content"]
            blocks = [{"text": content}] if isinstance(content, str) else content
            texts.append("".join(block.get("text", "") for block in blocks))
    return texts


@pytest.mark.parametrize(("name", "options"), SOURCES)
def test_samples_follow_from_the_dice_and_have_a_picture_for_each_image(name: str, options: dict[str, Any]) -> None:
    samples = drawn(name, options, 20)
    again = drawn(name, options, 20)
    assert [sample.messages for sample in samples] == [sample.messages for sample in again]
    for sample, other in zip(samples, again, strict=True):
        blocks = [block for message in sample.messages for block in message["content"] if isinstance(block, dict)]
        assert sum(block["type"] == "image" for block in blocks) == len(sample.pictures)
        assert [p.image.tobytes() for p in sample.pictures] == [p.image.tobytes() for p in other.pictures]
        assert sample.messages[-1]["role"] == "assistant"
        assert all(picture.image.mode == "RGB" for picture in sample.pictures)


def test_calls_in_shop_samples_are_of_tools_that_were_offered() -> None:
    for sample in drawn("shop", {"distractors": 1.0}, 60):
        offered = {tools.name_of(tool) for tool in sample.tools}
        calls = [call["function"]["name"] for m in sample.messages for call in m.get("tool_calls") or ()]
        assert set(calls) <= offered
        assert set(calls) <= {tools.name_of(tool) for tool in tools.TOOLS}
        assert offered & {tools.name_of(tool) for tool in tools.DISTRACTORS}


def test_policy_answers_copy_a_whole_sentence_and_its_number() -> None:
    found = 0
    for sample in drawn("shop", {}, 80):
        passages = "\n".join(said(sample, "tool")) + "\n"
        for answer in said(sample, "assistant"):
            text, mark, number = answer.rpartition(" [")
            if mark and not text.startswith(("Yes, ", "No, ")):
                found += 1
                after = passages.partition(f"[{number.rstrip(']')}] ")[2].partition("\n")[2].partition("\n")[0]
                assert text in after
    assert found > 10


def test_what_the_shop_searches_for_stands_in_the_question() -> None:
    for sample in drawn("shop", {}, 80):
        asked = "\n".join(said(sample, "user"))
        for message in sample.messages:
            for call in message.get("tool_calls") or ():
                query = call["function"]["arguments"].get("query", "return window and exceptions")
                assert query in asked or query == "return window and exceptions"


def test_unseen_tools_stay_out_of_training() -> None:
    names = {tools.name_of(tool) for sample in drawn("shop", {"distractors": 1.0}, 80) for tool in sample.tools} - {
        tools.name_of(tool) for tool in tools.TOOLS
    }
    assert len(names) > 15
    assert not any(is_held_out(name) for name in names)
    assert len(tools.DISTRACTORS) >= 20


def test_an_unknown_kind_of_drill_lists_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="long, short, policies"):
        make_source("drills", {"kind": "hard"})


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="distractors"):
        make_source("shop", {"distractors": 40})


def test_products_stand_where_their_marks_say() -> None:
    rng = random.Random(2)
    shown = pictures.photo(rng, [("red", "lamp"), ("blue", "mug")])
    assert shown.caption == "a red lamp and a blue mug"
    assert [mark.name for mark in shown.marks] == ["red lamp", "blue mug"]
    for mark, strong in zip(shown.marks, (0, 2), strict=True):
        left, top, right, bottom = map(int, mark.box)
        pixels = np.asarray(shown.image.crop((left, top, right, bottom)).resize((24, 24)), np.int32)
        assert (pixels[..., strong] * 2 > pixels[..., 2 - strong] * 3).sum() > 60
    assert shown.marks[0].box[2] <= shown.marks[1].box[0] + 1


def test_captions_tell_receipts_apart() -> None:
    rng = random.Random(1)
    captions = {pictures.caption(draw_picture(rng, "receipt")) for _ in range(20)}
    assert len(captions) == 20
    assert all(caption.startswith("a receipt of ") and ", total " in caption for caption in captions)


def test_what_is_beyond_it_says_so_and_names_what_to_use_instead() -> None:
    assert all(words.is_beyond(answer) and words.is_beyond(answer, kind) for kind, answer in words.BEYOND.items())
    assert not words.is_beyond(words.BEYOND["knowledge"], "health"), "a larger model is no doctor"
    assert not words.is_beyond(words.BEYOND["health"], "code")
    assert not words.is_beyond("I can only help with our shop: orders, parcels, products and policies.")
    assert words.is_beyond(said(drawn("beyond", {"within": 0.0}, 1)[0], "assistant")[-1])


def test_there_are_hundreds_of_questions_and_the_held_out_ones_are_others() -> None:
    rng = random.Random(0)
    for kind in (*words.TEXT_KINDS, "photo"):
        trained = {words.question(rng, kind) for _ in range(600)}
        kept = {words.question(rng, kind, held_out=True) for _ in range(100)}
        assert len(trained) > 100
        assert len(kept) > 10
        assert not trained & kept


def test_pictures_of_the_open_world_differ() -> None:
    rng = random.Random(0)
    drawings = [photos.photo(rng) for _ in range(12)]
    assert all(200 < side < 500 for image in drawings for side in image.size)
    assert len({image.resize((8, 8)).tobytes() for image in drawings}) == 12
