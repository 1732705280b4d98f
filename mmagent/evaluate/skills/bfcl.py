"""The Berkeley Function Calling Leaderboard's simple and multiple questions (version 4). It knows the suite's files and
accepted answers, not the model.

Values are compared as the suite does: text without case, blanks and punctuation; whole numbers pass for floats.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

from mmagent.chat.protocol import ChatModel
from mmagent.evaluate.ask import Asker, Reply, replied
from mmagent.evaluate.skills import Score, Told
from mmagent.train.sample import Sample, Tool, system, user
from mmagent.train.shop.episodes import SYSTEM

FOLDER = Path("../shared/data/agent_bfcl_v4")
PARTS = ("simple_python", "multiple")
TOKENS = 200
"""Of a reply, at most."""
_JSON_TYPES = {
    "dict": "object", "tuple": "array", "list": "array", "float": "number", "double": "number", "int": "integer",
    "long": "integer", "bool": "boolean", "char": "string",
}  # fmt: skip
_KEPT = ("enum", "required", "minItems", "maxItems", "minimum", "maximum")


def bfcl(model: ChatModel, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """The share of right calls in each part; ``count`` is of each, None is all."""
    if not FOLDER.is_dir():
        told(f"skipped: there is no folder {FOLDER}")
        return []
    scores = []
    with Asker(model) as ask:
        for part in PARTS:
            rows = read_rows(FOLDER / f"BFCL_v4_{part}.json")
            answers = {
                row["id"]: row["ground_truth"] for row in read_rows(FOLDER / f"possible_answer/BFCL_v4_{part}.json")
            }
            if count is not None:
                rows = random.Random(seed).sample(rows, min(count, len(rows)))
            right, wrong = 0, []
            for number, row in enumerate(rows, 1):
                sample = as_sample(row["question"][0][-1]["content"], row["function"])
                reply = replied(ask, sample, max_tokens=TOKENS)
                if is_right(reply, answers[row["id"]]):
                    right += 1
                else:
                    wrong.append(f"{row['id']} | {reply.shown} | {answers[row['id']]}")
                if number % 50 == 0:
                    told(f"BFCL, {part}: {right} of {number}")
            scores.append(Score(f"BFCL: {part}", right, len(rows), wrong=tuple(wrong[:8])))
    return scores


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file with one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def as_sample(text: str, functions: list[dict[str, Any]]) -> Sample:
    """A question to functions that are described in the suite's words."""
    return Sample([system(SYSTEM), user(text)], [as_tool(function) for function in functions])


def as_tool(function: dict[str, Any]) -> Tool:
    """A function of the suite as chat templates take it."""
    parameters = {"type": "object", "properties": {}} | as_json_schema(function.get("parameters") or {})
    described = {"name": function["name"], "description": "", "parameters": parameters}
    return {"type": "function", "function": described}


def as_json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose types are Python's in JSON Schema's words; notes and defaults are left out."""
    made = {key: schema[key] for key in _KEPT if key in schema}
    kind = str(schema.get("type", "")).lower()
    if kind and kind != "any":
        made["type"] = _JSON_TYPES.get(kind, kind)
    if isinstance(schema.get("properties"), dict):
        made["properties"] = {name: as_json_schema(part) for name, part in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        made["items"] = as_json_schema(schema["items"])
    return made


def is_right(reply: Reply, answers: list[dict[str, dict[str, list[Any]]]]) -> bool:
    """Whether a reply makes the one call that the suite accepts, each argument with one of the accepted values."""
    if reply.error or len(reply.calls) != 1 or len(answers) != 1:
        return False
    ((name, options),) = answers[0].items()
    called, given = reply.calls[0]
    return called == name and _accepted(given, options)


def _accepted(given: dict[str, Any], options: dict[str, list[Any]]) -> bool:
    if not given.keys() <= options.keys():
        return False
    return all(
        any(_same(given[key], option) for option in accepted) if key in given else "" in accepted
        for key, accepted in options.items()
    )


def _same(value: Any, option: Any) -> bool:
    """Whether a value is an accepted one; within objects, too, the suite lists every right value."""
    if isinstance(option, dict):
        return isinstance(value, dict) and _accepted(value, option)
    if isinstance(option, (list, tuple)):
        return isinstance(value, list) and len(value) == len(option) and all(map(_same, value, option))
    if isinstance(option, str):
        return isinstance(value, str) and _bare(value) == _bare(option)
    if isinstance(option, bool) or isinstance(value, bool):
        return value is option
    return isinstance(value, (int, float)) and option == value


def _bare(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')
