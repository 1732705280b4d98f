from __future__ import annotations

import time
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
import torch
from pydantic import AnyUrl, BaseModel, Field

from mmagent.content import Quoted
from mmagent.engine import Grammar, Vocabulary
from mmagent.errors import GrammarError, ModelError
from mmagent.testing import accepts

QUOTED = {"type": "string", "x-quoted": True}


def tool(name: str = "look", required: tuple[str, ...] | None = None, **properties: Any) -> SimpleNamespace:
    needed = list(properties) if required is None else list(required)
    return SimpleNamespace(name=name, parameters={"type": "object", "properties": properties, "required": needed})


def call(arguments: str, name: str = "look") -> str:
    return f'<tool_call>{{"name":"{name}","arguments":{arguments}}}</tool_call>'


def test_text_then_calls_then_the_end(vocabulary: Vocabulary) -> None:
    tools = [tool(n={"type": "integer"}), tool("other")]
    one, two = call('{"n":1}'), call("{}", "other")
    for text in ("", "Let me see.\nOne moment.", one, "Ärger & co: " + one, one + two + one):
        assert accepts(vocabulary, text, tools=tools), text
    for text in (one + "and now", call("{}"), call('{"n":1}', "third"), call('{"n": 1}'), "<tool_call>x</tool_call>"):
        assert not accepts(vocabulary, text, tools=tools), text
    assert not accepts(vocabulary, one)  # there is no tool


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
        ({"type": "number"}, ["0", "-1.25", "12", "6.67e-11", "0.30000000000000004"], ["1e999", ".5", "NaN"]),
        ({"type": "number", "minimum": 0}, ["0", "3.5"], ["-1", "1e999", "9" * 17]),
        ({"type": "integer", "minimum": 1, "maximum": 12}, ["1", "12"], ["0", "13"]),
        ({"type": "boolean"}, ["true", "false"], ["True", "null"]),
        ({"type": "string"}, ['"é \\" \\\\ \\n"', '""', '"\x7f\U0010ffff"', '"\\u00b3 \\u0000 \\/"'], ['"a\nb"', "x"]),
        ({"type": "string"}, ['"\\ud83d\\ude42"'], ['"\\ud83d"', '"\\ude42"', '"\\ud83d\\u0041"']),
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
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ["{}", '{"a":1,"b":2}'], ['{"a":"b"}']),
        ({"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 1}, ['{"a":null}'], ["{}"]),
        ({"type": "object", "properties": {}}, ["{}"], ['{"a":1}']),
        ({"type": "object", "required": ["a"]}, ['{"a":[]}'], ["{}"]),
        ({}, ["1", "null", '[{"a":[1.5,"x"]}]'], ["1e999", "x", "[1e400]"]),
        ({"type": "array"}, ["[]", '[1,"a"]'], ["[1e999]"]),
        ({"type": "array", "prefixItems": [{}], "items": {}}, ['[1,{"a":null}]'], ["[1e999]", '[{"a":1e999}]']),
        ({"enum": [1, "1", True], "type": "string"}, ['"1"'], ["1", "true"]),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}], "minItems": 2, "maxItems": 2},
         ["[1,null]"], ["[1]", "[null,1]", "[1,null,1]"]),
        ({"type": ["number", "null"], "exclusiveMinimum": 0}, ["0.5", "null"], ["0", "-1"]),
        ({"type": "string", "format": "date"}, ['"2026-02-28"'], ['"2026-13-01"', '"x"']),
        ({"type": "string", "format": "password"}, ['"x"'], ["x"]),
    ],
)  # fmt: skip
def test_values_follow_their_schema(vocabulary: Vocabulary, schema: Any, good: list[str], bad: list[str]) -> None:
    for value in good:
        assert accepts(vocabulary, value, output=schema), value
        assert accepts(vocabulary, call(f'{{"v":{value}}}'), tools=[tool(v=schema)]), value
    for value in bad:
        assert not accepts(vocabulary, value, output=schema), value
        assert not accepts(vocabulary, call(f'{{"v":{value}}}'), tools=[tool(v=schema)]), value


def test_optional_arguments_may_be_left_out_and_unknown_ones_are_refused(vocabulary: Vocabulary) -> None:
    number = {"type": "integer"}
    tools = [tool(required=("b",), a=number, b=number, c=number)]
    for arguments in ('{"b":1}', '{"a":1,"b":2}', '{"b":1,"c":2}', '{"a":1,"b":2,"c":3}'):
        assert accepts(vocabulary, call(arguments), tools=tools), arguments
    for arguments in ("{}", '{"a":1}', '{"a":1,"c":2}', '{"b":1,}', '{"b":1,"d":2}', '{"c":1,"b":1}'):
        assert not accepts(vocabulary, call(arguments), tools=tools), arguments
    every = [tool(required=(), a=number, b=number)]
    for arguments in ("{}", '{"a":1}', '{"b":1}', '{"a":1,"b":2}'):
        assert accepts(vocabulary, call(arguments), tools=every), arguments


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
    assert accepts(vocabulary, call(f'{{"q":{text}}}'), tools=[tool(q=QUOTED)], quotable=LINES)


@pytest.mark.parametrize(
    "quote",
    ["", " ", "A-48214", "48213", "A-482", "lamp, she", "ordered  the", "badly) Größe", "a\\tb", "lamp ", " lamp"],
)
def test_nothing_else_can(vocabulary: Vocabulary, quote: str) -> None:
    assert not accepts(vocabulary, call(f'{{"q":"{quote}"}}'), tools=[tool(q=QUOTED)], quotable=LINES)


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
    assert accepts(vocabulary, good + "}", output=schema, quotable=LINES)
    assert accepts(vocabulary, good + ',"other":null}', output=schema, quotable=LINES)
    assert accepts(vocabulary, good + ',"other":"brass lamp"}', output=schema, quotable=LINES)
    for said, unsaid in (("A-48213", "A-1"), ('"lamp",', '"desk",'), ("brass", "steel"), ('"order"', '"parcel"')):
        assert not accepts(vocabulary, good.replace(said, unsaid, 1) + "}", output=schema, quotable=LINES), unsaid
    Order.model_validate_json(good + "}")


def test_with_nothing_to_quote_a_tool_that_must_quote_cannot_be_called(vocabulary: Vocabulary) -> None:
    must, may = tool("must", q=QUOTED), tool("may", required=(), q=QUOTED, n={"anyOf": [QUOTED, {"type": "null"}]})
    assert accepts(vocabulary, "hello", tools=[must])
    assert not accepts(vocabulary, call('{"q":"x"}', "must"), tools=[must, may])
    for arguments in ("{}", '{"n":null}'):
        assert accepts(vocabulary, call(arguments, "may"), tools=[must, may])
    listed = {"type": "array", "items": QUOTED}
    assert accepts(vocabulary, call('{"qs":[]}'), tools=[tool(qs=listed)])
    with pytest.raises(GrammarError, match="no tool can be called"):
        Grammar(vocabulary, tools=[must], require_call=True)
    with pytest.raises(GrammarError, match=r"the output .* nothing was said"):
        Grammar(vocabulary, output=Order.model_json_schema())


def test_an_output_schema_takes_the_place_of_text(vocabulary: Vocabulary) -> None:
    output = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert accepts(vocabulary, '{"n":1}', output=output)
    assert not accepts(vocabulary, "hello", output=output)
    assert not accepts(vocabulary, '{"n":1} ', output=output)
    both = {"output": output, "tools": [tool()]}
    assert accepts(vocabulary, '{"n":1}', **both)
    assert accepts(vocabulary, call("{}") + call("{}"), **both)
    assert not accepts(vocabulary, '{"n":1}' + call("{}"), **both)


@pytest.mark.parametrize(
    ("schema", "place", "word"),
    [
        ({"not": {}}, "", "not"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "", "uniqueItems"),
        ({"type": "object", "properties": {"a": {"format": "colour", "type": "string"}}}, "/properties/a", "colour"),
        ({"patternProperties": {"^a": {"items": {"if": {}}}}}, "/patternProperties/^a/items", "if"),
        ({"anyOf": [{"type": "null"}, {"type": "string", "pattern": "(?!a)b"}]}, "/anyOf/1", "look-around"),
        ({"type": "float"}, "", "float"),
        ({"enum": [1], "type": "string"}, "", "enum"),
        ({"type": "string", "x-quoted": True, "maxLength": 3}, "", "maxLength"),
        ({"type": "array", "prefixItems": [QUOTED]}, "", "prefixItems"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(vocabulary: Vocabulary, schema: Any, place: str, word: str) -> None:
    refusal = " cannot be held by a grammar: "
    with pytest.raises(GrammarError, match=word) as tools:
        Grammar(vocabulary, tools=[tool("good"), tool("bad", v=schema)], quotable=["x"])
    assert str(tools.value).startswith(f"tool 'bad' at #/properties/v{place}{refusal}")
    with pytest.raises(GrammarError, match=word) as output:
        Grammar(vocabulary, output=schema, quotable=["x"])
    assert str(output.value).startswith(f"the output at #{place}{refusal}")


def test_a_reference_that_leads_nowhere_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(GrammarError, match=r"^tool 'bad' .* '#/\$defs/Nothing' leads nowhere"):
        Grammar(vocabulary, tools=[tool("bad", v={"$ref": "#/$defs/Nothing"})])


def test_a_token_that_does_not_fit_is_an_error(vocabulary: Vocabulary) -> None:
    with pytest.raises(ModelError, match="does not fit the grammar"):
        Grammar(vocabulary, output={"type": "integer"}).accept(vocabulary.ll.tokenize_str("x")[0])


def test_forced_tokens_are_accepted_and_done_says_when_only_the_end_is_left(vocabulary: Vocabulary) -> None:
    state = Grammar(vocabulary, output={"const": "yes"})
    assert vocabulary.ll.decode_str(state.forced()) == '"yes"'
    assert state.done
    assert state.forced() == []


def test_an_answer_may_be_a_choice_or_match_a_regex(vocabulary: Vocabulary) -> None:
    for text, good in (("yes", True), ("no", True), ("yesno", False), ("", False), ('"yes"', False)):
        assert accepts(vocabulary, text, choices=("yes", "no")) is good, text
    for text, good in (("07/2026", True), ("7/2026", False), ("07/2026 ", False)):
        assert accepts(vocabulary, text, regex=r"\d{2}/\d{4}") is good, text
    assert accepts(vocabulary, call("{}"), choices=("yes",), tools=[tool()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regex": "a", "choices": ["b"]}, "only one of output, regex and choices"),
        ({"output": {}, "choices": ["b"]}, "only one of output, regex and choices"),
        ({"regex": "a(?=b)"}, r"the regex 'a\(\?=b\)' cannot be held .*look-ahead"),
        ({"regex": "("}, "unclosed group"),
        ({"choices": ["a", ""]}, "a choice is empty"),
    ],
)
def test_forms_that_make_no_sense_are_refused(vocabulary: Vocabulary, arguments: Any, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        Grammar(vocabulary, **arguments)


@pytest.mark.parametrize("name", ["<|end|>", "<tool_call>", "a</tool_call>b"])
def test_a_name_that_looks_like_a_control_token_is_spelt_in_letters(vocabulary: Vocabulary, name: str) -> None:
    state = Grammar(vocabulary, output={"type": "object", "properties": {name: {"const": name}}, "required": [name]})
    written: list[int] = []
    while not state.done:
        forced = state.forced()
        if not forced:
            forced = [int(state.mask(torch.zeros(vocabulary.width)).argmax())]
            state.accept(forced[0])
        written += forced
    assert not any(map(vocabulary.is_special, written))
    assert vocabulary.ll.decode_str(written) == f'{{"{name}":"{name}"}}'


def test_the_mask_is_one_bit_a_token_in_one_buffer(vocabulary: Vocabulary) -> None:
    state = Grammar(vocabulary, choices=("ab", "ac"))
    bits = state.bitmask()
    assert bits.dtype == torch.int32 and bits.shape == ((vocabulary.width + 31) // 32,)
    for text in ("a", "bc"):
        allowed = {token for token in range(vocabulary.width) if bits[token // 32] >> token % 32 & 1}
        assert allowed == {vocabulary.ll.tokenize_str(letter)[0] for letter in text}
        assert allowed == set(torch.isfinite(state.mask(torch.zeros(vocabulary.width))).nonzero().flatten().tolist())
        if text == "a":
            state.accept(*allowed)
        assert state.bitmask() is bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_are_barred_in_place_and_else_untouched(vocabulary: Vocabulary, dtype: torch.dtype) -> None:
    state = Grammar(vocabulary, choices=("a", "b"))
    logits = torch.linspace(-3, 3, 300).to(dtype)
    before = logits.clone()
    assert state.mask(logits) is logits
    kept = torch.isfinite(logits)
    assert kept.sum() == 2 and torch.equal(logits[kept], before[kept])
    with torch.inference_mode():
        made = torch.zeros(300)
    assert torch.isfinite(state.mask(made)).sum() == 2  # such a tensor cannot be changed


def test_tokens_can_be_tried_without_moving(vocabulary: Vocabulary) -> None:
    state = Grammar(vocabulary, choices=("abc",))
    letters = vocabulary.ll.tokenize_str("abx")
    assert [state.allows(letters), state.allows(letters[:2]), state.allows([])] == [2, 2, 0]
    assert vocabulary.ll.decode_str(state.forced()) == "abc"
    assert state.allows([vocabulary.ends[0]]) == 1


def test_one_conversation_compiles_once(vocabulary: Vocabulary) -> None:
    lines = [f"line {i}: the quick brown fox no. {i * 7919} costs ${i}.50 (net)" for i in range(400)]

    def seconds(lines: list[str]) -> float:
        began = time.thread_time()
        Grammar(vocabulary, tools=[tool(q=QUOTED, n={"type": "integer"})], quotable=lines)
        return time.thread_time() - began

    first = min(seconds([f"start {i}", *lines]) for i in range(3))
    again = min(seconds(lines) for _ in range(5))
    assert again < 0.002  # 0.2 ms on an idle core
    assert again < first / 5


def test_a_kept_grammar_starts_anew_and_follows_its_lines(vocabulary: Vocabulary) -> None:
    tools = [tool(q=QUOTED)]
    for _ in range(2):
        assert accepts(vocabulary, call('{"q":"one"}'), tools=tools, quotable=["one"])
        assert not accepts(vocabulary, call('{"q":"two"}'), tools=tools, quotable=["one"])
        assert accepts(vocabulary, call('{"q":"two"}'), tools=tools, quotable=["one", "two"])
        assert not accepts(vocabulary, call('{"q":"one two"}'), tools=tools, quotable=["one", "two"])


def test_a_long_context_compiles(vocabulary: Vocabulary) -> None:
    lines = [f"line {i} {i * 7919}" for i in range(3000)]
    assert accepts(vocabulary, call('{"q":"line 2999"}'), tools=[tool(q=QUOTED)], quotable=lines)


class Everything(BaseModel):
    """What pydantic emits for the types that people use."""

    day: date
    at: datetime
    took: timedelta
    key: UUID
    amount: Decimal
    site: AnyUrl
    folder: Path
    pair: tuple[int, str]
    counts: dict[str, int]
    notes: dict[str, Quoted]
    maybe: Literal["a", 1] | None = None
    score: Annotated[float, Field(ge=0, lt=1)] = 0.5
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}\d+$")] = "AB1"
    names: Annotated[list[str], Field(max_length=2)] = []
    kind: Annotated[Cat | Dog, Field(discriminator="species")] | None = None


class Cat(BaseModel):
    species: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    species: Literal["dog"]


def test_what_pydantic_emits_can_be_written_and_read_back(vocabulary: Vocabulary) -> None:
    value = Everything.model_validate(
        {
            "day": "2026-02-28",
            "at": "2026-02-28T10:00:00Z",
            "took": "PT90S",
            "key": "12345678-1234-4234-8234-123456789012",
            "amount": "12.50",
            "site": "https://a.b/c",
            "folder": "pictures/x",
            "pair": [1, "x"],
            "counts": {"a": 1},
            "notes": {"n": "brass lamp"},
            "maybe": 1,
            "kind": {"species": "dog"},
        }
    )
    written = value.model_dump_json()
    assert accepts(vocabulary, written, output=Everything.model_json_schema(), quotable=LINES)
    wrong = {'"2026-02-28"': '"tomorrow"', '"a":1': '"a":"1"', "brass lamp": "steel lamp", '"dog"': '"cow"'}
    for said, unsaid in wrong.items():
        assert said in written
        text = written.replace(said, unsaid, 1)
        assert not accepts(vocabulary, text, output=Everything.model_json_schema(), quotable=LINES), unsaid
