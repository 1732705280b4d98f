"""What the report's tool-call figures mean: which replies count as right, and that absent data is said, not guessed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mmagent.chat.protocol import ModelRequest
from mmagent.chat.scripted import Reply as Played
from mmagent.chat.scripted import ScriptedModel, call
from mmagent.errors import ModelError
from mmagent.evaluate.ask import Reply
from mmagent.evaluate.skills import bfcl, intents, sgd, when2call
from mmagent.evaluate.skills.bfcl import bfcl as bfcl_skill
from mmagent.evaluate.skills.intents import intents as intents_skill
from mmagent.evaluate.skills.sgd import sgd as sgd_skill
from mmagent.evaluate.skills.when2call import when2call as when2call_skill

needs_data = pytest.mark.skipif(not Path("../shared/data").is_dir(), reason="the data folder ../shared/data is absent")
SKILLS = [sgd_skill, bfcl_skill, when2call_skill, intents_skill]


def silent(_: str) -> None:
    """Is told nothing that a test looks at."""


def always(reply: Played, count: int) -> ScriptedModel:
    """A model that says one thing."""
    return ScriptedModel([reply] * count)


@pytest.mark.parametrize("skill", SKILLS)
def test_absent_data_is_skipped_and_said(skill: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    assert skill(ScriptedModel([]), count=None, seed=0, told=told.append) == []  # type: ignore[operator]
    assert told and all(line.startswith("skipped: ") for line in told)


@needs_data
def test_gold_calls_of_dialogues_are_right() -> None:
    trained = {service for service, _ in sgd.read_tools(str(sgd.FOLDER / "train_tools.json"))}
    questions = sgd.draw_questions(trained, 20, seed=3)
    assert {part: len(asked) for part, asked in questions.items()} == {"seen": 20, "unseen": 20}

    golds = [(name, arguments) for asked in questions.values() for _, name, arguments in asked]
    model = ScriptedModel([call(name, **arguments) for name, arguments in golds])
    scores = sgd_skill(model, count=20, seed=3, told=silent)
    assert [(score.name, score.share, score.bar) for score in scores] == [
        ("SGD calls: seen services", 1.0, 0.60),
        ("SGD calls: unseen services", 1.0, 0.35),
    ]


@needs_data
def test_questions_end_before_the_call_and_offer_its_tool() -> None:
    for asked in sgd.draw_questions(set(), 30, seed=0).values():
        for sample, name, _ in asked:
            assert sample.messages[-1]["role"] == "user"
            assert name in [tool["function"]["name"] for tool in sample.tools]


def test_a_service_call_needs_every_argument() -> None:
    wanted = {"city": "San Jose", "party_size": 2, "has_live_music": True}
    assert sgd.is_right(Reply("", (("find", {**wanted, "city": "san jose"}),)), "find", wanted)
    assert not sgd.is_right(Reply("", (("find", {"city": "San Jose"}),)), "find", wanted)
    assert not sgd.is_right(Reply("", (("find", {**wanted, "party_size": 3}),)), "find", wanted)
    assert not sgd.is_right(Reply("", (("seek", wanted),)), "find", wanted)
    assert not sgd.is_right(Reply("", (("find", wanted), ("find", wanted))), "find", wanted)
    assert not sgd.is_right(Reply("Which city?"), "find", wanted)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ({"base": 10, "kind": "right-angled"}, True),
        ({"base": 10.0, "kind": "Right Angled", "unit": "cm"}, True),
        ({"base": 10, "kind": "right angled", "unit": "km"}, False),
        ({"base": True, "kind": "right angled"}, False),
        ({"base": 10}, False),
        ({"base": 10, "kind": "right angled", "more": 1}, False),
    ],
)
def test_bfcl_takes_any_accepted_value(given: dict[str, object], right: bool) -> None:
    answers = [{"area": {"base": [10], "kind": ["right angled"], "unit": ["", "cm"]}}]
    assert bfcl.is_right(Reply("", (("area", given),)), answers) is right


def test_bfcl_compares_lists_and_objects() -> None:
    answers = [{"route": {"stops": [["A", "B"], ["B", "A"]], "at": [{"x": [1, 2], "y": [""]}]}}]
    assert bfcl.is_right(Reply("", (("route", {"stops": ["b", "a"], "at": {"x": 2}}),)), answers)
    assert not bfcl.is_right(Reply("", (("route", {"stops": ["a"], "at": {"x": 2}}),)), answers)


def test_bfcl_schemas_become_json_schema() -> None:
    schema = {"type": "dict", "properties": {"a": {"type": "float"}, "b": {"type": "tuple", "items": {"type": "any"}}}}
    assert bfcl.as_json_schema(schema) == {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "array", "items": {}}},
    }


@needs_data
def test_what_a_model_fails_at_counts_as_wrong() -> None:
    def failing(_: ModelRequest) -> Played:
        raise ModelError("broken")

    scores = bfcl_skill(ScriptedModel([failing] * 4), count=2, seed=0, told=silent)
    assert [(score.right, score.total, score.bar) for score in scores] == [(0, 2, None)] * 2
    assert "broken" in scores[0].wrong[0]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("", (("f", {}),)), "call"),
        (Reply("Which one?"), "ask"),
        (Reply("I have no tool for that."), "decline"),
        (Reply(""), ""),
        (Reply("", error="ModelError: broken"), ""),
    ],
)
def test_when2call_tells_asking_from_declining(reply: Reply, kind: str) -> None:
    assert when2call.decision(reply) == kind


@needs_data
@pytest.mark.parametrize("skill", SKILLS)
def test_a_model_that_only_fails_has_nothing_right(skill: object) -> None:
    def failing(_: ModelRequest) -> Played:
        raise ModelError("broken")

    scores = skill(ScriptedModel([failing] * 12), count=3, seed=0, told=silent)  # type: ignore[operator]
    assert scores and all(score.right == 0 for score in scores)
    assert any("ModelError: broken" in line for score in scores for line in score.wrong)


@needs_data
def test_when2call_reports_each_kind() -> None:
    scores = when2call_skill(always("I have no tool for that.", 300), count=None, seed=0, told=silent)
    assert {score.name: (score.right, score.total) for score in scores} == {
        "When2Call: call, ask or decline": (100, 300),
        "When2Call: call": (0, 100),
        "When2Call: ask": (0, 100),
        "When2Call: decline": (100, 100),
    }


def test_an_intent_is_among_eight() -> None:
    requests = {f"intent_{number}": [f"say {number}"] for number in range(20)}
    for sample, name in intents.draw_questions(random.Random(0), requests, 10):
        names = [tool["function"]["name"] for tool in sample.tools]
        assert len(set(names)) == 8
        assert name in names
    assert intents.is_right(Reply("", (("intent_1", {}),)), "intent_1")
    assert not intents.is_right(Reply("", (("intent_1", {}), ("intent_2", {}))), "intent_1")
    assert intents.is_right(Reply("no"), "")
    assert not intents.is_right(Reply(""), ""), "silence declines nothing"
    assert not intents.is_right(Reply("", error="ModelError: broken"), "")


@needs_data
def test_out_of_scope_is_right_without_a_call() -> None:
    scores = intents_skill(always("I have no tool for that.", 15), count=5, seed=0, told=silent)
    assert [(score.name, score.right) for score in scores] == [
        ("BANKING77: tool of 8", 0),
        ("CLINC150: tool of 8", 0),
        ("CLINC150: out of scope", 5),
    ]
