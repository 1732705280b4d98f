"""The engine runs a network fast: load, caches, grammar, sampling, decoding. It knows no agent and no tool code."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.engine.cache import PrefixCache
    from mmagent.engine.decoder import Decoder, Generation
    from mmagent.engine.features import FeatureCache
    from mmagent.engine.grammar import Grammar, ToolFormat
    from mmagent.engine.load import Loaded
    from mmagent.engine.prompt import Picture, Prompt, build_prompt
    from mmagent.engine.response import ParsedCall, Response
    from mmagent.engine.sampling import Sampler
    from mmagent.engine.vocabulary import Vocabulary

_HOMES = {
    "Decoder": "decoder",
    "FeatureCache": "features",
    "Generation": "decoder",
    "Grammar": "grammar",
    "Loaded": "load",
    "ParsedCall": "response",
    "Picture": "prompt",
    "PrefixCache": "cache",
    "Prompt": "prompt",
    "Response": "response",
    "Sampler": "sampling",
    "ToolFormat": "grammar",
    "Vocabulary": "vocabulary",
    "build_prompt": "prompt",
}

__all__ = [
    "Decoder",
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
    "ToolFormat",
    "Vocabulary",
    "build_prompt",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
