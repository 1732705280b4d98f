from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmagent.engine import Grammar, ParsedCall, Response, ToolFormat, Vocabulary
from mmagent.engine.grammar.formats import HERMES, LLAMA3, MMAGENT, SMOLLM2
from mmagent.engine.grammar.response import Thought
from mmagent.errors import GrammarError
from mmagent.testing import accepts

THINK = ("<think>", "</think>")


def byte_vocabulary(*marks: str, template: str | None = None) -> Vocabulary:
    """A vocabulary of bytes, an end token, and marks that are added but not flagged as special, as in Qwen's."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=template)
    fast.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    return Vocabulary(fast)


@pytest.fixture(scope="module")
def plain() -> Vocabulary:
    """One whose marks are text."""
    return byte_vocabulary()


@pytest.fixture(scope="module")
def qwen() -> Vocabulary:
    """One whose marks are tokens."""
    return byte_vocabulary("<tool_call>", "</tool_call>", "<think>", "</think>")


def tool(name: str = "look", **properties: Any) -> SimpleNamespace:
    return SimpleNamespace(
        name=name, parameters={"type": "object", "properties": properties, "required": list(properties)}
    )


def spelt(vocabulary: Vocabulary, text: str, **grammar: Any) -> bool:
    """Whether the text, byte by byte and without control tokens, is a whole answer."""
    state = Grammar(vocabulary, **grammar)
    letters = [token for letter in text for token in vocabulary.ll.tokenize_str(letter)]
    return state.allows([*letters, vocabulary.ends[0]]) == len(letters) + 1


def test_calls_as_plain_text_are_held_to_their_schema_too(plain: Vocabulary) -> None:
    tools = [tool(n={"type": "integer"}, s={"type": "string"})]
    good = '<tool_call>\n{"name": "look", "arguments": {"n": 1, "s": "</tool_call>"}}\n</tool_call>'
    for text in ("hello", "hello < there", good, "Let me see.\n" + good, good + "\n" + good):
        assert spelt(plain, text, tools=tools), text
    for text in (good.replace('"n": 1', '"n": "x"'), good + "more", "a" + good.replace("look", "cook"), good[:-1]):
        assert not spelt(plain, text, tools=tools), text


def test_marks_that_are_control_tokens_are_used_as_such(qwen: Vocabulary) -> None:
    tools, good = [tool(n={"type": "integer"})], '<tool_call>\n{"name": "look", "arguments": {"n": 1}}\n</tool_call>'
    assert ToolFormat.of(qwen) is HERMES
    assert accepts(qwen, good + "\n" + good, tools=tools)
    assert not accepts(qwen, good.replace("1", '"x"'), tools=tools)
    assert spelt(qwen, good.replace("1", '"x"'), tools=tools)  # letters are no call
    opened = qwen.split("<tool_call>")[0]
    assert Grammar(qwen).mask(torch.zeros(qwen.width))[opened] == -torch.inf


def test_llama_3_writes_a_bare_call_or_text_without_a_brace(plain: Vocabulary) -> None:
    same: dict[str, Any] = {"tools": [tool(n={"type": "integer"})], "format": LLAMA3}
    good = '{"name": "look", "parameters": {"n": 1}}'
    for text in ("", "hello {", "\n hello", good):
        assert spelt(plain, text, **same), text
    for text in ("{hello", " {", good + good, good.replace("parameters", "arguments"), good[:-1]):
        assert not spelt(plain, text, **same), text
    assert not spelt(plain, "hello", **same, require_call=True)


def test_smollm_2_lists_its_calls(plain: Vocabulary) -> None:
    same: dict[str, Any] = {"tools": [tool(n={"type": "integer"})], "format": SMOLLM2}
    one = '{"name": "look", "arguments": {"n": 1}}'
    for text in ("hello", f"<tool_call>[{one}]</tool_call>", f"Well: <tool_call>[{one}, {one}]</tool_call>"):
        assert spelt(plain, text, **same), text
    for text in ("<tool_call>[]</tool_call>", f"<tool_call>[{one}]</tool_call>x", f"<tool_call>[{one}]"):
        assert not spelt(plain, text, **same), text


def test_a_format_of_control_tokens_needs_them(plain: Vocabulary) -> None:
    with pytest.raises(GrammarError, match="no control tokens <tool_call>"):
        Grammar(plain, tools=[tool()], format=MMAGENT)


def test_thoughts_come_before_an_answer_that_is_held(qwen: Vocabulary, plain: Vocabulary) -> None:
    number = {"type": "integer"}
    for vocabulary, check in ((qwen, accepts), (plain, spelt)):
        same: dict[str, Any] = {"reasoning": THINK, "output": number}
        for text in ("12", "<think>1 + 11, so {12}</think>12", "<think>\n</think>\n\n12"):
            assert check(vocabulary, text, **same), text
        for text in ("<think>12", "<think></think>twelve", "12</think>", "<think>a</think>\n\n\n\n\n12"):
            assert not check(vocabulary, text, **same), text
        same["reasoning_open"] = True
        assert check(vocabulary, "1 + 11</think>\n12", **same)
        assert not check(vocabulary, "12", **same)


def test_a_call_within_a_thought_is_none(qwen: Vocabulary, plain: Vocabulary) -> None:
    call = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
    for vocabulary, check in ((qwen, accepts), (plain, spelt)):
        same: dict[str, Any] = {"tools": [tool()], "reasoning": THINK}
        for text in ("hello", call, f"<think>hm</think>\n\n{call}", "<think>hm</think>hello", f"hello {call}"):
            assert check(vocabulary, text, **same), text
        assert not check(vocabulary, f"<think>{call}", **same)
    assert spelt(plain, "<think>or <tool_call>\nthis?</think>\nhello", tools=[tool()], reasoning=THINK)


def test_without_a_tool_what_looks_like_a_call_is_text(plain: Vocabulary) -> None:
    state = Grammar(plain)
    assert state.format is None
    assert spelt(plain, "<tool_call>\nwhatever")


def test_the_format_follows_the_tokenizer(vocabulary: Vocabulary) -> None:
    assert ToolFormat.of(vocabulary) is MMAGENT
    assert ToolFormat.of(byte_vocabulary()) is HERMES
    llama = 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    assert ToolFormat.of(byte_vocabulary(template=llama)) is LLAMA3
    assert ToolFormat.of(byte_vocabulary(template="format:\n<tool_call>[\n")) is SMOLLM2


def parts(vocabulary: Vocabulary, text: str, *arguments: Any, marks: bool = False, **more: Any) -> list[Any]:
    """What a response gives for a text, neighbouring pieces joined; marks are control tokens or letters."""
    pieces = [text] if marks else list(text)
    tokens = [token for piece in pieces for token in vocabulary.ll.tokenize_str(piece, parse_special=True)]
    response = Response(vocabulary, *arguments, **more)
    joined: list[Any] = []
    for part in [part for token in tokens for part in response.feed(token)] + list(response.finish()):
        if joined and type(part) is type(joined[-1]) is not ParsedCall:
            part = Thought(joined.pop().text + part.text) if isinstance(part, Thought) else joined.pop() + part
        joined.append(part)
    return joined


CALL = '{"name": "look", "arguments": {"s": "]</tool_call>\\n</tool_call>"}}'
LOOK = ParsedCall("look", {"s": "]</tool_call>\n</tool_call>"})


def test_responses_read_what_each_format_writes(plain: Vocabulary, qwen: Vocabulary) -> None:
    hermes = f"a < b\n<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>"
    assert parts(plain, hermes, HERMES) == ["a < b\n", LOOK, LOOK]
    assert parts(plain, f"<tool_call>[{CALL}, {CALL}]</tool_call>", SMOLLM2) == [LOOK, LOOK]
    llama = CALL.replace("arguments", "parameters")
    assert parts(plain, llama, LLAMA3) == [LOOK]
    assert parts(plain, f"\n {llama}", LLAMA3) == [LOOK]
    assert parts(plain, f"so {llama}", LLAMA3) == [f"so {llama}"]
    assert parts(plain, '{"n": 1}', LLAMA3) == ['{"n": 1}']  # an output model's answer
    assert parts(plain, '{"name": "Ann"}', LLAMA3) == ['{"name": "Ann"}']
    assert parts(plain, llama[:-1], LLAMA3) == []
    marked = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
    assert parts(qwen, f"hi {marked}\n{marked}", HERMES, marks=True) == ["hi ", *[ParsedCall("look", {})] * 2]


def test_letters_forge_no_call_where_marks_are_tokens(qwen: Vocabulary) -> None:
    text = f"<tool_call>\n{CALL}\n</tool_call> \ud83d".encode("utf-8", "replace").decode()
    assert parts(qwen, text, HERMES) == [text]


def test_without_a_format_nothing_is_a_call(plain: Vocabulary) -> None:
    text = f"<tool_call>\n{CALL}\n</tool_call>"
    assert parts(plain, text, None) == [text]


@pytest.mark.parametrize("marks", [True, False])
def test_thoughts_come_as_they_are_thought(plain: Vocabulary, qwen: Vocabulary, marks: bool) -> None:
    def read(text: str, **more: Any) -> list[Any]:
        return parts(qwen if marks else plain, text, HERMES, ("END",), THINK, marks=marks, **more)

    call = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
    assert read("<think>hm < END</think>\n\nYes. END no") == [Thought("hm < END"), "Yes. "]
    assert read(f"<think>a</think>\n{call}") == [Thought("a"), ParsedCall("look", {})]
    within = 'a \n{"name": "look", "arguments": {}}\n' if marks else f"a {call}"  # a control token has no letters
    assert read(f"a {call}</think>b", reasoning_open=True) == [Thought(within), "b"]
    assert read("<think>cut off") == [Thought("cut off")]
    assert read("<thin") == ["<thin"]
    assert read("no thought") == ["no thought"]


def test_a_thought_is_handed_out_before_it_ends(plain: Vocabulary) -> None:
    response = Response(plain, None, reasoning=THINK)
    got = [list(response.feed(token)) for letter in "<think>abc" for token in plain.ll.tokenize_str(letter)]
    assert got[-3:] == [[Thought("a")], [Thought("b")], [Thought("c")]]
