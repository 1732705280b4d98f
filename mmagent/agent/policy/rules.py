"""A rule of a policy: which calls it speaks of, and what it says of them. It knows calls, and no model and no loop."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, TypeAlias, get_args

from pydantic_core import to_jsonable_python

from mmagent.agent.policy.patterns import Pattern, PatternLike, as_pattern, examine
from mmagent.agent.policy.taint import is_own
from mmagent.content import Label
from mmagent.errors import ConfigurationError
from mmagent.redact import redact_error

logger = logging.getLogger(__name__)
_UNKNOWN = object()
Action: TypeAlias = Literal["allow", "ask", "deny"]
Effect: TypeAlias = Literal["read", "idempotent", "unsafe"]


class Judged(Protocol):
    """What a policy looks at in a tool."""

    @property
    def name(self) -> str:
        """What rules know it by."""

    @property
    def effect(self) -> Effect:
        """What it changes."""

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the arguments."""

    @property
    def private(self) -> bool:
        """Whether it reads private data."""

    @property
    def sends(self) -> bool:
        """Whether it can carry data out."""


@dataclass(frozen=True)
class Case:
    """A call that is about to run."""

    tool: Judged
    args: Mapping[str, Any]
    """The arguments as they will run, after validation; `jsonable` makes JSON of them."""
    labels: Set[Label] = frozenset()
    """Of everything that the model has been shown in the conversation so far, in what was compacted too."""
    own_words: Sequence[str] = ()
    """What the user and the instructions said, as text; nothing out of media, tools or other agents."""


@dataclass(frozen=True)
class Rule:
    """One rule of a policy. Made by `allow`, `ask` and `deny`."""

    action: Action
    tool: str
    """A name or a glob of names."""
    args: tuple[tuple[str, Pattern], ...] = ()
    """By dotted path; all must hold."""
    effect: Effect | None = None
    """Of the tools, those that have this one; None: all."""
    tainted: bool | tuple[str, ...] = False
    """Whether content of others must have been shown; or the arguments of which one must come from there."""
    trusted: bool = False
    """Whether private data may go out this way."""
    why: str = ""

    def __str__(self) -> str:
        where = [f"{path} is {pattern}" for path, pattern in self.args]
        if self.tainted is True:
            where.append("content of others has been read")
        elif self.tainted:
            where.append(f"{' or '.join(self.tainted)} may come from content of others")
        kind = f" ({self.effect})" if self.effect else ""
        return f"{self.action} {self.tool}{kind}" + (f" where {' and '.join(where)}" if where else "")

    def names(self, tool: Judged) -> bool:
        """Whether the rule speaks of a tool at all."""
        return bool(_name(self.tool).fullmatch(tool.name)) and self.effect in (None, tool.effect)

    def applies(self, case: Case) -> bool:
        """Whether it decides on a call of a tool that it names; where that cannot be told, ``allow`` does not."""
        try:
            tests = [*self._args(case), *([self._tainted(case)] if self.tainted else [])]
        except Exception as error:
            logger.warning("the rule '%s' failed on a call of %s\n%s", self, case.tool.name, redact_error(error))
            return self.action != "allow"
        return all(surely if self.action == "allow" else maybe for surely, maybe in tests)

    def _args(self, case: Case) -> Iterator[tuple[bool, bool]]:
        for path, pattern in self.args:
            top = path.split(".")[0]
            if top not in case.args and top not in _properties(case.tool) and _many(self.tool):
                yield False, False  # a rule for many tools means those that have the argument
            else:
                yield examine(pattern, _values(case, path))

    def _tainted(self, case: Case) -> tuple[bool, bool]:
        found = "untrusted" in case.labels and (
            self.tainted is True or any(self._brought(case, path) for path in self.tainted or ())
        )
        return found, found

    def _brought(self, case: Case, path: str) -> bool:
        """Whether an argument may have been brought in by somebody else's content."""
        top = path.split(".")[0]
        if top not in case.args:  # then it is the tool's own default, or the rule has its name wrong
            return top not in _properties(case.tool) and not _many(self.tool)
        if path == top and case.args[top] == _default(case.tool, top):
            return False
        return not all(is_own(value, case.own_words, _keys(case.tool.parameters)) for value in _values(case, path))


def allow(tool: str, *, args: Mapping[str, PatternLike] | None = None, trusted: bool = False, why: str = "") -> Rule:
    """Let calls run. A tool that ``allow`` rules name asks for every call that none of them covers.

    Args:
        tool: Its name, or a glob of names: ``"lookup_*"``.
        args: What the arguments must be, by name or dotted path. All must hold.
        trusted: Whether these calls may carry private data out although content of others has been read.
            The tool must then be named in full.
        why: What to say of it.

    Raises:
        ConfigurationError: The rule cannot be used.
    """
    if trusted and _many(tool):
        raise ConfigurationError(f"trusted=True needs the full name of one tool, not {tool!r}; write a rule for each")
    return _rule("allow", tool, args, None, False, trusted, why)


def ask(
    tool: str,
    *,
    args: Mapping[str, PatternLike] | None = None,
    effect: Effect | None = None,
    tainted: bool | str | Sequence[str] = False,
    why: str = "",
) -> Rule:
    """Have a person approve calls.

    Args:
        tool: Its name, or a glob of names: ``"*"`` is every tool.
        args: What the arguments must be for the rule to apply, by name or dotted path. All must hold.
        effect: Of the tools of that name, those with this effect only.
        tainted: True: where content of others has been shown; names of arguments: where, then, one of them has a
            value that the user did not say.
        why: What the person is told.

    Raises:
        ConfigurationError: The rule cannot be used.
    """
    return _rule("ask", tool, args, effect, tainted, False, why)


def deny(
    tool: str,
    *,
    args: Mapping[str, PatternLike] | None = None,
    effect: Effect | None = None,
    tainted: bool | str | Sequence[str] = False,
    why: str = "",
) -> Rule:
    """Forbid calls. Arguments and errors as `ask`; ``why`` is what the model is told."""
    return _rule("deny", tool, args, effect, tainted, False, why)


def _rule(
    action: Action,
    tool: str,
    args: Mapping[str, PatternLike] | None,
    effect: Effect | None,
    tainted: bool | str | Sequence[str],
    trusted: bool,
    why: str,
) -> Rule:
    if not isinstance(tool, str) or not re.fullmatch(r"[\w*?.-]+", tool):
        raise ConfigurationError(f"{tool!r} is no tool's name; give one, or a glob such as 'send_*'")
    if effect not in (None, *get_args(Effect)):
        raise ConfigurationError(f"a rule has the effect {effect!r}; use one of {', '.join(get_args(Effect))}")
    paths = tainted if isinstance(tainted, bool) else (tainted,) if isinstance(tainted, str) else tuple(tainted)
    for path in (*(args or ()), *(paths if isinstance(paths, tuple) else ())):
        if not isinstance(path, str) or not all(path.split(".")):
            raise ConfigurationError(f"{path!r} is no argument's name; give one, or a path such as 'address.city'")
    patterns = tuple((path, as_pattern(value)) for path, value in (args or {}).items())
    return Rule(action, tool, patterns, effect, paths, trusted, why)


def _many(tool: str) -> bool:
    return "*" in tool or "?" in tool


@cache
def _name(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."))


def _properties(tool: Judged) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    return properties


def _keys(schema: Any) -> Set[str]:
    """The names of all properties in a schema."""
    if isinstance(schema, list):
        return frozenset().union(*map(_keys, schema))
    if not isinstance(schema, dict):
        return frozenset()
    own = schema.get("properties")
    return frozenset(own if isinstance(own, dict) else ()).union(*map(_keys, schema.values()))


def _default(tool: Judged, key: str) -> Any:
    """The value of an argument that was not given; `_UNKNOWN` where there is none to be known."""
    schema = _properties(tool).get(key)
    if isinstance(schema, dict) and "default" in schema:
        return schema["default"]
    if (function := getattr(tool, "function", None)) is None:
        return _UNKNOWN
    parameter = inspect.signature(function).parameters.get(key)
    if parameter is None or parameter.default is parameter.empty:
        return _UNKNOWN
    return to_jsonable_python(parameter.default, fallback=repr)


def _values(case: Case, path: str) -> list[Any]:
    """What stands at a path in the arguments, lists taken apart; null where there is nothing."""
    top, *steps = path.split(".")
    value = case.args[top] if top in case.args else _default(case.tool, top)
    found = _flat(None if value is _UNKNOWN else value)
    for step in steps:
        found = [leaf for one in found for leaf in _flat(one.get(step) if isinstance(one, dict) else None)]
    return found


def _flat(value: Any) -> list[Any]:
    """The items of a list, of lists in it too; an empty one is null."""
    if not isinstance(value, list):
        return [value]
    return [leaf for item in value for leaf in _flat(item)] or [None]
