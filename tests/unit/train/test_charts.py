"""Drawn charts: what is asked follows from the values, and every character stands where it is said to."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mmagent.errors import ConfigurationError
from mmagent.train.draw.charts import CHARTS, ChartKind, draw_chart
from mmagent.train.sources import make_source
from mmagent.train.sources.charts import ask_chart, show_chart

ABOUT = ("value", "highest", "lowest", "title", "count", "more", "less", "kind", "all")


@pytest.mark.parametrize("kind", CHARTS)
def test_a_chart_prints_its_title_names_and_values_inside_the_picture(kind: ChartKind) -> None:
    for seed in range(15):
        rng = random.Random(f"{kind} {seed}")
        chart = draw_chart(rng, kind)
        assert 3 <= len(chart.values) <= 6 and len(set(chart.values.values())) == len(chart.values)
        shown = show_chart(rng, chart)
        printed = "".join(mark.name for mark in shown.marks)
        assert printed.startswith(chart.title.replace(" ", ""))
        assert all(name in printed and str(value) in printed for name, value in chart.values.items())
        width, height = shown.image.size
        for left, top, right, bottom in (mark.box for mark in shown.marks):
            assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_answers_follow_from_the_values() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        chart = draw_chart(rng)
        answers = {about: ask_chart(rng, chart, about)[1] for about in ABOUT}
        assert int(answers["value"]) in chart.values.values()
        assert chart.values[answers["highest"]] == max(chart.values.values())
        assert chart.values[answers["lowest"]] == min(chart.values.values())
        assert answers["count"] == str(len(chart.values))
        assert answers["all"].count("\n") == len(chart.values) - 1


@pytest.mark.parametrize("about", ["value", "highest", "lowest", "title", "count", "more", "less"])
def test_questions_are_asked_in_many_ways(about: str) -> None:
    chart = draw_chart(random.Random(1))
    assert len({ask_chart(random.Random(seed), chart, about)[0] for seed in range(200)}) >= 8


def test_a_conversation_has_the_questions_that_were_ordered() -> None:
    sample = make_source("charts", {"questions": 3})(random.Random(0))
    assert sum(message["role"] == "assistant" for message in sample.messages) == 3
    assert len(sample.pictures) == 1 and len(sample.pictures[0].caption.split()) <= 30


def test_the_same_dice_give_the_same_sample() -> None:
    one, other = (make_source("charts", {})(random.Random(5)) for _ in range(2))
    assert one.messages == other.messages and one.pictures[0].image.tobytes() == other.pictures[0].image.tobytes()


@pytest.mark.parametrize("options", [{"questions": 0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="questions"):
        make_source("charts", options)


def test_no_question_can_mean_a_place_in_the_picture() -> None:
    """What stands on top of a chart of rows, or last in a pie, is not always the largest or the smallest."""
    chart = draw_chart(random.Random(1))
    asked = {ask_chart(random.Random(seed), chart, about)[0] for about in ("highest", "lowest") for seed in range(300)}
    assert not [text for text in asked if "on top" in text or "last" in text]
