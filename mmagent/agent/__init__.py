"""Agents and tools: the loop in which a model plans, calls tools and answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.agent.agent import Agent, Result
    from mmagent.agent.context.compaction import Compaction
    from mmagent.agent.policy import Policy, allow, ask, deny
    from mmagent.agent.tools import Progress, Tool, ToolContext, ToolResult, load_tools, tool
    from mmagent.agent.tools.groups import ToolGroup
    from mmagent.agent.tools.mcp import MCPServer

_HOMES = {
    "agent": ("Agent", "Result"),
    "context": ("Compaction",),
    "tools.groups": ("ToolGroup",),
    "tools.mcp": ("MCPServer",),
    "policy": ("Policy", "allow", "ask", "deny"),
    "tools": ("Progress", "Tool", "ToolContext", "ToolResult", "load_tools", "tool"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Agent",
    "Compaction",
    "MCPServer",
    "Policy",
    "Progress",
    "Result",
    "Tool",
    "ToolContext",
    "ToolGroup",
    "ToolResult",
    "allow",
    "ask",
    "deny",
    "load_tools",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
