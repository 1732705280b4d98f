"""Public test doubles: a scripted model and tiny random ones. Nothing of the package imports this."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.chat.scripted import ScriptedCall, ScriptedModel, call
    from mmagent.testing.answers import accepts
    from mmagent.testing.families import FAMILIES, tiny_checkpoint
    from mmagent.testing.parity import expected_logits, insets_of, noise_picture, parity_prompts, user_prompt
    from mmagent.testing.stories import read_stories
    from mmagent.testing.tiny import tiny_vlm

__all__ = [
    "FAMILIES",
    "ScriptedCall",
    "ScriptedModel",
    "accepts",
    "call",
    "expected_logits",
    "insets_of",
    "noise_picture",
    "parity_prompts",
    "read_stories",
    "tiny_checkpoint",
    "tiny_vlm",
    "user_prompt",
]

_HOMES = {
    "FAMILIES": "mmagent.testing.families",
    "ScriptedCall": "mmagent.chat.scripted",
    "ScriptedModel": "mmagent.chat.scripted",
    "accepts": "mmagent.testing.answers",
    "call": "mmagent.chat.scripted",
    "expected_logits": "mmagent.testing.parity",
    "insets_of": "mmagent.testing.parity",
    "noise_picture": "mmagent.testing.parity",
    "parity_prompts": "mmagent.testing.parity",
    "read_stories": "mmagent.testing.stories",
    "tiny_checkpoint": "mmagent.testing.families",
    "tiny_vlm": "mmagent.testing.tiny",
    "user_prompt": "mmagent.testing.parity",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
