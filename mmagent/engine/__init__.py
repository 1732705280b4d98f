"""The engine runs a network fast: load, caches, grammar, sampling, decoding. It knows no agent and no tool code."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.engine.cache import PrefixCache
    from mmagent.engine.features import FeatureCache
    from mmagent.engine.generation import Generation
    from mmagent.engine.grammar import Grammar, ParsedCall, Response, Thought, ToolFormat
    from mmagent.engine.load import Loaded
    from mmagent.engine.prompt import Picture, Prompt, build_prompt
    from mmagent.engine.sampling import Sampler
    from mmagent.engine.scheduler import Engine
    from mmagent.engine.vocabulary import Vocabulary

_HOMES = {
    "Engine": "scheduler",
    "FeatureCache": "features",
    "Generation": "generation",
    "Grammar": "grammar",
    "Loaded": "load",
    "ParsedCall": "grammar",
    "Picture": "prompt",
    "PrefixCache": "cache",
    "Prompt": "prompt",
    "Response": "grammar",
    "Sampler": "sampling",
    "Thought": "grammar",
    "ToolFormat": "grammar",
    "Vocabulary": "vocabulary",
    "build_prompt": "prompt",
}

__all__ = [
    "Engine",
    "FeatureCache",
    "Generation",
    "Grammar",
    "Loaded",
    "ParsedCall",
    "Picture",
    "PrefixCache",
    "Prompt",
    "Response",
    "Sampler",
    "Thought",
    "ToolFormat",
    "Vocabulary",
    "build_prompt",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
