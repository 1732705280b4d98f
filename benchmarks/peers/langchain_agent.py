"""LangChain's agents on LangGraph. Forms: ``memory``, ``InMemorySaver``, ``SqliteSaver``, ``SqliteSaver sync``.

The savers write in the background by default; ``sync`` is its own durability mode that waits for each write.
"""

from __future__ import annotations

import base64
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

from benchmarks.peers.agents import ANSWER, PROMPT, SCRIPT, bytes_in, look_up


def versions() -> str:
    """Of LangChain, LangGraph and its SQLite saver."""
    names = ("langchain", "langgraph", "langgraph-checkpoint-sqlite")
    return ", ".join(f"{name} {version(name)}" for name in names)


class Scripted(BaseChatModel):
    """Plays `SCRIPT`."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Itself: the script knows the tool."""
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        calls = [{"name": "look", "args": {"number": number}, "id": key} for key, number in SCRIPT.next()]
        said = AIMessage("" if calls else ANSWER, tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=said)])


@tool
def look(number: int) -> str:
    """Look something up by its number."""
    return look_up(number)


class LangChainConversation:
    """A thread of a graph."""

    def __init__(self, graph: Any, name: str, mode: dict[str, Any]) -> None:
        self._graph, self._mode = graph, mode
        self._config = {"configurable": {"thread_id": name}, "recursion_limit": 1000}

    async def ask(self, question: str, picture: bytes | None = None) -> str:
        """See `agents.Conversation.ask`."""
        content: list[Any] = [{"type": "text", "text": question}]
        if picture is not None:
            content.append({"type": "image", "base64": base64.b64encode(picture).decode(), "mime_type": "image/png"})
        state = self._graph.invoke({"messages": [HumanMessage(content)]}, self._config, **self._mode)
        return str(state["messages"][-1].text)


class LangChainAgents:
    """See `agents.Agents`."""

    def __init__(self, form: str, folder: Path) -> None:
        self._folder = folder
        self._database: sqlite3.Connection | None = None
        saver: Any = None
        if form == "InMemorySaver":
            saver = InMemorySaver()
        elif form != "memory":
            self._database = sqlite3.connect(folder / "checkpoints.db", check_same_thread=False)
            saver = SqliteSaver(self._database)
        self._mode = {"durability": "sync"} if form.endswith("sync") else {}
        self._graph = create_agent(Scripted(), [look], system_prompt=PROMPT, checkpointer=saver)

    def conversation(self, name: str) -> LangChainConversation:
        """See `agents.Agents.conversation`."""
        return LangChainConversation(self._graph, name, self._mode)

    def size(self) -> int:
        """See `agents.Agents.size`."""
        if self._database is not None:
            self._database.close()
        return bytes_in(self._folder)


def open_agents(form: str, folder: Path) -> LangChainAgents:
    """See `agents.open_agents`."""
    return LangChainAgents(form, folder)
