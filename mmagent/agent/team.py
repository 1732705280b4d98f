"""More than one agent: one as a tool of another, and handing a conversation over. It knows names and no loop."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mmagent.agent.tools import Tool
from mmagent.content import Block, Message, ToolCallBlock, text
from mmagent.errors import ConfigurationError, ToolError

if TYPE_CHECKING:
    from mmagent.agent.agent import Agent
    from mmagent.session import State

_QUESTION = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "description": "All that it needs to know; it knows nothing else."},
        "pictures": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "description": "The numbers of the pictures that it needs to see; 1 is the first of the conversation.",
        },
    },
    "required": ["question"],
    "additionalProperties": False,
}
_REASON = {
    "type": "object",
    "properties": {"reason": {"type": "string", "description": "Why, in a sentence."}},
    "required": ["reason"],
    "additionalProperties": False,
}


class AgentTool(Tool[Any, Any]):
    """An agent that another one may ask. Repeating the call after a crash goes on where its own session stopped."""

    agent: Agent
    """Who is asked."""


class HandoffTool(Tool[Any, Any]):
    """Gives the conversation to another agent, who sees all of it."""

    agent: Agent
    """Who goes on."""


def agent_tool(agent: Agent, name: str | None, description: str | None) -> AgentTool:
    """An agent as a tool.

    Raises:
        ConfigurationError: The name cannot be used.
    """
    tool = AgentTool.from_schema(
        name or f"ask_{_identifier(agent.name)}",
        description or f"Ask {agent.name}, who works on it alone and answers. {agent.description}".strip(),
        _QUESTION,
        _of_the_loop,
        effect="idempotent",
        sends=False,  # what its own tools send is judged call by call
    )
    tool.agent = agent
    return tool


def handoff_tools(agents: Iterable[Agent]) -> list[HandoffTool]:
    """A tool for each agent that may take over.

    Raises:
        ConfigurationError: Two have one name.
    """
    tools: dict[str, HandoffTool] = {}
    for agent in agents:
        tool = HandoffTool.from_schema(
            f"transfer_to_{_identifier(agent.name)}",
            f"Give the conversation to {agent.name}. {agent.description}".strip(),
            _REASON,
            _of_the_loop,
            effect="read",
            untrusted=False,
            sends=False,
        )
        tool.agent = agent
        if tools.setdefault(tool.name, tool) is not tool:
            raise ConfigurationError(f"two agents are called {agent.name}; give one another: Agent(name=...)")
    return list(tools.values())


def question_of(call: ToolCallBlock, state: State) -> Message:
    """What a call of an agent asks it. Labels come along: the asker may repeat what others made it read.

    Raises:
        ToolError: There is no picture of a number.
    """
    pictures: list[Block] = []
    for number in call["args"].get("pictures", ()):
        if not 1 <= number <= len(state.media):
            raise ToolError(f"there is no picture {number}; the latest is picture {len(state.media)}")
        pictures.append(state.media[number - 1])
    content = (*pictures, text(str(call["args"]["question"])))
    return Message(role="user", content=content, labels=tuple(sorted(state.labels)))


def team_of(agent: Agent) -> dict[str, Agent]:
    """Everybody whom a conversation may be handed to, from one to the next, by name; the first comes first."""
    team = {agent.name: agent}
    waiting = [agent]
    while waiting:
        for other in waiting.pop().handoffs:
            if other.name not in team:
                team[other.name] = other
                waiting.append(other)
            elif team[other.name] is not other:
                raise ConfigurationError(f"two agents are called {other.name}; give one another: Agent(name=...)")
    return team


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower() or "agent"


def _of_the_loop(**_: Any) -> None:
    raise ConfigurationError("this tool works only within an agent")
