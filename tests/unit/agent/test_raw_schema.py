"""Tools whose schema somebody else wrote: what is checked of their arguments, and what they are called with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mmagent.agent.tools import AnyTool, Tool, ToolContext
from mmagent.agent.tools.calls import check, perform
from mmagent.content import Message, text
from mmagent.errors import ConfigurationError, ToolError
from mmagent.media import BlobStore

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 5},
        "count": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10},
        "size": {"enum": ["S", "M", 1]},
        "fixed": {"const": True},
        "price": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "point": {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
        "to": {"$ref": "#/$defs/address"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"n": {"type": "integer"}}}]},
        "both": {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["b"]}]},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "free": {},
    },
    "$defs": {
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "next": {"$ref": "#/$defs/address"}},
            "required": ["street"],
        }
    },
}


def made(schema: dict[str, Any] = SCHEMA, function: Any = lambda **given: given, **options: Any) -> AnyTool:
    return Tool.from_schema("order", "Order.", schema, function, **options)


@pytest.mark.parametrize(
    "args",
    [
        {"count": 9, "size": "S", "fixed": True, "price": None, "tags": ["a", "b"], "free": {"x": [1]}},
        {
            "price": 2,
            "size": 1,
            "point": [1, "a", "b"],
            "map": {"a": 1},
            "to": {"street": "s", "next": {"street": "t"}},
        },
        {"either": 1, "both": {"a": 1, "b": "anything", "c": None}, "count": 2.0},
        {"either": {"n": 1}},
    ],
)
def test_arguments_that_follow_the_schema_pass_as_they_are(args: dict[str, Any]) -> None:
    assert made().validate({"id": "A", **args}) == {"id": "A", **args}


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"id": 5}, "id: Input should be a valid string"),
        ({"id": ""}, "id: Input should have at least 1 characters"),
        ({"id": "ABCDEF"}, "id: Input should have at most 5 characters"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"count": 0}, "count: Input should be at least 1"),
        ({"count": 10}, "count: Input should be less than 10"),
        ({"count": True}, "count: Input should be a valid integer"),
        ({"count": 1.5}, "count: Input should be a valid integer"),
        ({"size": "L"}, "size: Input should be 'S', 'M', 1"),
        ({"size": True}, "size: Input should be"),
        ({"fixed": 1}, "fixed: Input should be True"),
        ({"price": "2"}, "price: Input should be a valid number or null"),
        ({"tags": ["a", 1]}, "tags.1: Input should be a valid string"),
        ({"tags": ["a", "b", "c"]}, "tags: Input should have at most 2 items"),
        ({"point": ["a"]}, "point.0: Input should be a valid integer"),
        ({"to": {}}, "to.street: Field required"),
        ({"to": {"street": "s", "next": {"street": 1}}}, "to.next.street: Input should be a valid string"),
        ({"to": {"street": "s", "city": "c"}}, "to.city: Extra inputs are not permitted"),
        ({"either": {"n": "x"}}, "either.n: Input should be a valid integer"),
        ({"both": {"a": 1}}, "both.b: Field required"),
        ({"map": {"a": "x"}}, "map.a: Input should be a valid integer"),
    ],
)
def test_others_are_refused_and_the_model_is_told_which(args: dict[str, Any], why: str) -> None:
    one = made()
    with pytest.raises(ToolError) as refused:
        check({"type": "tool_call", "id": "1", "name": "order", "args": {"id": "A", **args}}, {"order": one}, ())
    assert str(refused.value).startswith(f"order got wrong arguments: {why}")


def test_quotes_must_stand_in_the_conversation() -> None:
    one = made({"properties": {"id": {"type": "string", "x-quoted": True}}})
    said = (Message(role="user", content=(text("where is A-1?"),)),)
    assert one.validate({"id": "A-1"}, said) == {"id": "A-1"}
    assert one.validate({"id": "B-2"}) == {"id": "B-2"}
    with pytest.raises(ValidationError, match="'B-2' stands nowhere in the conversation"):
        one.validate({"id": "B-2"}, said)


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "object", "properties": []}, []])
def test_a_schema_of_something_else_is_refused(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match="the schema of the tool order is none of an object"):
        made(schema)


def test_hostile_schemas_end() -> None:
    choices: Any = {"$ref": "#/$defs/a"}
    many = {"anyOf": [choices, choices, choices]}
    loop = {"properties": {"x": choices}, "$defs": {"a": many}}
    with pytest.raises(ValidationError, match="nested too deeply"):
        made(loop).validate({"x": 1})
    assert made({"properties": {"x": {"$ref": "#/nowhere"}}}).validate({"x": 1}) == {"x": 1}


async def test_the_function_gets_the_arguments_and_may_ask_for_the_context(tmp_path: Path) -> None:
    def plain(ctx: ToolContext, /, **given: Any) -> str:
        return f"{ctx.call_id} {sorted(given)}"

    async def named(*, context: ToolContext, **given: Any) -> str:
        return f"{context.call_id} {sorted(given)}"

    schema = {"properties": {"ctx": {"type": "string"}, "a-b": {"type": "integer"}}}
    for function in (plain, named):
        one = made(schema, function, effect="read")
        args = one.validate({"ctx": "mine", "a-b": 1})
        outcome = await perform(one, args, ToolContext(call_id="c1"), BlobStore(tmp_path), 10)
        assert outcome.content[0].get("text") == "c1 ['a-b', 'ctx']"


def test_options_are_as_those_of_a_decorated_tool() -> None:
    one = made(effect="idempotent", retries=2, private=True, sends=True, timeout=3)
    assert (one.effect, one.retries, one.private, one.sends, one.timeout) == ("idempotent", 2, True, True, 3)
    with pytest.raises(ConfigurationError, match="cannot be isolated"):
        made(isolate=True)


@pytest.mark.parametrize(
    "schema",
    [
        {"minLength": "3", "maxLength": None},
        {"minimum": "3", "maximum": [1]},
        {"type": ["string", {}]},
        {"type": 5, "const": "abcd"},
        {"$ref": 5},
        {"items": 5},
    ],
)
def test_a_keyword_that_is_no_json_schema_says_nothing(schema: Any) -> None:
    assert made({"properties": {"id": schema}}).validate({"id": "abcd"}) == {"id": "abcd"}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"anyOf": 3}, "'anyOf' is no list"),
        ({"enum": 5}, "'enum' is no list"),
        ({"allOf": [{"required": None}]}, "'required' is no list"),
        ({"items": {"properties": ["a"]}}, "'properties' is no object"),
    ],
)
def test_a_schema_whose_parts_cannot_be_told_apart_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the schema of the tool order is no JSON Schema: {why}"):
        made({"properties": {"id": schema}})
