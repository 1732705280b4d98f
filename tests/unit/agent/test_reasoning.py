"""What a model thinks is told, kept and never taken for its answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from mmagent.agent import Agent
from mmagent.chat import (
    Capabilities,
    ModelDone,
    ModelEvent,
    ModelReasoning,
    ModelRequest,
    ModelText,
    ModelToolCall,
)
from mmagent.errors import ModelError
from mmagent.events import ReasoningDelta, TextDelta, Usage


class Thinker:
    """Thinks, calls a tool, thinks again and answers."""

    name = "thinker"
    capabilities = Capabilities(context_length=1000)

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.requests.append(request)
        for piece in ("Let me ", "see.\n"):
            yield ModelReasoning(piece)
        if len(self.requests) == 1:
            yield ModelToolCall({"type": "tool_call", "id": "c1", "name": "double", "args": {"x": 4}})
            yield ModelDone(Usage(), "tool_calls")
        else:
            yield ModelText("8")
            yield ModelDone(Usage(), "end")

    def count_tokens(self, request: ModelRequest) -> int:
        return len(request.messages)


def double(x: int) -> int:
    """Twice a number."""
    return 2 * x


async def test_thoughts_are_events_and_blocks_and_no_part_of_the_answer() -> None:
    model = Thinker()
    result = await Agent(model, [double], builtins=False).arun("What is twice 4?")
    assert result.text == "8"
    thoughts = [event.text for event in result.events if isinstance(event, ReasoningDelta)]
    assert thoughts == ["Let me ", "see.\n"] * 2
    assert [event.text for event in result.events if isinstance(event, TextDelta)] == ["8"]
    asked, answered = (message for message in result.messages if message.role == "assistant")
    assert [block["type"] for block in asked.content] == ["reasoning", "tool_call"]
    assert answered.content == ({"type": "reasoning", "reasoning": "Let me see."}, {"type": "text", "text": "8"})
    assert answered.text == "8"


async def test_nothing_but_thoughts_is_an_empty_answer() -> None:
    class Dreamer(Thinker):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            yield ModelReasoning("Hm.")
            yield ModelDone(Usage(), "end")

    with pytest.raises(ModelError, match="gave an empty answer"):
        await Agent(Dreamer(), builtins=False).arun("What?")
