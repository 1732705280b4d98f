"""A policy out of a YAML or JSON file. It knows the file's form; what rules mean is in `policy`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from mmagent.agent.policy import Policy
from mmagent.agent.policy.patterns import (
    Pattern,
    PatternLike,
    between,
    matching,
    none_of,
    not_matching,
    one_of,
    over,
    under,
)
from mmagent.agent.policy.rules import Action, Rule, allow, ask, deny
from mmagent.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    import yaml

_RULES: dict[str, tuple[Callable[..., Rule], dict[str, tuple[type, ...]]]] = {
    "allow": (allow, {"args": (dict,), "trusted": (bool,), "why": (str,)}),
    "ask": (ask, {"args": (dict,), "effect": (str,), "tainted": (bool, str, list), "why": (str,)}),
    "deny": (deny, {"args": (dict,), "effect": (str,), "tainted": (bool, str, list), "why": (str,)}),
}
_PATTERNS: dict[str, Callable[..., Pattern]] = {
    "between": between,
    "matching": matching,
    "none_of": none_of,
    "not_matching": not_matching,
    "one_of": one_of,
    "over": over,
    "under": under,
}
T = TypeVar("T")
_SEVERAL = ("between", "none_of", "one_of")
"""Patterns that take a list."""


def read_policy(path: Path) -> Policy:
    """The policy in a file.

    Raises:
        NotFound: There is no such file.
        ConfigurationError: It is no policy; the message names the line.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"there is no policy {path}; give the path of a YAML or JSON file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the policy {path} cannot be read ({error}); give a YAML or JSON file") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _bad(path, mark.line + 1 if mark else 1, f"it is neither YAML nor JSON: {what}") from error
    try:
        return _policy(root)
    except _Wrong as error:
        raise _bad(path, error.line, error.what) from error
    except RecursionError as error:
        raise _bad(path, 1, "something in it contains itself; write it out") from error


class _Wrong(Exception):
    def __init__(self, node: yaml.Node, what: str) -> None:
        self.line, self.what = node.start_mark.line + 1, what


def _bad(path: Path, line: int, what: str) -> ConfigurationError:
    return ConfigurationError(f"the policy {path}, line {line}: {what}")


def _policy(root: yaml.Node | None) -> Policy:
    if root is None:
        raise ConfigurationError("the policy is empty; write rules, or leave the policy out")
    parts = _mapping(root, "a policy")
    for name, (key, _) in parts.items():
        if name not in ("rules", "otherwise", "strict"):
            raise _Wrong(key, f"a policy has no {name!r}; it has rules, otherwise and strict")
    rules: list[Rule] = []
    if "rules" in parts:
        node = parts["rules"][1]
        if node.id != "sequence":
            raise _Wrong(node, "rules is a list; begin each rule with '-'")
        rules = [_rule(one, number) for number, one in enumerate(node.value, start=1)]
    otherwise: Any = _value(parts["otherwise"][1]) if "otherwise" in parts else "allow"
    if otherwise not in get_args(Action):
        raise _Wrong(parts["otherwise"][1], f"otherwise is {otherwise!r}; use one of {', '.join(get_args(Action))}")
    strict = _value(parts["strict"][1]) if "strict" in parts else False
    if not isinstance(strict, bool):
        raise _Wrong(parts["strict"][1], f"strict is {strict!r}; use true or false")
    return Policy.strict(*rules, otherwise=otherwise) if strict else Policy(*rules, otherwise=otherwise)


def _rule(node: yaml.Node, number: int) -> Rule:
    parts = _mapping(node, f"rule {number}")
    actions = [name for name in parts if name in _RULES]
    if len(actions) != 1:
        raise _Wrong(node, f"rule {number} needs one of allow, ask and deny, with a tool's name; it has {len(actions)}")
    make, known = _RULES[actions[0]]
    arguments: dict[str, Any] = {}
    for name, (key, value) in parts.items():
        if name == actions[0]:
            continue
        if name not in known:
            raise _Wrong(key, f"rule {number} has {name!r}; a rule that says {actions[0]} has {', '.join(known)}")
        arguments[name] = _args(value, number) if name == "args" else _value(value)
        if not isinstance(arguments[name], known[name]):
            raise _Wrong(value, f"rule {number}: {name} cannot be {arguments[name]!r}")
    return _made(node, number, lambda: make(_value(parts[actions[0]][1]), **arguments))


def _args(node: yaml.Node, number: int) -> Mapping[str, PatternLike]:
    return {path: _pattern(value, number) for path, (_, value) in _mapping(node, f"args of rule {number}").items()}


def _pattern(node: yaml.Node, number: int) -> PatternLike:
    if node.id != "mapping":
        value: PatternLike = _value(node)
        return value
    parts = _mapping(node, f"a pattern of rule {number}")
    if len(parts) != 1 or not parts.keys() <= _PATTERNS.keys():
        raise _Wrong(node, f"rule {number}: a pattern is a value or one of {', '.join(_PATTERNS)}, not {[*parts]}")
    ((name, (_, given)),) = parts.items()
    content = _value(given)
    if isinstance(content, list) != (name in _SEVERAL):
        raise _Wrong(given, f"rule {number}: {name} takes {'a list' if name in _SEVERAL else 'one value'}")
    values = content if isinstance(content, list) else [content]
    return _made(given, number, lambda: _PATTERNS[name](*values))


def _made(node: yaml.Node, number: int, make: Callable[[], T]) -> T:
    try:
        return make()
    except (ConfigurationError, TypeError) as error:
        raise _Wrong(node, f"rule {number}: {error}") from error


def _mapping(node: yaml.Node, what: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """The parts of a mapping by name, each with the nodes of its key and its value."""
    if node.id != "mapping":
        raise _Wrong(node, f"{what} is written as names with values")
    parts: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        name = _value(key)
        if not isinstance(name, str):
            raise _Wrong(key, f"{what} has the name {name!r}; names are strings: put it in quotes")
        if name in parts:
            raise _Wrong(key, f"{what} has {name!r} twice; keep one")
        parts[name] = key, value
    return parts


def _value(node: yaml.Node) -> Any:
    """A node that holds no mapping, as JSON."""
    if node.id == "mapping":
        raise _Wrong(node, "names with values cannot stand here")
    if node.id == "sequence":
        return [_value(item) for item in node.value]
    import yaml

    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise _Wrong(node, f"{node.value!r} cannot be understood") from error
    if value is not None and not isinstance(value, str | int | float):
        raise _Wrong(node, f"{node.value!r} is read as a {type(value).__name__}; put it in quotes")
    return value
