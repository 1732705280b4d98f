"""What the skills of scenes and of NLVR ask, and what they call right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mmagent.chat import ScriptedModel
from mmagent.chat.protocol import ModelEvent, ModelRequest
from mmagent.errors import ModelError
from mmagent.evaluate.skills import nlvr, scenes
from mmagent.train.sources.nlvr import read
from mmagent.train.sources.scenes import HELD_OUT


class Saying(ScriptedModel):
    """Answers in turn; counts nothing else."""

    def __init__(self, answers: list[str]) -> None:
        super().__init__([])
        self.answers = iter(answers)
        self.asked: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.asked.append(request)
        async for event in ScriptedModel([[next(self.answers)]]).stream(request):
            yield event


def test_right_answers_in_any_case_with_a_period_meet_the_bars() -> None:
    questions = scenes.draw(7, 40) + scenes.draw(7, 12, held_out=True)
    model = Saying([answer.capitalize() + "." for _, _, answer, _ in questions])
    scores = scenes.scenes(model, count=40, seed=7)
    assert [score.name for score in scores] == [*(f"scenes: {kind}" for kind in scenes.KINDS), scenes.NEW]
    assert all(score.met for score in scores)
    assert [score.bar for score in scores] == [0.95] * len(scenes.KINDS) + [0.90]
    assert sum(score.total for score in scores) == 52
    assert all(len(request.messages) == 1 for request in model.asked)


def test_wrong_answers_are_told_with_question_and_answer() -> None:
    scores = scenes.scenes(Saying(["perhaps"] * 13), count=10, seed=1)
    assert all(not score.right and not score.met for score in scores)
    assert all(" | perhaps | " in line for score in scores for line in score.wrong)


def test_other_seeds_ask_other_questions_and_new_combinations_are_shown() -> None:
    assert [put[1] for put in scenes.draw(1, 10)] != [put[1] for put in scenes.draw(2, 10)]
    for sample, _, _, name in scenes.draw(0, 15, held_out=True):
        assert name == scenes.NEW
        assert {tuple(mark.name.split()[1:]) for mark in sample.pictures[0].marks} & HELD_OUT


def test_what_is_not_there_is_asked_for_as_often_as_what_is() -> None:
    starts = ("Is there", "Do you", "Can you", "Does the", "Any", "A ", "An ")
    put = [one for seed in range(2) for one in scenes.draw(seed, 200, held_out=True) if one[1].startswith(starts)]
    answers = [answer for _, text, answer, _ in put if scenes.speaks_of_new(text) and answer in ("yes", "no")]
    assert len(answers) > 30
    assert 0.3 < answers.count("yes") / len(answers) < 0.7


def test_questions_on_new_combinations_are_about_their_colour_or_shape() -> None:
    for sample, text, answer, _ in scenes.draw(3, 60, held_out=True):
        shown = {tuple(mark.name.split()[1:]) for mark in sample.pictures[0].marks} & HELD_OUT
        assert scenes.speaks_of_new(text) or answer in {word for pair in shown for word in pair}


def test_a_model_that_fails_at_a_question_has_it_wrong() -> None:
    def failing(_: ModelRequest) -> str:
        raise ModelError("broken")

    scores = scenes.scenes(ScriptedModel([failing] * 8), count=6, seed=1)
    assert all(not score.right for score in scores)
    assert "ModelError: broken" in scores[0].wrong[0]


def test_nlvr_asks_each_sentence_alone_on_its_file(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nlvr, "FOLDER", shared_data / "vqa_nlvr_test")
    pairs = nlvr.draw(read(shared_data / "vqa_nlvr_test"), 12, 5)
    monkeypatch.setattr(nlvr, "DEV", shared_data / "vqa_nlvr_dev")
    score, new = nlvr.nlvr(Saying([label.capitalize() for _, _, label in pairs]), count=12, seed=5)
    assert (score.name, score.right, score.total, score.bar, score.met) == ("NLVR test", 12, 12, 0.70, True)
    known = {nlvr.plain(row["sentence"]) for row in read(shared_data / "vqa_nlvr_dev")}
    assert new.right == new.total == sum(nlvr.plain(sentence) not in known for _, sentence, _ in pairs) > 0
    assert (new.name, new.bar) == ("NLVR test: sentences not in dev", None)
    most = max([label for _, _, label in pairs].count(label) for label in ("true", "false"))
    assert score.note.endswith(f"would get {most / 12:.1%}")
    assert all(sample.pictures[0].image.size == (400, 100) for sample, _, _ in pairs)


def test_nlvr_without_its_files_says_that_it_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    heard: list[str] = []
    assert nlvr.nlvr(Saying([]), count=1, told=heard.append) == []
    assert heard[0].startswith("skipped: ")
