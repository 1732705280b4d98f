"""``mmagent eval nano``: a table, a report and an exit code, whatever a skill comes to."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmagent.chat import LocalModel, ScriptedModel
from mmagent.cli.main import main
from mmagent.errors import ModelError, NotFound
from mmagent.evaluate import nano
from mmagent.evaluate.ask import Asker
from mmagent.evaluate.skills import SKILLS, Score
from mmagent.evaluate.skills import speed as speed_skill
from mmagent.evaluate.skills.speed import question, speed
from mmagent.testing import call
from mmagent.testing.tiny import tiny_vlm

Skills = dict[str, Callable[..., list[Score]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm(tmp_path_factory.mktemp("models") / "tiny")


def good(model: Any, *, count: int | None, seed: int, told: Callable[[str], None]) -> list[Score]:
    told(f"asked {count} with seed {seed}")
    return [Score("scenes: count", 9, 10, 0.9), Score("scenes: color", 5, 10)]


def bad(model: Any, *, count: int | None, seed: int, told: Callable[[str], None]) -> list[Score]:
    return [Score("nlvr", 1, 2, 0.7, wrong=("a dot | yes | no",))]


def absent(model: Any, *, count: int | None, seed: int, told: Callable[[str], None]) -> list[Score]:
    raise NotFound("there is no file dev.json; get the data")


def half(model: Any, *, count: int | None, seed: int, told: Callable[[str], None]) -> list[Score]:
    told("skipped: there is no file oos.json")
    return [Score("intents", 1, 1)]


def fast(model: Any, *, count: int | None, seed: int, told: Callable[[str], None]) -> list[Score]:
    return [Score("first token", 0.5, 0, 1.0, "s")]


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    made: Skills = {"scenes": good, "nlvr": bad, "sgd": absent, "intents": half, "speed": fast}
    monkeypatch.setattr(nano, "skill", made.__getitem__)

    def call(*arguments: object) -> int:
        with pytest.raises(SystemExit) as end:
            main(["eval", "nano", "--model", str(model), *map(str, arguments)])
        assert isinstance(end.value.code, int)
        return end.value.code

    return call


def only(*names: str) -> list[str]:
    return [word for name in names for word in ("--skill", name)]


def test_a_table_and_an_exit_code(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*only("speed", "scenes", "nlvr", "sgd", "intents"), "-v") == 1
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert rows[:8] == [
        ["skill", "right", "share", "bar", "met"],
        ["scenes:", "count", "9/10", "90.0%", "90%", "met"],
        ["scenes:", "color", "5/10", "50.0%"],
        ["nlvr", "1/2", "50.0%", "70%", "NOT", "met"],
        ["sgd", "skipped"],
        ["intents", "1/1", "100.0%"],
        ["first", "token", "0.5", "s", "1", "s", "met"],
        [],
    ]
    assert "sgd skipped: there is no file dev.json; get the data" in out
    assert "intents skipped: there is no file oos.json" in out
    assert "nlvr: a dot | yes | no" in out
    assert out.rstrip().endswith("not met: nlvr")
    assert "scenes (1 of 5)" in err.splitlines()


def test_all_bars_met(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*only("scenes", "speed", "sgd")) == 0
    assert "every bar that was measured is met" in capsys.readouterr().out


def test_nothing_measured_is_no_success(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*only("sgd")) == 1
    assert "no bar was measured" in capsys.readouterr().out


def test_the_report(run: Callable[..., int], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "report.json"
    assert run(*only("scenes"), "--count", 3, "--seed", 5, "--out", out, "--json") == 0
    printed, err = capsys.readouterr()
    assert "asked 3 with seed 5" in err
    report = json.loads(printed)
    assert report == json.loads(out.read_text())
    assert (report["model"], report["hash"]) == ("tiny", nano.model_hash(model))
    assert {"python", "mmagent", "torch", "transformers"} <= report["versions"].keys()
    assert report["machine"].endswith(("core", "cores")) or "NVIDIA" in report["machine"]
    assert report["date"].startswith("20")
    assert nano.read_report(out).measured[0].scores[0].share == 0.9


def test_a_skill_that_is_not_there(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--skill", "singing") == 2
    assert capsys.readouterr().err.count("; choose from: scenes, nlvr") == 1


def test_ctrl_c(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(*_: Any, **__: Any) -> list[Score]:
        raise KeyboardInterrupt

    monkeypatch.setattr(nano, "skill", lambda name: stopped)
    assert run(*only("scenes")) == 130
    assert capsys.readouterr().err.endswith("error: interrupted\n")


def test_a_card_is_written_beside_the_weights(run: Callable[..., int], model: Path, tmp_path: Path) -> None:
    made = tmp_path / "made" / "model"
    made.mkdir(parents=True)
    recipe = {"name": "toy", "stage": "instruct", "steps": 4, "data": [{"source": "digits"}]}
    (made / "training.json").write_text(json.dumps({"recipe": recipe, "tokens": 100}))
    (made.parent / "metrics.jsonl").write_text("")
    limits = tmp_path / "limits.md"
    limits.write_text("Small.")
    run(*only("nlvr"), "--card", made.parent, "--limits", limits)
    card = (model / "MODEL_CARD.md").read_text()
    assert "| nlvr | 1 of 2 | 50.0% | 70% | **NOT met** |" in card
    assert "## Limits\n\nSmall." in card


def test_a_card_that_cannot_be_written_is_told_before_anything_is_asked(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*only("nlvr"), "--card", tmp_path) == 2
    made = tmp_path / "made" / "model"
    made.mkdir(parents=True)
    recipe = {"name": "toy", "stage": "instruct", "steps": 4, "data": [{"source": "digits"}]}
    (made / "training.json").write_text(json.dumps({"recipe": recipe, "tokens": 100}))
    (made.parent / "metrics.jsonl").write_text("")
    assert run(*only("nlvr"), "--card", made.parent, "--limits", tmp_path / "none.md") == 2
    assert run(*only("nlvr"), "--out", tmp_path) == 2
    out, err = capsys.readouterr()
    assert not out and "nlvr (1 of 1)" not in err


def test_the_report_is_kept_after_each_skill(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"

    def stopped(*_: Any, **__: Any) -> list[Score]:
        assert [one.skill for one in nano.read_report(out).measured] == ["scenes"]
        raise KeyboardInterrupt

    made: Skills = {"scenes": good, "nlvr": stopped}
    monkeypatch.setattr(nano, "skill", made.__getitem__)
    assert run(*only("scenes", "nlvr"), "--out", out) == 130
    assert [one.skill for one in nano.read_report(out).measured] == ["scenes"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_skill_that_fails_stops_no_other(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def failing(*_: Any, **__: Any) -> list[Score]:
        raise ModelError("out of memory")

    made: Skills = {"scenes": good, "nlvr": failing, "speed": fast}
    monkeypatch.setattr(nano, "skill", made.__getitem__)
    out = tmp_path / "report.json"
    assert run(*only("scenes", "nlvr", "speed"), "--out", out) == 1, "what failed is not met"
    printed = capsys.readouterr().out
    assert "nlvr failed: ModelError: out of memory" in printed
    assert printed.rstrip().endswith("; failed: nlvr")
    report = nano.read_report(out)
    assert [one.failed for one in report.measured] == [False, True, False] and not report.met


def test_skills_keep_their_order() -> None:
    assert nano.choose([]) == list(SKILLS)
    assert nano.choose(["speed", "scenes"]) == ["scenes", "speed"]


def test_speed_is_measured_on_pictures_that_no_cache_knows(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    class Counting(LocalModel):
        def _events(self, *arguments: Any) -> Any:
            counts.append(torch.get_num_threads())
            return super()._events(*arguments)

    monkeypatch.setattr(speed_skill, "LocalModel", Counting)
    local, before = LocalModel(model), torch.get_num_threads()
    with Asker(local) as ask:
        ask(question(random.Random(1)), max_tokens=1)  # its worker has computed
    scores = speed(local, count=2, seed=1)
    assert [(score.unit, score.bar) for score in scores] == [("s", 1.0), ("tokens/s", None)]
    assert scores[0].met is True, "a toy is fast"
    assert set(counts) == {2}, "the threads that compute are two, whatever they were before"
    assert torch.get_num_threads() == before
    rng = random.Random(0)
    one, two = question(rng), question(rng)
    assert one.messages[0] != two.messages[0]
    assert one.pictures[0].image.tobytes() != two.pictures[0].image.tobytes()


async def paced(reply: list[Any]) -> speed_skill.Pace:
    with Asker(ScriptedModel([reply])) as ask:
        return await speed_skill.pace(ScriptedModel([reply]), ask.request(question(random.Random(0))))


def test_the_first_event_that_counts_carries_text_or_a_call() -> None:
    assert asyncio.run(paced(["Hello."])).first > 0
    one = asyncio.run(paced([call("track", number="7")]))
    assert one.first > 0 and one.rest == 0
    assert asyncio.run(paced([""])).first == 0
