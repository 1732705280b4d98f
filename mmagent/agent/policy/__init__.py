"""Policies: which calls may run, judged outside the model."""

from __future__ import annotations

from mmagent.agent.policy.patterns import between, matching, none_of, not_matching, one_of, over, under
from mmagent.agent.policy.policy import Policy, Verdict, digest, jsonable, strictest
from mmagent.agent.policy.rules import Action, Case, Rule, allow, ask, deny

__all__ = [
    "Action",
    "Case",
    "Policy",
    "Rule",
    "Verdict",
    "allow",
    "ask",
    "between",
    "deny",
    "digest",
    "jsonable",
    "matching",
    "none_of",
    "not_matching",
    "one_of",
    "over",
    "strictest",
    "under",
]
