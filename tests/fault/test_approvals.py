"""Approvals hold for one call with its exact arguments, once, in one session; a restart loses none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmagent.agent import Agent, Policy, ToolContext, ask, deny, tool
from mmagent.agent.policy import Rule, over
from mmagent.chat.protocol import Capabilities, ModelDone, ModelRequest, ModelText, ModelToolCall
from mmagent.errors import InputError
from mmagent.events import ApprovalDecided, ApprovalRequested, Usage
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.session.journal import Draft
from mmagent.testing import ScriptedModel, call


@tool
async def pay(cents: int, ctx: ToolContext[list[int]]) -> str:
    """Pay."""
    ctx.deps.append(cents)
    return f"paid {cents}"


ASK = Policy(ask("pay", why="money is a person's business"))


class World:
    """A place that outlives processes: the sessions' file, and what was paid."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paid = folder, list[int]()

    def agent(self, *steps: Any, session: Session | str = "a", model: Any = None, **options: Any) -> Agent:
        """An agent as a new process makes it."""
        if isinstance(session, str):
            session = Session.open(session, self.folder / "sessions")
        given: dict[str, Any] = {"tools": [pay], "policy": ASK, "builtins": False, "deps": self.paid}
        return Agent(
            model or ScriptedModel(steps), session=session, blobs=BlobStore(self.folder / "blobs"), **given | options
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


PAY = call("pay", cents=5)


def only(requests: tuple[ApprovalRequested, ...]) -> ApprovalRequested:
    (request,) = requests
    return request


def test_a_restart_loses_no_request_and_no_decision(world: World) -> None:
    first = world.agent(PAY)
    request = only(first.run("Pay 5.").pending)
    assert (request.name, request.args, request.why) == ("pay", {"cents": 5}, "money is a person's business")
    world.agent().decide(request.id, True)
    assert world.paid == []
    last = world.agent("Paid.")
    assert last.pending == ()
    assert last.run(resume=True).text == "Paid."
    assert world.paid == [5]


def test_a_decision_is_used_once(world: World) -> None:
    agent = world.agent(PAY, PAY, "No more.")
    request = only(agent.run("Pay 5.").pending)
    agent.decide(request.id, True)
    again = only(agent.run(resume=True).pending)
    assert again.id != request.id and world.paid == [5]
    agent.decide(again.id, False, "once is enough")
    result = agent.run(resume=True)
    assert result.text == "No more." and world.paid == [5]
    assert agent.session.messages[-2].text == "error: pay was denied: once is enough"
    with pytest.raises(InputError, match="nothing to go on with"):
        agent.run(resume=True)
    assert world.paid == [5]


def test_an_unknown_or_used_id_is_refused(world: World) -> None:
    agent = world.agent(PAY, "Done.")
    with pytest.raises(InputError, match="waits for an approval"):
        agent.decide("call_1", True)
    request = only(agent.run("Pay 5.").pending)
    for wrong in ("", "call", request.id + " ", "pay"):
        with pytest.raises(InputError, match="waits for an approval"):
            agent.decide(wrong, True)
    agent.decide(request.id, False)
    for _ in range(2):
        with pytest.raises(InputError, match="waits for an approval"):
            agent.decide(request.id, True)
    agent.run(resume=True)
    with pytest.raises(InputError, match="waits for an approval"):
        agent.decide(request.id, True)
    assert world.paid == []


class Repeats:
    """A model that makes the calls it is given under one id."""

    name, capabilities = "repeats", Capabilities(context_length=32_768)

    def __init__(self, *steps: list[int]) -> None:
        self.steps = list(steps)

    def count_tokens(self, request: ModelRequest) -> int:
        return 1

    async def stream(self, request: ModelRequest) -> Any:
        for cents in self.steps.pop(0) if self.steps else ():
            yield ModelToolCall({"type": "tool_call", "id": "call_1", "name": "pay", "args": {"cents": cents}})
        yield ModelText("Done.")
        yield ModelDone(Usage(), "end")


def test_a_call_under_an_approved_id_with_other_arguments_is_another_call(world: World) -> None:
    agent = world.agent(model=Repeats([5], [500], [5]))
    request = only(agent.run("Pay 5.").pending)
    agent.decide(request.id, True)
    second = only(agent.run(resume=True).pending)
    assert (second.args, second.id != request.id, world.paid) == ({"cents": 500}, True, [5])
    with pytest.raises(InputError):
        agent.decide(request.id, True)
    agent.decide(second.id, False)
    third = only(agent.run(resume=True).pending)
    assert (third.args, world.paid) == ({"cents": 5}, [5])


def test_two_calls_of_one_step_are_approved_one_by_one(world: World) -> None:
    agent = world.agent(model=Repeats([5, 500]))
    five, more = agent.run("Pay 5.").pending
    assert (five.args, more.args) == ({"cents": 5}, {"cents": 500})
    agent.decide(five.id, True)
    assert only(agent.run(resume=True).pending).id == more.id
    assert world.paid == [5]
    agent.decide(more.id, False)
    agent.run(resume=True)
    assert world.paid == [5]


def test_calls_of_two_agents_that_wait_have_different_ids(world: World) -> None:
    clerk = world.agent(model=Repeats([500]), name="clerk", session=Session.memory())
    boss_model = ScriptedModel([[PAY, call("ask_clerk", question="Pay.")], "Done."])
    boss = world.agent(model=boss_model, tools=[pay, clerk.as_tool()])
    pending = boss.run("Pay 5.").pending
    assert sorted(request.args["cents"] for request in pending) == [5, 500]
    assert len({request.id for request in pending}) == 2
    boss.decide(next(request.id for request in pending if request.args == {"cents": 5}), True)
    boss.run(resume=True)
    assert world.paid == [5]


def test_a_forged_decision_without_the_right_digest_counts_for_nothing(world: World) -> None:
    agent = world.agent(PAY)
    request = only(agent.run("Pay 5.").pending)
    agent.session.write(Draft("decided", {"id": request.id, "digest": "0" * 64, "allowed": True, "reason": ""}))
    assert only(world.agent().run(resume=True).pending).args == {"cents": 5}
    assert world.paid == []


def test_rewinding_takes_an_approval_back(world: World) -> None:
    agent = world.agent(PAY, PAY, "Done.")
    request = only(agent.run("Pay 5.").pending)
    agent.decide(request.id, True)
    agent.session.rewind()
    assert agent.pending == ()
    with pytest.raises(InputError):
        agent.run(resume=True)
    again = only(agent.run("Pay 5.").pending)
    assert again.args == {"cents": 5} and world.paid == []


@pytest.mark.parametrize("decided", [False, True])
def test_a_fork_has_to_ask_again(world: World, decided: bool) -> None:
    agent = world.agent(PAY, "Done.")
    request = only(agent.run("Pay 5.").pending)
    if decided:
        agent.decide(request.id, True)
    copy = world.agent("Done.", session=agent.session.fork("b"))
    assert only(copy.run(resume=True).pending).args == {"cents": 5}
    assert world.paid == []
    if decided:
        assert agent.run(resume=True).text == "Done."
        assert world.paid == [5]


def test_the_next_question_lets_a_request_lapse(world: World) -> None:
    agent = world.agent(PAY, "Never mind, then.")
    request = only(agent.run("Pay 5.").pending)
    agent.run("No, leave it.")
    assert agent.pending == () and world.paid == []
    with pytest.raises(InputError):
        agent.decide(request.id, True)


@pytest.mark.parametrize("rule", [deny("pay"), deny("pay", args={"cents": over(1)})])
def test_an_approval_does_not_beat_a_rule_that_denies(world: World, rule: Rule) -> None:
    request = only(world.agent(PAY).run("Pay 5.").pending)
    stricter = world.agent("A pity.", policy=Policy(rule))
    stricter.decide(request.id, True)
    assert stricter.run(resume=True).text == "A pity."
    assert world.paid == []


@pytest.mark.parametrize(
    ("answer", "paid", "told"),
    [
        (True, [5], "paid 5"),
        (False, [], "error: pay was denied"),
        ("too much", [], "error: pay was denied: too much"),
        (1, [], "error: pay was denied"),
        (None, [], "error: pay was denied"),
    ],
)
def test_who_is_asked_at_once_allows_with_true_only(world: World, answer: Any, paid: list[int], told: str) -> None:
    asked: list[ApprovalRequested] = []

    async def approve(request: ApprovalRequested) -> Any:
        asked.append(request)
        return answer

    agent = world.agent(PAY, "Done.", approve=approve)
    result = agent.run("Pay 5.")
    assert only(tuple(asked)).args == {"cents": 5}
    assert world.paid == paid and agent.session.messages[-2].text == told
    (decision,) = [event for event in result.events if isinstance(event, ApprovalDecided)]
    assert decision.allowed is (answer is True)
