from __future__ import annotations

import time
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from mmagent.content import Quoted
from mmagent.engine import Grammar, ToolFormat, Vocabulary
from mmagent.engine.grammar import HERMES, MMAGENT
from mmagent.errors import GrammarError, ModelError

QUOTED = {"type": "string", "x-quoted": True}


def tool(name: str = "look", required: tuple[str, ...] | None = None, **properties: Any) -> SimpleNamespace:
    needed = list(properties) if required is None else list(required)
    return SimpleNamespace(name=name, parameters={"type": "object", "properties": properties, "required": needed})


def allows(vocabulary: Vocabulary, text: str, **grammar: Any) -> bool:
    """Whether the text, control tokens in it real ones, is a whole answer."""
    state = Grammar(vocabulary, **grammar)
    for token in vocabulary.ll.tokenize_str(text, parse_special=True):
        if state.mask(torch.zeros(265))[token] == -torch.inf:
            return False
        state.accept(token)
    return bool(state.mask(torch.zeros(265))[vocabulary.ends[0]] == 0)


def call(arguments: str, name: str = "look") -> str:
    return f'<tool_call>{{"name":"{name}","arguments":{arguments}}}</tool_call>'


def test_text_then_calls_then_the_end(vocabulary: Vocabulary) -> None:
    tools = [tool(n={"type": "integer"}), tool("other")]
    one, two = call('{"n":1}'), call("{}", "other")
    for text in ("", "Let me see.\nOne moment.", one, "Ärger & co: " + one, one + two + one):
        assert allows(vocabulary, text, tools=tools), text
    for text in (one + "and now", call("{}"), call('{"n":1}', "third"), call('{"n": 1}'), "<tool_call>x</tool_call>"):
        assert not allows(vocabulary, text, tools=tools), text
    assert not allows(vocabulary, one)  # there is no tool


def test_control_tokens_are_out_of_reach(vocabulary: Vocabulary) -> None:
    for state, text in (
        (Grammar(vocabulary), ""),
        (Grammar(vocabulary, tools=[tool(s={"type": "string"})]), call('{"s":"')),
    ):
        for token in vocabulary.ll.tokenize_str(text.removesuffix("}</tool_call>"), parse_special=True):
            state.accept(token)
        logits = state.mask(torch.zeros(265))
        reachable = {name for name, id in vocabulary._specials.items() if logits[id] == 0}
        assert reachable <= {"<|end|>"} if not text else reachable == set()


def test_logits_beyond_the_vocabulary_are_barred(vocabulary: Vocabulary) -> None:
    assert (Grammar(vocabulary).mask(torch.zeros(300))[265:] == -torch.inf).all()


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, ["0", "-17", "123456789"], ["1.5", "01", '"1"', "1" * 19, "-0"]),
        ({"type": "number"}, ["0", "-1.25", "12"], ["1e9", "1e999", ".5", "NaN"]),
        ({"type": "integer", "minimum": 1, "maximum": 12}, ["1", "12"], ["0", "13"]),
        ({"type": "boolean"}, ["true", "false"], ["True", "null"]),
        ({"type": "string"}, ['"é \\" \\\\ \\n"', '""'], ['"\\u0041"', '"a\nb"', "x"]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"éab"'], ['"a"', '"abcd"']),
        ({"type": "string", "pattern": "^[A-Z]{2}$"}, ['"AB"'], ['"ab"', '"ABC"']),
        ({"enum": ["a", "ab", 3, None]}, ['"a"', '"ab"', "3", "null"], ['"b"', "4"]),
        ({"const": "é"}, ['"é"'], ['"e"']),
        ({"type": ["string", "null"]}, ['"x"', "null"], ["1"]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, ["1", "null"], ["true"]),
        ({"type": "array", "items": {"type": "integer"}}, ["[]", "[1]", "[1,2,3]"], ["[1,]", '["a"]', "[1, 2]"]),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2}, ["[null]", "[null,null]"], ["[]"]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 1}, ["[]", "[1]"], ["[1,2]"]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, ["[]"], ["[1]"]),
        ({"type": "object"}, ["{}", '{"any":[1,{"x":null}]}'], ["[]"]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ['{"a":1}'], ['{"a":"b"}']),
    ],
)  # fmt: skip
def test_values_follow_their_schema(vocabulary: Vocabulary, schema: Any, good: list[str], bad: list[str]) -> None:
    for value in good:
        assert allows(vocabulary, value, output=schema), value
        assert allows(vocabulary, call(f'{{"v":{value}}}'), tools=[tool(v=schema)]), value
    for value in bad:
        assert not allows(vocabulary, value, output=schema), value
        assert not allows(vocabulary, call(f'{{"v":{value}}}'), tools=[tool(v=schema)]), value


def test_optional_arguments_may_be_left_out_and_unknown_ones_are_refused(vocabulary: Vocabulary) -> None:
    number = {"type": "integer"}
    tools = [tool(required=("b",), a=number, b=number, c=number)]
    for arguments in ('{"b":1}', '{"a":1,"b":2}', '{"b":1,"c":2}', '{"a":1,"b":2,"c":3}'):
        assert allows(vocabulary, call(arguments), tools=tools), arguments
    for arguments in ("{}", '{"a":1}', '{"a":1,"c":2}', '{"b":1,}', '{"b":1,"d":2}', '{"c":1,"b":1}'):
        assert not allows(vocabulary, call(arguments), tools=tools), arguments
    every = [tool(required=(), a=number, b=number)]
    for arguments in ("{}", '{"a":1}', '{"b":1}', '{"a":1,"b":2}'):
        assert allows(vocabulary, call(arguments), tools=every), arguments


LINES = ["I ordered the brass lamp, order:A-48213?", 'she said "it\\s broken" (badly)', "Größe=40 · 你好世界", "a\tb"]


@pytest.mark.parametrize(
    "quote",
    ["A-48213", "order:A-48213", "order:A-48213?", "order", "brass lamp", "the brass lamp,", LINES[0],
     'said "it\\s broken"', "it\\s broken", "badly", "(badly)", "Größe", "40",
     "Größe=40", "·", "你好", "好世", "a", "b"],
)  # fmt: skip
def test_what_was_said_can_be_quoted(vocabulary: Vocabulary, quote: str) -> None:
    import json

    text = json.dumps(quote, ensure_ascii=False)
    assert any(quote in line for line in LINES)
    assert allows(vocabulary, call(f'{{"q":{text}}}'), tools=[tool(q=QUOTED)], quotable=LINES)


@pytest.mark.parametrize(
    "quote",
    ["", " ", "A-48214", "48213", "A-482", "lamp, she", "ordered  the", "badly) Größe", "a\\tb", "lamp ", " lamp"],
)
def test_nothing_else_can(vocabulary: Vocabulary, quote: str) -> None:
    assert not allows(vocabulary, call(f'{{"q":"{quote}"}}'), tools=[tool(q=QUOTED)], quotable=LINES)


class Kind(Enum):
    LAMP = "lamp"
    CHAIR = "chair"


class Part(BaseModel):
    name: Quoted
    count: int = 1
    parts: list[Part] = []


class Order(BaseModel):
    number: Quoted
    kind: Kind
    codes: list[Quoted]
    main: Part
    other: Quoted | None = None


def test_quotes_hold_at_any_depth_of_an_output_model(vocabulary: Vocabulary) -> None:
    schema = Order.model_json_schema()
    good = '{"number":"A-48213","kind":"lamp","codes":["brass","40"],"main":{"name":"lamp","parts":[{"name":"order"}]}'
    assert allows(vocabulary, good + "}", output=schema, quotable=LINES)
    assert allows(vocabulary, good + ',"other":null}', output=schema, quotable=LINES)
    assert allows(vocabulary, good + ',"other":"brass lamp"}', output=schema, quotable=LINES)
    for said, unsaid in (("A-48213", "A-1"), ('"lamp",', '"desk",'), ("brass", "steel"), ('"order"', '"parcel"')):
        assert not allows(vocabulary, good.replace(said, unsaid, 1) + "}", output=schema, quotable=LINES), unsaid
    Order.model_validate_json(good + "}")


def test_with_nothing_to_quote_a_tool_that_must_quote_cannot_be_called(vocabulary: Vocabulary) -> None:
    must, may = tool("must", q=QUOTED), tool("may", required=(), q=QUOTED, n={"anyOf": [QUOTED, {"type": "null"}]})
    assert allows(vocabulary, "hello", tools=[must])
    assert not allows(vocabulary, call('{"q":"x"}', "must"), tools=[must, may])
    for arguments in ("{}", '{"n":null}'):
        assert allows(vocabulary, call(arguments, "may"), tools=[must, may])
    listed = {"type": "array", "items": QUOTED}
    assert allows(vocabulary, call('{"qs":[]}'), tools=[tool(qs=listed)])
    with pytest.raises(GrammarError, match="no tool can be called"):
        Grammar(vocabulary, tools=[must], require_call=True)
    with pytest.raises(GrammarError, match=r"the output .* nothing was said"):
        Grammar(vocabulary, output=Order.model_json_schema())


def test_an_output_schema_takes_the_place_of_text(vocabulary: Vocabulary) -> None:
    output = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert allows(vocabulary, '{"n":1}', output=output)
    assert not allows(vocabulary, "hello", output=output)
    assert not allows(vocabulary, '{"n":1} ', output=output)
    both = {"output": output, "tools": [tool()]}
    assert allows(vocabulary, '{"n":1}', **both)
    assert allows(vocabulary, call("{}") + call("{}"), **both)
    assert not allows(vocabulary, '{"n":1}' + call("{}"), **both)


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"not": {}}, "not"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "properties": {"a": {"type": "string", "format": "colour"}}}, "colour"),
        ({"type": "string", "x-quoted": True, "maxLength": 3}, "maxLength"),
        ({"type": "array", "prefixItems": [QUOTED]}, "prefixItems"),
        ({"$ref": "#/$defs/Nothing"}, "#/\\$defs/Nothing"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(vocabulary: Vocabulary, schema: Any, word: str) -> None:
    with pytest.raises(GrammarError, match=rf"^tool 'bad' cannot be held by a grammar: .*{word}"):
        Grammar(vocabulary, tools=[tool("good"), tool("bad", v=schema)], quotable=["x"])
    with pytest.raises(GrammarError, match=rf"^the output cannot be held by a grammar: .*{word}"):
        Grammar(vocabulary, output=schema, quotable=["x"])


def test_a_token_that_does_not_fit_is_an_error(vocabulary: Vocabulary) -> None:
    with pytest.raises(ModelError, match="does not fit the grammar"):
        Grammar(vocabulary, output={"type": "integer"}).accept(vocabulary.ll.tokenize_str("x")[0])


def test_forced_tokens_are_accepted_and_done_says_when_only_the_end_is_left(vocabulary: Vocabulary) -> None:
    state = Grammar(vocabulary, output={"const": "yes"})
    assert vocabulary.ll.decode_str(state.forced()) == '"yes"'
    assert state.done
    assert state.forced() == []


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> ToolFormat:
    """As with a hub model that has no tokens for calls."""
    monkeypatch.setattr(ToolFormat, "of", classmethod(lambda cls, vocabulary: HERMES))
    return HERMES


def spelt(vocabulary: Vocabulary, text: str, **grammar: Any) -> bool:
    state = Grammar(vocabulary, **grammar)
    letters = [token for letter in text for token in vocabulary.ll.tokenize_str(letter)]  # no control tokens
    return all(state._matcher.consume_token(token) for token in letters) and state._matcher.is_accepting()


def test_calls_as_plain_text_are_held_to_their_schema_too(vocabulary: Vocabulary, plain: ToolFormat) -> None:
    tools = [tool(n={"type": "integer"}, s={"type": "string"})]
    good = '<tool_call>\n{"name": "look", "arguments": {"n": 1, "s": "</tool_call>"}}\n</tool_call>'
    for text in ("hello", "hello < there", good, "Let me see.\n" + good, good + "\n" + good):
        assert spelt(vocabulary, text, tools=tools), text
    for text in (good.replace('"n": 1', '"n": "x"'), good + "more", "a" + good.replace("look", "cook"), good[:-1]):
        assert not spelt(vocabulary, text, tools=tools), text


def test_the_format_follows_the_tokenizer(vocabulary: Vocabulary) -> None:
    assert ToolFormat.of(vocabulary) is MMAGENT


def test_two_kilobytes_of_context_compile_quickly(vocabulary: Vocabulary) -> None:
    lines = [f"line {i}: the quick brown fox no. {i * 7919} costs ${i}.50 (net)" for i in range(40)]
    seconds = []
    for _ in range(5):
        began = time.thread_time()
        Grammar(vocabulary, tools=[tool(q=QUOTED, n={"type": "integer"})], quotable=lines)
        seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.02  # 3 ms on an idle core


def test_a_long_context_compiles(vocabulary: Vocabulary) -> None:
    lines = [f"line {i} {i * 7919}" for i in range(3000)]
    assert allows(vocabulary, call('{"q":"line 2999"}'), tools=[tool(q=QUOTED)], quotable=lines)
