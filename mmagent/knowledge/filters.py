"""What a search is held to, as conditions in SQL: tenants, kinds, and filters on metadata. It knows the tables' names.

A mask of units is made from it before anything is ranked, so that a filter or tenant holds exactly, in every ranking.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mmagent.errors import InputError

_COMPARED = {"$eq": "=", "$ne": "<>", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_COLUMNS = {"uri": "a.uri", "mime_type": "a.mime_type", "kind": "u.kind"}
"""Keys that are not metadata; metadata of the same name cannot be filtered by."""
_MAX_DEPTH = 20

KINDS = ("text", "speech", "image", "page", "region", "frame")
"""Of units."""

Condition = tuple[str, list[Any]]


def condition(tenant: str, where: Mapping[str, Any] | None, kinds: Collection[str] | None) -> Condition:
    """A condition on ``units u`` and ``assets a``, and its values.

    Args:
        tenant: What is found is this tenant's, or nobody's.
        where: ``{"lang": "en"}``, ``{"year": {"$gte": 2024}}``, ``{"$or": [{...}, {...}]}`` ...
        kinds: Kinds of units; all by default.

    Raises:
        InputError: ``where`` is no filter, or there are no such kinds.
    """
    sql, values = "a.tenant IN ('', ?)", [checked_tenant(tenant)]
    if where:
        more, given = _filter(where)
        sql, values = f"{sql} AND {more}", [*values, *given]
    if kinds is not None:
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise InputError(f"there are no units of kind {unknown[0]!r}; there are {', '.join(KINDS)}")
        sql, values = f"{sql} AND u.kind IN (SELECT value FROM json_each(?))", [*values, json.dumps(sorted(kinds))]
    return sql, values


def checked_tenant(tenant: str) -> str:
    """A tenant's name.

    Raises:
        InputError: It cannot be one.
    """
    if not isinstance(tenant, str) or "\0" in tenant or tenant.encode("utf-8", "replace").decode() != tenant:
        raise InputError(f"{tenant!r} cannot be the name of a tenant; take a text")
    return tenant


def _filter(where: Mapping[str, Any], depth: int = 0) -> Condition:
    if depth > _MAX_DEPTH:
        raise InputError(f"a filter is nested deeper than {_MAX_DEPTH} levels; flatten it")
    if not isinstance(where, Mapping) or not where:
        raise InputError(f'a filter is a mapping such as {{"lang": "en"}}, not {str(where)[:80]!r}')
    parts = [_entry(key, wanted, depth) for key, wanted in where.items()]
    return _joined(" AND ", parts)


def _entry(key: str, wanted: Any, depth: int) -> Condition:
    if key in ("$and", "$or"):
        if not isinstance(wanted, list | tuple) or not wanted:
            raise InputError(f"{key} in a filter takes a list of filters")
        return _joined(f" {key[1:].upper()} ", [_filter(part, depth + 1) for part in wanted])
    if not isinstance(key, str) or key.startswith("$"):
        raise InputError(f"a filter has no {str(key)[:40]!r}; between filters there are $and and $or")
    if not isinstance(wanted, Mapping):
        wanted = {"$eq": wanted}
    if not wanted:
        raise InputError(f"the filter on {key!r} is empty")
    return _joined(" AND ", [_test(key, operator, value) for operator, value in wanted.items()])


def _test(key: str, operator: str, value: Any) -> Condition:
    values: list[Any]
    if operator in ("$in", "$nin"):
        if not isinstance(value, list | tuple | set | frozenset):
            raise InputError(f"{operator} in the filter on {key!r} takes a list")
        values, sign = [json.dumps([_value(key, one) for one in value])], "IN"
        asked = "(SELECT value FROM json_each(?))"
    elif operator in _COMPARED:
        values, sign, asked = [_value(key, value)], _COMPARED[operator], "?"
    else:
        known = ", ".join([*_COMPARED, "$in", "$nin"])
        raise InputError(f"the filter on {key!r} has {str(operator)[:40]!r}; there are {known}")
    negated = operator in ("$ne", "$nin")
    if operator == "$ne":  # what has no such key differs from every value
        sign = "="
    if key in _COLUMNS:
        sql, given = f"{_COLUMNS[key]} {sign} {asked}", values
    else:
        alike = f" AND (typeof(value) = 'text') = {isinstance(value, str):d}" if sign not in ("IN", "=") else ""
        sql, given = f"a.id IN (SELECT asset FROM facets WHERE key = ? AND value {sign} {asked}{alike})", [key, *values]
    return (f"NOT ({sql})" if negated else sql), given


def _value(key: str, value: Any) -> str | int | float:
    if not isinstance(value, str | int | float) or value != value or "\0" in str(value):
        raise InputError(f"the filter on {key!r} compares with {str(value)[:40]!r}; take a text, number or truth value")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise InputError(f"the filter on {key!r} compares with a number beyond 64 bits")
    return value


def _joined(word: str, parts: list[Condition]) -> Condition:
    return f"({word.join(sql for sql, _ in parts)})", [value for _, values in parts for value in values]


def facets(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What can be filtered by: numbers, texts and truth values, alone or in lists."""
    for key, value in metadata.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str | int | float) and not (isinstance(one, int) and abs(one) >= 2**63):
                yield key, one
