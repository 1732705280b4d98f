"""pydantic-ai's agents, see `agents`. Forms: ``memory``, ``JSON file``: all of the history after each turn."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, BinaryContent, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from benchmarks.peers.agents import ANSWER, PROMPT, SCRIPT, bytes_in, look_up


def versions() -> str:
    """Of pydantic-ai."""
    return f"pydantic-ai {version('pydantic-ai-slim')}"


async def _next(messages: Any, info: Any) -> ModelResponse:
    calls = SCRIPT.next()
    if not calls:
        return ModelResponse(parts=[TextPart(ANSWER)])
    return ModelResponse(parts=[ToolCallPart("look", {"number": number}, key) for key, number in calls])


async def look(number: int) -> str:
    """Look something up by its number."""
    return look_up(number)


class PydanticConversation:
    """An agent's history, and its file."""

    def __init__(self, agent: Agent[None, str], file: Path | None) -> None:
        self._agent, self._file = agent, file
        self._history: list[Any] = []

    async def ask(self, question: str, picture: bytes | None = None) -> str:
        """See `agents.Conversation.ask`."""
        asked: Any = question if picture is None else [question, BinaryContent(picture, media_type="image/png")]
        result = await self._agent.run(asked, message_history=self._history)
        self._history = result.all_messages()
        if self._file is not None:
            self._file.write_bytes(result.all_messages_json())
        return result.output


class PydanticAgents:
    """See `agents.Agents`."""

    def __init__(self, form: str, folder: Path) -> None:
        self._folder, self._saved = folder, form != "memory"
        self._agent: Agent[None, str] = Agent(FunctionModel(_next), system_prompt=PROMPT, tools=[look])

    def conversation(self, name: str) -> PydanticConversation:
        """See `agents.Agents.conversation`."""
        return PydanticConversation(self._agent, self._folder / f"{name}.json" if self._saved else None)

    def size(self) -> int:
        """See `agents.Agents.size`."""
        return bytes_in(self._folder)


def open_agents(form: str, folder: Path) -> PydanticAgents:
    """See `agents.open_agents`."""
    return PydanticAgents(form, folder)
