"""What there is to see of a conversation: live from events, told from the journal, and never less than was said."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mmagent.agent import Agent, ToolContext, tool
from mmagent.agent.plan import planning_tool
from mmagent.agent.policy import Policy, ask
from mmagent.content import text
from mmagent.errors import ModelError, ToolError
from mmagent.events import (
    EVENTS,
    ApprovalDecided,
    ApprovalRequested,
    Citation,
    Event,
    HandedOff,
    HistoryCompacted,
    MediaAdmitted,
    MediaSubstituted,
    PictureReduced,
    PlanStep,
    PlanUpdated,
    ReasoningDelta,
    StepStarted,
    SubagentEvent,
    TextDelta,
    ToolCalled,
    ToolFinished,
    ToolProgress,
    TurnFailed,
    TurnFinished,
    TurnPaused,
    TurnStarted,
    Usage,
)
from mmagent.knowledge import Hit
from mmagent.session import Session
from mmagent.testing import ScriptedModel, call
from mmagent.tui.items import Answer, Call, Note, Plan, Question, Thought
from mmagent.tui.story import Story

CITED = Citation(number=1, title="Returns", uri="returns.md", quote="30 days")


def finished(said: str, **more: Any) -> TurnFinished:
    return TurnFinished(text=said, usage=Usage(), steps=1, seconds=0.1, **more)


def called(id: str = "1", name: str = "act", **args: Any) -> ToolCalled:
    return ToolCalled(step=1, id=id, name=name, args=args)


def outcome(id: str = "1", said: str = "done", error: str | None = None, **more: Any) -> ToolFinished:
    return ToolFinished(step=1, id=id, name="act", content=(text(said),), error=error, seconds=0.2, **more)


def told_live(*events: Event, question: str = "why?") -> Story:
    story = Story()
    story.asked(question)
    for event in events:
        story.apply(event)
    return story


# events become items


def test_text_grows_into_an_answer_and_its_end_closes_it() -> None:
    story = told_live(TextDelta(step=1, text=" Be"), TextDelta(step=1, text="cause. "))
    assert story.items[1:] == [Answer("Because. ")]
    story.apply(finished("Because. [1]", citations=(CITED,)))
    assert story.items[1:] == [Answer("Because. [1]", (CITED,), open=False)]


def test_an_answer_without_pieces_is_there_all_the_same() -> None:
    assert told_live(finished("Yes.")).items[1:] == [Answer("Yes.", open=False)]
    assert told_live(finished("  ")).items[1:] == []


def test_thoughts_and_answers_do_not_mix() -> None:
    story = told_live(
        ReasoningDelta(step=1, text="hm "),
        ReasoningDelta(step=1, text="so"),
        TextDelta(step=1, text="A."),
        ReasoningDelta(step=1, text="but"),
        TextDelta(step=1, text="B."),
        finished("A.B."),
    )
    assert [type(one) for one in story.items[1:]] == [Thought, Answer, Thought, Answer]
    assert not [one for one in story.items if isinstance(one, Answer) and one.open]


def test_a_call_goes_through_its_states() -> None:
    story = told_live(called(n=1))
    (call_,) = story.items[1:]
    assert isinstance(call_, Call)
    seen = [call_.status]
    for event in (
        ApprovalRequested(id="1", name="act", args={}, why="rule"),
        ApprovalDecided(id="1", allowed=True),
        ToolProgress(id="1", name="act", message="half", fraction=0.5),
        outcome(data={"a": 1}),
    ):
        assert any(item is call_ for item in story.apply(event))
        seen.append(call_.status)
        if isinstance(event, ToolProgress):
            assert call_.progress == "50% half"
    assert seen == ["running", "waiting", "running", "running", "done"]
    assert (call_.data, call_.seconds, call_.progress) == ({"a": 1}, 0.2, "")


def test_a_denied_call_stays_denied_and_a_failed_one_says_why() -> None:
    story = told_live(
        called("1"), called("2"), ApprovalDecided(id="1", allowed=False), outcome("1", error="the user said no"),
        outcome("2", error="it is closed"),
    )  # fmt: skip
    assert [(one.status, one.error) for one in story.items[1:] if isinstance(one, Call)] == [
        ("denied", "the user said no"),
        ("failed", "it is closed"),
    ]


def test_text_after_a_call_is_another_answer() -> None:
    story = told_live(
        TextDelta(step=1, text="Let me look."),
        called(),
        outcome(),
        StepStarted(step=2),
        TextDelta(step=2, text="It is"),
        finished("It is."),
    )
    assert [one.text for one in story.items if isinstance(one, Answer)] == ["Let me look.", "It is."]


def test_a_plan_is_one_item_of_its_turn() -> None:
    first, second = PlanStep(text="look"), PlanStep(text="look", status="done")
    story = told_live(PlanUpdated(steps=(first,)), called(), PlanUpdated(steps=(second,)))
    assert [one for one in story.items if isinstance(one, Plan)] == [Plan((second,))]
    story.asked("and?")
    story.apply(PlanUpdated(steps=(first,)))
    assert len([one for one in story.items if isinstance(one, Plan)]) == 2


def test_pictures_belong_to_the_question() -> None:
    story = told_live(MediaAdmitted(file_id="sha256:1", mime_type="image/png", name="a.png", width=2, height=3))
    (question,) = story.items
    assert isinstance(question, Question) and question.media[0]["type"] == "image"
    assert question.media[0]["extras"] == {"name": "a.png", "width": 2, "height": 3}


def test_what_happens_beside_is_said_in_a_line() -> None:
    story = told_live(
        MediaSubstituted(file_id="sha256:1", instead="its words"),
        PictureReduced(file_id="sha256:1", level="caption"),
        HistoryCompacted(turns=2, tokens_before=9000, tokens_after=200),
        HandedOff(agent="billing", reason="money"),
        TurnFailed(error="TurnError", message="too many steps; ask for less"),
    )
    assert [(one.kind, one.text) for one in story.items if isinstance(one, Note)] == [
        ("note", "the model cannot take this file; it was given its words"),
        ("warning", "the model's context is full; a picture is shown to it as a caption"),
        ("warning", "the model's context is full; 2 turns are now in short (9,000 tokens became 200)"),
        ("note", "billing goes on: money"),
        ("error", "too many steps; ask for less"),
    ]


def test_another_agents_calls_are_shown_as_its_own_and_its_words_are_not() -> None:
    inner = [
        TurnStarted(model="m"), StepStarted(step=1), TextDelta(step=1, text="inner words"),
        called("2", "lookup"), outcome("2"), finished("inner words"),
    ]  # fmt: skip
    story = told_live(
        called("1", "ask_expert"), *(SubagentEvent(id="1", agent="expert", event=one) for one in inner), outcome("1")
    )
    assert [(one.name, one.by, one.status) for one in story.items if isinstance(one, Call)] == [
        ("ask_expert", "", "done"),
        ("lookup", "expert", "done"),
    ]
    assert not [one for one in story.items if isinstance(one, Answer)]


async def test_calls_of_two_agents_do_not_mix_up_although_their_numbers_are_the_same() -> None:
    @tool(effect="read")
    def lookup(x: int) -> str:
        """Look.

        Args:
            x: What.
        """
        return "inner result"

    expert = Agent(ScriptedModel([call("lookup", x=1), "It is blue."]), [lookup], name="expert", description="Knows.")
    agent = Agent(ScriptedModel([call("ask_expert", question="look"), "Blue."]), [expert.as_tool()])
    story = Story()
    story.asked("what?")
    try:
        async for event in agent.stream("what?"):
            story.apply(event)
    finally:
        agent.close()
        expert.close()
    calls = [one for one in story.items if isinstance(one, Call)]
    assert [(one.by, one.name, one.status) for one in calls] == [
        ("", "ask_expert", "done"),
        ("expert", "lookup", "done"),
    ]
    assert "blue" in str(calls[0].content) and "inner result" in str(calls[1].content)


def test_stopping_keeps_the_part_that_there_is() -> None:
    story = told_live(TextDelta(step=1, text="Half an ans"))
    story.stop()
    assert story.items[1:] == [Answer("Half an ans", open=False, stopped=True)]


def test_stopping_before_a_word_says_so_and_calls_run_no_more() -> None:
    story = told_live(called("1"), called("2"))
    story.stop()
    assert [one.status for one in story.items if isinstance(one, Call)] == ["unknown", "unknown"]
    assert story.items[-1] == Note("stopped")


# told again


def comparable(story: Story) -> list[Any]:
    """Items as they can be compared: what only a live story knows is left out."""
    found: list[Any] = []
    for one in story.items:
        match one:
            case Call():
                found.append((one.name, one.args, one.status, one.error, _words(one)))
            case Answer():
                found.append((one.text.strip(), one.citations, one.open, one.stopped))
            case Thought():
                found.append(("thought", one.text.strip()))
            case Question():
                found.append(("question", one.text, one.turn, len(one.media)))
            case _:
                found.append(one)
    return found


def _words(one: Call) -> str:
    return "" if one.error is not None else "".join(b["text"] for b in one.content if b["type"] == "text")


async def both(agent: Agent, *questions: str) -> tuple[Story, Story]:
    """The story of a session, live and told again."""
    live = Story()
    try:
        for question in questions:
            live.asked(question)
            try:
                async for event in agent.stream(question):
                    live.apply(event)
            except ModelError:
                pass
            live.close()
        journal, id = agent.session.journal, agent.session.id
        assert id is not None
        return live, Story.told(journal.read(id))
    finally:
        agent.close()


@tool(effect="read")
def lookup_order(order_id: str) -> dict[str, object]:
    """Look an order up.

    Args:
        order_id: Which.
    """
    if order_id == "none":
        raise ToolError("there is no such order; ask for its number")
    return {"id": order_id, "price": 3}


@tool(effect="unsafe")
def refund(order_id: str) -> str:
    """Pay back.

    Args:
        order_id: Which.
    """
    return "paid"


async def test_a_turn_is_told_as_it_was_seen() -> None:
    model = ScriptedModel(
        [["Let me look. ", call("lookup_order", order_id="A-1"), call("lookup_order", order_id="none")], "It is **3**.",
         call("refund", order_id="A-1"), "I may not.", ModelError("the model is gone; start it again")]
    )  # fmt: skip
    agent = Agent(
        model, [lookup_order, refund], policy=Policy(ask("refund")), approve=lambda request: "the user said no"
    )
    live, told = await both(agent, "what is A-1?", "pay it back", "and?")
    statuses = [one.status for one in live.items if isinstance(one, Call)]
    assert statuses == ["done", "failed", "denied"]
    for one in live.items:  # the journal knows of a denial as of any error
        if isinstance(one, Call) and one.status == "denied":
            one.status = "failed"
    assert comparable(told) == comparable(live)
    assert told.turns == live.turns == 3


async def test_citations_are_told_again() -> None:
    @tool(effect="read")
    def search(context: ToolContext, query: str) -> str:
        """Search.

        Args:
            query: What for.
        """
        number = context.cite(Hit("1", "Lamps can be returned within 30 days.", "Returns", "r.md", 0, 37, 1.0))
        return f"[{number}] Lamps can be returned within 30 days."

    agent = Agent(ScriptedModel([call("search", query="lamps"), "Lamps go back within 30 days [1]."]), [search])
    live, told = await both(agent, "how long?")
    (_, *_, answer) = told.items
    assert isinstance(answer, Answer) and answer.citations[0].quote
    assert comparable(told) == comparable(live)


async def test_a_plan_is_told_again() -> None:
    agent = Agent(
        ScriptedModel([call(planning_tool().name, steps=[{"text": "look", "status": "active"}]), "Done."]),
        planning=True,
    )
    live, told = await both(agent, "do it")
    plan = [one for one in live.items if isinstance(one, Plan)]
    assert plan and [one for one in told.items if isinstance(one, Plan)] == plan


async def test_a_stopped_answer_is_told_as_the_part_that_there_was() -> None:
    agent = Agent(ScriptedModel(["one two three four"] * 2, pause=0.02))
    live = Story()
    live.asked("count")
    async with aclosing(agent.stream("count")) as events:
        async for event in events:
            live.apply(event)
            if isinstance(event, TextDelta):
                break
    live.stop()
    assert agent.session.id is not None
    told = Story.told(agent.session.journal.read(agent.session.id))
    agent.close()
    (_, answer) = told.items
    assert isinstance(answer, Answer) and answer.stopped and not answer.open
    assert answer.text.startswith("one") and "four" not in answer.text


async def test_turns_that_were_taken_back_are_gone() -> None:
    session = Session.memory()
    agent = Agent(ScriptedModel(["First.", "Second.", "Third."]), session=session)
    for question in ("a?", "b?", "c?"):
        await agent.arun(question)
    await asyncio.to_thread(session.rewind, 2)
    assert session.id is not None
    told = Story.told(session.journal.read(session.id))
    agent.close()
    assert [one.text for one in told.items] == ["a?", "First."] and told.turns == 1  # type: ignore[union-attr]


# any events, in any order

_WORDS = st.text(st.characters(exclude_categories=()), max_size=8)
_IDS = st.sampled_from(["1", "2", "3"])
_LEAVES: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, step=st.just(1), text=_WORDS),
    st.builds(ReasoningDelta, step=st.just(1), text=_WORDS),
    st.builds(StepStarted, step=st.integers(1, 9)),
    st.builds(TurnStarted, model=_WORDS),
    st.builds(called, _IDS, _WORDS),
    st.builds(outcome, _IDS, _WORDS, st.none() | _WORDS),
    st.builds(ApprovalRequested, id=_IDS, name=_WORDS, args=st.just({}), why=_WORDS),
    st.builds(ApprovalDecided, id=_IDS, allowed=st.booleans()),
    st.builds(ToolProgress, id=_IDS, name=_WORDS, message=_WORDS, fraction=st.none() | st.floats(0, 1)),
    st.builds(PlanUpdated, steps=st.lists(st.builds(PlanStep, text=_WORDS), max_size=2).map(tuple)),
    st.builds(MediaAdmitted, file_id=_WORDS, mime_type=_WORDS, name=_WORDS),
    st.builds(MediaSubstituted, file_id=_WORDS, instead=_WORDS),
    st.builds(PictureReduced, file_id=_WORDS, level=st.sampled_from(["smaller", "caption", "reference"])),
    st.builds(HistoryCompacted, turns=st.integers(1, 9), tokens_before=st.just(9), tokens_after=st.just(1)),
    st.builds(HandedOff, agent=_WORDS, reason=_WORDS),
    st.builds(TurnPaused, pending=st.just(()), usage=st.just(Usage()), steps=st.just(1)),
    st.builds(finished, _WORDS),
    st.builds(TurnFailed, error=_WORDS, message=_WORDS),
)
_EVENTS = _LEAVES | st.builds(SubagentEvent, id=_IDS, agent=_WORDS, event=_LEAVES)


@given(st.lists(_EVENTS, max_size=25), st.booleans(), st.booleans())
@example(
    [TextDelta(step=1, text="0"), MediaSubstituted(file_id="", instead=""), TextDelta(step=1, text="0")], False, True
)
def test_no_events_can_break_a_story_and_no_text_is_lost(events: list[Event], asks: bool, stops: bool) -> None:
    story = Story()
    if asks:
        story.asked("why?")
    answers = thoughts = ""
    for event in events:
        before = [id(one) for one in story.items]
        story.apply(event)
        assert [id(one) for one in story.items][: len(before)] == before, "items do not move"
        if isinstance(event, TextDelta):
            answers += event.text
        elif isinstance(event, ReasoningDelta):
            thoughts += event.text
    if not any(isinstance(event, TurnFinished) for event in events):  # that one says the whole answer anew
        assert _solid(one.text for one in story.items if isinstance(one, Answer)) == _solid([answers])
    assert _solid(one.text for one in story.items if isinstance(one, Thought)) == _solid([thoughts])
    for failure in (event.message for event in events if isinstance(event, TurnFailed)):
        assert Note(failure, "error") in story.items
    if stops:
        story.stop()
    else:
        story.close()
    assert not [one for one in story.items if isinstance(one, Answer) and one.open]


def _solid(texts: Any) -> str:
    return "".join("".join(texts).split())


def test_all_kinds_of_events_are_in_these_sequences() -> None:
    """Another event would have to be thought of here and in the story."""
    known = {name for name in EVENTS.json_schema()["discriminator"]["mapping"]}
    assert known == {
        "turn_started", "media_admitted", "media_substituted", "picture_reduced", "history_compacted", "step_started",
        "reasoning_delta", "text_delta", "plan_updated", "tool_called", "approval_requested", "approval_decided",
        "tool_progress", "tool_finished", "handed_off", "subagent_event", "turn_paused", "turn_finished", "turn_failed",
    }  # fmt: skip
