"""A whole answer as Lark text: thoughts, text, calls, and what an answer must fit. It knows tools, marks and schemas,
no state and no network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.engine.grammar.formats import ToolFormat
from mmagent.engine.grammar.quotes import quote_rules
from mmagent.engine.grammar.schema import JsonRules, json_rule
from mmagent.errors import GrammarError

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from mmagent.engine.vocabulary import Vocabulary

_FUEL = 100_000_000
"""Of llguidance's lexer: enough to compile a megabyte of quotable text."""
_TEXT = "(?s:.*)"
_UNBRACED = r"\s*(?:[^\s{](?s:.*))?"
"""The text of a format without marks: what begins with a brace is a call."""


class Function(Protocol):
    """What a grammar needs of a tool."""

    @property
    def name(self) -> str:
        """The name that a call begins with."""

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of an object."""


@dataclass(frozen=True)
class Shape:
    """What an answer looks like, whatever its tools are."""

    format: ToolFormat
    require_call: bool = False
    reasoning: tuple[str, str] | None = None
    reasoning_open: bool = False
    regex: str | None = None
    choices: tuple[str, ...] = ()


class AnswerRules:
    """The rules of one answer.

    Args:
        vocabulary: Which marks are control tokens.
        shape: Of the answer.
        tools: What may be called.
        output: JSON Schema of the answer.
        lines: What may be quoted.

    Raises:
        GrammarError: A schema cannot be held, or no tool can be called though one must be.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        shape: Shape,
        tools: Sequence[Function],
        output: Mapping[str, Any] | None,
        lines: Sequence[str],
    ) -> None:
        self._vocabulary, self._shape, self._format = vocabulary, shape, shape.format
        self._json = JsonRules(shape.format.comma, shape.format.colon, quote_rules(lines))
        self.calls = [call for tool in tools if (call := self._call(tool))]
        """A rule body for each tool that can be called."""
        if shape.require_call and not self.calls:
            raise GrammarError("no tool can be called; give one that has no quoted argument, or some text to quote")
        self._answer = self._bare_answer() if output is None else self._json.add(output, "the output")
        if output is not None and self._answer is None:
            raise GrammarError(
                "the output cannot be held by a grammar: it must quote what the user or a tool said, and nothing was "
                "said; give it some text"
            )

    def __str__(self) -> str:
        text = "\n".join([*self._start(), *self._body(), f"call: {_either(self.calls)}", str(self._json)])
        # forced text is tokenised by the model's tokenizer, which would make a control token of a name like <|end|>
        forcing = "" if self._vocabulary.split(text) == [text] else '%llguidance {"no_forcing": true}\n'
        return forcing + text

    def compile(self) -> LLMatcher:
        """The matcher, before its first token.

        Raises:
            GrammarError: A schema cannot be held; the message names its place and the keyword.
        """
        matcher = _compile(self._vocabulary, str(self))
        if error := matcher.get_error():
            raise GrammarError(self._explain(error))
        return matcher

    def _call(self, tool: Function) -> str | None:
        """None where the tool must quote and nothing can be quoted."""
        arguments = self._json.add(tool.parameters, f"tool {tool.name!r}")
        return arguments and f'{_literal(self._format.head(tool.name))} {arguments} "}}"'

    def _bare_answer(self) -> str | None:
        """An answer that is no JSON, by ``regex`` or ``choices``; None where it is any text."""
        from llguidance import regex_to_lark

        if self._shape.choices:
            if not all(self._shape.choices):
                raise GrammarError("a choice is empty; give choices that have letters")
            return _either(map(_literal, self._shape.choices))
        return None if self._shape.regex is None else f"/{regex_to_lark(self._shape.regex)}/"

    def _start(self) -> list[str]:
        """Thoughts first, if any."""
        if self._shape.reasoning is None:
            return ["start: body"]
        opened, closed = map(self._vocabulary.split, self._shape.reasoning)
        thought = "" if self._shape.reasoning_open else f"{_rules(opened)} "
        if isinstance(closed[0], int):
            lines = [f"thought: {thought}THOUGHT {_rules(closed)} GAP?", f"THOUGHT: /{_TEXT}/"]
        else:
            lines = [f"thought: {thought}thinking GAP?", f"thinking[lazy]: /{_TEXT}/ {_rules(closed)}"]
        start = "start: thought body" if self._shape.reasoning_open else "start: thought body | body"
        return [start, *lines, r"GAP: /\s{1,4}/"]

    def _body(self) -> list[str]:
        """The answer and its calls."""
        form, text = self._format, _UNBRACED if self._format.bare else _TEXT
        if not self.calls:
            return [f"body: {self._answer or 'TEXT'}", f"TEXT: {self._unthought(_TEXT)}"]
        opened, closed = map(self._vocabulary.split, (form.open, form.close))
        if form.special and not all(isinstance(part, int) for part in (*opened, *closed)):
            raise GrammarError(f"the vocabulary has no control tokens {form.open} and {form.close}; use another format")
        joint = (
            _literal(form.comma) if form.listed else _rules([*closed, *self._vocabulary.split(form.between), *opened])
        )
        more = f"call ({joint} call)* {_rules(closed)}" if not form.bare else "call"
        lines = [f"calls: {_rules(opened)} more", f"more: {more}", f"TEXT: {self._unthought(text)}"]
        if self._shape.require_call:
            return ["body: calls", *lines]
        if self._answer:
            return [f"body: {self._answer} | calls", *lines]
        if form.bare or isinstance(opened[0], int):
            return ["body: TEXT | calls" if form.bare else "body: TEXT calls?", *lines]
        return ["body: TEXT | head more", *lines, f"head[lazy]: TEXT {_rules(opened)}"]

    def _unthought(self, text: str) -> str:
        """Text that does not begin as a thought does, where that is text too."""
        reasoning = self._shape.reasoning
        if reasoning is None or self._shape.reasoning_open or isinstance(self._vocabulary.split(reasoning[0])[0], int):
            return f"/{text}/"
        return f"/{text}/ & ~(/\\s*/ {_literal(reasoning[0])} /{_TEXT}/)"

    def _explain(self, error: str) -> str:
        """Which part of which schema llguidance refuses, and why."""
        for place, schema in self._json.leaves.items():
            if why := _refused(self._vocabulary, schema):
                deeper, why = _deepest(self._vocabulary, schema, place, why)
                return (
                    f"{deeper} cannot be held by a grammar: {why}; leave it out of the schema and check it in the tool"
                )
        if self._shape.regex is not None and (why := _fault(self._vocabulary, f"start: {self._bare_answer()}")):
            return f"the regex {self._shape.regex!r} cannot be held by a grammar: {why}; write it without that"
        return f"the tools and the output together cannot be held by a grammar: {_reason(error)}; use fewer of them"


def _deepest(vocabulary: Vocabulary, schema: Any, place: str, why: str) -> tuple[str, str]:
    """The innermost part that is refused on its own, and the reason."""
    shared = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    for path, part in _parts(schema):
        if isinstance(part, Mapping) and (reason := _refused(vocabulary, {**shared, **part})):
            return _deepest(vocabulary, {**shared, **part}, f"{place}/{path}", reason)
    return place, why


def _parts(schema: Mapping[str, Any]) -> list[tuple[str, Any]]:
    single = [(key, schema[key]) for key in ("items", "additionalProperties") if key in schema]
    lists = ("anyOf", "oneOf", "allOf", "prefixItems")
    listed = [(f"{key}/{i}", part) for key in lists for i, part in enumerate(schema.get(key, ()))]
    maps = ("properties", "patternProperties")
    return single + listed + [(f"{key}/{name}", part) for key in maps for name, part in schema.get(key, {}).items()]


def _refused(vocabulary: Vocabulary, schema: Mapping[str, Any]) -> str:
    return _fault(vocabulary, f"start: {json_rule(schema)}")


def _fault(vocabulary: Vocabulary, lark: str) -> str:
    """Why the text does not compile; empty where it does."""
    return _reason(_compile(vocabulary, lark).get_error())


def _compile(vocabulary: Vocabulary, lark: str) -> LLMatcher:
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(initial_lexer_fuel=_FUEL, step_lexer_fuel=_FUEL, precompute_large_lexemes=False)
    return LLMatcher(vocabulary.ll, LLMatcher.grammar_from_lark(lark), log_level=0, limits=limits)


def _reason(error: str) -> str:
    """llguidance's message on one line, without the grammar's text."""
    lines = [line.strip() for line in error.split("\n   ", 1)[0].splitlines()]
    causes = [line.removeprefix("error: ") for line in error.splitlines() if line.startswith("error: ")]
    first = next(iter(filter(None, lines)), "").split("failed to compile JSON schema: ")[-1]
    return (f"{first.removesuffix(':')}: {causes[0]}" if causes else first)[:300]


def _rules(parts: Sequence[int | str]) -> str:
    return " ".join(f"<[{part}]>" if isinstance(part, int) else _literal(part) for part in parts)


def _either(alternatives: Any) -> str:
    return " | ".join(alternatives) or '""'


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
