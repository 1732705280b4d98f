"""Drawn documents: answers are what is printed, every character stands where it is said to, and all can be read."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image

from mmagent.errors import ConfigurationError
from mmagent.train.draw import fonts
from mmagent.train.draw.forms import KINDS, MOST, WIDEST, Form, Kind, draw_form
from mmagent.train.draw.papers import SIDE, draw_paper
from mmagent.train.sample import Box, Sample
from mmagent.train.sources import make_source
from mmagent.train.sources.documents import ABSENT, ask, caption, show

Grey: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
"""``[H, W]``, 0 to 255."""
FIELDS = ("order", "date", "total", "shop", "customer", "tracking", "carrier", "price", "count", "kind")


def forms(count: int = 60) -> list[Form]:
    return [draw_form(random.Random(f"form {seed}")) for seed in range(count)]


def said(sample: Sample) -> list[tuple[str, str]]:
    """Questions with their answers."""
    talk = [message for message in sample.messages if message["role"] != "system"]
    return [(one["content"][-1]["text"], other["content"]) for one, other in pairwise(talk) if one["role"] == "user"]


def draws(count: int, **options: Any) -> list[Sample]:
    draw = make_source("documents", options)
    return [draw(random.Random(f"sample {seed}")) for seed in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_is_small_and_prints_its_facts(kind: Kind) -> None:
    for seed in range(100):
        form = draw_form(random.Random(seed), kind)
        lines = form.text.split("\n")
        assert len(lines) <= MOST and max(map(len, lines)) <= WIDEST
        assert all(value in form.text for value in form.facts.values())
        assert all(name in form.text and price in form.text for name, price in form.items)


def test_number_date_and_total_are_nearly_always_there() -> None:
    many = forms(400)
    for field in ("order", "date", "total"):
        share = sum(field in form.facts for form in many) / len(many)
        assert 0.85 < share < 1


def test_answers_are_printed_word_for_word() -> None:
    for seed, form in enumerate(forms()):
        for field in FIELDS[:8]:
            _, answer = ask(random.Random(seed), form, field)
            assert answer == ABSENT or answer in form.text
            assert field == "price" or (answer == ABSENT) == (field not in form.facts)


@pytest.mark.parametrize("field", FIELDS)
def test_each_question_is_asked_in_many_ways(field: str) -> None:
    form = next(form for form in forms() if form.items)
    name = form.items[0][0].lower()
    asked = {ask(random.Random(seed), form, field)[0].lower().replace(name, "<item>") for seed in range(300)}
    assert len(asked) >= 8


def test_a_conversation_has_one_picture_and_the_questions_that_were_ordered() -> None:
    for sample in draws(10, questions=2, transcribe=0):
        asked = [message["content"] for message in sample.messages if message["role"] == "user"]
        blocks = [block["type"] for content in asked for block in content]
        assert blocks.count("image") == len(sample.pictures) == 1
        assert len(said(sample)) == 2


def test_reading_the_text_comes_first_and_gives_every_line() -> None:
    for sample in draws(10, questions=1, transcribe=1):
        read = said(sample)[0][1]
        marks = "".join(mark.name for mark in sample.pictures[0].marks)
        assert marks == re.sub(r"\s", "", read)


@pytest.mark.parametrize("pairs", [0, 1])
def test_lines_ask_for_what_is_printed(pairs: float) -> None:
    draw = make_source("lines", {"most": 3, "pairs": pairs})
    sheets = [draw(random.Random(f"sheet {seed}")) for seed in range(30)]
    for sheet in sheets:
        printed = "".join(mark.name for mark in sheet.pictures[0].marks)
        answers = ["".join(answer.split()) for _, answer in said(sheet)]
        assert all(answer in printed for answer in answers)
        assert pairs or answers == [printed]
    assert len({len(answer.splitlines()) for sheet in sheets for _, answer in said(sheet)}) == 3


def test_json_answers_hold_the_printed_values() -> None:
    found = [json.loads(answer) for sample in draws(40) for _, answer in said(sample) if answer.startswith("{")]
    assert found and all(list(one) == ["order", "date", "total"] for one in found)


def test_the_same_dice_give_the_same_sample() -> None:
    one, other = (make_source("documents", {})(random.Random(7)) for _ in range(2))
    assert one.messages == other.messages
    assert one.pictures[0].image.tobytes() == other.pictures[0].image.tobytes()
    assert one.pictures[0].marks == other.pictures[0].marks


def test_captions_tell_documents_apart() -> None:
    many = forms(300)
    assert len({caption(form) for form in many}) == len(many)
    assert max(len(caption(form).split()) for form in many) <= 30


@pytest.mark.parametrize("options", [{"questions": 0}, {"transcribe": 1.5}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"option (questions|transcribe): Input should be"):
        make_source("documents", options)


# --- where characters stand ---


def cut(grey: Grey, box: Box, shift: int = 0) -> Grey:
    """What is in a box, so many pixels to the right."""
    left, top, right, bottom = map(round, box)
    return grey[top : max(top + 1, bottom), max(0, left + shift) : max(left + 1, right) + shift]


def in_grey(image: Image.Image) -> Grey:
    return np.asarray(image.convert("L"), dtype=float)


def likeness(one: Grey, other: Grey) -> float:
    """Correlation of two cuts, brought to one size."""
    first, second = (small(cut_) for cut_ in (one, other))
    return float(np.corrcoef(first, second)[0, 1]) if min(np.ptp(first), np.ptp(second)) > 0 else 0.0


def small(grey: Grey) -> Grey:
    return np.asarray(Image.fromarray(grey.astype("uint8")).resize((10, 14)), dtype=float).ravel()


@pytest.mark.parametrize("plain", [True, False])
def test_boxes_hold_ink_and_lie_in_the_picture(plain: bool) -> None:
    inked: list[bool] = []
    for seed in range(12):
        rng = random.Random(f"ink {seed}")
        shown = show(rng, draw_form(rng), plain=plain)
        width, height = shown.image.size
        assert min(width, height) >= 320 and max(width, height) <= 640
        grey = in_grey(shown.image)
        for mark in shown.marks:
            left, top, right, bottom = mark.box
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
            if mark.name.isalnum() and mark.name not in "Il1":  # which may fill their boxes
                inked.append(bool(np.ptp(cut(grey, mark.box)) > 40))
    assert np.mean(inked) > 0.97


def test_the_same_character_looks_alike_in_its_boxes_and_another_does_not() -> None:
    alike: list[float] = []
    unlike: list[float] = []
    for seed in range(15):
        rng = random.Random(f"alike {seed}")
        shown = show(rng, draw_form(rng, "invoice"), plain=True)
        grey, digits = in_grey(shown.image), [mark for mark in shown.marks if mark.name in "0234569"]
        for one, other in pairwise(digits):
            same = one.name == other.name
            (alike if same else unlike).append(likeness(cut(grey, one.box), cut(grey, other.box)))
    assert np.median(alike) > 0.95 and np.median(unlike) < 0.7


def test_a_turned_and_worn_picture_has_the_same_characters_in_its_boxes() -> None:
    right: list[float] = []
    beside: list[float] = []
    for seed in range(12):
        flat, worn = (
            draw_paper(rng, draw_form(rng), plain=plain)
            for plain, rng in ((True, random.Random(f"turned {seed}")), (False, random.Random(f"turned {seed}")))
        )
        before, after = in_grey(flat[0]), in_grey(worn[0])
        for one, other in zip(flat[1], worn[1], strict=True):
            assert one.name == other.name
            right.append(likeness(cut(before, one.box), cut(after, other.box)))
            beside.append(likeness(cut(before, one.box), cut(after, other.box, shift=4)))
    assert np.median(right) > 0.9 and np.median(beside) < 0.5


def test_every_document_can_be_read_when_it_is_squeezed() -> None:
    for seed in range(40):
        rng = random.Random(f"squeezed {seed}")
        image, marks = draw_paper(rng, draw_form(rng))
        capitals = [mark.box[3] - mark.box[1] for mark in marks if mark.name in "ABDEFHIKLMNPRTXZ"]
        assert np.median(capitals) * SIDE / image.height >= 7.9
        wide = [mark.box[2] - mark.box[0] for mark in marks if mark.name in "023456789ABDEHKNP"]
        assert np.median(wide) * SIDE / image.width >= 4


# --- fonts ---


def test_pillow_s_own_font_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_files", list)
    fonts.faces.cache_clear()
    try:
        assert {face.path for face in fonts.faces()} == {""}
        rng = random.Random(3)
        assert show(rng, draw_form(rng)).marks
    finally:
        fonts.faces.cache_clear()


def test_faces_have_ink_for_all_that_is_printed() -> None:
    for face in fonts.faces()[::5]:
        assert all(face.glyph(20, char).ink is not None for char in "AZaz019$#&-.,/:")
        assert face.glyph(20, " ").ink is None and face.glyph(20, " ").advance >= 4
