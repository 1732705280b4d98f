"""An agent that plans writes its plan first, a small local model under its grammar; and revises it as it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mmagent.agent import Agent
from mmagent.agent.context.prompt import system_message, tool_specs
from mmagent.agent.plan import MAX_STEPS, UPDATE_PLAN, plan_call, plan_of, planning_tool
from mmagent.chat.local import LocalModel
from mmagent.chat.protocol import Capabilities, ModelRequest, ModelToolCall, Sampling
from mmagent.content import Message, correction, text
from mmagent.events import PlanStep, PlanUpdated
from mmagent.media import BlobStore
from mmagent.session.journal import Draft, Entry
from mmagent.session.replay import State, draft, replay
from mmagent.testing import ScriptedModel, call, tiny_vlm

FREE, HELD = Capabilities(context_length=100), Capabilities(context_length=100, constrained=True)


def state_of(*drafts: Draft) -> State:
    return replay([Entry(number, one.kind, one.data) for number, one in enumerate(drafts, start=1)])


def said(role: str, words: str) -> Draft:
    return draft(Message.model_validate({"role": role, "content": [text(words)]}))


def plan(status: str) -> Draft:
    return Draft("plan", {"steps": [{"text": "look", "status": status}]})


def test_the_plan_is_asked_for_in_the_first_step_of_a_turn_without_one() -> None:
    asked = said("user", "do it")
    assert plan_call(state_of(asked), HELD) == UPDATE_PLAN
    assert plan_call(state_of(asked), FREE) is False, "a prompt asks models that no grammar holds"
    assert plan_call(state_of(asked, plan("active")), HELD) is False
    assert (
        plan_call(state_of(asked, plan("done"), said("assistant", "Done."), said("user", "more")), HELD) == UPDATE_PLAN
    )
    assert plan_call(state_of(asked, draft(correction("no JSON"))), HELD) is False
    assert plan_call(state_of(), HELD) is False
    assert plan_call(state_of(asked), Capabilities(context_length=100, constrained=True, tools=False)) is False


def test_a_plan_has_some_steps_and_not_too_many() -> None:
    tool = planning_tool()
    assert (tool.name, tool.effect) == (UPDATE_PLAN, "read")
    for wrong in ([], [{"text": "x"}] * (MAX_STEPS + 1), [{"text": "x", "status": "maybe"}], [{"words": "x"}]):
        with pytest.raises(ValidationError):
            tool.validate({"steps": wrong})
    steps = plan_of({"steps": [{"text": "x"}, {"text": "y", "status": "done"}]})
    assert steps == (PlanStep(text="x", status="pending"), PlanStep(text="y", status="done"))
    assert tool(list(steps)) == "plan noted: 1 of 2 steps done"


async def test_the_model_writes_and_revises_it(tmp_path: Path) -> None:
    first = [{"text": "look", "status": "active"}, {"text": "answer", "status": "pending"}]
    second = [{"text": "look", "status": "done"}, {"text": "answer", "status": "active"}]
    model = ScriptedModel([call(UPDATE_PLAN, steps=first), call(UPDATE_PLAN, steps=second), "42"])
    agent = Agent(model, builtins=False, planning=True, blobs=BlobStore(tmp_path))
    result = await agent.arun("what is it?")
    plans = [event.steps for event in result.events if isinstance(event, PlanUpdated)]
    assert [[step.status for step in steps] for steps in plans] == [["active", "pending"], ["done", "active"]]
    assert agent.session.state.plan == plans[-1]
    assert "update_plan" in model.requests[0].messages[0].text
    assert [spec.name for spec in model.requests[0].tools] == [UPDATE_PLAN]


async def test_without_planning_there_is_no_word_of_it(tmp_path: Path) -> None:
    model = ScriptedModel(["42"])
    await Agent(model, builtins=False, blobs=BlobStore(tmp_path)).arun("what is it?")
    assert "plan" not in [spec.name for spec in model.requests[0].tools]
    assert "update_plan" not in model.requests[0].messages[0].text


async def test_a_random_model_plans_by_the_schema(tmp_path: Path) -> None:
    model = LocalModel(tiny_vlm(tmp_path / "tiny"))
    tool = planning_tool()
    asked: Any = Message(role="user", content=(text("do it"),))
    request = ModelRequest(
        (system_message("Plan."), asked), BlobStore(tmp_path / "blobs"), tools=tool_specs({tool.name: tool}),
        require_call=UPDATE_PLAN, sampling=Sampling(temperature=1.0, seed=3, max_tokens=1500),
    )  # fmt: skip
    calls = [event.call async for event in model.stream(request) if isinstance(event, ModelToolCall)]
    assert calls, "the grammar leaves it nothing else"
    for one in calls:
        assert one["name"] == UPDATE_PLAN
        assert 1 <= len(tool.validate(one["args"])["steps"]) <= MAX_STEPS
