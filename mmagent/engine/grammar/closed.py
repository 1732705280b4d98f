"""JSON Schemas made strict: references followed, objects closed, numbers bounded, so that what follows them is JSON
that can be read back. It knows schemas, no grammar and no tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from mmagent.content import QUOTED_KEY

Schema: TypeAlias = Mapping[str, Any]

NOTES = frozenset(
    ["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$defs"]
) | {"definitions", "$comment", "discriminator"}
"""Keywords that say nothing about which values are valid."""
_LIMIT = 10**15
"""Of numbers that have a bound on one side only, or none."""
ANY_NAME = "mmagent-any"
_ANY: dict[str, Any] = {"$ref": f"#/$defs/{ANY_NAME}"}
_NUMBER = {"type": "number", "minimum": -_LIMIT, "maximum": _LIMIT}
ANY_VALUE: dict[str, Any] = {
    "anyOf": [
        {"type": ["string", "boolean", "null"]},
        _NUMBER,
        {"type": "array", "items": _ANY},
        {"type": "object", "additionalProperties": _ANY},
    ]
}
"""What `closed` schemas call ``#/$defs/mmagent-any``: any JSON value, its numbers finite."""
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list, tuple),
    "object": (dict,),
}


def closed(schema: Schema, in_all_of: bool = False) -> dict[str, Any]:
    """The schema with unlisted properties refused and every number bounded, at every depth.

    Parts of an ``allOf`` stay open: what one of them lists is unlisted in the others.
    """
    result: dict[str, Any] = dict(schema)
    for key in ("items", "additionalProperties"):
        if key in result and result[key] is not False:
            result[key] = _part(result[key])
    for key in ("anyOf", "oneOf", "prefixItems", "allOf"):
        if isinstance(result.get(key), list):
            result[key] = [_part(part, key == "allOf") for part in result[key]]
    for key in ("properties", "patternProperties", "$defs", "definitions"):
        if isinstance(result.get(key), Mapping):
            result[key] = {name: _part(part, in_all_of) for name, part in result[key].items()}
    kinds = result.get("type")
    kinds = set(kinds) if isinstance(kinds, list) else {kinds}
    if kinds & {"integer", "number"} and "enum" not in result and "const" not in result:
        _bound(result)
    if "array" in kinds and "prefixItems" not in result:
        result.setdefault("items", _ANY)
    if ("object" in kinds or "properties" in result) and not in_all_of and "allOf" not in result:
        listed = result.keys() & {"properties", "patternProperties"}
        result.setdefault("additionalProperties", False if listed else _ANY)
    return result


class DeadReference(LookupError):
    """A ``$ref`` that leads nowhere, or out of its schema."""


def resolve(reference: str, root: Schema) -> Schema:
    """What a ``$ref`` leads to.

    Raises:
        DeadReference: Nowhere.
    """
    found: Any = root
    try:
        if not reference.startswith("#"):
            raise KeyError(reference)
        for step in filter(None, reference[1:].split("/")):
            found = found[step.replace("~1", "/").replace("~0", "~")]
    except (KeyError, TypeError) as error:
        raise DeadReference(
            f"the reference {reference!r} leads nowhere in its schema; define it under $defs"
        ) from error
    result: Schema = found
    return result


def leads_to_quotes(part: Any, root: Schema, seen: frozenset[str]) -> bool:
    """Whether a quoted string is anywhere below."""
    if isinstance(part, Mapping):
        name = part.get("$ref")
        if isinstance(name, str) and name not in seen and leads_to_quotes(resolve(name, root), root, seen | {name}):
            return True
        below = [value for key, value in part.items() if key not in ("$defs", "definitions")]
        return bool(part.get(QUOTED_KEY)) or any(leads_to_quotes(value, root, seen) for value in below)
    return isinstance(part, list) and any(leads_to_quotes(value, root, seen) for value in part)


def matches_type(value: Any, schema: Schema) -> bool:
    """Whether a value of an enumeration has the schema's ``type``, where it has one."""
    kinds = schema.get("type", list(_TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    types = tuple(kind for name in kinds for kind in _TYPES.get(name, ()))
    return isinstance(value, types) and (not isinstance(value, bool) or "boolean" in kinds)


def _part(part: Any, in_all_of: bool = False) -> Any:
    if not isinstance(part, Mapping):
        return _ANY if part is True else part
    return closed(part, in_all_of) if part.keys() - NOTES else _ANY


def _bound(schema: dict[str, Any]) -> None:
    low = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
    high = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
    if not high:
        schema["maximum"] = max([_LIMIT, *(10 * abs(number) for number in low)])
    if not low:
        schema["minimum"] = -max([_LIMIT, *(10 * abs(number) for number in high)])
