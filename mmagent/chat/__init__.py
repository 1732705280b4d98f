"""Models that an agent can think with: local, behind LangChain, scripted. Heavy modules load at first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.chat.factory import load_model
    from mmagent.chat.langchain import LangChainModel
    from mmagent.chat.local import LocalModel
    from mmagent.chat.protocol import (
        Capabilities,
        ChatModel,
        ModelDone,
        ModelEvent,
        ModelReasoning,
        ModelRequest,
        ModelText,
        ModelToolCall,
        Sampling,
        ToolSpec,
    )
    from mmagent.chat.scripted import ScriptedModel

__all__ = [
    "Capabilities",
    "ChatModel",
    "LangChainModel",
    "LocalModel",
    "ModelDone",
    "ModelEvent",
    "ModelReasoning",
    "ModelRequest",
    "ModelText",
    "ModelToolCall",
    "Sampling",
    "ScriptedModel",
    "ToolSpec",
    "load_model",
]

_HOMES = {
    "LangChainModel": "langchain",
    "LocalModel": "local",
    "ScriptedModel": "scripted",
    "load_model": "factory",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'protocol')}"), name)
