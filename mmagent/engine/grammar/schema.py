"""From JSON Schema to Lark rules for JSON on one line. It knows schemas, no tools, no tokens and no network.

Shapes that may hold quotes (objects, arrays, choices, references) and the usual leaves are written out as rules, so
that numbers stay finite and objects closed; everything else goes to llguidance's ``%json``, which refuses by name
what it cannot hold. Properties come in the order of the schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mmagent.content import QUOTED_KEY
from mmagent.engine.grammar.closed import (
    ANY_NAME,
    ANY_VALUE,
    NOTES,
    DeadReference,
    Schema,
    closed,
    leads_to_quotes,
    matches_type,
    resolve,
)
from mmagent.errors import GrammarError

_HEX = "[0-9a-fA-F]"
_PAIR = rf"\\u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}"
"""Two escapes that are one character; half of a pair is none, and no UTF-8."""
_ESCAPE = rf'\\["\\\x2fbfnrt]|\\u(?:[0-9a-ce-fA-CE-F]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}})|{_PAIR}'
_CHAR = rf'(?:[^"\\\x00-\x1f]|{_ESCAPE})'
_TERMINALS = rf"""STRING: /"{_CHAR}*"/
INTEGER: /0|-?[1-9][0-9]{{0,17}}/
NUMBER: /-?(?:0|[1-9][0-9]{{0,17}})(?:\.[0-9]{{1,20}})?(?:[eE][+-]?[0-9]{{1,2}})?/"""
"""Unbounded numbers have at most 18 digits before the point, 20 after it and 2 in the exponent: always finite."""
_LEAVES = {
    "string": "STRING",
    "integer": "INTEGER",
    "number": "NUMBER",
    "null": '"null"',
    "boolean": '("true" | "false")',
}
_FREE_FORMATS = frozenset(["path", "file-path", "directory-path", "password", "binary"])
"""Formats of pydantic that any string has."""
_DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
"""pydantic's pattern for ``Decimal``; it looks ahead, which a grammar cannot."""
_DECIMAL_RULE = r'/"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})"/'


class JsonRules:
    """Collects the rules of one grammar.

    Args:
        item_separator, key_separator: As `json.dumps` has them.
        quoted: The rule of `quote_rules`, or None where there is nothing to quote.
    """

    def __init__(self, item_separator: str, key_separator: str, quoted: str | None) -> None:
        self._comma, self._colon = item_separator, key_separator
        self._quoted = quoted
        self._rules: dict[str, str] = {}
        self._named: dict[str, str] = {}
        self._references: dict[tuple[int, str], str] = {}
        self.leaves: dict[str, Schema] = {}
        """What went to ``%json``, by its place."""

    def add(self, schema: Schema, what: str) -> str | None:
        """The name of a rule for the JSON values of ``schema``; None where a quote is a must and nothing can be quoted.

        Args:
            schema: A JSON Schema.
            what: What messages call it.

        Raises:
            GrammarError: A keyword cannot be held; the message names its place.
        """
        try:
            return self._rule(self._value(schema, schema, f"{what} at #")) if self._possible(schema, schema) else None
        except DeadReference as error:
            raise _refusal(what, str(error)) from error

    def _possible(self, schema: Any, root: Schema, seen: frozenset[str] = frozenset()) -> bool:
        """Whether any value can match: not where a quote is a must and there is nothing to quote."""
        if not isinstance(schema, Mapping):
            return True
        if self._quoted is not None:
            return True
        if schema.get(QUOTED_KEY):
            return False
        if "$ref" in schema:
            name = schema["$ref"]
            return name in seen or self._possible(resolve(name, root), root, seen | {name})
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return any(self._possible(option, root, seen) for option in options)
        needed = [schema.get("properties", {}).get(name, {}) for name in schema.get("required", ())]
        if schema.get("minItems", 0) > 0:
            needed += schema.get("prefixItems", ()) or [schema.get("items", {})]
        return all(self._possible(part, root, seen) for part in (*needed, *schema.get("allOf", ())))

    def __str__(self) -> str:
        rules = {**{name: body for body, name in self._rules.items()}, **self._named}
        quoted = [self._quoted] if self._quoted else []
        return "\n".join([*(f"{name}: {body}" for name, body in rules.items()), _TERMINALS, *quoted])

    def _rule(self, body: str) -> str:
        """The name of a rule with this body; equal bodies are one rule."""
        return self._rules.setdefault(body, f"r{len(self._rules)}")

    def _value(self, schema: Any, root: Schema, place: str) -> str:
        if not isinstance(schema, Mapping):
            schema = {} if schema is not False else {"not": {}}
        keys = set(schema) - NOTES
        if schema.get(QUOTED_KEY):
            return self._quote(keys, place)
        if not keys:
            return self._any()
        if keys == {"$ref"}:
            return self._reference(schema["$ref"], root, place)
        if keys & {"enum", "const"} and keys <= {"enum", "const", "type"}:
            return self._choice(schema, place)
        for keyword in ("anyOf", "oneOf", "allOf"):
            if keys == {keyword} and (options := self._options(keyword, schema, root, place)):
                return options
        if isinstance(schema.get("type"), list):
            return _either(self._value({**schema, "type": one}, root, place) for one in schema["type"])
        shape = self._shape(schema, root, keys, place)
        return shape if shape is not None else self._json(schema, root, keys, place)

    def _shape(self, schema: Schema, root: Schema, keys: set[str], place: str) -> str | None:
        """A value of one type; None where the rules here cannot say it."""
        kind = schema.get("type")
        if keys == {"type"} and kind in _LEAVES:
            return _LEAVES[kind]
        if kind == "string":
            return _string(schema, keys)
        if kind == "array":
            return self._array(schema, root, keys, place)
        if kind != "object" and not (kind is None and "properties" in keys):
            return None
        if keys <= {"type", "properties", "required", "additionalProperties"} and schema.get("properties"):
            return self._object(schema, root, place)
        if not schema.get("properties") and not schema.get("required"):
            return self._map(schema, root, keys, place)
        return self._object(schema, root, place) if keys == {"type", "required"} else None

    def _quote(self, keys: set[str], place: str) -> str:
        if extra := keys - {"type", QUOTED_KEY}:
            raise _refusal(place, f"a quoted string cannot have the keyword {min(extra)!r}; remove it")
        return "QUOTED"

    def _choice(self, schema: Schema, place: str) -> str:
        values = [value for value in schema.get("enum", [schema.get("const")]) if matches_type(value, schema)]
        if "const" in schema:
            values = [value for value in values if value == schema["const"]]
        if not values:
            raise _refusal(place, "no value of 'enum' has the schema's type; correct one of them")
        try:
            separators = (self._comma, self._colon)
            texts = [json.dumps(value, ensure_ascii=False, separators=separators, allow_nan=False) for value in values]
        except (TypeError, ValueError) as error:
            raise _refusal(place, f"a value of 'enum' is no JSON ({error}); remove it") from error
        return _either(map(_literal, texts))

    def _options(self, keyword: str, schema: Schema, root: Schema, place: str) -> str | None:
        options = schema[keyword]
        if keyword == "allOf" and len(options) > 1:
            return None
        if keyword == "oneOf" and "discriminator" not in schema:
            return None
        return _either(
            self._value(option, root, f"{place}/{keyword}/{index}")
            for index, option in enumerate(options)
            if self._possible(option, root)
        )

    def _reference(self, name: str, root: Schema, place: str) -> str:
        key = (id(root), name)
        if key not in self._references:
            self._references[key] = rule = f"ref{len(self._references)}"  # known before its body: it may recur
            self._named[rule] = self._value(resolve(name, root), root, f"{place.partition('#')[0]}{name}")
        return self._references[key]

    def _any(self) -> str:
        """Any JSON value, its numbers finite."""
        if "any" not in self._named:
            comma, colon = _literal(self._comma), _literal(self._colon)
            items, members = f"any ({comma} any)*", f"STRING {colon} any ({comma} STRING {colon} any)*"
            leaves = " | ".join(rule for kind, rule in _LEAVES.items() if kind != "integer")
            self._named["any"] = f'{leaves} | "[" ({items})? "]" | "{{" ({members})? "}}"'
        return "any"

    def _object(self, schema: Schema, root: Schema, place: str) -> str | None:
        """``first`` rules stand before the first property that is there, ``rest`` rules after it."""
        listed, required = schema.get("properties", {}), schema.get("required", ())
        unlisted: dict[str, Schema] = {name: {} for name in required if name not in listed}
        more = schema.get("additionalProperties", True)
        if (more and isinstance(more, Mapping)) or (unlisted and more is False):
            return None
        properties = {**listed, **unlisted}
        comma, first, rest = _literal(self._comma), '""', '""'
        for name, part in reversed(properties.items()):
            if name not in required and not self._possible(part, root):
                continue
            value = self._rule(self._value(part, root, f"{place}/properties/{name}"))
            here = self._rule(f"{_literal(json.dumps(name, ensure_ascii=False) + self._colon)} {value} {rest}")
            first = here if name in required else self._rule(f"{here} | {first}")
            rest = self._rule(f"{comma} {here}" + ("" if name in required else f" | {rest}"))
        return f'"{{" {first} "}}"'

    def _map(self, schema: Schema, root: Schema, keys: set[str], place: str) -> str | None:
        """An object of any names."""
        allowed = {"type", "properties", "required", "additionalProperties", "minProperties", "maxProperties"}
        part = schema.get("additionalProperties", "properties" not in keys)
        if not keys <= allowed:
            return None
        if part is False or not self._possible(part, root):
            return '"{" "}"'
        value = self._rule(self._value(part, root, f"{place}/additionalProperties"))
        member = self._rule(f"STRING {_literal(self._colon)} {value}")
        return f'"{{" {self._repeat(member, schema.get("minProperties", 0), schema.get("maxProperties"))} "}}"'

    def _array(self, schema: Schema, root: Schema, keys: set[str], place: str) -> str | None:
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        first = schema.get("prefixItems", ())
        if keys <= {"type", "prefixItems", "minItems", "maxItems"} and first and low == high == len(first):
            items = [self._rule(self._value(part, root, f"{place}/prefixItems/{i}")) for i, part in enumerate(first)]
            return f'"[" {f" {_literal(self._comma)} ".join(items)} "]"'
        if not keys <= {"type", "items", "minItems", "maxItems"}:
            return None
        part = schema.get("items", {})
        if high == 0 or not self._possible(part, root):
            return '"[" "]"'
        return f'"[" {self._repeat(self._rule(self._value(part, root, f"{place}/items")), low, high)} "]"'

    def _repeat(self, item: str, low: int, high: int | None) -> str:
        if high == 0:
            return '""'
        more = f"{{{max(low - 1, 0)},{'' if high is None else high - 1}}}"
        body = item if high == 1 else f"{item} ({_literal(self._comma)} {item}){more}"
        return body if low else f"({body})?"

    def _json(self, schema: Schema, root: Schema, keys: set[str], place: str) -> str:
        if leads_to_quotes(schema, root, frozenset()):
            shape = {"type", "properties", "required", "items", "minItems", "maxItems", "additionalProperties"}
            extra = sorted(keys - shape) or sorted(keys & {"additionalProperties", "required"}) or ["type"]
            raise _refusal(
                place, f"a schema that holds quoted strings cannot have the keyword {extra[0]!r} here; remove it"
            )
        shared = {name: root[name] for name in ("$defs", "definitions") if name in root}
        self.leaves[place] = whole = closed({**shared, **schema})
        whole.setdefault("$defs", {})[ANY_NAME] = ANY_VALUE
        return json_rule(whole, self._comma, self._colon)


def json_rule(schema: Schema, item_separator: str = ",", key_separator: str = ":") -> str:
    """Body of a rule for the values of a schema, by llguidance alone; it may refuse the schema."""
    options = {
        "whitespace_flexible": False,
        "item_separator": item_separator,
        "key_separator": key_separator,
    }
    return "%json " + json.dumps({**schema, "x-guidance": options}, ensure_ascii=False)


def _string(schema: Schema, keys: set[str]) -> str | None:
    if schema.get("format") in _FREE_FORMATS:
        keys = keys - {"format"}
    if keys == {"type", "pattern"} and schema["pattern"] == _DECIMAL:
        return _DECIMAL_RULE
    if keys <= {"type", "minLength", "maxLength"}:
        return f'/"{_CHAR}{{{schema.get("minLength", 0)},{schema.get("maxLength", "")}}}"/'
    return None


def _refusal(place: str, reason: str) -> GrammarError:
    return GrammarError(f"{place} cannot be held by a grammar: {reason}")


def _either(alternatives: Iterable[str]) -> str:
    return f"({' | '.join(alternatives)})"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
