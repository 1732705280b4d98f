"""A function's parameters as a pydantic type. It knows signatures and docstrings; it runs nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict

from mmagent.agent.tools.context import ToolContext
from mmagent.agent.tools.schema import first_error, schema_of
from mmagent.errors import ConfigurationError

_SECTION = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Examples?|Notes?):\s*$")
_ENTRY = re.compile(r"^(\*{0,2}\w+)(?: \([^)]*\))?: *(.*)$")


def parameter_types(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Each parameter's annotation, resolved, in order.

    Raises:
        ConfigurationError: A parameter has no type, cannot be given by name, or its type cannot be found.
    """
    types: dict[str, Any] = {}
    for key, parameter in _parameters(function, name).items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise _bad(name, str(parameter).split(":")[0], "models give arguments by name; write each one out")
        if parameter.annotation is parameter.empty:
            raise _bad(name, key, "it has no type; annotate it, e.g. with str")
        try:
            types[key] = _resolved(function, parameter)
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            why = f"{error}; its types must be importable at the top of its module"
            raise _bad(name, key, why) from error
    return types


def context_parameter(types: Mapping[str, Any], name: str) -> str | None:
    """Which parameter is the `ToolContext`, if any.

    Raises:
        ConfigurationError: There are two, or a type only has a `ToolContext` in it.
    """
    found = [key for key, hint in types.items() if (get_origin(hint) or hint) is ToolContext]
    if len(found) > 1:
        raise _bad(name, found[1], f"{found[0]} is a ToolContext already; a tool has one at most")
    for key, hint in types.items():
        if key not in found and _mentions_context(hint):
            raise _bad(name, key, f"annotate it with ToolContext itself, not with {hint!r}")
    return found[0] if found else None


def context_of(function: Callable[..., Any]) -> inspect.Parameter | None:
    """The parameter annotated with a `ToolContext`, in a function whose other parameters are of no interest."""
    for parameter in inspect.signature(function).parameters.values():
        try:
            hint = _resolved(function, parameter)
        except (NameError, TypeError, AttributeError, SyntaxError):
            continue
        if (get_origin(hint) or hint) is ToolContext:
            return parameter
    return None


def deps_type(hint: Any) -> type | None:
    """The class in ``ToolContext[...]``, where it is a class that values can be checked against."""
    wanted = next(iter(get_args(hint)), None)
    return wanted if isinstance(wanted, type) and wanted is not object else None


def arguments_type(
    function: Callable[..., Any], name: str, types: Mapping[str, Any], notes: Mapping[str, str]
) -> TypeAdapter[Any]:
    """A closed object with a key per parameter; parameters with a default may be left out.

    Raises:
        ConfigurationError: A type has no JSON Schema, or a default is not of its type; the message names the parameter.
    """
    fields: dict[str, Any] = {}
    parameters = inspect.signature(function).parameters
    for key, hint in types.items():
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(hint)
            schema_of(adapter)
        except ConfigurationError as error:
            raise _bad(name, key, str(error)) from error
        except PydanticUserError as error:
            raise _bad(name, key, f"{hint!r} cannot be told to a model; use str, int, a pydantic model ...") from error
        described = Annotated[hint, Field(description=notes[key])] if key in notes else hint
        optional = parameters[key].default is not inspect.Parameter.empty
        if optional:
            _check_default(adapter, parameters[key], name)
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


def _parameters(function: Callable[..., Any], name: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the tool {name} cannot be used: {error}; wrap it in a function of your own"
        ) from error


def _resolved(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """One parameter's type. What the others are, and what is returned, need not be known."""
    inner: Any = inspect.unwrap(function)
    inner = getattr(inner, "func", inner)  # functools.partial
    if not hasattr(inner, "__globals__"):
        inner = type(inner).__call__ if not hasattr(inner, "__func__") else inner.__func__
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    names = getattr(inner, "__globals__", {})
    return get_type_hints(holder, globalns=names, include_extras=True)[parameter.name]


def _mentions_context(hint: Any) -> bool:
    return (get_origin(hint) or hint) is ToolContext or any(map(_mentions_context, get_args(hint)))


def _check_default(adapter: TypeAdapter[Any], parameter: inspect.Parameter, name: str) -> None:
    try:
        adapter.validate_python(parameter.default)
    except ValidationError as error:
        why = f"its default {parameter.default!r} is not of its type ({first_error(error)}); change one of them"
        raise _bad(name, parameter.name, why) from error


def _bad(tool: str, parameter: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"the parameter {parameter} of the tool {tool} cannot be used: {why}")
