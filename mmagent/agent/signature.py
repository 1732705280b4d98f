"""A function's parameters as a pydantic type. It knows signatures and docstrings; it runs nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NotRequired, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict

from mmagent.agent.schema import schema_of
from mmagent.errors import ConfigurationError

_SECTION = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Examples?|Notes?):\s*$")
_ENTRY = re.compile(r"^(\*{0,2}\w+)(?: \([^)]*\))?: *(.*)$")


def parameter_types(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Each parameter's annotation, resolved, in order.

    Raises:
        ConfigurationError: A parameter has no type, cannot be given by name, or its type cannot be found.
    """
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise _bad(name, str(parameter).split(":")[0], "models give arguments by name; write each one out")
        if parameter.annotation is parameter.empty:
            raise _bad(name, key, "it has no type; annotate it, e.g. with str")
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"the tool {name} cannot be used: {error}; its types must be importable at the top of its module"
        ) from error
    return {key: hints[key] for key in inspect.signature(function).parameters}


def arguments_type(
    function: Callable[..., Any], name: str, types: Mapping[str, Any], notes: Mapping[str, str]
) -> TypeAdapter[Any]:
    """A closed object with a key per parameter; parameters with a default may be left out.

    Raises:
        ConfigurationError: A type has no JSON Schema; the message names the parameter.
    """
    fields: dict[str, Any] = {}
    for key, hint in types.items():
        try:
            schema_of(TypeAdapter(hint))
        except ConfigurationError as error:
            raise _bad(name, key, str(error)) from error
        except PydanticUserError as error:
            raise _bad(name, key, f"{hint!r} cannot be told to a model; use str, int, a pydantic model ...") from error
        described = Annotated[hint, Field(description=notes[key])] if key in notes else hint
        optional = inspect.signature(function).parameters[key].default is not inspect.Parameter.empty
        fields[key] = NotRequired[described] if optional else described
    make: Any = TypedDict
    arguments = make(name, fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid")
    return TypeAdapter(arguments)


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The first paragraph, and the entries of a Google-style ``Args:`` section."""
    description = " ".join(text.split("\n\n", 1)[0].split())
    notes: dict[str, str] = {}
    inside, indent, key = False, 0, ""
    for line in text.splitlines():
        stripped = line.strip()
        depth = len(line) - len(line.lstrip())
        if section := _SECTION.match(line):
            inside, indent = section[1].startswith("Arg"), 0
        elif inside and stripped:
            indent = indent or depth
            entry = _ENTRY.match(stripped) if depth == indent else None
            if entry:
                key, notes[entry[1]] = entry[1], entry[2]
            elif key:
                notes[key] = f"{notes[key]} {stripped}".strip()
    return description, notes


def _bad(tool: str, parameter: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"the parameter {parameter} of the tool {tool} cannot be used: {why}")
