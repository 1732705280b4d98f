"""Learning curves: one picture of one or several runs, whatever became of them on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mmagent.errors import NotFound
from mmagent.train.plot import RIGHT, count, curves, draw, read_metrics, series, smoothed, ticks

SVG = "{http://www.w3.org/2000/svg}"


def steps(first: int, last: int, start: float = 4.0) -> list[dict[str, Any]]:
    return [{"step": s, "tokens": s * 100, "loss": start / s, "rate": 1.0} for s in range(first, last + 1, 10)]


def check(step: int, **shares: float) -> dict[str, Any]:
    return {"step": step, "tokens": step * 100} | {RIGHT + name: share for name, share in shares.items()}


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_one_picture_of_loss_and_shares(tmp_path: Path) -> None:
    run = write(tmp_path / "a", [*steps(10, 100), check(50, shop=0.25, sgd=0.5), check(100, shop=0.75, sgd=0.5)])
    svg = draw([run], tmp_path / "out" / "curves.svg").read_text()
    said = words(svg)
    assert {"loss", "tokens", "shop 75%", "sgd 50%", "10k"} <= set(said)
    assert said.index("shop 75%") < said.index("sgd 50%"), "the best comes first"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["curves.svg"]


def test_runs_lie_over_each_other(tmp_path: Path) -> None:
    one = write(tmp_path / "one" / "run", [*steps(10, 50), check(50, shop=0.5)])
    two = write(tmp_path / "two" / "run", [*steps(10, 80, 3.0), check(80, shop=0.25)])
    said = words(draw([one, two], tmp_path / "both.svg").read_text())
    assert f"{one}: shop 50%" in said, "folders of one name are told apart"
    assert f"{two}: shop 25%" in said
    assert any(text.startswith(f"{two}: loss") for text in said)


def test_a_run_that_went_on_from_an_earlier_step_is_shown_once(tmp_path: Path) -> None:
    lines = [*steps(10, 60, 9.0), check(60, shop=0.1), *steps(30, 80), check(60, shop=0.9)]
    read = read_metrics(write(tmp_path / "a", lines))
    assert [place for place, _ in series(read, "loss")] == [s * 100 for s in range(10, 90, 10)]
    assert series(read, RIGHT + "shop") == [(6000, 0.9)]
    assert series(read, "loss")[2] == (3000, 4.0 / 30)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    run = write(tmp_path / "a", steps(10, 30))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "tok')
    assert len(read_metrics(run)) == 3


@pytest.mark.parametrize("lines", [[], steps(10, 10), [check(5, shop=1.0)], [{"step": 1, "tokens": 9, "marks": 2.0}]])
def test_the_shortest_runs_have_a_picture(lines: list[dict[str, Any]]) -> None:
    ElementTree.fromstring(curves({"a <b> & c": lines}))


def test_a_stage_without_words_is_shown_by_what_it_has() -> None:
    said = words(curves({"eyes": [{"step": 10, "tokens": 1000, "marks": 1.5, "contrastive": 0.5}]}))
    assert "eyes: contrastive 0.5" in said


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="folder of a run"):
        draw([tmp_path], tmp_path / "x.svg")


def test_figures_and_axes() -> None:
    assert [value for _, value in smoothed([(0, 2.0), (1, 2.0)])] == pytest.approx([2.0, 2.0])
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0, 13_300_000)[-1] == 12_500_000
    assert [count(value) for value in (0, 950, 12_000, 2_500_000)] == ["0", "950", "12k", "2.5M"]
