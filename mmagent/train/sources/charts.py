"""Charts with questions about their values. It knows what is asked and what is right, not how a chart is drawn."""

from __future__ import annotations

import random

from mmagent.train.draw.charts import Chart, ChartKind, draw_chart, draw_chart_paper
from mmagent.train.sample import Count, Draw, Sample, Shown
from mmagent.train.shop.phrases import expand
from mmagent.train.sources.documents import conversation

NAMES: dict[ChartKind, tuple[str, str]] = {
    "bars": ("bar chart", "bars"),
    "rows": ("bar chart", "bars"),
    "line": ("line chart", "points"),
    "pie": ("pie chart", "slices"),
}
"""What a chart is called, and what its values are."""

_ASKED: dict[str, str] = {
    "value": "{What is|What's} {the value of |}<a>?|{Read|Give} {the value of |}<a>.|How {much|many} for <a>?|<a>?"
    "|What does <a> have?|Value of <a>?|Which value does <a> have?|The value of <a>, please.",
    "highest": "{What|Which} is {the highest|the largest|the most}?|Highest?|Largest?|{Which|What} has the most?"
    "|Name the {highest|largest}.|Where is the {peak|maximum}?|Which one leads?",
    "lowest": "{What|Which} is {the lowest|the smallest|the least}?|Lowest?|Smallest?|{Which|What} has the least?"
    "|Name the {lowest|smallest}.|Where is the minimum?",
    "title": "{What is|What's} the title?|{Read|Give} the title.|Title?|What is it {about|called}?|The title, please."
    "|What does the {heading|title} say?|What is shown?|Name the chart.",
    "count": "How many <things>{| are there| are shown| does it have}?|{Count|Number of} <things>.|How many values?"
    "|How many things are compared?",
    "more": "Is <a> {more|higher|larger} than <b>?|{Does|Did} <a> have more than <b>?|<a> above <b>?|Is <a> over <b>?",
    "less": "Is <a> {less|lower|smaller} than <b>?|{Does|Did} <a> have less than <b>?|<a> below <b>?|Is <a> under <b>?",
    "kind": "{Which|What} kind of chart?|What chart is {this|it}?|Chart type?|Name the kind of chart.",
    "all": "Read {all|the} values.|All values?|List {all|the} values.|{Give|Name} {every value|all values}.",
}
_WEIGHTS = {
    "value": 6, "highest": 2, "lowest": 2, "title": 2, "count": 2, "more": 2, "less": 2, "kind": 0.5, "all": 1.5,
}  # fmt: skip


def charts(questions: Count = 4, plain: bool = False) -> Draw:
    """A source of charts, each with a conversation about it.

    Args:
        questions: How many a conversation has.
        plain: Pictures are not worn.
    """

    def draw(rng: random.Random) -> Sample:
        chart = draw_chart(rng)
        asked: list[tuple[str, str]] = []
        while len(asked) < questions:
            pair = ask_chart(rng, chart, rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0])
            if pair[1] not in [answer for _, answer in asked] or rng.random() < 0.25:
                asked.append(pair)
        return conversation(rng, asked, show_chart(rng, chart, plain=plain))

    return draw


def show_chart(rng: random.Random, chart: Chart, *, plain: bool = False) -> Shown:
    """A chart as a picture."""
    image, marks = draw_chart_paper(rng, chart, plain=plain)
    values = ", ".join(f"{name} {value}" for name, value in chart.values.items())
    return Shown(image, marks, f"A {NAMES[chart.kind][0]} titled {chart.title}: {values}.")


def ask_chart(rng: random.Random, chart: Chart, about: str) -> tuple[str, str]:
    """A question about a chart and its answer.

    Args:
        rng: Draws the words, and the names that are asked about.
        chart: The chart.
        about: ``value``, ``highest``, ``lowest``, ``title``, ``count``, ``more``, ``less``, ``kind`` or ``all``.
    """
    values, (name, things) = chart.values, NAMES[chart.kind]
    one, other = rng.sample(list(values), 2)
    question = expand(rng, "{" + _ASKED[about] + "}")
    answers = {
        "value": str(values[one]),
        "highest": max(values, key=lambda key: values[key]),
        "lowest": min(values, key=lambda key: values[key]),
        "title": chart.title,
        "count": str(len(values)),
        "more": "Yes." if values[one] > values[other] else "No.",
        "less": "Yes." if values[one] < values[other] else "No.",
        "kind": f"A {name}.",
        "all": "\n".join(f"{key} {value}" for key, value in values.items()),
    }
    return question.replace("<a>", one).replace("<b>", other).replace("<things>", things), answers[about]
