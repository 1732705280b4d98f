"""smolagents' agents, see `agents`. Form: ``memory``; it has no store."""

from __future__ import annotations

import io
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from smolagents import LogLevel, Tool, ToolCallingAgent
from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole, Model

from benchmarks.peers.agents import ANSWER, DESCRIPTION, PROMPT, SCRIPT, bytes_in, look_up


def versions() -> str:
    """Of smolagents."""
    return f"smolagents {version('smolagents')}"


class Scripted(Model):
    """Plays `SCRIPT`; it answers by a tool, as this framework wants it."""

    def generate(self, messages: list[ChatMessage], *args: Any, **kwargs: Any) -> ChatMessage:
        """The next step."""
        calls = [_call(key, "look", {"number": number}) for key, number in SCRIPT.next()]
        calls = calls or [_call("answer", "final_answer", {"answer": ANSWER})]
        return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=calls)


def _call(key: str, name: str, arguments: dict[str, Any]) -> ChatMessageToolCall:
    return ChatMessageToolCall(
        function=ChatMessageToolCallFunction(name=name, arguments=arguments), id=key, type="function"
    )


class Look(Tool):
    """The tool."""

    name = "look"
    description = DESCRIPTION
    inputs = {"number": {"type": "integer", "description": "The number."}}  # noqa: RUF012 # as its class wants it
    output_type = "string"

    def forward(self, number: int) -> str:
        """Look it up."""
        return look_up(number)


class SmolConversation:
    """An agent, which is its session."""

    def __init__(self) -> None:
        self._agent = ToolCallingAgent(
            tools=[Look()], model=Scripted(), instructions=PROMPT, verbosity_level=LogLevel.OFF, max_steps=100
        )
        self._asked = False

    async def ask(self, question: str, picture: bytes | None = None) -> str:
        """See `agents.Conversation.ask`."""
        images = None if picture is None else [Image.open(io.BytesIO(picture))]
        first, self._asked = not self._asked, True
        return str(self._agent.run(question, images=images, reset=first))


class SmolAgents:
    """See `agents.Agents`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def conversation(self, name: str) -> SmolConversation:
        """See `agents.Agents.conversation`."""
        return SmolConversation()

    def size(self) -> int:
        """See `agents.Agents.size`."""
        return bytes_in(self._folder)


def open_agents(form: str, folder: Path) -> SmolAgents:
    """See `agents.open_agents`."""
    return SmolAgents(folder)
