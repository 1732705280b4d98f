"""Tools: what one is (`define`), how a call of it goes (`calls`), and what may come back (`results`)."""

from __future__ import annotations

from mmagent.agent.tools.context import Progress, ToolContext, ToolResult
from mmagent.agent.tools.define import AnyTool, Effect, Options, Tool, load_tools, tool
from mmagent.agent.tools.files import one_line

__all__ = [
    "AnyTool",
    "Effect",
    "Options",
    "Progress",
    "Tool",
    "ToolContext",
    "ToolResult",
    "load_tools",
    "one_line",
    "tool",
]
