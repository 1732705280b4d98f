"""A user's own rows: the forms that people have, pictures beside them, and what is said of rows that are bad."""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmagent.errors import ConfigurationError, InputError, NotFound
from mmagent.train.sample import Sample
from mmagent.train.shop.episodes import SYSTEM
from mmagent.train.sources import make_source

RENEW = {"name": "renew_loan", "parameters": {"type": "object", "properties": {"card": {"type": "string"}}}}
FIND = {"name": "find", "parameters": {"type": "object", "properties": {"name": {"type": "string"}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "renew_loan", "arguments": '{"card": "L-17"}'}}
ASKED = {"role": "user", "content": "Renew L-17"}


def png(color: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n"
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def read(folder: Path, row: Any, **options: Any) -> Sample:
    draw = make_source("rows", {"path": str(write(folder, row)), **options})
    return draw(random.Random(0))


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def test_openai_rows_with_calls_and_results(tmp_path: Path) -> None:
    tool = {"type": "function", "function": RENEW}
    done = {"role": "tool", "tool_call_id": "c1", "content": '{"due": "2026-06-01"}'}
    calling = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    sample = read(tmp_path, chat(ASKED, calling, done, {"role": "assistant", "content": "Until June."}, tools=[tool]))
    assert sample.messages == [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": [{"type": "text", "text": "Renew L-17"}]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "renew_loan", "arguments": {"card": "L-17"}}}],
        },
        {"role": "tool", "name": "renew_loan", "content": '{"due": "2026-06-01"}'},
        {"role": "assistant", "content": "Until June."},
    ]
    assert sample.tools[0]["function"]["parameters"] == RENEW["parameters"]


def test_sharegpt_and_prompt_rows_say_the_same(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Open?"}, {"from": "gpt", "value": "Until six."}]
    shared = read(tmp_path, {"conversations": turns})
    simple = read(tmp_path, {"prompt": "Open?", "answer": "Until six."})
    assert shared == simple
    calls = [
        {"from": "human", "value": "Renew L-17"},
        {"from": "function_call", "value": '{"name": "renew_loan", "arguments": {"card": "L-17"}}'},
        {"from": "observation", "value": "done"},
        {"from": "gpt", "value": "Done."},
    ]
    sample = read(tmp_path, {"conversations": calls, "tools": json.dumps([RENEW])})
    assert [m["role"] for m in sample.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert sample.messages[3]["name"] == "renew_loan"


def test_results_stand_in_the_order_of_their_calls(tmp_path: Path) -> None:
    calls = [CALL, CALL | {"id": "c2"}]
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": f"result {n}"} for n in (2, 1)]
    calling = {"role": "assistant", "tool_calls": calls}
    sample = read(tmp_path, chat(ASKED, calling, *results, {"role": "assistant", "content": "Both."}, tools=[RENEW]))
    assert [m["content"] for m in sample.messages if m["role"] == "tool"] == ["result 1", "result 2"]


def test_system_messages_are_an_agents_instructions_or_stay(tmp_path: Path) -> None:
    row = chat({"role": "system", "content": "You are a librarian."}, ASKED, {"role": "assistant", "content": "Yes."})
    assert read(tmp_path, row).messages[0]["content"] == f"{SYSTEM}\nYou are a librarian."
    assert read(tmp_path, row, as_agent=False).messages[0]["content"] == "You are a librarian."
    assert read(tmp_path, {"prompt": "Open?", "answer": "Yes."}, as_agent=False).messages[0]["role"] == "user"


@pytest.mark.parametrize(
    ("row", "colors"),
    [
        ({"prompt": "What?", "answer": "Red.", "image": "a.png"}, ["red"]),
        ({"prompt": "What?", "answer": "Both.", "images": ["a.png", "sub/b.png"]}, ["red", "blue"]),
        ({"conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "R"}],
          "image": "a.png"}, ["red"]),
        (
            chat(
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
                {"role": "assistant", "content": "Red."},
                images=["a.png"],
            ),
            ["red"],
        ),
        (
            chat(
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What?"},
                        {
                            "type": "image_url",
                            "image_url": {"url": "data:image/png;base64," + base64.b64encode(png("blue")).decode()},
                        },
                    ],
                },
                {"role": "assistant", "content": "Blue."},
            ),
            ["blue"],
        ),
    ],
)  # fmt: skip
def test_pictures(tmp_path: Path, row: Any, colors: list[str]) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.png").write_bytes(png("blue"))
    sample = read(tmp_path, row)
    expected = [Image.new("RGB", (1, 1), color).getpixel((0, 0)) for color in colors]
    assert [shown.image.getpixel((0, 0)) for shown in sample.pictures] == expected
    blocks = [block["type"] for block in sample.messages[1]["content"]]
    assert blocks.count("image") == len(colors) and "text" in blocks


def test_placeholders_are_words_where_there_are_no_pictures(tmp_path: Path) -> None:
    sample = read(tmp_path, {"prompt": "What does <image> mean in HTML?", "answer": "Nothing."})
    assert sample.messages[1]["content"] == [{"type": "text", "text": "What does <image> mean in HTML?"}]


def test_tools_come_from_a_file_where_rows_name_none(tmp_path: Path) -> None:
    calling = chat(ASKED, {"role": "assistant", "tool_calls": [CALL]})
    (tmp_path / "tools.json").write_text(json.dumps([RENEW]))
    code = ["from mmagent import Quoted, tool", "@tool", "def renew_loan(card: Quoted) -> str:", "    '''Renew.'''"]
    (tmp_path / "tools.py").write_text("\n".join(code))
    from_json = read(tmp_path, calling, tools=str(tmp_path / "tools.json"))
    from_code = read(tmp_path, calling, tools=str(tmp_path / "tools.py"))
    assert from_json.tools[0]["function"]["name"] == from_code.tools[0]["function"]["name"] == "renew_loan"
    assert from_code.tools[0]["function"]["parameters"]["properties"]["card"]["x-quoted"] is True
    with pytest.raises(NotFound, match=r"no file of tools .*nowhere\.json"):
        read(tmp_path, calling, tools=str(tmp_path / "nowhere.json"))


BAD = [
    ("[1]", "it is a list"),
    ('{"a": ', "it is no JSON: "),
    ("[" * 100_000, "it is no JSON that can be read"),
    ({"text": "x"}, "it has neither messages, conversations, or prompt and answer; its keys are: text"),
    (chat({"role": "wizard", "content": "x"}), "the role of message 1 is 'wizard'"),
    (chat(ASKED), "the assistant says nothing"),
    (chat(ASKED, {"role": "assistant", "tool_calls": [CALL]}), "renew_loan is called, and it has no tools"),
    (
        chat(ASKED, {"role": "assistant", "tool_calls": [CALL]}, tools=[{"name": "other"}]),
        r"renew_loan is called, which is not among its tools \(other\)",
    ),
    (
        chat(ASKED, {"role": "assistant", "tool_calls": [CALL]}, ASKED, tools=[RENEW]),
        "the call of renew_loan is not answered before the next message",
    ),
    (
        chat(ASKED, {"role": "tool", "tool_call_id": "c9", "content": "x"}, tools=[RENEW]),
        "message 2 answers the call c9, which was not made",
    ),
    (
        chat(ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "renew_loan", "arguments": "{"}}]}),
        "the arguments of renew_loan in message 2 is no JSON",
    ),
    ({"prompt": "x", "answer": "y", "image": "https://example.org/a.png"}, "is somewhere else; download it"),
    ({"prompt": "x", "answer": "y", "image": "gone.png"}, r"there is no picture .*gone\.png"),
    ({"prompt": "<image> and <image>", "answer": "y", "image": "a.png"}, "it has 2 places for pictures and names 1"),
    (r'{"prompt": "\ud800", "answer": "y"}', "has half a character"),
    (
        chat(ASKED, {"role": "system", "content": "x"}, {"role": "assistant", "content": "y"}),
        "a system message stands after others",
    ),
]


@pytest.mark.parametrize(("row", "said"), BAD, ids=[said[:30] for _, said in BAD])
def test_a_bad_row_says_file_line_and_what_is_wrong(tmp_path: Path, row: Any, said: str) -> None:
    path = write(tmp_path, {"prompt": "Open?", "answer": "Yes."}, "", row)
    with pytest.raises(InputError, match=rf"rows\.jsonl, line 3: .*{said}"):
        make_source("rows", {"path": str(path)})


def test_a_picture_that_is_none_is_refused_when_it_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"line 1: a\.png .*leave such rows out with on_bad_row: skip"):
        read(tmp_path, {"prompt": "x", "answer": "y", "image": "a.png"})


def test_bad_rows_are_skipped_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = [{"prompt": "a", "answer": "one"}, {"prompt": "b", "answer": "two"}]
    path = write(tmp_path, "{", good[0], "[]", good[1])
    with caplog.at_level(logging.WARNING):
        draw: Any = make_source("rows", {"path": str(path), "on_bad_row": "skip"})
        rng = random.Random(1)
        answers = {draw(rng).messages[-1]["content"] for _ in range(40)}
    assert answers == {"one", "two"}
    assert len(draw.bad) == 2 and len(draw) == 4
    assert len(caplog.records) == 2 and "line 3" in caplog.text


def test_what_is_drawn_depends_on_the_dice_alone(tmp_path: Path) -> None:
    path = write(tmp_path, *({"prompt": "x", "answer": str(n)} for n in range(50)), "{", name="rows.jsonl.gz")
    fresh, used = (make_source("rows", {"path": str(path), "on_bad_row": "skip"}) for _ in range(2))
    for seed in range(30):
        used(random.Random(seed))
    again = [draw(random.Random(7)).messages[-1]["content"] for draw in (fresh, used)]
    assert again[0] == again[1]


def test_files_without_a_good_row_are_refused(tmp_path: Path) -> None:
    for rows, why in ((["", "  "], "has no rows"), (["{", "[]"], "line 1: it is no JSON")):
        path = write(tmp_path, *rows)
        with pytest.raises(InputError, match=f"no row to train on in .*{why}"):
            make_source("rows", {"path": str(path), "on_bad_row": "skip"})
    with pytest.raises(NotFound, match="there is no file"):
        make_source("rows", {"path": str(tmp_path / "none.jsonl")})
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}" * 100)[:20])
    with pytest.raises(InputError, match="damaged gzip"):
        make_source("rows", {"path": str(tmp_path / "cut.jsonl.gz")})
    with pytest.raises(ConfigurationError, match="option on_bad_row: Input should be 'stop' or 'skip'"):
        make_source("rows", {"path": str(path), "on_bad_row": "ignore"})


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"prompt": "x", "answer": "y"}).encode())
    assert make_source("rows", {"path": str(path)})(random.Random(0)).messages[-1]["content"] == "y"


def test_varied_rows_have_other_values_that_agree(tmp_path: Path) -> None:
    rows = []
    for card, due in (("L-17", "2026-06-01"), ("L-204", "2026-07-09")):
        called = CALL | {"function": {"name": "renew_loan", "arguments": json.dumps({"card": card})}}
        messages = [
            {"role": "user", "content": f"Renew {card}, please"},
            {"role": "assistant", "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"due": due, "fee": 2})},
            {"role": "assistant", "content": f"{card} is due on {due}."},
        ]
        rows.append(chat(*messages, tools=[RENEW]))
    draw = make_source("rows", {"path": str(write(tmp_path, *rows)), "vary": 1.0})
    rng, cards = random.Random(0), set()
    for _ in range(30):
        _, asked, calling, done, answer = draw(rng).messages
        card = calling["tool_calls"][0]["function"]["arguments"]["card"]
        assert asked["content"] == [{"type": "text", "text": f"Renew {card}, please"}]
        assert answer["content"] == f"{card} is due on {json.loads(done['content'])['due']}."
        assert card.startswith("L-") and json.loads(done["content"])["fee"] == 2
        cards.add(card)
    assert len(cards) > 20

    call = {"id": "c1", "function": {"name": "find", "arguments": {"name": "kettle 12"}}}
    named = chat({"role": "user", "content": "A kettle 12?"}, {"role": "assistant", "tool_calls": [call]}, tools=[FIND])
    _, asked, calling = make_source("rows", {"path": str(write(tmp_path, named)), "vary": 1.0})(rng).messages
    function = calling["tool_calls"][0]["function"]
    assert function["name"] == "find" and asked["content"][0]["text"] == f"A {function['arguments']['name']}?"
    with pytest.raises(ConfigurationError, match="option vary: Input should be less than or equal to 1"):
        make_source("rows", {"path": str(tmp_path / "rows.jsonl"), "vary": 2})
