"""From JSON Schema to Lark rules for compact JSON. It knows schemas, no tools, no tokens and no network.

Shapes that may hold quotes (objects, arrays, choices, references) and the usual leaves are written out as rules, so
that numbers stay finite and objects closed; everything else goes to llguidance's ``%json``, which refuses by name
what it cannot hold. Properties come in the order of the schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mmagent.content import QUOTED_KEY
from mmagent.errors import GrammarError

Schema = Mapping[str, Any]

_NOTES = frozenset(
    ["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$defs"]
) | {"definitions", "$comment", "discriminator"}
"""Keywords that say nothing about which values are valid."""
_CHAR = r'(?:[^"\\\x00-\x1f\x7f]|\\["\\bfnrt])'
_TERMINALS = rf"""STRING: /"{_CHAR}*"/
INTEGER: /0|-?[1-9][0-9]{{0,17}}/
NUMBER: /-?(?:0|[1-9][0-9]{{0,14}})(?:\.[0-9]{{1,15}})?/"""
"""Unbounded numbers have at most 18 digits (integers) or 15 before and after the point, so they are always finite."""
_LEAVES = {
    "string": "STRING",
    "integer": "INTEGER",
    "number": "NUMBER",
    "null": '"null"',
    "boolean": '("true" | "false")',
}


class JsonRules:
    """Collects the rules of one grammar.

    Args:
        item_separator, key_separator: As `json.dumps` has them.
        quoted: The rule of `quote_rules`, or None where there is nothing to quote.
    """

    def __init__(self, item_separator: str, key_separator: str, quoted: str | None) -> None:
        self._comma, self._colon = item_separator, key_separator
        self._quoted = quoted
        self._rules: list[str] = []
        self._references: dict[tuple[int, str], str] = {}

    def add(self, schema: Schema) -> str:
        """The name of a rule for the JSON values of ``schema``.

        Raises:
            GrammarError: A keyword cannot be held, or nothing can match; the message names it.
        """
        if not self.possible(schema, schema):
            raise GrammarError("it must quote what the user or a tool said, and nothing was said; give it some text")
        return self._rule(self._value(schema, schema))

    def possible(self, schema: Schema, root: Schema, seen: frozenset[str] = frozenset()) -> bool:
        """Whether any value can match: not where a quote is a must and there is nothing to quote."""
        if self._quoted is not None:
            return True
        if schema.get(QUOTED_KEY):
            return False
        if "$ref" in schema:
            name = schema["$ref"]
            return name in seen or self.possible(_resolve(name, root), root, seen | {name})
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return any(self.possible(option, root, seen) for option in options)
        needed = [schema.get("properties", {}).get(name, {}) for name in schema.get("required", ())]
        if schema.get("minItems", 0) > 0:
            needed.append(schema.get("items", {}))
        return all(self.possible(part, root, seen) for part in (*needed, *schema.get("allOf", ())))

    def __str__(self) -> str:
        return "\n".join([*self._rules, _TERMINALS, *([self._quoted] if self._quoted else [])])

    def _rule(self, body: str, name: str | None = None) -> str:
        name = name or f"r{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def _value(self, schema: Schema, root: Schema) -> str:
        keys = set(schema) - _NOTES
        if schema.get(QUOTED_KEY):
            return self._quote(keys)
        if keys == {"$ref"}:
            return self._reference(schema["$ref"], root)
        if "enum" in keys or "const" in keys:
            return self._choice(schema.get("enum", [schema.get("const")]))
        for keyword in ("anyOf", "oneOf", "allOf"):
            if keys == {keyword} and (options := self._options(keyword, schema, root)):
                return options
        kind = schema.get("type")
        if isinstance(kind, list):
            return _either(self._value({**schema, "type": one}, root) for one in kind)
        if kind == "object" and keys <= {"type", "properties", "required", "additionalProperties"} and _listed(schema):
            return self._object(schema, root)
        if kind == "array" and keys <= {"type", "items", "minItems", "maxItems"} and "items" in keys:
            return self._array(schema, root)
        if kind == "string" and keys <= {"type", "minLength", "maxLength"} and keys != {"type"}:
            return f'/"{_CHAR}{{{schema.get("minLength", 0)},{schema.get("maxLength", "")}}}"/'
        if keys == {"type"} and kind in _LEAVES:
            return _LEAVES[kind]
        return self._json(schema, root, keys)

    def _quote(self, keys: set[str]) -> str:
        if extra := keys - {"type", QUOTED_KEY}:
            raise GrammarError(f"a quoted string cannot have the keyword {min(extra)!r}; remove it")
        return "QUOTED"

    def _choice(self, values: list[Any]) -> str:
        texts = [json.dumps(value, ensure_ascii=False, separators=(self._comma, self._colon)) for value in values]
        return _either(map(_literal, texts))

    def _options(self, keyword: str, schema: Schema, root: Schema) -> str | None:
        options = schema[keyword]
        if keyword == "allOf" and len(options) > 1:
            return None
        if keyword == "oneOf" and "discriminator" not in schema:
            return None
        return _either(self._value(option, root) for option in options if self.possible(option, root))

    def _reference(self, name: str, root: Schema) -> str:
        key = (id(root), name)
        if key not in self._references:
            self._references[key] = rule = f"ref{len(self._references)}"  # known before its body: it may recur
            self._rule(self._value(_resolve(name, root), root), rule)
        return self._references[key]

    def _object(self, schema: Schema, root: Schema) -> str:
        """``first`` rules stand before the first property that is there, ``rest`` rules after it."""
        required = set(schema.get("required", ()))
        comma, first, rest = _literal(self._comma), '""', '""'
        for name, part in reversed(schema["properties"].items()):
            part = part if isinstance(part, Mapping) else {}
            if name not in required and not self.possible(part, root):
                continue
            member = (
                f"{_literal(json.dumps(name, ensure_ascii=False) + self._colon)} {self._rule(self._value(part, root))}"
            )
            here = self._rule(f"{member} {rest}")
            first = here if name in required else self._rule(f"{here} | {first}")
            rest = self._rule(f"{comma} {here}" + ("" if name in required else f" | {rest}"))
        return f'"{{" {first} "}}"'

    def _array(self, schema: Schema, root: Schema) -> str:
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        if high == 0 or not self.possible(schema["items"], root):
            return '"[" "]"'
        item = self._rule(self._value(schema["items"], root))
        more = f"{{{max(low - 1, 0)},{'' if high is None else high - 1}}}"
        body = item if high == 1 else f"{item} ({_literal(self._comma)} {item}){more}"
        return f'"[" {body} "]"' if low else f'"[" ({body})? "]"'

    def _json(self, schema: Schema, root: Schema, keys: set[str]) -> str:
        if _quotes_in(schema, root, frozenset()):
            shape = {"type", "properties", "required", "items", "minItems", "maxItems", "additionalProperties"}
            extra = sorted(keys - shape) or sorted(keys & {"additionalProperties", "required"}) or ["type"]
            raise GrammarError(
                f"a schema that holds quoted strings cannot have the keyword {extra[0]!r} here; remove it"
            )
        options = {
            "whitespace_flexible": False,
            "json_allowed_escapes": 'nrbtf\\"',
            "item_separator": self._comma,
            "key_separator": self._colon,
        }
        shared = {name: root[name] for name in ("$defs", "definitions") if name in root}
        return "%json " + json.dumps({**shared, **schema, "x-guidance": options}, ensure_ascii=False)


def _listed(schema: Schema) -> bool:
    """Whether an object lists its properties, the required ones among them."""
    return "properties" in schema and set(schema.get("required", ())) <= set(schema["properties"])


def _either(alternatives: Any) -> str:
    return f"({' | '.join(alternatives)})"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _resolve(reference: str, root: Schema) -> Schema:
    place: Any = root
    try:
        if not reference.startswith("#/"):
            raise KeyError(reference)
        for step in reference[2:].split("/"):
            place = place[step.replace("~1", "/").replace("~0", "~")]
    except (KeyError, TypeError) as error:
        raise GrammarError(f"the reference {reference!r} leads nowhere in its schema; define it under $defs") from error
    result: Schema = place
    return result


def _quotes_in(part: Any, root: Schema, seen: frozenset[str]) -> bool:
    """Whether a quoted string is anywhere below."""
    if isinstance(part, Mapping):
        name = part.get("$ref")
        if isinstance(name, str) and name not in seen and _quotes_in(_resolve(name, root), root, seen | {name}):
            return True
        below = [value for key, value in part.items() if key not in ("$defs", "definitions")]
        return bool(part.get(QUOTED_KEY)) or any(_quotes_in(value, root, seen) for value in below)
    return isinstance(part, list) and any(_quotes_in(value, root, seen) for value in part)
