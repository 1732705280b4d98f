"""Arguments checked against a JSON Schema that somebody else wrote. It knows schemas and quotes; it knows no tool.

Of the keywords it heeds those that the decoding of local models heeds too, but for ``pattern`` and ``format``: whoever
wrote the schema checks these. A keyword whose value is none that JSON Schema allows says nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from mmagent.content import QUOTED_KEY, Message, is_quote
from mmagent.errors import ConfigurationError

Problem: TypeAlias = "tuple[tuple[str | int, ...], str]"
_MAX_DEPTH = 200
_MAX_CHECKS = 100_000
"""Parts of a schema held against parts of the arguments: choices within choices multiply."""
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "exclusiveMinimum": ("more than", operator.gt),
    "exclusiveMaximum": ("less than", operator.lt),
}
_LENGTHS = ((str, "Length", "characters"), (list, "Items", "items"), (dict, "Properties", "properties"))


class RawSchema:
    """A JSON Schema of a tool's arguments.

    Args:
        schema: The schema.
        name: The tool's name, for messages.

    Raises:
        ConfigurationError: It is no schema of an object, or a keyword with parts in it is not of its form.
    """

    def __init__(self, schema: Mapping[str, Any], name: str) -> None:
        kind = schema.get("type", "object") if isinstance(schema, Mapping) else None
        if kind != "object" or not isinstance(schema.get("properties", {}), Mapping):
            raise ConfigurationError(f"the schema of the tool {name} is none of an object; its 'type' must be 'object'")
        if wrong := _misshapen(schema):
            raise ConfigurationError(f"the schema of the tool {name} is no JSON Schema: {wrong}; correct it")
        self.schema: dict[str, Any] = {**schema, "type": "object", "properties": {**schema.get("properties", {})}}
        """The same, with ``type`` and ``properties``."""
        self.name = name

    def validate(self, args: dict[str, Any], messages: Sequence[Message] | None = None) -> dict[str, Any]:
        """The arguments, as they are.

        Raises:
            ValidationError: They do not follow the schema, or a quoted one is no span of ``messages``.
        """
        left = iter(range(_MAX_CHECKS))
        problem = next(_problems(args, self.schema, (), root=self.schema, messages=messages, left=left), None)
        if problem is None:
            return args
        place, what = problem
        error = PydanticCustomError("schema", "{what}", {"what": what})
        details: InitErrorDetails = {"type": error, "loc": place, "input": args}
        raise ValidationError.from_exception_data(self.name, [details])


def _misshapen(schema: Any, depth: int = 0) -> str | None:
    """The first keyword whose parts cannot be told apart; everybody who reads a schema goes through them."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    parts = [schema.get("items"), schema.get("additionalProperties")]
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems", "enum", "required"):
        if not isinstance(found := schema.get(keyword, []), list | tuple):
            return f"{keyword!r} is no list"
        parts += found if keyword not in ("enum", "required") else ()
    for keyword in ("properties", "$defs"):
        if not isinstance(found := schema.get(keyword, {}), Mapping):
            return f"{keyword!r} is no object"
        parts += found.values()
    return next((wrong for part in parts if (wrong := _misshapen(part, depth + 1))), None)


def _problems(
    value: Any,
    schema: Any,
    place: tuple[str | int, ...],
    *,
    root: Mapping[str, Any],
    messages: Sequence[Message] | None,
    left: Iterator[int],
    open_: bool = False,
    depth: int = 0,
) -> Iterator[Problem]:
    """What is wrong with a value, the outermost first."""
    if schema is False:
        yield place, "Extra inputs are not permitted"
    if not isinstance(schema, Mapping):
        return
    if depth > _MAX_DEPTH or next(left, None) is None:
        yield place, "Input is nested too deeply"
        return
    below: dict[str, Any] = {"root": root, "messages": messages, "left": left, "depth": depth + 1}
    if isinstance(reference := schema.get("$ref"), str):
        yield from _problems(value, _resolve(reference, root), place, open_=open_, **below)
    if problem := _wrong_value(value, schema, messages):
        yield place, problem
        return
    for part in _list(schema, "allOf"):
        yield from _problems(value, part, place, open_=True, **below)
    for keyword in ("anyOf", "oneOf"):
        if options := _list(schema, keyword):
            tried = [list(_problems(value, option, place, **below)) for option in options]
            if all(tried):
                yield max((problems[0] for problems in tried), key=lambda problem: len(problem[0]))
    if isinstance(value, dict):
        yield from _in_object(value, schema, place, open_ or "allOf" in schema, below)
    elif isinstance(value, list):
        first = _list(schema, "prefixItems")
        for index, item in enumerate(value):
            part = first[index] if index < len(first) else schema.get("items", True)
            yield from _problems(item, part, (*place, index), **below)


def _in_object(
    value: dict[str, Any], schema: Mapping[str, Any], place: tuple[str | int, ...], open_: bool, below: dict[str, Any]
) -> Iterator[Problem]:
    listed = schema.get("properties")
    listed = listed if isinstance(listed, Mapping) else {}
    closed = bool(listed) and not open_ and "patternProperties" not in schema
    others = schema.get("additionalProperties", not closed)
    for key in _list(schema, "required"):
        if isinstance(key, str) and key not in value:
            yield (*place, key), "Field required"
    for key, item in value.items():
        yield from _problems(item, listed.get(key, others), (*place, key), **below)


def _wrong_value(value: Any, schema: Mapping[str, Any], messages: Sequence[Message] | None) -> str | None:
    """What is wrong with the value itself, whatever is in it."""
    kind = schema.get("type")
    kinds = [kind] if isinstance(kind, str) else [one for one in _list(schema, "type") if isinstance(one, str)]
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"Input should be a valid {' or '.join(kinds)}"
    if "const" in schema and not _same(value, schema["const"]):
        return f"Input should be {schema['const']!r}"
    choices = _list(schema, "enum")
    if choices and not any(_same(value, one) for one in choices):
        return f"Input should be {', '.join(map(repr, choices[:20]))}"
    quoted = schema.get(QUOTED_KEY) and messages is not None and isinstance(value, str)
    if quoted and not is_quote(value, messages or ()):
        return f"{value!r} stands nowhere in the conversation"
    if isinstance(value, int | float) and not isinstance(value, bool):
        for keyword, (words, holds) in _BOUNDS.items():
            bound = _number(schema, keyword)
            if bound is not None and not holds(value, bound):
                return f"Input should be {words} {bound}"
    for sized, noun, words in _LENGTHS:
        if type(value) is sized:
            least, most = _number(schema, f"min{noun}"), _number(schema, f"max{noun}")
            if least is not None and len(value) < least:
                return f"Input should have at least {least} {words}"
            if most is not None and len(value) > most:
                return f"Input should have at most {most} {words}"
    return None


def _list(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    """What a keyword lists; whatever else stands there says nothing."""
    found = schema.get(keyword)
    return list(found) if isinstance(found, list | tuple) else []


def _number(schema: Mapping[str, Any], keyword: str) -> int | float | None:
    found = schema.get(keyword)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, (object,)))


def _same(value: Any, other: Any) -> bool:
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    """What a ``$ref`` leads to; anything goes where it leads nowhere."""
    found: Any = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(step.replace("~1", "/").replace("~0", "~"), True) if isinstance(found, Mapping) else True
    return found
