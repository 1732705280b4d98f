"""What a model may write, and what it wrote: schemas, tools, quotes and thoughts. It knows token ids, no network.

formats   how a family writes a call            schema, closed   JSON Schema as rules
quotes    what may be quoted                    lark             a whole answer as rules
compiled  what was compiled before              mask             bits to logits
grammar   the state of one answer               response         from tokens to text, thoughts and calls
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.engine.grammar.formats import HERMES, LLAMA3, MMAGENT, SMOLLM2, ToolFormat
    from mmagent.engine.grammar.grammar import Grammar
    from mmagent.engine.grammar.response import ParsedCall, Response, Thought

_HOMES = {
    "HERMES": "formats",
    "LLAMA3": "formats",
    "MMAGENT": "formats",
    "SMOLLM2": "formats",
    "Grammar": "grammar",
    "ParsedCall": "response",
    "Response": "response",
    "Thought": "response",
    "ToolFormat": "formats",
}

__all__ = ["HERMES", "LLAMA3", "MMAGENT", "SMOLLM2", "Grammar", "ParsedCall", "Response", "Thought", "ToolFormat"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
