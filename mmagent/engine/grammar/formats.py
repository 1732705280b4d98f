"""How model families write tool calls: the marks around a call, its separators, its keys. It knows text, no token ids,
no schemas and no network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmagent.engine.vocabulary import Vocabulary


@dataclass(frozen=True)
class ToolFormat:
    """How a call is written: ``open {"name":"X","arguments":{...}} close``."""

    open: str
    """Before a call. Empty: the whole answer is one call, or text that does not begin with ``{``."""
    close: str
    comma: str = ","
    colon: str = ":"
    special: bool = True
    """Whether ``open`` and ``close`` must be control tokens. Where they need not be, they are control tokens in
    vocabularies that have them, and plain text in others."""
    arguments: str = "arguments"
    """The key of the arguments."""
    listed: bool = False
    """Whether all calls stand, with ``comma`` between them, in one pair of marks; else each has its own."""
    between: str = ""
    """What stands between one call's ``close`` and the next one's ``open``."""

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> ToolFormat:
        """The format that a model was trained on, as far as its control tokens and its chat template tell.

        mmagent's own where the control tokens for it are there, Llama 3's and SmolLM2's where the template asks for
        them, else the Hermes text that Qwen and most others use.
        """
        if all(vocabulary.special(mark) is not None for mark in (MMAGENT.open, MMAGENT.close)):
            return MMAGENT
        if '"parameters": dictionary of argument name' in vocabulary.template:
            return LLAMA3
        return SMOLLM2 if "<tool_call>[" in vocabulary.template else HERMES

    @property
    def bare(self) -> bool:
        """Whether calls have no marks."""
        return not self.open

    def head(self, name: str) -> str:
        """What stands between ``open`` and the arguments."""
        return f'{{"name"{self.colon}{json.dumps(name, ensure_ascii=False)}{self.comma}"{self.arguments}"{self.colon}'


MMAGENT = ToolFormat("<tool_call>", "</tool_call>")
"""mmagent's own models (``mmagent/model/chat_template.jinja``): two special tokens, compact JSON."""
HERMES = ToolFormat("<tool_call>\n", "\n</tool_call>", ", ", ": ", special=False, between="\n")
"""NousResearch's Hermes 2 Pro, and after it Qwen 2.5 and 3, SmolLM3 and others (their chat templates)."""
LLAMA3 = ToolFormat("", "", ", ", ": ", special=False, arguments="parameters")
"""Llama 3.1 to 3.3, JSON based tool calling (meta-llama/llama-models, ``llama3_1/prompt_format.md``)."""
SMOLLM2 = ToolFormat("<tool_call>[", "]</tool_call>", ", ", ": ", special=False, listed=True)
"""SmolLM2-Instruct (its model card's prompt for function calling): one list, in which all calls stand."""
