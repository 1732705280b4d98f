"""What the skills of the shop, of grounding and of what is beyond a model call right and wrong."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from mmagent.chat import ScriptedModel
from mmagent.chat.protocol import ModelEvent, ModelRequest
from mmagent.evaluate import shop as task
from mmagent.evaluate.ask import Reply
from mmagent.evaluate.shop import Said
from mmagent.evaluate.skills import beyond, grounding
from mmagent.evaluate.skills import shop as skill
from mmagent.testing import call
from mmagent.train.shop.beyond import BEYOND
from mmagent.train.shop.cases import draw_case
from mmagent.train.shop.world import Case, Hits, Step, solve


class Oracle(ScriptedModel):
    """Does what is right, in the cases that it is given in turn."""

    def __init__(self, cases: list[Case]) -> None:
        super().__init__([])
        self._cases = iter(cases)
        self._turns: list[Any] = []
        self._solution: Any = None

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if request.messages[-1].role == "user":
            if sum(message.role == "user" for message in request.messages) == 1:
                self._case = next(self._cases)
                self._turns = list(self._case.turns)
            turn = self._turns.pop(0)
            self._solution = solve(self._case, turn, turn.intent)
            step: Step = next(self._solution)
        else:
            step = self._solution.send(self._results(request))
        reply = [step.text, *(call(one.name, **one.args) for one in step.calls)]
        async for event in ScriptedModel([[part for part in reply if part]]).stream(request):
            yield event

    def _results(self, request: ModelRequest) -> tuple[Any, ...]:
        last = max(index for index, message in enumerate(request.messages) if message.role == "assistant")
        return tuple(task.read(self._case, m.name or "", m.text) for m in request.messages[last + 1 :])


def test_the_right_steps_through_the_real_agent_are_right() -> None:
    cases = [case for _, case in task.cases(4, 3)]
    outcomes = skill.play(Oracle(cases), 4, 3, lambda _: None)
    misses = ("the search did not find", "OCR did not read", "called", "answered")  # chance is real, a crash is not
    assert sum(not outcome.wrong for outcome in outcomes) >= 3
    assert all(outcome.wrong.startswith(misses) for outcome in outcomes if outcome.wrong)
    assert all(not grounding.ungrounded(said.answer, said.sources) for one in outcomes for said in one.said)


def test_a_model_that_says_the_same_to_all_is_told_what_was_right() -> None:
    outcomes = skill.play(ScriptedModel(["Hello."] * 9), 3, 0, lambda _: None)
    assert all("Hello." in outcome.wrong for outcome in outcomes)
    assert {outcome.group for outcome in outcomes} <= {*task.GROUPS.values(), task.MISSING}


def test_cases_that_lack_something_and_those_beyond_the_shop_are_counted_apart() -> None:
    groups = {task.group_of(draw_case(random.Random(seed), held_out=True)) for seed in range(200)}
    assert groups == {*task.GROUPS.values(), task.MISSING}


def test_passages_keep_their_numbers_through_a_conversation() -> None:
    case = draw_case(random.Random(5))
    text = f"[4] {case.sections[0].title}\n{case.sections[0].text}"
    assert task.read(case, "search_knowledge", text) == Hits(((4, case.sections[0]),))


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ("The lamp costs 12.50 EUR and 3 are in stock.", []),
        ("The lamp costs 12.60 EUR.", ["12.60"]),
        ("The lamp costs 12 EUR.", ["12"]),
        ("Order A-4711 goes to Maya in Lyon on 2026-01-03. [2]", []),
        ("Order A-471 goes to Noah in Lyon. [1]", ["A-471", "Noah"]),
        ("Yes. Please ask.", []),
        ("Luther [1]", ["Luther"]),
        ("Paris is right.", ["Paris"]),
        ("Total: Berlin", ["Total", "Berlin"]),
        ("It was made by NATO in Österreich.", ["NATO", "Österreich"]),
        ("There are three, not twelve or twenty-one.", ["twelve", "twenty-one"]),
        (BEYOND["knowledge"], []),
    ],
)
def test_what_an_answer_states_must_stand_in_its_sources(answer: str, missing: list[str]) -> None:
    sources = 'Order A-4711, to Maya in Lyon, 2026-01-03.\n[2] {"price": "12.50 EUR", "in_stock": 3}'
    assert grounding.ungrounded(answer, sources) == missing


def test_silence_is_no_pass_and_is_counted_apart() -> None:
    silent = [
        grounding.judged(Said("Hello.", "")),
        grounding.judged(Said("", "")),
        grounding.judged(Said("No. [1]", "")),
    ]
    scores = {score.name: score for score in grounding.scores_of({"shop": silent})}
    assert scores["grounding"].met is False and scores["grounding"].share == 0
    assert grounding.score_of("grounding", [], 0.98).met is False
    both = grounding.scores_of({"shop": [*silent, grounding.judged(Said("12 days.", "within 12 days"))]})
    assert [(score.name, score.right, score.total, score.bar) for score in both] == [
        ("grounding", 1, 1, 0.98),
        ("grounding: answers that state nothing", 3, 4, None),
        ("grounding: shop", 1, 1, None),
    ]


@pytest.mark.parametrize(
    ("answer", "stated", "right"),
    [
        ("the ninety-five theses [1]", True, True),
        ("Ninety-five theses [1]", True, True),
        ("some theses [1]", True, False),
        ("these [1]", True, False),
        ("The documents do not say.", False, True),
        ("", False, True),
    ],
)
def test_answers_on_passages_are_words_of_one(answer: str, stated: bool, right: bool) -> None:
    one = grounding.judged(Said(answer, "[1] Luther\nHe wrote the ninety-five  theses in 1517."), quoted=True)
    assert (one.stated, not one.missing) == (stated, right)


def test_numbers_that_a_sentence_ends_with_are_found() -> None:
    assert grounding.ungrounded("It takes 14 days, not 15.", "Between 14, 15.") == []


def test_photographs_and_frames_of_films_are_opened(shared_data: Path) -> None:
    photos = beyond.real_photos(shared_data)
    assert len(photos) >= 30
    assert {photos[0]().mode, photos[-1]().mode} == {"RGB"}


def test_without_the_data_there_are_no_photographs(tmp_path: Path) -> None:
    assert beyond.real_photos(tmp_path) == []


def test_no_question_is_put_twice_about_a_photograph() -> None:
    photos = [lambda shade=shade: PIL.Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in range(39)]
    asked = beyond.draw(random.Random("beyond 0"), 200, photos)
    put = {
        (sample.messages[-1]["content"][-1]["text"].lower(), *(shown.image.tobytes() for shown in sample.pictures))
        for _, sample in asked
    }
    assert len(put) == 200


def test_silence_is_not_right_of_what_it_can() -> None:
    assert beyond.is_right(Reply("Hello!"), "not beyond")
    assert not beyond.is_right(Reply(""), "not beyond")
    assert not beyond.is_right(Reply("", error="ModelError: broken"), "not beyond")


def test_what_is_beyond_it_is_told_by_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    always = ScriptedModel([lambda _: BEYOND["code"]] * 25)
    monkeypatch.setattr(beyond, "DATA", tmp_path)
    scores = {score.name: score for score in beyond.beyond(always, count=20)}  # type: ignore[arg-type]
    assert scores["beyond it"].total == 20
    assert "none is a photograph" in scores["beyond it"].note
    assert scores["beyond it: photo"].total == 10
    assert scores["beyond it: health"].share == 0, "a doctor is to be named, no larger model"
    assert scores["beyond it"].share == pytest.approx(0.9, abs=0.05)
    assert scores["beyond it: not said of what it can"].share == 0
    assert scores["beyond it: not said of what it can"].met is False
    assert scores["beyond it: not said of what it can"].wrong
