"""A conversation in short keeps words to quote, labels and pictures to recall; where that fails, nothing changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from mmagent.agent import Agent
from mmagent.agent.context.compaction import Compaction
from mmagent.agent.context.exchange import exchange
from mmagent.agent.context.prompt import COMPACTED
from mmagent.chat.protocol import Capabilities, ModelDone, ModelEvent, ModelRequest, ModelText, Sampling
from mmagent.content import Image, Label, Message, ToolCallBlock, is_quote, text
from mmagent.errors import ContextOverflow, ModelError
from mmagent.events import HistoryCompacted, Usage
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.session.journal import Draft
from mmagent.session.replay import draft
from mmagent.testing import ScriptedModel, call

Answer = Callable[[ModelRequest], Any]


class Talks(ScriptedModel):
    """Answers every question, sums up where asked to, and holds to its context; tokens are words."""

    def __init__(self, context: int = 400, summary: Any = "They asked about order A-17.") -> None:
        super().__init__([], capabilities=Capabilities(context_length=context, images=True))
        self.summary = summary
        self.summaries: list[ModelRequest] = []
        self.answer: Answer = lambda request: f"answer {len(self.requests)} and 10 words more for the sake of length"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        if self.count_tokens(request) >= self.capabilities.context_length:
            raise ContextOverflow("too long")
        if "you will not see it again" in request.messages[0].text:
            self.summaries.append(request)
            if isinstance(self.summary, Exception):
                raise self.summary
            if self.summary is None:
                await asyncio.Event().wait()
            yield ModelText(self.summary)
            yield ModelDone(Usage(prompt_tokens=7, completion_tokens=3), "end")
            return
        self.requests.append(request)
        yield ModelText(self.answer(request))
        yield ModelDone(Usage(prompt_tokens=self.count_tokens(request)), "end")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture(autouse=True)
def no_ocr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.agent.context.ladder.text_in", lambda block, blobs: "TOTAL 12.50")


def agent_of(model: Any, blobs: BlobStore, **more: Any) -> Agent:
    return Agent(model, blobs=blobs, builtins=False, sampling=Sampling(max_tokens=50), **more)


def said(role: str, words: str, **more: object) -> Message:
    return Message.model_validate({"role": role, "content": [text(words)], **more})


async def talk(agent: Agent, turns: int, words: str = "please tell me about it " * 4) -> list[HistoryCompacted]:
    events = []
    for number in range(turns):
        result = await agent.arun(f"question {number}: {words}")
        events += [event for event in result.events if isinstance(event, HistoryCompacted)]
    return events


async def test_the_oldest_turns_become_one_exchange(blobs: BlobStore) -> None:
    model = Talks()
    agent = agent_of(model, blobs)
    events = await talk(agent, 24)
    assert events
    assert all(event.tokens_after < event.tokens_before for event in events)
    assert events[-1].turns > events[0].turns
    first, second, *rest = model.requests[-1].messages[1:]
    assert first.text.startswith(f"[Earlier in this conversation, {events[-1].turns} turns in short:]\n")
    assert (first.name, second.name, second.role) == (COMPACTED, COMPACTED, "assistant")
    assert [message.role for message in rest] == ["user", "assistant"] * (len(rest) // 2) + ["user"]
    assert len(agent.session.messages) == 48, "the session keeps them all"
    assert not model.summaries, "a small model is not asked for summaries"


async def test_what_was_compacted_is_the_same_in_another_process(blobs: BlobStore, tmp_path: Path) -> None:
    model = Talks()
    await talk(agent_of(model, blobs, session=Session.open("s", tmp_path / "s.db")), 14)
    again = agent_of(model, blobs, session=Session.open("s", tmp_path / "s.db"))
    await again.arun("and?")
    before, after = model.requests[-2].messages, model.requests[-1].messages
    assert after[: len(before)] == before


async def test_a_larger_model_sums_up_itself(blobs: BlobStore) -> None:
    model = Talks(context=1000)
    agent = agent_of(model, blobs, compaction=Compaction(summarize=True))
    events = await talk(agent, 60)
    assert len(model.summaries) == len(events)
    request = model.summaries[0]
    assert (request.tools, [message.role for message in request.messages]) == ((), ["system", "user"])
    assert request.messages[1].text.startswith("user: question 0")
    pair = model.requests[-1].messages[1:3]
    assert pair[1].text == "They asked about order A-17."
    assert not is_quote("A-17", pair), "what a model wrote is no source, however often it is summed up"
    assert "They asked about order A-17." in model.summaries[-1].messages[1].text, "summaries are summed up in turn"


async def test_summaries_are_part_of_a_turns_usage(blobs: BlobStore) -> None:
    model = Talks(context=400)
    agent = agent_of(model, blobs, compaction=Compaction(summarize=True))
    usages = [(await agent.arun("question: " + "please tell me about it " * 4)).usage for _ in range(12)]
    assert {usage.completion_tokens for usage in usages} == {0, 3}


@pytest.mark.parametrize("summary", [ModelError("gone"), RuntimeError("odd"), "  ", ContextOverflow("too long")])
async def test_a_summary_that_fails_leaves_extracts(summary: Any, blobs: BlobStore) -> None:
    model = Talks(summary=summary)
    agent = agent_of(model, blobs, compaction=Compaction(summarize=True))
    assert await talk(agent, 14)
    assert "answer" in model.requests[-1].messages[2].text


async def test_stopped_while_it_sums_up_nothing_is_half_written(blobs: BlobStore) -> None:
    model = Talks(summary=None)
    agent = agent_of(model, blobs, compaction=Compaction(summarize=True))
    task = asyncio.create_task(talk(agent, 14))
    while not model.summaries:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert agent.session.state.compacted_turns == 0
    model.summary = "They asked."
    await agent.arun("and?")
    assert model.requests[-1].messages[-1].text.endswith("and?")


async def test_labels_plan_and_calls_outlive_it(blobs: BlobStore) -> None:
    session = Session.memory()
    labels: tuple[Label, ...] = ("private", "untrusted")
    looked: ToolCallBlock = {"type": "tool_call", "id": "c1", "name": "lookup", "args": {"id": "A-17"}}
    await session.record(
        draft(said("user", "where is my order A-17?")),
        draft(Message(role="assistant", content=(looked,))),
        draft(said("tool", "A-17: sent with JD99", tool_call_id="c1", name="lookup", labels=labels)),
        draft(said("assistant", "It was sent.")),
        Draft("plan", {"steps": [{"text": "find it", "status": "active"}]}),
    )
    model = Talks()
    await talk(agent_of(model, blobs, session=session), 14)
    first, second = model.requests[-1].messages[1:3]
    assert set(first.labels) == set(second.labels) == set(labels) <= session.state.labels
    assert [step.text for step in session.state.plan] == ["find it"]
    assert {message.tool_call_id for message in model.requests[-1].messages} == {None}, "no result without its call"


def test_an_exchange_keeps_words_to_quote_and_no_made_up_ones() -> None:
    looked: ToolCallBlock = {"type": "tool_call", "id": "c1", "name": "lookup", "args": {"id": "B-99"}}
    again: ToolCallBlock = {"type": "tool_call", "id": "c2", "name": "lookup", "args": {"id": "A-17"}}
    old = [
        said("user", "hello " * 50 + "my order is A-17"),
        Message(role="assistant", content=(looked, again)),
        said("tool", "error: there is no order B-99", tool_call_id="c1", name="lookup"),
        said("tool", "A-17: sent with JD99\nby post", tool_call_id="c2", name="lookup"),
        said("assistant", "I found A-17, and C-55."),
    ]
    pair = exchange(old, 1, 400, lambda block: "[picture]")
    assert pair[0].text.startswith("[Earlier in this conversation, 1 turn in short:]\n- hello hello")
    assert is_quote("A-17", pair) and is_quote("JD99", pair)
    assert not is_quote("B-99", pair) and not is_quote("C-55", pair)
    assert "C-55" in pair[1].text
    longer = exchange([*pair, said("user", "and D-3?"), said("assistant", "No.")], 2, 400, lambda block: "[picture]")
    assert longer[0].text.startswith("[Earlier in this conversation, 2 turns in short:]\n- hello hello")
    assert longer[0].text.endswith("- and D-3?")
    assert longer[1].text == "- I found A-17, and C-55.\n- No."
    once = exchange([said("user", "order A-17 please " * 30 + "or B-3.")], 1, 120, lambda block: "")
    assert once[0].text.splitlines()[1] == "- order A-17 please order A-17 please … B-3"
    short = exchange([*pair, said("user", "and D-3?")], 2, 60, lambda block: "[picture]")
    assert short[0].text.endswith("…\n- and D-3?")


async def test_pictures_of_compacted_turns_are_named_with_their_text_and_can_be_recalled(blobs: BlobStore) -> None:
    model = Talks(context=600)
    agent = agent_of(model, blobs)
    red = PIL.Image.new("RGB", (64, 64), "red")
    await agent.arun("my receipt", Image(red))
    events = await talk(agent, 28)
    assert len(events) > 1
    assert '[picture 1: the picture 64x64, text in it: "TOTAL 12.50"' in model.requests[-1].messages[1].text
    entries = agent.session.journal.read(agent.session.id)  # type: ignore[arg-type]
    compaction = next(entry.data for entry in entries if entry.kind == "compaction")
    assert [one["file_id"] for one in compaction["pictures"]] == [agent.session.state.media[0]["file_id"]]
    assert [tool.name for tool in model.requests[-1].tools] == ["recall_media"]
    script = ScriptedModel([call("recall_media", image=1), "red"], capabilities=model.capabilities)
    answer = await agent_of(script, blobs, session=agent.session).arun("what colour was my receipt?")
    assert answer.text == "red"
    (picture,) = [block for message in script.requests[-1].messages for block in message.media]
    assert blobs.open_image(picture["file_id"]).getpixel((0, 0)) == (255, 0, 0)


async def test_a_question_that_does_not_fit_is_the_models_error_and_earlier_turns_are_kept_short(
    blobs: BlobStore,
) -> None:
    model = Talks()
    agent = agent_of(model, blobs)
    await talk(agent, 3)
    with pytest.raises(ContextOverflow):
        await agent.arun("word " * 500)
    await agent.arun("and now?")
    assert model.requests[-1].messages[-1].text.endswith("and now?")


async def test_a_rewound_compaction_is_undone(blobs: BlobStore) -> None:
    model = Talks()
    agent = agent_of(model, blobs)
    turns = 0
    while not agent.session.state.compacted_turns:
        await talk(agent, 1)
        turns += 1
    agent.session.rewind(1)
    await agent.arun("short")
    assert len(model.requests[-1].messages) == 2 * turns
