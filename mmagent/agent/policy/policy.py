"""What may run: the verdict of rules on a call. It knows rules; it knows no model, no loop and no store.

A policy is asked after a call was checked and before the tool runs. Nothing that a model says, reads or sees changes
its answer but the call itself and the labels of the conversation, and those only ever make it stricter.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic_core import to_jsonable_python

from mmagent.agent.policy.rules import Action, Case, Rule
from mmagent.errors import ConfigurationError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a call."""

    action: Action
    why: str
    """For a person who is asked, and for the model when the call is denied."""


_ALLOWED = Verdict("allow", "nothing forbids it")


class Policy:
    """Rules over tool calls. ``deny`` beats ``ask``, ``ask`` beats ``allow``; the order of rules does not count.

    Without rules everything runs but one kind of call: where private data and content of others have both been shown,
    a tool that can carry data out asks.

    Args:
        rules: Made by `allow`, `ask` and `deny`.
        otherwise: What becomes of calls that no rule speaks of.

    Raises:
        ConfigurationError: Something else than a rule was given.
    """

    def __init__(self, *rules: Rule, otherwise: Action = "allow") -> None:
        for rule in rules:
            if not isinstance(rule, Rule):
                raise ConfigurationError(f"{rule!r} is no rule of a policy; make rules with allow(), ask() and deny()")
        if otherwise not in get_args(Action):
            raise ConfigurationError(f"otherwise is {otherwise!r}; use one of {', '.join(get_args(Action))}")
        self.rules = rules
        self.otherwise = otherwise
        self._strict = False

    @classmethod
    def strict(cls, *rules: Rule, otherwise: Action = "allow") -> Policy:
        """A policy by which everything asks that changes or sends something once content of others has been shown."""
        policy = cls(*rules, otherwise=otherwise)
        policy._strict = True
        return policy

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """The policy in a YAML or JSON file; ``docs/policy.md`` shows one.

        Raises:
            NotFound: There is no such file.
            ConfigurationError: It says something that a policy cannot; the message names the line.
        """
        from mmagent.agent.policy.file import read_policy

        return read_policy(Path(path))

    def judge(self, case: Case) -> Verdict:
        """What becomes of a call. Never raises: what cannot be judged is denied."""
        try:
            return self._judge(case)
        except Exception as error:
            logger.exception("a call could not be judged")
            return Verdict("deny", f"the policy could not judge the call ({type(error).__name__})")

    def _judge(self, case: Case) -> Verdict:
        if not self.rules and self.otherwise == "allow":
            why = self._built_in(case, trusted=False)
            return Verdict("ask", why) if why else _ALLOWED
        named = [rule for rule in self.rules if rule.names(case.tool)]
        if named:
            case = replace(case, args=jsonable(case.args))
        applying = [rule for rule in named if rule.applies(case)]
        if why := _reasons(applying, "deny"):
            return Verdict("deny", why)
        asks, allows = _reasons(applying, "ask"), _reasons(applying, "allow")
        if not asks and not allows and self.otherwise == "deny":
            return Verdict("deny", f"no rule allows {case.tool.name} with these arguments")
        reasons = [asks, self._built_in(case, trusted=any(rule.trusted for rule in applying))]
        if not allows and (any(rule.action == "allow" for rule in named) or (not asks and self.otherwise == "ask")):
            reasons.append(f"no rule allows {case.tool.name} with these arguments")
        if why := "; ".join(filter(None, reasons)):
            return Verdict("ask", why)
        return Verdict("allow", allows or _ALLOWED.why)

    def _built_in(self, case: Case, *, trusted: bool) -> str:
        """Why a call asks whatever the rules allow, or nothing."""
        tool, labels = case.tool, case.labels
        if "untrusted" not in labels:
            return ""
        if tool.sends and ("private" in labels or tool.private) and not trusted:
            return f"content of others and private data have been read, and {tool.name} can carry data out"
        if self._strict and (tool.sends or tool.effect != "read"):
            return f"content of others has been read, and {tool.name} takes effect"
        return ""

    def __repr__(self) -> str:
        strict = ".strict" if self._strict else ""
        return f"Policy{strict}({'; '.join(map(str, self.rules))}; otherwise {self.otherwise})"


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """What several policies together say: the strictest action, with all the reasons for it; of none, to allow."""
    given = list(verdicts)
    actions: tuple[Action, ...] = ("allow", *(one.action for one in given))
    action = max(actions, key=get_args(Action).index)
    return Verdict(action, "; ".join(dict.fromkeys(one.why for one in given if one.action == action)))


def jsonable(args: Mapping[str, Any]) -> dict[str, Any]:
    """Validated arguments as JSON: what rules look at, people approve and digests are made of."""
    made: dict[str, Any] = to_jsonable_python(
        dict(args), by_alias=True, bytes_mode="base64", inf_nan_mode="strings", fallback=repr
    )
    return made


def digest(session: str, call_id: str, name: str, args: Mapping[str, Any]) -> str:
    """What an approval is bound to: the session, the call and its exact arguments, as SHA-256 in hex.

    Args:
        session: The session's id.
        call_id: The call's id.
        name: The tool's name.
        args: The arguments as they will run.
    """
    canonical = json.dumps([session, call_id, name, jsonable(args)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _reasons(rules: Sequence[Rule], action: Action) -> str:
    return "; ".join(dict.fromkeys(rule.why or f"by the rule: {rule}" for rule in rules if rule.action == action))
