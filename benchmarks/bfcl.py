"""The Berkeley Function Calling Leaderboard, version 4 (Apache-2.0), as JSON Schemas and gold calls. It knows the
suite's files, no grammar.

Its schemas name types of Python, Java and JavaScript; `as_json_schema` says them in JSON's words.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmagent.chat.protocol import ToolSpec

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "agent_bfcl_v4"
SINGLE_TURN = ("simple_python", "simple_java", "simple_javascript", "multiple", "parallel", "parallel_multiple")
_TYPES = {
    "object": ("dict", "hashmap", "object"),
    "array": ("array", "list", "arraylist", "tuple"),
    "string": ("string", "char"),
    "integer": ("integer", "int", "long"),
    "number": ("float", "double", "number"),
    "boolean": ("boolean", "bool"),
}
_JSON_TYPES = {name: kind for kind, names in _TYPES.items() for name in names}
"""``any`` and the empty string say nothing about a type."""
_KEPT = ("enum", "required", "minItems", "maxItems", "minimum", "maximum", "format", "pattern")


@dataclass(frozen=True)
class Gold:
    """A call that the suite says is right."""

    source: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A question's tools, and the calls that answer it."""

    id: str
    tools: list[ToolSpec]
    golds: list[Gold]


def cases(folder: Path = FOLDER) -> Iterator[Case]:
    """Every case that has gold calls, single turns first."""
    for name in SINGLE_TURN:
        answers = {row["id"]: row["ground_truth"] for row in _rows(folder / "possible_answer" / f"BFCL_v4_{name}.json")}
        for row in _rows(folder / f"BFCL_v4_{name}.json"):
            tools = [_tool(function) for function in row["function"]]
            yield Case(row["id"], tools, [_gold(row["id"], answer, tools) for answer in answers[row["id"]]])
    yield from _multi_turn(folder)


def as_json_schema(schema: Any) -> dict[str, Any]:
    """A schema of the suite in JSON Schema's words; notes are left out."""
    made = {key: schema[key] for key in _KEPT if key in schema}
    if kind := _JSON_TYPES.get(str(schema.get("type", "")).lower()):
        made["type"] = kind
    if "properties" in schema:
        made["properties"] = {name: as_json_schema(part) for name, part in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = as_json_schema(schema[key])
    return made


def _tool(function: dict[str, Any]) -> ToolSpec:
    return ToolSpec(function["name"], function.get("description", ""), as_json_schema(function["parameters"]))


def _gold(source: str, answer: dict[str, Any], tools: list[ToolSpec]) -> Gold:
    ((name, options),) = answer.items()
    schema = next(tool.parameters for tool in tools if tool.name == name)
    return Gold(source, name, _chosen(options, schema))


def _chosen(options: dict[str, list[Any]], schema: dict[str, Any]) -> dict[str, Any]:
    """The first right value of each argument, in the schema's order; one whose only value is "" is left out."""
    properties, required = schema.get("properties", {}), schema.get("required", ())
    order = [*(name for name in properties if name in options), *(name for name in options if name not in properties)]
    values = {}
    for name in order:
        given = [option for option in options[name] if option != "" or name in required]
        if given:
            values[name] = _resolved(given[0], properties.get(name, {}))
    return values


def _resolved(value: Any, schema: dict[str, Any]) -> Any:
    """Within objects, too, the suite lists every right value."""
    if isinstance(value, dict) and value and all(isinstance(option, list) for option in value.values()):
        return _chosen(value, schema)
    if isinstance(value, list):
        return [_resolved(item, schema.get("items", {})) for item in value]
    return value


def _multi_turn(folder: Path) -> Iterator[Case]:
    docs = {path.stem: [_tool(row) for row in _rows(path)] for path in (folder / "multi_turn_func_doc").glob("*.json")}
    every = {tool.name: tool for tools in docs.values() for tool in tools}
    for row in _rows(folder / "possible_answer" / "BFCL_v4_multi_turn_base.json"):
        golds = [_spelt_out(row["id"], text, every) for turn in row["ground_truth"] for text in turn]
        used = dict.fromkeys(gold.name for gold in golds)
        yield Case(row["id"], [every[name] for name in used], golds)


def _spelt_out(source: str, text: str, tools: dict[str, ToolSpec]) -> Gold:
    """A gold call that is written in Python."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    name = ast.unparse(call.func)
    order = list(tools[name].parameters["properties"])
    given = dict(zip(order, call.args, strict=False)) | {word.arg or "": word.value for word in call.keywords}
    values = {key: ast.literal_eval(value) for key, value in given.items()}
    return Gold(source, name, {key: values[key] for key in (*order, *values) if key in values})


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, filter(str.strip, lines))
