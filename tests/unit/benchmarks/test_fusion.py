"""What the comparison of fusions counts as right, and what its table and its picture show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from benchmarks.fusion import FUSIONS, Learnt, ask, picture, table
from mmagent.train import Watch
from mmagent.train.encode import Batch
from mmagent.train.trainer import Run
from tests.unit.train.toys import toy


class Answering(torch.nn.Module):
    """Says of each sample what a list has at its place: for each token, whether it is right."""

    def __init__(self, rights: list[list[bool]]) -> None:
        super().__init__()
        self.rights = iter(rights)
        self.asked: list[Batch] = []

    def forward(self, batch: Batch) -> Any:
        assert not self.training
        self.asked.append(batch)
        right = torch.tensor(next(self.rights))
        return SimpleNamespace(wanted=torch.ones(len(right), dtype=torch.long), got=right.long())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("fusion")
    return Run(toy(data=[{"source": "digits", "options": {"length": 2, "side": 32}}]), folder / "toy", Watch(), 0)


def test_digits_are_counted_one_by_one_and_numbers_whole(run: Run) -> None:
    """Of two digits and the end of the message, which is no digit."""
    lesson = Answering([[True, True, True], [True, False, True], [True, True, False], [False, False, True]])
    told: Any = SimpleNamespace(recipe=run.recipe, encoder=run.encoder, bare=lesson)
    assert ask(told, 4) == {"digits": (1 + 0.5 + 1 + 0) / 4, "numbers": 1 / 4}
    assert lesson.training, "training goes on"
    assert len({batch.pixels.numpy().tobytes() for batch in lesson.asked}) == 4, "fresh samples"


def test_a_network_is_asked_the_same_each_time_and_does_not_learn_from_it(run: Run) -> None:
    before = [weight.detach().clone() for weight in run.bare.parameters()]
    shares = ask(run, 6)
    assert shares == ask(run, 6)
    assert shares.keys() == {"digits", "numbers"}
    assert 0 <= shares["numbers"] <= shares["digits"] <= 1
    assert all(torch.equal(*pair) for pair in zip(before, run.bare.parameters(), strict=True))


def learnt(fusion: str, digits: float, numbers: float, flops: float = 2e12) -> Learnt:
    curve = [(flops / 2, numbers / 2), (flops, numbers)]
    return Learnt(fusion, 31_000, flops, 90.0, 1200, curve, {"digits": digits, "numbers": numbers})


def test_the_table_has_means_and_each_seed() -> None:
    rows = table([learnt("late", 0.5, 0.1), learnt("early", 0.9, 0.7), learnt("early", 0.8, 0.5)]).splitlines()
    assert len({row.count("|") for row in rows}) == 1, "all rows have the same columns"
    assert rows[2:] == [
        "| early | 31,000 | 1,200 | 2.00 | 1.5 | 85.0% | 60.0% | 70.0%, 50.0% |",
        "| late | 31,000 | 1,200 | 2.00 | 1.5 | 50.0% | 10.0% | 10.0% |",
    ]


def test_the_picture_has_a_line_for_each_seed_and_one_for_their_mean() -> None:
    drawn = picture([learnt("early", 0.9, 0.7), learnt("early", 0.8, 0.5), learnt("late", 0.5, 0.1)])
    root = ElementTree.fromstring(drawn)
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    lines: dict[str, list[list[tuple[float, float]]]] = {}
    for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
        spots = [tuple(map(float, spot.split(","))) for spot in line.attrib["points"].split()]
        lines.setdefault(line.attrib["stroke"], []).append([(x, y) for x, y in spots])
    assert {color: len(found) for color, found in lines.items()} == {FUSIONS["early"]: 3, FUSIONS["late"]: 2}
    assert all(0 <= x <= width and 0 <= y <= height for found in lines.values() for line in found for x, y in line)
    one, two, mean = lines[FUSIONS["early"]]
    assert [y for _, y in mean] == pytest.approx(
        [(a + b) / 2 for (_, a), (_, b) in zip(one, two, strict=True)], abs=0.1
    )
    assert mean[0][1] > mean[-1][1], "more is right at the end: the line goes up"
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "early 60%" in words and "late 10%" in words
