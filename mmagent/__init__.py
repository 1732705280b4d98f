"""The public face of mmagent: names only. It imports nothing until a name is used (PEP 562)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent import errors
    from mmagent.agent import (
        Agent,
        Compaction,
        MCPServer,
        Policy,
        Progress,
        Result,
        Tool,
        ToolContext,
        ToolGroup,
        ToolResult,
        allow,
        ask,
        deny,
        tool,
    )
    from mmagent.agent.tools.langchain import as_langchain
    from mmagent.chat.factory import load_model
    from mmagent.chat.langchain import LangChainModel
    from mmagent.chat.local import LocalModel
    from mmagent.chat.protocol import Capabilities, ChatModel
    from mmagent.content import Audio, Document, Image, Message, Quoted, Video
    from mmagent.errors import MMAgentError, ToolError
    from mmagent.events import Citation, Event, Usage
    from mmagent.knowledge import Knowledge
    from mmagent.session import Session
    from mmagent.settings import Settings

    __version__: str

_HOMES = {
    "mmagent.agent": (
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
        "tool",
    ),
    "mmagent.agent.tools.langchain": ("as_langchain",),
    "mmagent.chat.factory": ("load_model",),
    "mmagent.chat.langchain": ("LangChainModel",),
    "mmagent.chat.local": ("LocalModel",),
    "mmagent.chat.protocol": ("Capabilities", "ChatModel"),
    "mmagent.content": ("Audio", "Document", "Image", "Message", "Quoted", "Video"),
    "mmagent.errors": ("MMAgentError", "ToolError"),
    "mmagent.events": ("Citation", "Event", "Usage"),
    "mmagent.knowledge": ("Knowledge",),
    "mmagent.session": ("Session",),
    "mmagent.settings": ("Settings",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Agent",
    "Audio",
    "Capabilities",
    "ChatModel",
    "Citation",
    "Compaction",
    "Document",
    "Event",
    "Image",
    "Knowledge",
    "LangChainModel",
    "LocalModel",
    "MCPServer",
    "MMAgentError",
    "Message",
    "Policy",
    "Progress",
    "Quoted",
    "Result",
    "Session",
    "Settings",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolGroup",
    "ToolResult",
    "Usage",
    "Video",
    "__version__",
    "allow",
    "as_langchain",
    "ask",
    "deny",
    "errors",
    "load_model",
    "tool",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    value: Any
    if name == "__version__":
        from importlib.metadata import version

        value = version("mmagent")
    elif name == "errors":
        value = import_module("mmagent.errors")
    elif name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'mmagent' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
