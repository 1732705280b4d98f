"""Names, descriptions and schemas that somebody else wrote, made safe for prompts and grammars. It knows text and JSON
Schema; it knows no server and no tool.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

MAX_NAME = 64
MAX_DESCRIPTION = 1024
MAX_NOTE = 300
"""Characters of the description of one parameter."""
MAX_SCHEMA = 32 * 1024
"""Characters of a tool's schema, as JSON."""
MAX_DEPTH = 12
MAX_NODES = 1000
MAX_CHOICES = 200
MAX_ITEMS = 1000

_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_ANY: Schema = {"type": "object", "properties": {}, "additionalProperties": True}
_INVISIBLE = ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp")


def clean(text: object, limit: int) -> str:
    """One line of at most ``limit`` characters: controls, and characters that nobody sees, become spaces."""
    head = str(text)[: 4 * limit]
    seen = "".join(" " if unicodedata.category(char) in _INVISIBLE else char for char in head)
    line = " ".join(seen.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def tool_name(name: str, prefix: str = "") -> str:
    """A name that models and grammars can write: letters, digits, ``_`` and ``-``, at most 64 of them."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", f"{prefix}__{name}" if prefix else name)[:MAX_NAME]
    return plain if plain[:1].isalpha() or plain.startswith("_") else f"_{plain}"[:MAX_NAME]


def relaxed(schema: Mapping[str, Any]) -> Schema:
    """A schema of an object that every grammar can hold, and that takes whatever ``schema`` takes.

    References are put in place, one that leads nowhere or into itself becomes "anything"; what is left of a schema
    are its types, properties, choices and plain bounds. The server checks the arguments against the rest.
    """
    made = _Relaxing(schema).value(schema, 0, ())
    if made.get("type") != "object":
        return dict(_ANY)
    made.setdefault("properties", {})
    return made if len(json.dumps(made)) <= MAX_SCHEMA else dict(_ANY)


class _Relaxing:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root, self._nodes = root, 0

    def value(self, schema: Any, depth: int, open_names: tuple[str, ...]) -> Schema:
        self._nodes += 1
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH or self._nodes > MAX_NODES:
            return {}
        if isinstance(name := schema.get("$ref"), str):
            target = self._lookup(name)
            if name in open_names or target is None:
                return {}
            siblings = {key: value for key, value in schema.items() if key != "$ref"}
            return self.value({**target, **siblings}, depth + 1, (*open_names, name))
        schema = _merged(schema)
        made = _choices(schema)
        if not made:
            options = schema.get("anyOf") or schema.get("oneOf")
            if isinstance(options, list) and options and not isinstance(schema.get("properties"), Mapping):
                parts = [self.value(option, depth + 1, open_names) for option in options[:MAX_CHOICES]]
                made = {"anyOf": parts} if all(parts) and len(parts) == len(options) else {}
            else:
                made = self._typed(schema, depth, open_names)
        if isinstance(schema.get("description"), str) and (note := clean(_described(schema), MAX_NOTE)):
            made["description"] = note
        if (default := schema.get("default")) is not None and _is_scalar(default):
            made["default"] = default
        return made

    def _typed(self, schema: Mapping[str, Any], depth: int, open_names: tuple[str, ...]) -> Schema:
        kind = schema.get("type", "object" if isinstance(schema.get("properties"), Mapping) else None)
        if isinstance(kind, list):
            parts = [self._typed({**schema, "type": one}, depth, open_names) for one in kind if one in _TYPES]
            return {"anyOf": parts} if len(parts) > 1 else (parts[0] if parts else {})
        if not isinstance(kind, str) or kind not in _TYPES:
            return {}
        made: Schema = {"type": kind}
        if kind == "object":
            self._members(made, schema, depth, open_names)
        elif kind == "array":
            items = schema.get("items")
            made["items"] = self.value(items, depth + 1, open_names)
            made |= _bounds(schema, "minItems", "maxItems", MAX_ITEMS)
        elif kind == "string":
            made |= _bounds(schema, "minLength", "maxLength", MAX_SCHEMA)
        elif kind in ("integer", "number"):
            made |= _range(schema, 1 if kind == "integer" else 0)
        return made

    def _members(self, made: Schema, schema: Mapping[str, Any], depth: int, open_names: tuple[str, ...]) -> None:
        listed = schema.get("properties")
        listed = listed if isinstance(listed, Mapping) else {}
        named = {name: part for name, part in listed.items() if isinstance(name, str) and _is_plain(name)}
        if named:
            made["properties"] = {name: self.value(part, depth + 1, open_names) for name, part in named.items()}
            required = schema.get("required")
            made["required"] = [name for name in named if isinstance(required, list) and name in required]
            more = schema.get("additionalProperties")
            if len(named) < len(listed):
                made["additionalProperties"] = True  # what is left out is still taken
            elif more is not None:
                made["additionalProperties"] = more is not False and (self.value(more, depth + 1, open_names) or True)
            return
        more = schema.get("additionalProperties", "properties" not in schema or bool(listed))
        if more is False:
            made |= {"properties": {}, "additionalProperties": False}
        else:
            made["additionalProperties"] = self.value(more, depth + 1, open_names) or True

    def _lookup(self, name: str) -> Mapping[str, Any] | None:
        found: Any = self._root
        for step in name.removeprefix("#").split("/") if name.startswith("#") else ["elsewhere"]:
            if step:
                found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else None


def _merged(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """``allOf`` of one part is that part; of several, nothing is said of it."""
    parts = schema.get("allOf")
    if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], Mapping) and "$ref" not in parts[0]:
        return {**parts[0], **{key: value for key, value in schema.items() if key != "allOf"}}
    return schema


def _choices(schema: Mapping[str, Any]) -> Schema:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list) or not 0 < len(values) <= MAX_CHOICES:
        return {}
    plain = [value for value in values if _is_scalar(value)]
    return {"enum": plain} if len(plain) == len(values) else {}


def _described(schema: Mapping[str, Any]) -> str:
    form = schema.get("format")
    return f"{schema['description']} ({form})" if isinstance(form, str) and form else str(schema["description"])


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_NOTE and _is_plain(value, MAX_NOTE)
    return value is None or isinstance(value, bool) or (isinstance(value, int | float) and _is_number(value))


def _is_plain(text: str, limit: int = 2 * MAX_NAME) -> bool:
    return len(text) <= limit and clean(text, limit + 1) == text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _bounds(schema: Mapping[str, Any], low: str, high: str, limit: int) -> Schema:
    found = {key: schema[key] for key in (low, high) if type(schema.get(key)) is int and 0 <= schema[key] <= limit}
    return found if found.get(low, 0) <= found.get(high, limit) else {}


def _range(schema: Mapping[str, Any], width: int) -> Schema:
    keys = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    found = {key: schema[key] for key in keys if _is_number(schema.get(key))}
    low = max((found[key] for key in keys[::2] if key in found), default=-math.inf)
    high = min((found[key] for key in keys[1::2] if key in found), default=math.inf)
    return found if low < high and high - low >= width else {}
