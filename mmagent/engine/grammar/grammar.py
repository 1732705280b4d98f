"""What the model may write next: thoughts and text, then tool calls that are valid by construction. It knows one
answer's state and token ids, no messages and no network. Compiled by llguidance (Rust); see docs/engine.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mmagent.content import QUOTED_KEY
from mmagent.engine.grammar.compiled import Compiled, compiled_for
from mmagent.engine.grammar.formats import ToolFormat
from mmagent.engine.grammar.lark import AnswerRules, Function, Shape
from mmagent.engine.grammar.mask import Bitmask
from mmagent.errors import GrammarError, ModelError

if TYPE_CHECKING:
    from mmagent.engine.vocabulary import Vocabulary


class Grammar:
    """The state of one answer.

    Text of any length, then any number of calls; or, with ``output``, ``regex`` or ``choices``, an answer that fits,
    or calls. Before it thoughts, where the model has ``reasoning``. Then the end of the turn. Control tokens are out
    of reach of all text. What was compiled for one answer is kept for the next.

    Args:
        vocabulary: Of the model that answers.
        tools: What may be called. A tool that must quote is left out when there is nothing to quote.
        output: JSON Schema of the answer.
        quotable: Lines that quoted strings may be taken from.
        require_call: Ask for at least one call, with no text before it.
        format: How calls are written; by default what the vocabulary and the chat template tell.
        reasoning: The marks around thoughts, which are any text and may be left out.
        reasoning_open: Whether the prompt ends within a thought.
        regex: What the whole answer matches, in the syntax of Rust's ``regex`` without anchors and look-around.
        choices: The whole answer is one of these.

    Raises:
        GrammarError: A schema or the regex cannot be held (the message names tool, place and keyword), or more than
            one form of the answer is given.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        tools: Sequence[Function] = (),
        output: Mapping[str, Any] | None = None,
        quotable: Iterable[str] = (),
        require_call: bool = False,
        format: ToolFormat | None = None,
        reasoning: tuple[str, str] | None = None,
        reasoning_open: bool = False,
        regex: str | None = None,
        choices: Sequence[str] = (),
    ) -> None:
        if sum((output is not None, regex is not None, bool(choices))) > 1:
            raise GrammarError("an answer has one form; give only one of output, regex and choices")
        shape = Shape(
            format or ToolFormat.of(vocabulary), require_call, reasoning, reasoning_open, regex, tuple(choices)
        )
        schemas = json.dumps([[(tool.name, tool.parameters) for tool in tools], output], default=str)
        lines = tuple(dict.fromkeys(quotable)) if f'"{QUOTED_KEY}"' in schemas else ()

        def compile() -> Compiled:
            rules = AnswerRules(vocabulary, shape, tools, output, lines)
            return Compiled(rules.compile(), bool(rules.calls), sum(map(len, lines)))

        compiled = compiled_for(vocabulary).get((shape, schemas, lines), compile)
        self._matcher, self._mask, self._ends = compiled.matcher, Bitmask(vocabulary.width), vocabulary.ends
        self.format = shape.format if compiled.calls else None
        """How calls are written; None where no tool can be called."""

    def bitmask(self) -> torch.Tensor:
        """The tokens that may come next, ``int32 [ceil(V / 32)]`` on the CPU, the lowest bit first.

        The buffer is the same at every call.

        Raises:
            ModelError: The grammar could not go on.
        """
        bits = self._mask.bits
        self._matcher.unsafe_compute_mask_ptr(bits.data_ptr(), bits.numel() * bits.element_size())
        if self._matcher.is_error():
            raise ModelError(f"the grammar could not go on: {self._error()}")
        return bits

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits ``[V]`` with -inf, in place, for every token that may not come next."""
        self.bitmask()
        return self._mask.apply(logits)

    def accept(self, token: int) -> None:
        """Move on by a token.

        Raises:
            ModelError: It is none that `mask` allows.
        """
        if not self._matcher.consume_token(token):
            raise ModelError(f"token {token} does not fit the grammar: {self._error()}")

    def allows(self, tokens: Sequence[int]) -> int:
        """How many of these tokens could come next, one after the other; the state does not change.

        An end of the turn counts, where it could come.
        """
        if self.done:
            return int(bool(tokens) and tokens[0] in self._ends)
        return int(self._matcher.validate_tokens(list(tokens)))

    def forced(self) -> list[int]:
        """The tokens that must come next, already accepted; empty where there is a choice."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        if tokens and not self._matcher.consume_tokens(tokens):
            raise ModelError(f"the grammar could not go on: {self._error()}")
        return tokens

    @property
    def done(self) -> bool:
        """Whether nothing but the end of the turn can come."""
        return bool(self._matcher.is_stopped())

    def _error(self) -> str:
        return next(iter(self._matcher.get_error().strip().splitlines()), "no reason given")
