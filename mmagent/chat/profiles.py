"""What a model family expects: how it writes calls and thoughts, what its chat template renders, how large its pictures
may get. It knows configurations and templates, no weights and no messages.

Families differ less by their names than by their templates, so templates are asked: one invented conversation with a
tool, a call and its result is rendered, and what comes out tells what the template knows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mmagent.engine.grammar.formats import HERMES, LLAMA3, MMAGENT, SMOLLM2, ToolFormat

logger = logging.getLogger(__name__)

_THOUGHTS = ("<think>", "</think>")
"""Of Qwen 3, SmolLM3, DeepSeek-R1 and those that follow them."""
_PICTURE_TOKENS = 1280
"""Most tokens of one picture: a megapixel for Qwen-VL, a page of print that can be read."""


@dataclass(frozen=True)
class Profile:
    """How one model is spoken to."""

    family: str
    """``model_type`` of its configuration."""
    format: ToolFormat
    """How it writes calls."""
    takes_tools: bool = False
    """Whether its template renders tools, calls and results; else they are described in words."""
    one_call: bool = False
    """Whether its template takes one call a message."""
    reasoning: tuple[str, str] | None = None
    """The marks around its thoughts."""
    reasoning_open: bool = False
    """Whether its template opens a thought before each answer."""
    picture_tokens: int = _PICTURE_TOKENS
    """Most tokens of one picture, where the family's processor leaves a choice."""


@dataclass(frozen=True)
class _Family:
    format: ToolFormat = HERMES
    """Of models whose template shows none."""
    picture_tokens: int = _PICTURE_TOKENS


_FAMILIES = {
    "mmagent": _Family(MMAGENT),
    "gemma3": _Family(),
    "gemma3_text": _Family(),
    "idefics3": _Family(picture_tokens=1728),  # 3 x 3 tiles of 169 tokens, and the whole
    "internvl": _Family(),
    "llama": _Family(),
    "llava": _Family(),
    "llava_onevision": _Family(picture_tokens=2304),  # 2 tiles of 729 tokens, and the whole
    "qwen2": _Family(),
    "qwen2_5_vl": _Family(),
    "qwen2_vl": _Family(),
    "qwen3": _Family(),
    "qwen3_vl": _Family(),
    "smollm3": _Family(),
    "smolvlm": _Family(SMOLLM2),  # its decoder is SmolLM2
}


def profile_of(config: Any, maker: Any) -> Profile:
    """The profile of a model; a family that nobody described is spoken to in the way that most understand.

    Args:
        config: Its configuration.
        maker: Its processor, or its tokenizer where it takes text only.
    """
    family = str(config.model_type)
    if family not in _FAMILIES:
        _warn(family)
    known = _FAMILIES.get(family, _Family())
    as_blocks = hasattr(maker, "tokenizer")
    template = _template(maker)
    if "SmolLM2" in template or "SmolLM," in template:  # its architecture is Llama's
        known = _Family(SMOLLM2, known.picture_tokens)
    rendered = _render(maker, as_blocks, calls=1)
    format = _shown_format(rendered)
    opened = _THOUGHTS[0] in template
    return Profile(
        family=family,
        format=format or known.format,
        takes_tools=format is not None and all(mark in rendered for mark in _MARKS),
        one_call=not _render(maker, as_blocks, calls=2),
        reasoning=_THOUGHTS if opened else None,
        reasoning_open=opened and rendered.rstrip().endswith(_THOUGHTS[0]),
        picture_tokens=known.picture_tokens,
    )


@lru_cache
def _warn(family: str) -> None:
    known = ", ".join(sorted(_FAMILIES))
    logger.warning("no profile of the model family %s; tool calls are asked for as Hermes has them (%s)", family, known)


_TOOL, _CALL, _VALUE, _RESULT = _MARKS = ("probe_tool", "probe_call", "probe_value", "probe_result")


def _render(maker: Any, as_blocks: bool, calls: int) -> str:
    """The invented conversation as text; empty where the template refuses it."""
    import jinja2

    def say(role: str, words: str, **more: Any) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": words}] if as_blocks else words, **more}

    def call(number: int) -> dict[str, Any]:
        return {"type": "function", "id": f"probe{number}xx", "function": {"name": _CALL, "arguments": {"x": _VALUE}}}

    tool = {"name": _TOOL, "description": "", "parameters": {"type": "object", "properties": {}}}
    results = [say("tool", _RESULT, name=_CALL, tool_call_id=f"probe{number}xx") for number in range(calls)]
    asked = say("assistant", "", tool_calls=[call(number) for number in range(calls)])
    try:
        rendered = maker.apply_chat_template(
            [say("system", "s"), say("user", "u"), asked, *results],
            tools=[{"type": "function", "function": tool}],
            add_generation_prompt=True,
            tokenize=False,
        )
    except (ValueError, TypeError, NotImplementedError, jinja2.TemplateError):
        return ""
    return str(rendered)


def _shown_format(rendered: str) -> ToolFormat | None:
    for format in (MMAGENT, HERMES, SMOLLM2, LLAMA3):
        call = f'{format.open}{format.head(_CALL)}{{"x"{format.colon}"{_VALUE}"}}}}{format.close}'
        if call in rendered:
            return format
    return None


def _template(maker: Any) -> str:
    template = getattr(maker, "chat_template", None)
    return template if isinstance(template, str) else ""
