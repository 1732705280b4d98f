"""Where a decoder should look as it reads: at the picture's token where the next word stands, in its own sample."""

from __future__ import annotations

import math
import random

import pytest
import torch
from PIL import Image

from mmagent.errors import ConfigurationError
from mmagent.testing.tiny import byte_tokenizer
from mmagent.train.encode import Encoder
from mmagent.train.gaze import Gaze, Printed, looks, watched
from mmagent.train.packing import IGNORED, Row, attention, register
from mmagent.train.recipe import parse
from mmagent.train.sample import Mark, Shown
from mmagent.train.sources import make_source
from tests.unit.train.toys import toy

SIDE = 4


def printed(text: str) -> Printed:
    """Lines of a picture of 40 × 40 pixels, each character 10 wide and 10 high: a token each where the side is 4."""
    marks = [
        Mark(char, (10 * column, 10 * line, 10 * column + 10, 10 * line + 10))
        for line, row in enumerate(text.splitlines())
        for column, char in enumerate(row)
        if char != " "
    ]
    return Printed(Shown(Image.new("RGB", (40, 40)), tuple(marks)), 0, SIDE * SIDE)


def found(answer: list[str], picture: Printed, before: int = SIDE * SIDE) -> list[tuple[int, int]]:
    """Looks of an answer behind so many tokens, counted from the one before its first."""
    row = Row([0] * (before + len(answer)), [IGNORED] * before + [1] * len(answer))
    return [(at + 1 - before, to) for at, to in looks(row, [""] * before + answer, [picture])]


def test_each_token_is_looked_for_from_the_one_before_it() -> None:
    row = Row([0] * 19, [IGNORED] * 16 + [1] * 3)
    assert looks(row, [""] * 16 + ["a", "b", "c"], [printed("ab\nc")]) == [(15, 0), (16, 1), (17, 4)]


def test_a_token_of_several_characters_is_looked_for_at_its_first_and_blanks_nowhere() -> None:
    assert found(["a", "b c", "\n", "d", ""], printed("ab\ncd")) == [(0, 0), (1, 1), (3, 5)]


def test_words_of_an_answer_are_looked_for_where_not_all_of_it_is_printed() -> None:
    assert found(["It", " is", " ", "AB", "12", "."], printed("AB12")) == []  # "AB12." is no printed word
    assert found(['{"', "AB", "12", '"}'], printed("x\nAB12")) == [(1, 4), (2, 6)]


def test_a_picture_that_is_shown_after_an_answer_was_not_read_for_it() -> None:
    assert found(["a", "b"], printed("ab"), before=15) == []


@pytest.mark.parametrize(("text", "many"), [("7", 0), ("17", 1), ("55", 0), ("1755", 4)])
def test_what_may_be_printed_by_chance_is_not_looked_for(text: str, many: int) -> None:
    assert len(found(list(text), printed("1755\n4556"))) == (many if len(text) == 4 else 2 * many)


def test_documents_are_looked_at_where_their_characters_stand() -> None:
    encoder = Encoder(byte_tokenizer(), 16, 32, 8)
    sample = make_source("documents", {"transcribe": 1, "questions": 1, "plain": True})(random.Random(3))
    example = encoder.encode(sample)
    first = example.row.ids.index(encoder.image)
    text = sample.messages[-3]["content"] if len(sample.messages) > 3 else sample.messages[-1]["content"]
    assert len(example.looks) >= len("".join(text.split()))
    rows = [(to - first) // 4 for _, to in example.looks[: len("".join(text.split()))]]
    assert min(rows) >= 0 and rows == sorted(rows)


def test_looks_of_packed_samples_stay_inside_their_sample() -> None:
    encoder = Encoder(byte_tokenizer(), 16, 32, 8)
    draw = make_source("digits", {"length": 4, "side": 32})
    batch = encoder.collate([encoder.encode(draw(random.Random(seed))) for seed in range(3)])
    bounds = torch.tensor([0, *batch.packed.lengths]).cumsum(0)
    assert len(batch.looks) == 12
    assert torch.equal(
        torch.bucketize(batch.looks[:, 0].contiguous(), bounds, right=True), torch.arange(1, 4).repeat_interleave(4)
    )
    assert (batch.packed.input_ids[0, batch.looks[:, 1]] == encoder.image).all()


def test_the_loss_is_the_cross_entropy_of_the_attention_itself() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 9, 8) for heads in (2, 1, 1))
    gaze = Gaze(torch.tensor([[3, 1], [8, 6], [7, 6]]), frozenset({5}))
    module = torch.nn.Module()
    module.layer_idx = 5  # type: ignore[assignment]
    attention(module, query, key, value, None, 8**-0.5, lengths=[4, 5], gaze=gaze)
    wanted = 0.0
    for start, at, to in ((0, 3, 1), (4, 8, 6), (4, 7, 6)):
        weights = (query[0, 0, at] @ key[0, 0, start : at + 1].T * 8**-0.5).softmax(0)
        wanted -= math.log(weights[to - start]) / 3
    assert gaze.loss.item() == pytest.approx(wanted, rel=1e-5)
    module.layer_idx = 4  # type: ignore[assignment]
    before = gaze.loss.item()
    attention(module, query, key, value, None, 8**-0.5, lengths=[4, 5], gaze=gaze)
    assert gaze.loss.item() == before


def test_three_layers_are_asked_and_they_exist() -> None:
    for layers in range(1, 40):
        assert 1 <= len(watched(layers)) <= 3 and max(watched(layers)) < layers


def test_a_decoder_that_is_told_where_to_look_looks_there() -> None:
    from mmagent.train.lesson import Lesson
    from mmagent.train.network import build

    register()
    recipe = toy(losses={"text": 1, "gaze": 1})
    assert recipe.shape is not None
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    network = build(recipe.shape, tokenizer)
    network.set_attn_implementation({"text_config": "mmagent_packed"})
    encoder = Encoder(tokenizer, network.config.image_seq_length, recipe.shape.vision.image_side, 2)
    draw = make_source("digits", {"length": 3, "side": 32})
    batch = encoder.collate([encoder.encode(draw(random.Random(seed))) for seed in range(4)])
    lesson = Lesson(network, recipe.losses)
    optimizer = torch.optim.AdamW(lesson.parameters(), 3e-3)
    shares = []
    for _ in range(40):
        answers = lesson(batch)
        optimizer.zero_grad()
        answers.gaze.backward()
        optimizer.step()
        shares.append(answers.looked)
    assert shares[-1] > 0.9 > shares[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"losses": {"text": 0, "marks": 1, "gaze": 1}}, "needs losses.text"),
        ({"losses": {"text": 1, "gaze": -1}}, "losses.gaze"),
    ],
)
def test_recipes_that_ask_for_looks_in_vain_are_refused(fields: dict[str, object], said: str) -> None:
    whole = {"name": "x", "stage": "instruct", "start": "nano", "steps": 1, "data": [{"source": "digits"}]}
    with pytest.raises(ConfigurationError, match=said):
        parse(whole | fields, "x")
