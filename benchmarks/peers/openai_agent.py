"""openai-agents' agents, see `agents`. Forms: ``memory``, ``SQLiteSession``."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents import Agent, ModelResponse, RunConfig, Runner, SQLiteSession, Usage, function_tool
from agents.models.interface import Model
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from benchmarks.peers.agents import ANSWER, PROMPT, SCRIPT, bytes_in, look_up


def versions() -> str:
    """Of openai-agents."""
    return f"openai-agents {version('openai-agents')}"


class Scripted(Model):
    """Plays `SCRIPT`."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The next step."""
        output: list[Any] = [
            ResponseFunctionToolCall(
                arguments=json.dumps({"number": number}), call_id=key, name="look", type="function_call"
            )
            for key, number in SCRIPT.next()
        ]
        said = ResponseOutputText(annotations=[], text=ANSWER, type="output_text")
        answer = ResponseOutputMessage(id="m", content=[said], role="assistant", status="completed", type="message")
        return ModelResponse(output=output or [answer], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Not used."""
        raise NotImplementedError


@function_tool
async def look(number: int) -> str:
    """Look something up by its number."""
    return look_up(number)


class OpenAIConversation:
    """A session of an agent."""

    def __init__(self, agent: Agent[Any], session: SQLiteSession | None) -> None:
        self._agent, self._session = agent, session
        self._config = RunConfig(tracing_disabled=True)

    async def ask(self, question: str, picture: bytes | None = None) -> str:
        """See `agents.Conversation.ask`."""
        asked: Any = question
        if picture is not None:
            url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
            content = [{"type": "input_text", "text": question}, {"type": "input_image", "image_url": url}]
            asked = [{"role": "user", "content": content}]
        result = await Runner.run(self._agent, asked, session=self._session, max_turns=100, run_config=self._config)
        return str(result.final_output)


class OpenAIAgents:
    """See `agents.Agents`."""

    def __init__(self, form: str, folder: Path) -> None:
        self._folder, self._saved = folder, form != "memory"
        self._agent: Agent[Any] = Agent(name="agent", instructions=PROMPT, model=Scripted(), tools=[look])
        self._last: SQLiteSession | None = None

    def conversation(self, name: str) -> OpenAIConversation:
        """See `agents.Agents.conversation`."""
        self._close()
        self._last = SQLiteSession(name, self._folder / "sessions.db") if self._saved else None
        return OpenAIConversation(self._agent, self._last)

    def size(self) -> int:
        """See `agents.Agents.size`."""
        self._close()
        return bytes_in(self._folder)

    def _close(self) -> None:
        if self._last is not None:
            self._last.close()
            self._last = None


def open_agents(form: str, folder: Path) -> OpenAIAgents:
    """See `agents.open_agents`."""
    return OpenAIAgents(form, folder)
