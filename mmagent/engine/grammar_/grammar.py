"""What the model may write next: text, then tool calls that are valid by construction. It knows schemas and token ids,
no messages and no network. Compiled by llguidance (Rust); see docs/engine.md for the grammar itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from mmagent.engine.quotes import quote_rules
from mmagent.engine.schema import JsonRules
from mmagent.errors import GrammarError, ModelError

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from mmagent.engine.vocabulary import Vocabulary

_FUEL = 100_000_000
"""Of llguidance's lexer: enough to compile a megabyte of quotable text."""


class Function(Protocol):
    """What a grammar needs of a tool."""

    @property
    def name(self) -> str:
        """The name that a call begins with."""

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of an object."""


@dataclass(frozen=True)
class ToolFormat:
    """How a model family writes a call: ``open {"name":"X","arguments":{...}} close``."""

    open: str
    close: str
    comma: str = ","
    colon: str = ":"
    special: bool = True
    """Whether ``open`` and ``close`` are special tokens, which no text can spell."""

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> ToolFormat:
        """mmagent's own format where the tokens for it are there, else the Hermes text that Qwen and others use."""
        own = all(vocabulary.special(token) is not None for token in (MMAGENT.open, MMAGENT.close))
        return MMAGENT if own else HERMES

    def head(self, name: str) -> str:
        """What stands between ``open`` and the arguments."""
        return f'{{"name"{self.colon}{json.dumps(name, ensure_ascii=False)}{self.comma}"arguments"{self.colon}'


MMAGENT = ToolFormat("<tool_call>", "</tool_call>")
HERMES = ToolFormat("<tool_call>\n", "\n</tool_call>", ", ", ": ", special=False)


class Grammar:
    """The state of one answer.

    Without ``output``: text of any length, then any number of calls. With it: JSON of that schema, or calls.
    Then the end of the turn. Special tokens are out of reach of all text.

    Args:
        vocabulary: Of the model that answers.
        tools: What may be called. A tool that must quote is left out when there is nothing to quote.
        output: JSON Schema of the answer.
        quotable: Lines that quoted strings may be taken from.
        require_call: Ask for at least one call, with no text before it.

    Raises:
        GrammarError: A schema has a keyword that cannot be held; the message names schema and keyword.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        tools: Sequence[Function] = (),
        output: Mapping[str, Any] | None = None,
        quotable: Iterable[str] = (),
        require_call: bool = False,
    ) -> None:
        self.format = ToolFormat.of(vocabulary)
        rules = JsonRules(self.format.comma, self.format.colon, quote_rules(quotable))
        calls = [call for tool in tools if (call := self._call(tool, rules))]
        if require_call and not calls:
            raise GrammarError("no tool can be called; give one that has no quoted argument, or some text to quote")
        answer = None if output is None else _named("the output", lambda: rules.add(output))
        lark = "\n".join(
            [*self._start(vocabulary, bool(calls), answer, require_call), f"call: {_either(calls)}", str(rules)]
        )
        self._matcher = _compile(vocabulary, lark)
        if error := self._matcher.get_error():
            raise GrammarError(f"{_culprit(vocabulary, tools, output)} cannot be held by a grammar: {_reason(error)}")

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits ``[V]`` with -inf for every token that may not come next."""
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)  # [V] of 0 or 200
        if self._matcher.is_error():
            raise ModelError(f"the grammar could not go on: {_reason(self._matcher.get_error())}")
        barred = torch.ones(logits.shape[-1], dtype=torch.bool)
        width = min(len(allowed), len(barred))
        barred[:width] = allowed[:width] == 0
        return logits.masked_fill(barred.to(logits.device), -torch.inf)

    def accept(self, token: int) -> None:
        """Move on by a token.

        Raises:
            ModelError: It is none that `mask` allows.
        """
        if not self._matcher.consume_token(token):
            raise ModelError(f"token {token} does not fit the grammar: {_reason(self._matcher.get_error())}")

    def forced(self) -> list[int]:
        """The tokens that must come next, already accepted; empty where there is a choice."""
        tokens = self._matcher.compute_ff_tokens()
        if tokens and not self._matcher.consume_tokens(tokens):
            raise ModelError(f"the grammar could not go on: {_reason(self._matcher.get_error())}")
        return tokens

    @property
    def done(self) -> bool:
        """Whether nothing but the end of the turn can come."""
        return bool(self._matcher.is_stopped())

    def _call(self, tool: Function, rules: JsonRules) -> str | None:
        if not rules.possible(tool.parameters, tool.parameters):
            return None
        arguments = _named(f"tool {tool.name!r}", lambda: rules.add(tool.parameters))
        return f'{_literal(self.format.head(tool.name))} {arguments} "}}"'

    def _start(self, vocabulary: Vocabulary, calls: bool, answer: str | None, require_call: bool) -> list[str]:
        if not calls:
            return [f"start: {answer or 'TEXT'}", "TEXT: /(?s:.*)/"]
        if self.format.special:
            one = f"<[{vocabulary.special(self.format.open)}]> call <[{vocabulary.special(self.format.close)}]>"
            start = f"{answer} | one+" if answer else "TEXT one*"
            return [f"start: {'one+' if require_call else start}", "TEXT: /(?s:.*)/", f"one: {one}"]
        opened, closed = _literal(self.format.open), _literal(self.format.close)
        more = f'call {closed} ("\\n" {opened} call {closed})*'
        start = f"{answer} | {opened} more" if answer else "TEXT | head more"
        head = f"head[lazy]: TEXT {opened}"
        return [f"start: {f'{opened} more' if require_call else start}", "TEXT: /(?s:.*)/", head, f"more: {more}"]


def _compile(vocabulary: Vocabulary, lark: str) -> LLMatcher:
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(initial_lexer_fuel=_FUEL, step_lexer_fuel=_FUEL, precompute_large_lexemes=False)
    return LLMatcher(vocabulary.ll, LLMatcher.grammar_from_lark(lark), log_level=0, limits=limits)


def _named(what: str, build: Any) -> str:
    try:
        return str(build())
    except GrammarError as error:
        raise GrammarError(f"{what} cannot be held by a grammar: {error}") from error


def _culprit(vocabulary: Vocabulary, tools: Sequence[Function], output: Mapping[str, Any] | None) -> str:
    """Which schema does not compile on its own."""
    schemas = {f"tool {tool.name!r}": tool.parameters for tool in tools}
    for what, schema in schemas.items():
        rules = JsonRules(",", ":", 'QUOTED: "q"')
        if _compile(vocabulary, f"start: {rules.add(schema)}\n{rules}").is_error():
            return what
    return "the output" if output is not None else "the tools together"


def _reason(error: str) -> str:
    """llguidance's message without the grammar's text."""
    first = error.strip().splitlines()[0] if error.strip() else "no reason given"
    return first.split("failed to compile JSON schema: ")[-1]


def _either(alternatives: Sequence[str]) -> str:
    return " | ".join(alternatives) or '""'


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
