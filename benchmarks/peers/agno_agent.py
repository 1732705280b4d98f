"""agno's agents, see `agents`. Forms: ``memory``, ``SqliteDb``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agno.agent import Agent
from agno.db.sqlite import SqliteDb
from agno.media import Image
from agno.models.base import Model
from agno.models.response import ModelResponse

from benchmarks.peers.agents import ANSWER, DESCRIPTION, PROMPT, SCRIPT, bytes_in, look_up


def versions() -> str:
    """Of agno and SQLAlchemy."""
    return f"agno {version('agno')}, SQLAlchemy {version('sqlalchemy')}"


class Scripted(Model):
    """Plays `SCRIPT`."""

    def invoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The next step."""
        calls = SCRIPT.next()
        if not calls:
            return ModelResponse(role="assistant", content=ANSWER)
        return ModelResponse(
            role="assistant",
            tool_calls=[
                {
                    "id": key,
                    "type": "function",
                    "function": {"name": "look", "arguments": json.dumps({"number": number})},
                }
                for key, number in calls
            ],
        )

    async def ainvoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The next step."""
        return self.invoke()

    def invoke_stream(self, *args: Any, **kwargs: Any) -> Iterator[ModelResponse]:
        """Not used."""
        raise NotImplementedError

    def ainvoke_stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ModelResponse]:
        """Not used."""
        raise NotImplementedError

    def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        raise NotImplementedError


def look(number: int) -> str:
    """Look something up by its number."""
    return look_up(number)


assert look.__doc__ == DESCRIPTION


class AgnoConversation:
    """A session id of an agent; its synchronous run, which is the faster one."""

    def __init__(self, agent: Agent, name: str) -> None:
        self._agent, self._name = agent, name

    async def ask(self, question: str, picture: bytes | None = None) -> str:
        """See `agents.Conversation.ask`."""
        images = None if picture is None else [Image(content=picture, mime_type="image/png")]
        return str(self._agent.run(question, session_id=self._name, images=images).content)


class AgnoAgents:
    """See `agents.Agents`."""

    def __init__(self, form: str, folder: Path) -> None:
        self._folder = folder
        self._db = None if form == "memory" else SqliteDb(db_file=str(folder / "agno.db"))
        self._agent = Agent(
            model=Scripted(id="scripted"),
            tools=[look],
            db=self._db,
            system_message=PROMPT,
            add_history_to_context=self._db is not None,
            telemetry=False,
        )

    def conversation(self, name: str) -> AgnoConversation:
        """See `agents.Agents.conversation`."""
        return AgnoConversation(self._agent, name)

    def size(self) -> int:
        """See `agents.Agents.size`."""
        if self._db is not None:
            self._db.db_engine.dispose()
        return bytes_in(self._folder)


def open_agents(form: str, folder: Path) -> AgnoAgents:
    """See `agents.open_agents`."""
    return AgnoAgents(form, folder)
