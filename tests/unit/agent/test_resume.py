"""Going on with a turn: what was running when the process died, and calls that wait for an approval."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmagent.agent import Agent, Policy, ToolContext, allow, ask, deny, tool
from mmagent.content import Message, text
from mmagent.errors import ConfigurationError, InputError, TurnError
from mmagent.events import ApprovalDecided, ApprovalRequested, ToolFinished, TurnFinished, TurnPaused
from mmagent.media import BlobStore
from mmagent.session import Draft, Session
from mmagent.testing import ScriptedModel, call

Make = Callable[..., Agent]


@pytest.fixture
def done() -> list[str]:
    """What the tools did."""
    return []


@pytest.fixture
def make(tmp_path: Path, done: list[str]) -> Make:
    """An agent in a session on disk, opened anew each time, with one tool of each effect."""

    @tool(effect="read")
    async def look_up(ctx: ToolContext) -> str:
        done.append("look_up")
        return "found"

    @tool(effect="idempotent")
    async def reserve(ctx: ToolContext) -> str:
        done.append(f"reserve {ctx.idempotency_key}")
        return "reserved"

    @tool
    async def pay(cents: int) -> str:
        """Pay."""
        done.append(f"pay {cents}")
        return "paid"

    def agent(*steps: Any, **options: Any) -> Agent:
        session = Session.open("a", tmp_path / "s.sqlite3")
        tools = [look_up, reserve, pay]
        blobs = BlobStore(tmp_path / "blobs")
        return Agent(ScriptedModel(steps), tools, builtins=False, session=session, blobs=blobs, **options)

    return agent


def interrupted(agent: Agent, *calls: tuple[str, str, dict[str, Any]], intents: bool = True) -> None:
    """Leave the session as a process does that dies while these calls run."""
    blocks = [{"type": "tool_call", "id": one, "name": name, "args": args} for one, name, args in calls]
    said = Message(role="assistant", content=tuple(blocks))  # type: ignore[arg-type]
    agent.session.append(Message(role="user", content=(text("go"),)))
    agent.session.append(said)
    for one, name, _ in calls if intents else ():
        data = {"id": one, "name": name, "effect": agent.tools[name].effect, "key": f"{agent.session.id}-{one}"}
        agent.session.write(Draft("intent", data))


def outcomes(agent: Agent) -> dict[str, str]:
    return {message.tool_call_id or "": message.text for message in agent.session.messages if message.role == "tool"}


def test_after_a_crash_reads_repeat_and_what_is_unsafe_is_told_to_be_unknown(make: Make, done: list[str]) -> None:
    interrupted(make(), ("r", "look_up", {}), ("i", "reserve", {}), ("u", "pay", {"cents": 5}))
    agent = make("All told.")
    result = agent.run(resume=True)
    assert result.text == "All told."
    assert done == ["look_up", f"reserve {agent.session.id}-i"]
    assert outcomes(agent) == {
        "r": "found",
        "i": "reserved",
        "u": "error: interrupted; it is unknown whether pay took effect",
    }
    assert not agent.session.state.unfinished


def test_calls_that_had_not_begun_run_as_if_nothing_had_happened(make: Make, done: list[str]) -> None:
    interrupted(make(), ("u", "pay", {"cents": 5}), intents=False)
    assert make("Paid.").run(resume=True).text == "Paid."
    assert done == ["pay 5"]


def test_a_new_question_repeats_nothing_and_says_what_is_unknown(make: Make, done: list[str]) -> None:
    interrupted(make(), ("r", "look_up", {}), ("u", "pay", {"cents": 5}))
    agent = make("Well.")
    agent.run("And now?")
    assert done == []
    assert outcomes(agent) == {
        "r": "error: interrupted",
        "u": "error: interrupted; it is unknown whether pay took effect",
    }
    assert [message.role for message in agent.session.messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
        "assistant",
    ]


def test_an_answer_that_was_written_and_not_told_is_told(make: Make) -> None:
    agent = make()
    agent.session.append(Message(role="user", content=(text("go"),)))
    agent.session.append(Message(role="assistant", content=(text("Done."),)))
    result = make().run(resume=True)
    assert (result.text, result.steps) == ("Done.", 0)
    with pytest.raises(InputError, match="nothing to go on with"):
        make().run(resume=True)


def test_resuming_asks_nothing_and_needs_something_to_go_on_with(make: Make) -> None:
    with pytest.raises(InputError, match="asks nothing"):
        make().run("hello", resume=True)
    with pytest.raises(InputError, match="nothing to go on with"):
        make().run(resume=True)


def test_a_turn_that_failed_can_go_on(make: Make, done: list[str]) -> None:
    with pytest.raises(TurnError, match="after 1 steps"):
        make(call("pay", cents=5), max_steps=1).run("go")
    result = make("Paid.").run(resume=True)
    assert result.text == "Paid." and done == ["pay 5"]
    assert [message.role for message in result.messages] == ["user", "assistant", "tool", "assistant"]


def test_a_turn_that_broke_off_in_its_answer_has_ended(make: Make) -> None:
    agent = make()
    agent.session.append(Message(role="user", content=(text("go"),)))
    agent.session.append(Message(role="assistant", content=(text("The ans"),)), interrupted=True)
    agent.session.write(Draft("ended", {"how": "failed", "error": "gone"}))
    with pytest.raises(InputError, match="nothing to go on with"):
        make("x").run(resume=True)


ASKS = Policy(ask("pay", why="money"))


def test_a_call_that_asks_pauses_the_turn_and_survives_a_restart(make: Make, done: list[str]) -> None:
    result = make([call("look_up"), call("pay", cents=5)], policy=ASKS).run("go")
    (request,) = result.pending
    assert (request.name, request.args, result.text) == ("pay", {"cents": 5}, "")
    assert "money" in request.why
    assert done == ["look_up"]
    assert isinstance(result.events[-1], TurnPaused)

    later = make("Paid.", policy=ASKS)
    assert later.pending == (request,)
    later.decide(request.id, True)
    assert later.pending == ()
    assert later.run(resume=True).text == "Paid."
    assert done == ["look_up", "pay 5"]
    with pytest.raises(InputError, match="waits for an approval"):
        later.decide(request.id, True)


def test_resuming_without_a_decision_waits_on(make: Make, done: list[str]) -> None:
    (request,) = make(call("pay", cents=5), policy=ASKS).run("go").pending
    assert make(policy=ASKS).run(resume=True).pending == (request,)
    assert done == []


def test_a_denied_call_tells_the_model_why(make: Make, done: list[str]) -> None:
    (request,) = make(call("pay", cents=5), policy=ASKS).run("go").pending
    agent = make("I may not.", policy=ASKS)
    agent.decide(request.id, False, "too much")
    agent.run(resume=True)
    assert outcomes(agent) == {request.id: "error: pay was denied: too much"}
    assert done == []


def test_asking_something_else_gives_the_call_up(make: Make, done: list[str]) -> None:
    (request,) = make(call("pay", cents=5), policy=ASKS).run("go").pending
    agent = make("Fine.", policy=ASKS)
    agent.run("Never mind.")
    assert agent.pending == () and done == []
    with pytest.raises(InputError):
        agent.decide(request.id, True)


@pytest.mark.parametrize("answer", [True, False, "not today"])
async def test_whoever_approves_is_asked_while_the_turn_goes_on(make: Make, done: list[str], answer: Any) -> None:
    asked: list[ApprovalRequested] = []

    async def approve(request: ApprovalRequested) -> bool | str:
        asked.append(request)
        return bool(answer) if isinstance(answer, bool) else str(answer)

    agent = make(call("pay", cents=5), "Well.", policy=ASKS, approve=approve)
    result = await agent.arun("go")
    assert [one.args for one in asked] == [{"cents": 5}]
    assert result.text == "Well." and result.pending == ()
    (decided,) = [event for event in result.events if isinstance(event, ApprovalDecided)]
    assert decided.allowed is (answer is True)
    expected = {True: "paid", False: "error: pay was denied", "not today": "error: pay was denied: not today"}[answer]
    assert list(outcomes(agent).values()) == [expected]
    assert done == (["pay 5"] if answer is True else [])


def test_an_approval_holds_once_and_for_these_arguments(make: Make, done: list[str]) -> None:
    policy = Policy(ask("pay"), allow("look_up"))
    (request,) = make(call("pay", cents=5), policy=policy).run("go").pending
    agent = make(call("pay", cents=5), policy=policy)  # the same again, once it is through
    agent.decide(request.id, True)
    (second,) = agent.run(resume=True).pending
    assert done == ["pay 5"] and second.id != request.id


def test_events_tell_of_each_outcome(make: Make) -> None:
    interrupted(make(), ("r", "look_up", {}), ("u", "pay", {"cents": 5}))
    events = make("x").run(resume=True).events
    told = {event.id: event.error for event in events if isinstance(event, ToolFinished)}
    assert told == {"r": None, "u": "interrupted; it is unknown whether pay took effect"}
    assert isinstance(events[-1], TurnFinished)


def test_a_denial_holds_where_the_policy_is_gone(make: Make, done: list[str]) -> None:
    (request,) = make(call("pay", cents=5), policy=ASKS).run("go").pending
    agent = make("Well.")
    agent.decide(request.id, False, "no")
    assert agent.run(resume=True).text == "Well."
    assert done == [] and list(outcomes(agent).values()) == ["error: pay was denied: no"]


def test_what_was_asked_about_is_asked_about_where_the_policy_is_gone(make: Make, done: list[str]) -> None:
    make(call("pay", cents=5), policy=ASKS).run("go")
    assert make().run(resume=True).pending and done == []


@pytest.mark.parametrize("change", ["gone", "idempotent"])
def test_an_unsafe_call_is_unknown_whatever_became_of_its_tool(make: Make, done: list[str], change: str) -> None:
    interrupted(make(), ("u", "pay", {"cents": 5}))

    @tool(effect="idempotent")
    async def pay(cents: int) -> str:
        """Pay."""
        done.append("again")
        return "paid"

    agent = make("Told.")
    agent = Agent(agent.model, [pay] if change == "idempotent" else [], builtins=False, session=agent.session)
    agent.run(resume=True)
    assert done == []
    assert outcomes(agent) == {"u": "error: interrupted; it is unknown whether pay took effect"}


def test_a_copy_of_a_session_repeats_nothing_that_may_have_taken_effect(make: Make, done: list[str]) -> None:
    agent = make("Told.")
    interrupted(agent, ("r", "look_up", {}), ("i", "reserve", {}), ("u", "pay", {"cents": 5}))
    agent.session = agent.session.fork()
    agent.run(resume=True)
    assert done == ["look_up"]
    assert outcomes(agent)["i"] == "error: interrupted; it is unknown whether reserve took effect"


def test_an_intent_that_somebody_wrote_into_the_session_allows_nothing(make: Make, done: list[str]) -> None:
    agent = make("Well.", policy=Policy(deny("look_up", why="never")))
    interrupted(agent, ("r", "look_up", {}), intents=False)
    agent.session.write(Draft("intent", {"id": "r", "name": "look_up", "effect": "read"}))
    agent.run(resume=True)
    assert done == [] and outcomes(agent) == {"r": "error: look_up was denied: never"}


def test_a_part_of_an_answer_is_never_taken_for_the_answer(make: Make) -> None:
    agent = make("The whole answer.")
    agent.session.append(Message(role="user", content=(text("go"),)))
    agent.session.append(Message(role="assistant", content=(text("The refund is not"),)), interrupted=True)
    assert agent.run(resume=True).text == "The whole answer."


async def test_the_clock_stands_while_somebody_thinks(make: Make) -> None:
    async def approve(request: ApprovalRequested) -> bool:
        await asyncio.sleep(0.3)
        return True

    agent = make(call("pay", cents=5), "Paid.", policy=ASKS, approve=approve, turn_timeout=0.2)
    result = await agent.arun("go")
    assert result.text == "Paid."
    (paid,) = (event for event in result.events if isinstance(event, ToolFinished))
    assert paid.seconds < 0.2, "it is not the tool's time either"


async def test_nobody_answering_is_a_denial(make: Make, done: list[str]) -> None:
    async def approve(request: ApprovalRequested) -> bool:
        never: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        never.cancel()
        return await never

    agent = make(call("pay", cents=5), "Well.", policy=ASKS, approve=approve)
    assert (await agent.arun("go")).text == "Well."
    assert done == [] and list(outcomes(agent).values()) == ["error: pay was denied: nobody answered"]


def test_words_are_a_denial_and_nothing_else_is_a_decision(make: Make, done: list[str]) -> None:
    (request,) = make(call("pay", cents=5), policy=ASKS).run("go").pending
    agent = make("Well.", policy=ASKS)
    with pytest.raises(InputError, match="no int"):
        agent.decide(request.id, 1)  # type: ignore[arg-type]
    agent.decide(request.id, "never")
    agent.decide(request.id, "never")  # the same again changes nothing
    with pytest.raises(InputError, match="waits for an approval; there are: none"):
        agent.decide(request.id, True)
    agent.run(resume=True)
    assert done == [] and list(outcomes(agent).values()) == ["error: pay was denied: never"]


def test_a_turn_does_not_go_on_without_the_tool_that_it_waits_for(make: Make, done: list[str]) -> None:
    agent = make(call("pay", cents=5), policy=ASKS)
    agent.run("go")
    other = Agent(ScriptedModel(["x"]), builtins=False, session=agent.session)
    with pytest.raises(ConfigurationError, match="waits for a call of pay, which this agent lacks"):
        other.run(resume=True)
    assert agent.pending and agent.session.state.unfinished
