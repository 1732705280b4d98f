"""JSON Schemas for models, from Python types. It knows pydantic and `Quoted`; it knows no tool and no model."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from mmagent.errors import ConfigurationError

Schema = dict[str, Any]
_BRANCHES = ("anyOf", "oneOf", "allOf")


def schema_of(adapter: TypeAdapter[Any]) -> Schema:
    """The JSON Schema of a type, self-contained: references are put in place, titles left out, objects closed.

    Raises:
        ConfigurationError: The type refers to itself.
        PydanticUserError: The type has no JSON Schema.
    """
    schema = adapter.json_schema()
    return _inline(schema, schema.pop("$defs", {}), ())


def _inline(node: Schema, definitions: dict[str, Schema], open_names: tuple[str, ...]) -> Schema:
    if reference := node.get("$ref"):
        name = reference.removeprefix("#/$defs/")
        if name in open_names:
            raise ConfigurationError(f"the type {name} contains itself; give it a fixed depth")
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        return _inline(definitions[name] | siblings, definitions, (*open_names, name))
    tidy = {key: value for key, value in node.items() if key not in ("title", "discriminator")}
    for key in ("properties", "patternProperties"):
        if key in tidy:
            tidy[key] = {name: _inline(child, definitions, open_names) for name, child in tidy[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(tidy.get(key), dict):
            tidy[key] = _inline(tidy[key], definitions, open_names)
    for key in (*_BRANCHES, "prefixItems"):
        if key in tidy:
            tidy[key] = [_inline(child, definitions, open_names) for child in tidy[key]]
    if "properties" in tidy:
        tidy.setdefault("additionalProperties", False)
    return tidy


def first_error(error: ValidationError) -> str:
    """The first thing that was wrong, as ``field: message``."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    what = str(first["msg"]).removeprefix("Value error, ")
    return f"{field}: {what}" if field else what
