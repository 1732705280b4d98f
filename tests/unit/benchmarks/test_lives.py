"""What `benchmarks.kills` counts as a violation, and that a killed life is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kills import Told
from benchmarks.lives import check_session, invalid
from mmagent.content import Message, text

ROOT = Path(__file__).parents[3]
QUESTION = "s0.1.0 u"
NUMBER = "s0.1.0.0.0"
EFFECT = ["u", NUMBER, "a", "key-a"]


def user(words: str = QUESTION) -> Message:
    return Message(role="user", content=(text(words),))


def calls(name: str = "pay") -> Message:
    block = {"type": "tool_call", "id": "a", "name": name, "args": {"number": NUMBER}}
    return Message.model_validate({"role": "assistant", "content": [block]})


def outcome(words: str = f"paid {NUMBER}") -> Message:
    return Message(role="tool", content=(text(words),), tool_call_id="a", name="pay")


def answer() -> Message:
    return Message(role="assistant", content=(text("done s0.1.0"),))


WHOLE = [user(), calls(), outcome(), answer()]
UNKNOWN = "error: interrupted; it is unknown whether pay took effect"


def test_a_whole_session_has_no_violation() -> None:
    assert not list(check_session(WHOLE, [EFFECT], [QUESTION], [QUESTION]))
    assert not list(check_session([user(), calls(), outcome(UNKNOWN)], [EFFECT], [QUESTION], []))
    assert not list(check_session([user(), calls(), outcome(UNKNOWN)], [], [QUESTION], []))


@pytest.mark.parametrize(
    ("messages", "effects", "problem"),
    [
        (WHOLE, [EFFECT, EFFECT], "happened 2 times"),
        (WHOLE, [], "it did not happen"),
        ([*WHOLE[:2], outcome("error: interrupted"), answer()], [EFFECT], "'error: interrupted' is told"),
        ([user(), answer()], [EFFECT], "its call in the journal is None"),
        (WHOLE, [["u", NUMBER, "b", "key-b"]], "took effect as b"),
        ([user(), calls(), answer()], [], "has calls"),
        ([*WHOLE, outcome()], [EFFECT], "(tool) has calls"),
        ([*WHOLE, user()], [EFFECT], "stands there twice"),
        (WHOLE[:3], [EFFECT], "was answered, but there is None"),
        (WHOLE[1:], [EFFECT], "acknowledged"),
        (WHOLE, [["i", NUMBER, "a", "key-a"], ["i", NUMBER, "a", "key-b"]], "more than one key"),
    ],
)
def test_violations(messages: list[Message], effects: list[list[str]], problem: str) -> None:
    assert any(problem in one for one in check_session(messages, effects, [QUESTION], [QUESTION]))


def test_two_calls_with_one_id_are_invalid() -> None:
    assert invalid([*WHOLE, user("b"), calls(), outcome(), answer()]) == "two calls have one id"


def test_what_a_life_tells() -> None:
    told = Told()
    for line in ("ready ", "asked s1 s1.3.0 ri/u", "answered s1 s1.3.0 ri/u", "violation life 3, s1: something"):
        told.line(line)
    assert told.ready
    assert told.asked["s1"] == told.answered["s1"] == ["s1.3.0 ri/u"]
    assert told.violations == ["life 3, s1: something"]


def test_a_journal_that_forgets_intents_is_found_out(tmp_path: Path) -> None:
    forgetful = """
import sys, benchmarks.kills, mmagent.testing.kill as kill
from mmagent.session.journal import Draft
append = kill._DeadlyJournal.append
def forget(self, session, drafts, *, flush=True):
    drafts = [Draft("forgotten", one.data) if one.kind == "intent" else one for one in drafts]
    return append(self, session, drafts, flush=flush)
kill._DeadlyJournal.append = forget
killer = benchmarks.kills.Killer(benchmarks.kills.Path(sys.argv[1]), None, 1)
killer.kills_at("effect", 16, after=True)
print(benchmarks.kills.json.dumps(killer.violations))
"""
    done = subprocess.run([sys.executable, "-c", forgetful, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert any("is told" in one or "times" in one for one in json.loads(done.stdout))
