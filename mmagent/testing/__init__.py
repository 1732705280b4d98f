"""Public test doubles: a scripted model and tiny random ones. Nothing of the package imports this."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.chat.scripted import ScriptedCall, ScriptedModel, call
    from mmagent.testing.families import FAMILIES, tiny_checkpoint
    from mmagent.testing.stories import read_stories
    from mmagent.testing.tiny import tiny_vlm

__all__ = ["FAMILIES", "ScriptedCall", "ScriptedModel", "call", "read_stories", "tiny_checkpoint", "tiny_vlm"]

_HOMES = {
    "FAMILIES": "mmagent.testing.families",
    "ScriptedCall": "mmagent.chat.scripted",
    "ScriptedModel": "mmagent.chat.scripted",
    "call": "mmagent.chat.scripted",
    "read_stories": "mmagent.testing.stories",
    "tiny_checkpoint": "mmagent.testing.families",
    "tiny_vlm": "mmagent.testing.tiny",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
