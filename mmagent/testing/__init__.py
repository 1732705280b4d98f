"""Doubles, faults and recordings for tests of agents. Nothing of the package imports this."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.chat.scripted import ScriptedCall, ScriptedModel, call
    from mmagent.testing.answers import accepts
    from mmagent.testing.checkpoints import tiny_vlm
    from mmagent.testing.families import FAMILIES, tiny_checkpoint
    from mmagent.testing.faults import FailingModel, FaultyJournal, SlowModel, flaky
    from mmagent.testing.kill import KillAt
    from mmagent.testing.network import NetworkDisabled, no_network
    from mmagent.testing.parity import expected_logits, insets_of, noise_picture, parity_prompts, user_prompt
    from mmagent.testing.replay import RecordingModel, ReplayModel, RequestDiffers, record
    from mmagent.testing.sound import (
        ScriptedDetector,
        ScriptedRecorder,
        ScriptedSpeaker,
        ScriptedSpeech,
        ScriptedVoice,
    )
    from mmagent.testing.speech import LoudVad, ScriptedEngine, decoded
    from mmagent.testing.stories import read_stories

__all__ = [
    "FAMILIES",
    "FailingModel",
    "FaultyJournal",
    "KillAt",
    "LoudVad",
    "NetworkDisabled",
    "RecordingModel",
    "ReplayModel",
    "RequestDiffers",
    "ScriptedCall",
    "ScriptedDetector",
    "ScriptedEngine",
    "ScriptedModel",
    "ScriptedRecorder",
    "ScriptedSpeaker",
    "ScriptedSpeech",
    "ScriptedVoice",
    "SlowModel",
    "accepts",
    "call",
    "decoded",
    "expected_logits",
    "flaky",
    "insets_of",
    "no_network",
    "noise_picture",
    "parity_prompts",
    "read_stories",
    "record",
    "tiny_checkpoint",
    "tiny_vlm",
    "user_prompt",
]

_HOMES = {
    "FAMILIES": "mmagent.testing.families",
    "FailingModel": "mmagent.testing.faults",
    "FaultyJournal": "mmagent.testing.faults",
    "KillAt": "mmagent.testing.kill",
    "LoudVad": "mmagent.testing.speech",
    "NetworkDisabled": "mmagent.testing.network",
    "RecordingModel": "mmagent.testing.replay",
    "ReplayModel": "mmagent.testing.replay",
    "RequestDiffers": "mmagent.testing.replay",
    "ScriptedCall": "mmagent.chat.scripted",
    "ScriptedDetector": "mmagent.testing.sound",
    "ScriptedEngine": "mmagent.testing.speech",
    "ScriptedModel": "mmagent.chat.scripted",
    "ScriptedRecorder": "mmagent.testing.sound",
    "ScriptedSpeaker": "mmagent.testing.sound",
    "ScriptedSpeech": "mmagent.testing.sound",
    "ScriptedVoice": "mmagent.testing.sound",
    "SlowModel": "mmagent.testing.faults",
    "accepts": "mmagent.testing.answers",
    "call": "mmagent.chat.scripted",
    "decoded": "mmagent.testing.speech",
    "expected_logits": "mmagent.testing.parity",
    "flaky": "mmagent.testing.faults",
    "insets_of": "mmagent.testing.parity",
    "no_network": "mmagent.testing.network",
    "noise_picture": "mmagent.testing.parity",
    "parity_prompts": "mmagent.testing.parity",
    "read_stories": "mmagent.testing.stories",
    "record": "mmagent.testing.replay",
    "tiny_checkpoint": "mmagent.testing.families",
    "tiny_vlm": "mmagent.testing.checkpoints",
    "user_prompt": "mmagent.testing.parity",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
