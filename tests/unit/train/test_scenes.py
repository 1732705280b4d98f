"""What training draws of scenes: questions with one answer, pictures that show what is marked, and what is held out."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest

from mmagent.train.draw.blocks import COLORS, SHAPES, Thing
from mmagent.train.sample import Sample
from mmagent.train.sources import make_source
from mmagent.train.sources.scenes import HELD_OUT, Asked, ask_about, invent

THREE = (
    Thing("large", "red", "circle", 0.2, 0.2, 0.13),
    Thing("small", "blue", "square", 0.5, 0.55, 0.06),
    Thing("small", "blue", "star", 0.85, 0.8, 0.06),
)


def drawn(count: int, held_out: bool = False) -> list[Sample]:
    draw, rng = make_source("scenes", {"held_out": held_out}), random.Random(3)
    return [draw(rng) for _ in range(count)]


def words(sample: Sample) -> str:
    texts = [sample.pictures[0].caption]
    for message in sample.messages:
        content = message["content"]
        texts += [content] if isinstance(content, str) else [block.get("text", "") for block in content]
    return " ".join(texts)


def pairs_of(sample: Sample) -> set[tuple[str, str]]:
    named = [mark.name.split() for mark in sample.pictures[0].marks]
    return {(color, shape) for _, color, shape in named}


@cache
def asked_about(things: tuple[Thing, ...]) -> set[Asked]:
    rng = random.Random(0)
    return {asked for _ in range(3000) for asked in ask_about(rng, things, 6)}


def test_samples_follow_from_the_dice() -> None:
    one, two = drawn(5), drawn(5)
    assert [sample.messages for sample in one] == [sample.messages for sample in two]
    assert [s.pictures[0].image.tobytes() for s in one] == [s.pictures[0].image.tobytes() for s in two]


def test_the_middle_of_a_mark_has_the_colour_that_its_name_says() -> None:
    checked = 0
    for sample in drawn(60):
        pixels = np.asarray(sample.pictures[0].image).astype(int)
        for mark in sample.pictures[0].marks:
            _, color, shape = mark.name.split()
            left, top, right, bottom = mark.box
            if shape == "moon":
                continue  # its middle is hollow
            found = pixels[int((top + bottom) / 2), int((left + right) / 2)]
            assert np.abs(found - np.array(COLORS[color])).max() < 70, (mark, found)
            checked += 1
    assert checked > 100


def test_training_neither_shows_nor_speaks_of_what_is_held_out() -> None:
    forbidden = [f"{color} {shape}" for color, shape in HELD_OUT]
    for sample in drawn(120):
        assert not pairs_of(sample) & HELD_OUT
        assert not any(phrase in words(sample) for phrase in forbidden)


def test_held_out_scenes_show_what_is_held_out() -> None:
    assert all(pairs_of(sample) & HELD_OUT for sample in drawn(60, held_out=True))


def test_every_combination_that_is_not_held_out_is_drawn() -> None:
    rng = random.Random(0)
    seen = {(thing.color, thing.shape) for _ in range(1500) for thing in invent(rng, 5, held_out=False)}
    assert seen == {(color, shape) for color in COLORS for shape in SHAPES} - HELD_OUT


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("attribute", "What colour is the circle?", "red"),
        ("attribute", "What shape is the red thing?", "circle"),
        ("attribute", "What size is the star?", "small"),
        ("count", "How many blue things are there?", "2"),
        ("count", "How many things are there?", "3"),
        ("relation", "Is the circle left of the star?", "yes"),
        ("relation", "Is the star above the square?", "no"),
        ("relation", "What shape is the lowest thing?", "star"),
        ("relation", "What colour is the thing left of the square?", "red"),
        ("compare", "Are there more blue things than circles?", "yes"),
        ("compare", "Are there as many circles as squares?", "yes"),
    ],
)
def test_answers_are_right(kind: str, text: str, answer: str) -> None:
    assert (kind, text, answer) in {one[:3] for one in asked_about(THREE)}


def test_what_two_things_share_names_neither() -> None:
    texts = [text for kind, text, *_ in asked_about(THREE) if kind in ("attribute", "relation")]
    assert texts
    assert not any("the blue thing" in text or "the small thing" in text for text in texts)


def test_sides_that_are_not_clear_are_not_asked_about() -> None:
    level = (Thing("large", "red", "circle", 0.2, 0.50, 0.13), Thing("small", "blue", "square", 0.8, 0.53, 0.06))
    texts = " ".join(text for kind, text, *_ in asked_about(level) if kind == "relation")
    assert "left" in texts
    assert not any(word in texts for word in ("above", "below", "highest", "lowest"))


def test_a_picture_has_different_questions() -> None:
    for sample in drawn(50):
        texts = [message["content"][-1]["text"] for message in sample.messages if message["role"] == "user"]
        assert len(set(texts)) == len(texts) >= 5


def test_held_out_combinations_are_asked_for_where_they_are_and_where_not() -> None:
    rng = random.Random(0)
    answers: dict[str, int] = {}
    doubles = 0
    for _ in range(300):
        things = invent(rng, 5, held_out=True)
        doubles += sum((thing.color, thing.shape) in HELD_OUT for thing in things) > 1
        for kind, text, answer, _ in ask_about(rng, things, 6, things[0]):
            if kind == "exists" and any(f"{color} {shape}" in text for color, shape in HELD_OUT):
                answers[answer] = answers.get(answer, 0) + 1
    assert sum(answers.values()) > 60
    assert 0.35 < answers["yes"] / sum(answers.values()) < 0.65
    assert 30 < doubles < 150


def test_only_colour_and_shape_of_the_first_are_marked_as_about_it() -> None:
    rng = random.Random(0)
    marked = [one for _ in range(200) for one in ask_about(rng, THREE, 6, THREE[0]) if one.of_first]
    assert {one.kind for one in marked} == {"attribute"}
    assert {one.answer for one in marked} == {"red", "circle"}
