"""From a typed function to what a model is told, and what is refused at decoration."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from mmagent.agent import Tool, ToolContext, ToolResult, load_tools, tool
from mmagent.agent.tools.toolbox import check_deps
from mmagent.content import Message, Quoted, text
from mmagent.errors import ConfigurationError, NotFound, ToolError
from mmagent.knowledge import Hit


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Line(BaseModel):
    article: Quoted
    count: int = 1


@dataclass
class Address:
    street: str
    note: Quoted | None = None


class Node(BaseModel):
    children: list[Node]


@tool(effect="read", timeout=3.0)
def order(
    number: Quoted,
    lines: list[Line],
    to: Address,
    ctx: ToolContext,
    size: Size = Size.SMALL,
    speed: Literal["slow", "fast"] = "slow",
    title: str | None = None,
    count: Annotated[int, Field(ge=1)] = 2,
) -> str:
    """Order several
    things at once.

    This second paragraph is for people.

    Args:
        number: The order's number,
            as printed.
        count (int): How many.

    Returns:
        count: nothing of the parameters.
    """
    return f"{number} {size} {count}"


def test_the_schema_is_self_contained_and_closed() -> None:
    assert order.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["number", "lines", "to"],
        "properties": {
            "number": {"type": "string", "x-quoted": True, "description": "The order's number, as printed."},
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["article"],
                    "properties": {
                        "article": {"type": "string", "x-quoted": True},
                        "count": {"type": "integer", "default": 1},
                    },
                },
            },
            "to": {
                "type": "object",
                "additionalProperties": False,
                "required": ["street"],
                "properties": {
                    "street": {"type": "string"},
                    "note": {"anyOf": [{"type": "string", "x-quoted": True}, {"type": "null"}], "default": None},
                },
            },
            "size": {"type": "string", "enum": ["small", "large"]},
            "speed": {"type": "string", "enum": ["slow", "fast"], "default": "slow"},
            "title": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "count": {"type": "integer", "minimum": 1, "default": 2, "description": "How many."},
        },
    }


def test_the_docstring_and_the_options_are_kept() -> None:
    assert (order.name, order.description) == ("order", "Order several things at once.")
    assert (order.effect, order.timeout) == ("read", 3.0)
    assert tool(lambda_named := test_the_schema_is_self_contained_and_closed).effect == "unsafe"
    assert tool(name="other")(lambda_named).name == "other"


def test_arguments_become_what_the_function_expects() -> None:
    got = order.validate({"number": "A", "lines": [{"article": "x"}], "to": {"street": "s"}, "size": "large"})
    assert got == {"number": "A", "lines": [Line(article="x")], "to": Address("s"), "size": Size.LARGE}


@pytest.mark.parametrize(
    ("change", "where"),
    [({"number": 5}, "number"), ({"colour": "red"}, "colour"), ({"count": 0}, "count"), ({"lines": [{}]}, "lines")],
)
def test_arguments_that_do_not_follow_the_schema_are_refused(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as refused:
        order.validate({"number": "A", "lines": [], "to": {"street": "s"}} | change)
    assert refused.value.errors()[0]["loc"][0] == where


def test_quotes_are_checked_at_any_depth() -> None:
    said = (Message(role="user", content=(text("A is for x, y and z in street s"),)),)
    args: dict[str, Any] = {
        "number": "A",
        "lines": [{"article": "x"}, {"article": "y"}],
        "to": {"street": "s", "note": "z"},
    }
    order.validate(args, said)
    for path, change in [
        (("number",), {"number": "B"}),
        (("lines", 1, "article"), {"lines": [{"article": "x"}, {"article": "B"}]}),
        (("to", "note"), {"to": {"street": "s", "note": "B"}}),
    ]:
        with pytest.raises(ValidationError, match="'B' stands nowhere in the conversation") as refused:
            order.validate(args | change, said)
        assert refused.value.errors()[0]["loc"][: len(path)] == path


def test_a_quote_may_have_an_alternative() -> None:
    @tool
    def find(order_id: Quoted | Literal["unknown"], counts: dict[Quoted, int]) -> None:
        """Find."""

    said = (Message(role="user", content=(text("order A-17"),)),)
    assert find.validate({"order_id": "unknown", "counts": {"A-17": 1}}, said)["order_id"] == "unknown"
    with pytest.raises(ValidationError, match="stands nowhere"):
        find.validate({"order_id": "A-17", "counts": {"invented": 1}}, said)


def test_a_tool_is_still_the_function() -> None:
    @tool
    def double(x: int) -> int:
        """Twice x."""
        return 2 * x

    assert double(4) == 8
    assert double.__doc__ == "Twice x."


def test_parameters_may_be_called_what_pydantic_calls_its_own() -> None:
    @tool
    def odd(schema: str, model_config: int, _hidden: bool, self: float = 1.5) -> None: ...

    assert odd.validate({"schema": "s", "model_config": 1, "_hidden": True}) == {
        "schema": "s",
        "model_config": 1,
        "_hidden": True,
    }


def several(*numbers: int) -> None: ...
def anything(**options: int) -> None: ...
def untyped(first: int, second) -> None: ...  # type: ignore[no-untyped-def]
def by_position(first: int, /) -> None: ...
def takes_a_function(act: Callable[[], int]) -> None: ...
def takes_an_object(thing: ToolError) -> None: ...
def takes_a_tree(tree: Node) -> None: ...
def wrong_default(count: int = "two") -> None: ...  # type: ignore[assignment]
def no_default(name: str = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013
def two_contexts(one: ToolContext, other: ToolContext[int]) -> None: ...
def hidden_context(ctx: ToolContext | None = None) -> None: ...
def lost_type(first: int, second: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def several_words() -> None: ...


@pytest.mark.parametrize(
    ("function", "parameter"),
    [
        (several, r"\*numbers"),
        (anything, r"\*\*options"),
        (untyped, "second"),
        (by_position, "first"),
        (takes_a_function, "act"),
        (takes_an_object, "thing"),
        (takes_a_tree, "tree"),
        (wrong_default, "count"),
        (no_default, "name"),
        (two_contexts, "other"),
        (hidden_context, "ctx"),
        (lost_type, "second"),
    ],
)
def test_a_signature_that_no_model_could_call_is_refused(function: Callable[..., Any], parameter: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the parameter {parameter} of the tool {function.__name__} cannot"):
        tool(function)


def test_a_type_that_is_nowhere_is_told() -> None:
    def lost(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match="name 'Missing' is not defined"):
        tool(lost)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"effect": "safe"}, "use one of read"),
        ({"name": "a b"}, "'a b'"),
        ({"timeout": 0}, "a timeout of 0 s"),
        ({"retries": 1}, "is unsafe and cannot be tried again"),
        ({"effect": "read", "retries": -1}, "has -1 retries"),
        ({"concurrency": 0}, "a concurrency of 0"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        tool(**options)(several_words)


def test_options_that_there_are_not_are_refused() -> None:
    with pytest.raises(TypeError, match="effects"):
        tool(effects="read")(several_words)  # type: ignore[call-overload]


def test_what_a_tool_declares_about_its_data() -> None:
    plain, reading = tool(several_words), tool(effect="read")(several_words)
    assert (plain.private, plain.untrusted, plain.sends, plain.retries, plain.isolate) == (False, True, True, 0, False)
    assert not reading.sends and tool(effect="read", sends=True)(several_words).sends
    assert not tool(sends=False)(several_words).sends
    assert tool(private=True, untrusted=False)(several_words).private


def test_what_is_returned_need_not_be_known() -> None:
    def act(count: int) -> Nowhere: ...  # type: ignore[name-defined,empty-body]  # noqa: F821

    assert list(tool(act).parameters["properties"]) == ["count"]


def test_methods_and_callable_objects_are_tools_too() -> None:
    class Counter:
        def lookup(self, number: int) -> str:
            """Look up."""
            return f"order {number}"

        async def __call__(self, number: int) -> str:
            """Call."""
            return f"call {number}"

    method, called = tool(Counter().lookup), tool(name="counter")(Counter())
    assert (method(1), method.kind, method.description) == ("order 1", "sync", "Look up.")
    assert (called.kind, list(called.parameters["properties"])) == ("async", ["number"])


class Shop:
    pass


def wants_a_shop(ctx: ToolContext[Shop]) -> None: ...
def wants_anything(ctx: ToolContext) -> None: ...
def wants_numbers(ctx: ToolContext[list[int]]) -> None: ...


def test_deps_are_checked_against_what_the_tools_want() -> None:
    tools = [tool(wants_a_shop), tool(wants_anything), tool(wants_numbers)]
    check_deps(tools, Shop())
    check_deps(tools[1:], None)
    for deps, found in ((None, "None"), ("shop", "a str")):
        with pytest.raises(ConfigurationError, match=f"wants_a_shop needs deps of type Shop, and they are {found}"):
            check_deps(tools, deps)


def hit(identity: str, score: float = 1.0) -> Hit:
    return Hit(identity, "text", "title", "uri", 0, 4, score)


def test_citations_are_numbered_by_passage() -> None:
    context = ToolContext()
    assert [context.cite(hit("a")), context.cite(hit("b")), context.cite(hit("a", 0.5))] == [1, 2, 1]


def test_a_conversation_without_pictures_says_so() -> None:
    with pytest.raises(ToolError, match="there is no picture in this conversation"):
        ToolContext().open_picture()


FILE = """
from dataclasses import dataclass
from mmagent import ToolContext, tool
from neighbour import GREETING

@dataclass
class Person:
    name: str

@tool(effect="read")
def greet(person: Person) -> str:
    '''Greet somebody.'''
    return GREETING + person.name

@tool
def leave() -> None:
    '''Leave.'''

again = greet
not_a_tool = 5
"""


def test_the_tools_of_a_file_are_loaded_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("GREETING = 'hello '")
    (tmp_path / "tools.py").write_text(FILE)
    tools = load_tools(tmp_path / "tools.py")
    assert [one.name for one in tools] == ["greet", "leave"]
    assert all(isinstance(one, Tool) for one in tools)
    assert tools[0](**tools[0].validate({"person": {"name": "Ada"}})) == "hello Ada"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ny = nowhere\n", "line 2: NameError: name 'nowhere' is not defined"),
        ("\n\ndef f(:\n", "line 3: SyntaxError"),
        ("def f():\n    raise ValueError('two\\nlines')\n\nf()\n", "line 2: ValueError: two$"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("from mmagent import tool\n\n@tool\ndef f(x): ...\n", "line 3: ConfigurationError: the parameter x"),
        ("x = 1\n", r"there is no tool in .* decorate functions with @tool"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "tools.py"
    path.write_text(source)
    with pytest.raises(ConfigurationError, match=message) as refused:
        load_tools(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_search_path_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder, others = tmp_path / "shop.py", str(tmp_path), list(sys.path)
    path.write_text("from mmagent import tool\n\n@tool\ndef leave() -> None:\n    'Leave.'\n")
    for before in ([folder, *others], others):
        monkeypatch.setattr(sys, "path", list(before))
        load_tools(path)
        assert sys.path == before
    path.write_text(f"import sys\nsys.path.insert(0, {folder!r})\n{path.read_text()}")
    load_tools(path)
    assert sys.path == [folder, *others]


@pytest.mark.parametrize("name", ["missing.py", "."])
def test_a_file_that_is_not_there_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load_tools(tmp_path / name)


def test_results_have_content_and_data() -> None:
    assert ToolResult("shown", data={"a": 1}) == ToolResult(content="shown", data={"a": 1})
