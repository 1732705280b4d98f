"""mmagent's agents, see `agents`. Forms: ``memory``, ``memory sync``, ``sqlite unsafe``, ``sqlite read``."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.agents import ANSWER, DESCRIPTION, PROMPT, SCRIPT, bytes_in, look_up
from mmagent import Agent, Capabilities, Image, tool
from mmagent.agent.tools import AnyTool
from mmagent.chat.protocol import ChatModel, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall
from mmagent.events import Usage
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.session.session import open_journal


def versions() -> str:
    """Of mmagent and SQLite."""
    return f"mmagent {version('mmagent')}, SQLite {sqlite3.sqlite_version}"


class Scripted:
    """A `ChatModel` that plays `SCRIPT` and counts no tokens, like those of the peers."""

    name = "scripted"
    capabilities = Capabilities(context_length=1 << 20, images=True)

    def count_tokens(self, request: ModelRequest) -> int:
        """None."""
        return 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The next step."""
        calls = SCRIPT.next()
        for key, number in calls:
            yield ModelToolCall({"type": "tool_call", "id": key, "name": "look", "args": {"number": number}})
        if not calls:
            yield ModelText(ANSWER)
        yield ModelDone(Usage(), "tool_calls" if calls else "end")


def make_tool(form: str) -> AnyTool:
    """The tool of a form: its effect, and whether it is a coroutine."""
    effect = tool(effect="unsafe" if "unsafe" in form else "read")
    if "sync" in form.split():

        def look(number: int) -> str:
            return look_up(number)

        look.__doc__ = DESCRIPTION
        return effect(look)

    async def look_async(number: int) -> str:
        return look_up(number)

    look_async.__name__, look_async.__doc__ = "look", DESCRIPTION
    return effect(look_async)


class OwnConversation:
    """A session and its agent."""

    def __init__(self, session: Session, look: AnyTool, blobs: BlobStore, model: ChatModel | None = None) -> None:
        self.agent = Agent(
            model or Scripted(),
            [look],
            instructions=PROMPT,
            session=session,
            builtins=False,
            blobs=blobs,
            max_steps=100,
        )

    async def ask(self, question: str, picture: bytes | None = None) -> str:
        """See `agents.Conversation.ask`."""
        content = (question,) if picture is None else (question, Image(picture))
        return (await self.agent.arun(*content)).text


class OwnAgents:
    """See `agents.Agents`."""

    def __init__(self, form: str, folder: Path) -> None:
        self._folder, self._look = folder, make_tool(form)
        self._blobs = BlobStore(folder / "blobs")
        self._journal = None if form.startswith("memory") else open_journal(folder / "sessions.sqlite3")

    def conversation(self, name: str) -> OwnConversation:
        """See `agents.Agents.conversation`."""
        session = Session(name, self._journal) if self._journal else Session.memory()
        return OwnConversation(session, self._look, self._blobs)

    def size(self) -> int:
        """See `agents.Agents.size`."""
        if self._journal:
            self._journal.close()
        return bytes_in(self._folder)


def open_agents(form: str, folder: Path) -> OwnAgents:
    """See `agents.open_agents`."""
    return OwnAgents(form, folder)
