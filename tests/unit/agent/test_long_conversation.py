"""A conversation that outgrows the model's context goes on, and one that broke off is one that any model can read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mmagent.agent import Agent
from mmagent.chat.protocol import Capabilities, ModelDone, ModelEvent, ModelRequest, ModelText
from mmagent.content import Message, ToolCallBlock, is_quote, text
from mmagent.errors import ContextOverflow, ModelError
from mmagent.events import HistoryCompacted, Usage
from mmagent.testing import ScriptedModel


class Narrow:
    """Answers with the number of messages that it was shown, and takes no more than five of them."""

    name = "narrow"
    capabilities = Capabilities(context_length=5)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if self.count_tokens(request) > 5:
            raise ContextOverflow("too long")
        yield ModelText(str(len(request.messages)))
        yield ModelDone(Usage(), "end")

    def count_tokens(self, request: ModelRequest) -> int:
        return len(request.messages)


def test_the_oldest_turns_are_told_in_short_and_an_event_says_so() -> None:
    agent = Agent(Narrow())
    answers, compacted = [], []
    for _ in range(5):
        result = agent.run("and then?")
        answers.append(result.text)
        compacted.append([event.turns for event in result.events if isinstance(event, HistoryCompacted)])
    assert answers == ["2", "4", "4", "4", "4"]
    assert compacted == [[], [], [2], [3], [4]]
    assert len(agent.session.messages) == 10, "nothing is lost from the session"


def test_a_question_too_long_by_itself_is_an_error() -> None:
    class Closed(Narrow):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            raise ContextOverflow("too long")
            yield

    with pytest.raises(ContextOverflow):
        Agent(Closed()).run("a very long question")


def test_after_a_failed_turn_user_and_assistant_still_alternate() -> None:
    model = ScriptedModel([ModelError("gone"), "here I am"])
    agent = Agent(model)
    with pytest.raises(ModelError):
        agent.run("first")
    agent.run("second")
    roles = [message.role for message in model.requests[-1].messages]
    assert roles == ["system", "user"]
    assert model.requests[-1].messages[-1].text == "first\nsecond"


def said(role: str, words: str, **more: object) -> Message:
    return Message.model_validate({"role": role, "content": [text(words)], **more})


@pytest.mark.parametrize(
    ("expression", "result"),
    [("48213+0", "48213"), ("A-99999", "error: 'A-99999' is no arithmetic"), ("say A-99999", "you said: say A-99999")],
)
def test_what_a_model_made_up_is_no_source_when_a_tool_repeats_it(expression: str, result: str) -> None:
    call: ToolCallBlock = {"type": "tool_call", "id": "1", "name": "echo", "args": {"expression": expression}}
    messages = [
        said("user", "what about my order?"),
        Message(role="assistant", content=(call,)),
        said("tool", result, tool_call_id="1", name="echo"),
    ]
    assert not is_quote("48213", messages)
    assert not is_quote("A-99999", messages)
    assert is_quote("my order", messages)


def test_what_the_user_said_stays_a_source_when_a_tool_repeats_it() -> None:
    call: ToolCallBlock = {"type": "tool_call", "id": "1", "name": "find", "args": {"order_id": "A-17"}}
    messages = [
        said("user", "order A-17"),
        Message(role="assistant", content=(call,)),
        said("tool", "A-17: shipped with JD99", tool_call_id="1", name="find"),
    ]
    assert is_quote("A-17: shipped", messages)
    assert is_quote("JD99", messages)
