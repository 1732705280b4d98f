"""What training relies on in dialogues with tools: calls that fit their signatures, names that vary, clear errors."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from mmagent.errors import ConfigurationError, InputError, NotFound
from mmagent.train.sample import Draw, Sample
from mmagent.train.sources import make_source
from mmagent.train.sources._names import OtherWords, Words, snake, word_lists
from mmagent.train.sources.intents import tool_name
from mmagent.train.sources.sgd import SUBJECTS, as_tool, plain_names, read_tools, shown_result
from mmagent.train.sources.toolsets import NO_TOOL

DATA = Path("../shared/data")
SGD = DATA / "dialogues_sgd"
needs_data = pytest.mark.skipif(not SGD.is_dir(), reason="the data folder ../shared/data is absent")

TOOLS = [
    {
        "service": "Restaurants_1",
        "name": "FindRestaurants",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "price_range": {"type": "string", "enum": ["moderate", "expensive"]},
                "has_live_music": {"type": "string", "enum": ["True", "False"]},
                "party_size": {"type": "string", "enum": ["1", "2"]},
            },
            "required": ["city"],
        },
    },
    {
        "service": "Weather_1",
        "name": "GetWeather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
]
CALL = {
    "service": "Restaurants_1",
    "name": "FindRestaurants",
    "arguments": {"party_size": "2", "city": "San Jose", "has_live_music": "True", "price_range": "moderate"},
    "results": [
        {"restaurant_name": "Bird Dog", "street_address": "420 Ramona Street", "phone_number": "1", "city": "San Jose"}
    ],
}
DIALOGUE = {
    "id": "1",
    "services": ["Restaurants_1"],
    "turns": [
        {"role": "user", "text": "A moderate place with live music for two in San Jose."},
        {"role": "assistant", "text": "Bird Dog at 420 Ramona Street is nice.", "calls": [CALL]},
        {"role": "user", "text": "Thanks!"},
        {"role": "assistant", "text": "Bye!"},
    ],
}


def write(folder: Path, *lines: str) -> dict[str, Any]:
    """Options for a set of those lines."""
    (folder / "tools.json").write_text(json.dumps(TOOLS))
    with gzip.open(folder / "some.jsonl.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    return {"path": str(folder / "some.jsonl.gz"), "tools": str(folder / "tools.json")}


def calls_in(sample: Sample) -> list[dict[str, Any]]:
    """Every call of a conversation."""
    return [call["function"] for message in sample.messages for call in message.get("tool_calls", ())]


def check_calls(sample: Sample) -> None:
    """Each call names a tool that is offered, has what it requires, and nothing of another type."""
    kinds = {"string": str, "integer": int, "boolean": bool, "number": (int, float)}
    offered = [tool["function"] for tool in sample.tools]
    assert len({tool["name"] for tool in offered}) == len(offered), "two tools have one name"
    signatures = {tool["name"]: tool["parameters"] for tool in offered}
    for call in calls_in(sample):
        signature = signatures[call["name"]]
        assert set(signature["required"]) <= call["arguments"].keys() <= signature["properties"].keys()
        for name, value in call["arguments"].items():
            schema = signature["properties"][name]
            assert isinstance(value, kinds[schema["type"]]), (name, value)
            assert value in schema.get("enum", [value])


def samples(draw: Draw, count: int = 150) -> list[Sample]:
    """Samples of as many seeds."""
    return [draw(random.Random(seed)) for seed in range(count)]


def test_a_dialogue_is_cut_at_its_call(tmp_path: Path) -> None:
    draw = make_source("sgd", write(tmp_path, json.dumps(DIALOGUE)) | {"renamed": 0, "swapped": 0, "answered": 0})
    sample = draw(random.Random(1))
    assert [message["role"] for message in sample.messages] == ["system", "user", "assistant"]
    (call,) = calls_in(sample)
    wanted = {"city": "San Jose", "price_range": "moderate", "has_live_music": True, "party_size": 2}
    assert (call["name"], call["arguments"]) == ("find_restaurants", wanted)
    assert list(call["arguments"]) == list(wanted), "arguments stand in the signature's order"


def test_a_dialogue_may_go_on_to_the_answer(tmp_path: Path) -> None:
    draw = make_source("sgd", write(tmp_path, json.dumps(DIALOGUE)) | {"renamed": 0, "answered": 1})
    sample = draw(random.Random(1))
    assert [message["role"] for message in sample.messages][-2:] == ["tool", "assistant"]
    assert sample.messages[-1]["content"] == "Bird Dog at 420 Ramona Street is nice."
    assert json.loads(sample.messages[-2]["content"])["street_address"] == "420 Ramona Street"


def test_a_result_is_cut_to_what_the_answer_uses() -> None:
    shown = shown_result(CALL, "It is at 420 Ramona Street.", Words())
    assert json.loads(shown) == {"restaurant_name": "Bird Dog", "street_address": "420 Ramona Street"}
    assert shown_result(CALL | {"results": []}, "", Words()) == "no results"


def test_a_time_is_used_where_it_is_spoken() -> None:
    rows = [{"movie": "A", "show_time": "18:30"}, {"movie": "B", "show_time": "19:00"}]
    assert "19:00" in shown_result(CALL | {"results": rows}, "B is on at 7 pm.", Words())


def test_renamed_tools_keep_their_values(tmp_path: Path) -> None:
    draw = make_source("sgd", write(tmp_path, json.dumps(DIALOGUE)) | {"renamed": 1, "swapped": 0})
    drawn = samples(draw, 60)
    for sample in drawn:
        check_calls(sample)
        assert "San Jose" in calls_in(sample)[0]["arguments"].values()
    assert len({calls_in(sample)[0]["name"] for sample in drawn}) > 10


def test_no_two_names_become_one() -> None:
    names = ["find_movies", "search_movies", "lookup_movies", "get_movies", "from_city", "origin_city", "from_location"]
    for seed in range(200):
        words = OtherWords(random.Random(seed), odds=1.0)
        assert len({words.parameter(name) for name in names}) == len(names)


def test_names_tell_services_apart() -> None:
    rows = {(service, "FindMovies"): {} for service in ("Movies_1", "Media_1")} | {("Services_2", "FindProvider"): {}}
    assert [snake(name) for name in plain_names(["Movies_1", "Media_1", "Services_2"], rows).values()] == [
        "movies_find_movies",
        "media_find_movies",
        "dentist_find_provider",
    ]


def test_services_of_one_kind_have_their_numbers() -> None:
    rows = {(service, "FindBus"): {} for service in ("Buses_1", "Buses_2")}
    assert list(plain_names(["Buses_1", "Buses_2"], rows).values()) == ["Buses_1_FindBus", "Buses_2_FindBus"]


def test_numbers_and_booleans_are_typed() -> None:
    properties = as_tool(TOOLS[0], "find", Words())["function"]["parameters"]["properties"]
    assert [schema["type"] for schema in properties.values()] == ["string", "string", "boolean", "integer"]


@pytest.mark.parametrize(("option", "value"), [("path", "none.jsonl.gz"), ("tools", "none.json")])
def test_a_missing_file_names_its_option(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(NotFound, match=f"none.json.*option {option}"):
        make_source("sgd", write(tmp_path, json.dumps(DIALOGUE)) | {option: str(tmp_path / value)})


@pytest.mark.parametrize("line", ["{", "[]", '{"turns": [{"text": 1}]}', json.dumps(DIALOGUE).replace("Find", "Fnd")])
def test_a_bad_row_names_file_and_line(tmp_path: Path, line: str) -> None:
    options = write(tmp_path, json.dumps(DIALOGUE), line)
    with pytest.raises(InputError, match=r"some\.jsonl\.gz line 2 .*on_bad_row"):
        make_source("sgd", options)
    make_source("sgd", options | {"on_bad_row": "skip"})(random.Random(0))


def test_several_files_are_one_set(tmp_path: Path) -> None:
    options = write(tmp_path, json.dumps(DIALOGUE))
    make_source("sgd", options | {"path": f"{options['path']},{options['path']}"})(random.Random(0))


def test_options_without_meaning_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="on_bad_row"):
        make_source("sgd", write(tmp_path, json.dumps(DIALOGUE)) | {"on_bad_row": "maybe"})
    with pytest.raises(ConfigurationError, match="max_tokens"):
        make_source("sgd", write(tmp_path, json.dumps(DIALOGUE)) | {"max_tokens": 5})(random.Random(0))
    with pytest.raises(ConfigurationError, match="max_tools"):
        make_source("intents", {"path": "", "clinc": ""})


@needs_data
def test_every_call_of_the_set_fits_its_signature() -> None:
    for sample in samples(make_source("sgd", {}), 600):
        check_calls(sample)
        assert calls_in(sample)


@needs_data
def test_swapped_names_stand_in_the_words_too() -> None:
    rows = read_tools(str(SGD / "train_tools.json"))
    assert ("Weather_1", "GetWeather") in rows
    for sample in samples(make_source("sgd", {"swapped": 1, "renamed": 0, "answered": 0}), 60):
        said = json.dumps([message["content"] for message in sample.messages], ensure_ascii=False)
        for call in calls_in(sample):
            for name in {"restaurant_name", "song_name"} & call["arguments"].keys():
                assert call["arguments"][name].lower() in said.lower()


def test_generated_calls_fit_their_signatures() -> None:
    for sample in samples(make_source("toolsets", {}), 300):
        check_calls(sample)
        assert 2 <= len(sample.tools) <= 6
        assert sample.messages[-1]["role"] == "assistant"


def test_generated_answers_say_what_the_result_says() -> None:
    told = 0
    for sample in samples(make_source("toolsets", {})):
        for before, after in zip(sample.messages, sample.messages[1:], strict=False):
            if before["role"] == "tool" and before["content"].startswith("{"):
                values = [v if isinstance(v, str) else json.dumps(v) for v in json.loads(before["content"]).values()]
                assert any(value in after["content"] for value in values)
                told += 1
            elif before["role"] == "tool":
                assert after["content"].startswith("That failed: ")
    assert told > 50


def test_generated_dialogues_ask_and_decline() -> None:
    drawn = samples(make_source("toolsets", {}), 300)
    texts = [message["content"] for sample in drawn for message in sample.messages if message["role"] == "assistant"]
    assert any(text.startswith("What is the ") for text in texts)
    assert texts.count(NO_TOOL) > 20
    assert len({call["name"] for sample in drawn for call in calls_in(sample)}) > 200


def test_held_out_nouns_are_apart() -> None:
    nouns = {"".join(noun.split("_")) for noun in list(word_lists()["nouns"])[5::6]}
    for held_out in (False, True):
        for sample in samples(make_source("toolsets", {"held_out": held_out}), 60):
            for tool in sample.tools:
                name = snake(tool["function"]["name"]).replace("_", "").replace(".", "")
                assert any(name.startswith(noun) or name.endswith(noun) for noun in nouns) >= held_out


@needs_data
def test_intents_are_called_or_declined() -> None:
    for sample in samples(make_source("intents", {})):
        check_calls(sample)
        assert 4 <= len(sample.tools) <= 8
        last = sample.messages[-1]
        assert last.get("tool_calls") or last["content"] in (NO_TOOL, "Done.")


def test_intents_become_names_of_tools() -> None:
    assert tool_name("reverted_card_payment?") == "reverted_card_payment"
    assert tool_name("Refund_not_showing_up") == "refund_not_showing_up"
    assert tool_name("card_arrival", "camel") == "cardArrival"


def test_a_bad_request_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,category\nhello,greeting\nbye\n")
    options = {"path": str(tmp_path / "train.csv"), "clinc": ""}
    with pytest.raises(InputError, match=r"train\.csv line 3 "):
        make_source("intents", options)
    with pytest.raises(NotFound, match="option clinc"):
        make_source("intents", {"path": "", "clinc": str(tmp_path / "none.json")})


@needs_data
@pytest.mark.parametrize("language", ["en", "zh"])
def test_answers_are_quoted_with_their_mark(language: str) -> None:
    declined = 0
    for sample in samples(make_source("xquad", {"language": language}), 200):
        shown = next(message["content"] for message in sample.messages if message["role"] == "tool")
        for message in sample.messages[4:]:
            if message["role"] != "assistant":
                continue
            if message["content"] == "The documents do not say.":
                declined += 1
                continue
            answer, _, mark = message["content"].rpartition(" ")
            passage = next(part for part in ("\n" + shown).split("\n[") if part.startswith(mark[1:]))
            assert answer in passage
    assert 25 <= declined <= 80


@needs_data
def test_the_last_articles_are_held_out() -> None:
    def titles(**options: Any) -> set[str]:
        drawn = samples(make_source("xquad", options), 100)
        shown = [m["content"] for sample in drawn for m in sample.messages if m["role"] == "tool"]
        return {line[4:] for text in shown for line in text.splitlines() if line[:1] == "[" and line[2:4] == "] "}

    assert not titles() & titles(held_out=True)


def test_xquad_names_its_options(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="path and language"):
        make_source("xquad", {"path": str(tmp_path)})
    (tmp_path / "xquad.en.json").write_text('{"data": [1]}')
    with pytest.raises(InputError, match="form of SQuAD"):
        make_source("xquad", {"path": str(tmp_path)})


@pytest.mark.parametrize(
    "name", ["toolsets", pytest.param("sgd", marks=needs_data), pytest.param("xquad", marks=needs_data)]
)
def test_the_same_dice_give_the_same_sample(name: str) -> None:
    first, second = make_source(name, {}), make_source(name, {})
    assert [s.messages for s in samples(first, 10)] == [s.messages for s in samples(second, 10)]


def test_subjects_are_told_of_services_that_training_has(shared_data: Path) -> None:
    trained = {service for service, _ in read_tools(str(shared_data / "dialogues_sgd" / "train_tools.json"))}
    assert SUBJECTS.keys() <= trained
