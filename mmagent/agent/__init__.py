"""Agents and tools: the loop in which a model plans, calls tools and answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.agent.agent import Agent, Result
    from mmagent.agent.tools import Tool, ToolContext, ToolResult, load_tools, tool

__all__ = ["Agent", "Result", "Tool", "ToolContext", "ToolResult", "load_tools", "tool"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "agent" if name in ("Agent", "Result") else "tools"
    return getattr(import_module(f"{__name__}.{module}"), name)
