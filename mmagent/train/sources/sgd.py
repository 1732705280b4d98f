"""Service dialogues of the Schema-Guided Dialogue set, cut at a service call. It knows the set's files, no tokens.

The set is Rastogi et al. 2020 (arXiv:1909.05855), one JSON line a dialogue; services come as JSON Schemas beside it.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mmagent.errors import ConfigurationError, InputError, NotFound
from mmagent.train.sample import Count, Draw, Message, OnBadRow, Sample, Share, Tool, assistant, result, system, user
from mmagent.train.shop.episodes import SYSTEM
from mmagent.train.sources._names import OtherWords, Words
from mmagent.train.sources._swaps import Free, collect, swapped_names

TODAY = "Today is 2019-03-01, Friday."
"""The day on which every dialogue of the set takes place."""
CHARACTERS_PER_TOKEN = 3.0
"""Of a rendered conversation, for nano's tokenizer; how ``max_tokens`` is held without one."""
SUBJECTS = {"Services_1": "stylist", "Services_2": "dentist", "Services_3": "doctor"}
"""What a service is for where neither its name nor its tools' names say it; of services in the training file only."""

Dialogue: TypeAlias = dict[str, Any]
Row: TypeAlias = dict[str, Any]
"""A tool as the set's files have it: service, name, parameters."""


@dataclass(frozen=True)
class Naming:
    """How a dialogue's tools are named and shown."""

    words: Words
    names: dict[tuple[str, str], str]
    """Service and name in the set → the name that is shown."""
    rows: dict[tuple[str, str], Row]


def sgd(
    path: str = "../shared/data/dialogues_sgd/train.jsonl.gz",
    tools: str = "../shared/data/dialogues_sgd/train_tools.json",
    max_tokens: Count = 512,
    renamed: Share = 0.5,
    swapped: Share = 0.35,
    answered: Share = 0.3,
    on_bad_row: OnBadRow = "stop",
) -> Draw:
    """Dialogues up to a service call, or to the answer that follows it.

    Args:
        path: Dialogues, one JSON line each, ``.gz`` or plain; several files with commas between.
        tools: The services' tools, a JSON list; several files with commas between.
        max_tokens: About how long a sample may be; the last call that fits ends it in most cases.
        renamed: Share of samples whose tools and parameters get other names, so that signatures must be read.
        swapped: Share of samples whose names of places and things are others, so that values must be copied.
        answered: Share of samples that go on to the assistant's words after the result.
        on_bad_row: What to do with a line that is no dialogue.

    Raises:
        NotFound: A file is not there.
        InputError: A line is no dialogue, or it names a tool that is not listed.
        ConfigurationError: An option has no meaning.
    """
    if on_bad_row not in ("stop", "skip"):
        raise ConfigurationError(f"sgd: on_bad_row is {on_bad_row!r}; set it to 'stop' or 'skip'")
    rows = read_tools(tools)
    lines: list[str] = []
    pool: dict[str, dict[str, None]] = {}
    for file in path.split(","):
        for line, dialogue in read_dialogues(file.strip(), rows, on_bad_row):
            lines.append(line)
            collect(pool, free_values(dialogue, rows))
    if not lines:
        raise InputError(f"sgd: {path} has no dialogue with a call; name another file with the option path")
    swaps = {key: list(values) for key, values in pool.items() if len(values) > 4}

    def draw(rng: random.Random) -> Sample:
        for _ in range(20):
            dialogue = json.loads(rng.choice(lines))
            if rng.random() < swapped:
                dialogue = swapped_names(rng, dialogue, free_values(dialogue, rows), swaps)
            naming = _naming(rng, dialogue, rows, OtherWords(rng) if rng.random() < renamed else Words())
            sample = _fitting(rng, dialogue, naming, max_tokens, rng.random() < answered)
            if sample is not None:
                return sample
        raise ConfigurationError(f"sgd: max_tokens is {max_tokens}, too few for a dialogue; set it to 256 or more")

    return draw


# --- files ------------------------------------------------------------------------------------------------------------


def read_tools(path: str) -> dict[tuple[str, str], Row]:
    """Tools by service and name.

    Raises:
        NotFound: A file is not there.
        InputError: A file is no list of tools.
    """
    rows: dict[tuple[str, str], Row] = {}
    for name in path.split(","):
        file = _there(name.strip(), "tools")
        try:
            listed = json.loads(file.read_text(encoding="utf-8"))
            rows |= {(row["service"], row["name"]): row for row in listed}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"sgd: {file} is no list of tools ({error!r}); name another file with tools") from error
    return rows


def read_dialogues(
    path: str, rows: dict[tuple[str, str], Row], on_bad_row: str = "stop"
) -> Iterator[tuple[str, Dialogue]]:
    """Every dialogue that has a call: its line, and what it says.

    Raises:
        NotFound: The file is not there.
        InputError: A line is no dialogue, or calls what is no tool (unless ``on_bad_row`` is ``skip``).
    """
    file = _there(path, "path")
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                dialogue = json.loads(line)
                called = [(call["service"], call["name"]) for _, call in calls_of(dialogue)]
                if unknown := [name for name in called if name not in rows]:
                    raise ValueError(f"no tool is named {'/'.join(unknown[0])}")
                if not all(isinstance(turn["text"], str) for turn in dialogue["turns"]):
                    raise TypeError("a turn's text is no text")
            except (ValueError, KeyError, TypeError) as error:
                if on_bad_row == "skip":
                    continue
                raise InputError(
                    f"sgd: {file} line {number} is no dialogue ({error!r}); mend it or set on_bad_row to 'skip'"
                ) from error
            if called:
                yield line, dialogue


def free_values(dialogue: Dialogue, rows: dict[tuple[str, str], Row]) -> list[Free]:
    """The arguments that are names of things, which could be any others."""
    found = []
    for index, call in calls_of(dialogue):
        properties = rows[call["service"], call["name"]]["parameters"]["properties"]
        for name, value in call["arguments"].items():
            if "enum" not in properties.get(name, {}) and len(value) > 3 and not re.search(r"\d:\d|\d{4}-", value):
                found.append(Free(index, name, value))
    return found


def calls_of(dialogue: Dialogue) -> list[tuple[int, dict[str, Any]]]:
    """The calls with the numbers of their turns."""
    return [(index, call) for index, turn in enumerate(dialogue["turns"]) for call in turn.get("calls", ())]


def _there(path: str, option: str) -> Path:
    if not (file := Path(path)).is_file():
        raise NotFound(f"sgd: there is no file {path}; name one with the option {option}")
    return file


# --- as it is shown ---------------------------------------------------------------------------------------------------


def plain_names(services: list[str], rows: dict[tuple[str, str], Row]) -> dict[tuple[str, str], str]:
    """The name of each tool of some services: its own, with the service's subject before it where it needs one.

    That is where two of them share a name, and where the service stands in `SUBJECTS`.
    """
    wanted = [key for key in rows if key[0] in services]
    own = [name for _, name in wanted]
    stems = [stem_of(service) for service in dict.fromkeys(services)]
    names: dict[tuple[str, str], str] = {}
    for service, name in wanted:
        stem = stem_of(service)
        subject = SUBJECTS.get(service, stem if stems.count(stem) == 1 else service)
        names[service, name] = f"{subject}_{name}" if service in SUBJECTS or own.count(name) > 1 else name
    return names


def stem_of(service: str) -> str:
    """``Restaurants`` of ``Restaurants_1``."""
    return re.sub(r"_\d+$", "", service)


def as_tool(row: Row, name: str, words: Words, rng: random.Random | None = None) -> Tool:
    """A tool of the set as chat templates take it: numbers and booleans are typed as such.

    Args:
        rng: Shuffles parameters and enumerations; None leaves their order.
    """
    schema = row["parameters"]
    order = list(schema["properties"])
    if rng is not None:
        rng.shuffle(order)
    listed = rng is not None and rng.random() < 0.2
    properties = {words.parameter(key): _kind(schema["properties"][key], words, rng, listed) for key in order}
    required = [words.parameter(key) for key in schema["required"]]
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


def _kind(schema: dict[str, Any], words: Words, rng: random.Random | None, listed: bool) -> dict[str, Any]:
    """Of one parameter; ``listed`` leaves numbers as enumerations."""
    options = schema.get("enum")
    if not options:
        return {"type": "string"}
    if set(options) <= {"True", "False"}:
        return {"type": "boolean"}
    if all(option.isdigit() for option in options):
        return {"type": "integer", "enum": [int(option) for option in options]} if listed else {"type": "integer"}
    said = [words.value(option) for option in options]
    if rng is not None:
        rng.shuffle(said)
    return {"type": "string", "enum": said}


def as_call(call: dict[str, Any], naming: Naming, order: list[str] | None = None) -> tuple[str, dict[str, Any]]:
    """A call's shown name and arguments, in the signature's order where that is given."""
    key = (call["service"], call["name"])
    properties = naming.rows[key]["parameters"]["properties"]
    arguments = {
        naming.words.parameter(name): _value(value, properties.get(name, {}), naming.words)
        for name, value in call["arguments"].items()
    }
    return naming.names[key], {name: arguments[name] for name in order or arguments if name in arguments}


def _value(value: str, schema: dict[str, Any], words: Words) -> Any:
    options = schema.get("enum") or ()
    if value in ("True", "False") and set(options) <= {"True", "False"}:
        return value == "True" if options else value
    if options and value.isdigit() and all(option.isdigit() for option in options):
        return int(value)
    return words.value(value) if value in options else value


def shown_result(call: dict[str, Any], said: str, words: Words, rng: random.Random | None = None) -> str:
    """The result that the assistant's words are about, cut to the fields that they use and its name.

    Args:
        call: With its results.
        said: The assistant's words.
        words: Says the fields' names.
        rng: Adds fields that are not used, so that an answer must choose; None adds none.
    """
    found = call.get("results") or []
    if not found:
        return "no results"
    best = max(found, key=lambda row: sum(_used(str(value), said) for value in row.values()))
    names = [key for key in best if key.endswith("_name") or key == "title"][:1]
    kept = {key for key, value in best.items() if _used(str(value), said)} | set(names)
    if rng is not None:
        rest = [key for key in best if key not in kept]
        kept |= set(rng.sample(rest, min(2, len(rest))))
    fields = [key for key in best if key in kept][:7]
    shown = {words.parameter(key): words.value(str(best[key]))[:64] for key in fields or list(best)[:2]}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def _used(value: str, said: str) -> bool:
    """Whether words tell a value; times and dates are looked for as they are spoken, true and false never."""
    if value in ("True", "False"):
        return False
    said = said.lower()
    if match := re.fullmatch(r"(\d\d):(\d\d)", value):
        hour, minute = int(match[1]), match[2]
        spoken = str(hour % 12 or 12)
        return value in said or f"{spoken}:{minute}" in said or (minute == "00" and f"{spoken} " in said)
    if match := re.fullmatch(r"2019-\d\d-(\d\d)", value):
        day = int(match[1])
        return re.search(rf"\b{day}(st|nd|rd|th)\b|march {day}\b", said) is not None
    rounded = value.rstrip("0").rstrip(".") if re.fullmatch(r"\d+\.\d+", value) else value  # 4.50 is spoken as 4.5
    return any(_stands(text.lower(), said) for text in {value, rounded})


def _stands(text: str, said: str) -> bool:
    """Whether a text stands somewhere as words of its own."""
    start = said.find(text)
    while start >= 0:
        end = start + len(text)
        if not (said[start - 1 : start].isalnum() or said[end : end + 1].isalnum()):
            return True
        start = said.find(text, start + 1)
    return False


def conversation(
    dialogue: Dialogue, naming: Naming, turn: int, tools: list[Tool], answered: bool, rng: random.Random | None = None
) -> list[Message]:
    """The messages up to the call of a turn, the call included; ``answered`` adds its result and the words after."""
    order = {tool["function"]["name"]: list(tool["function"]["parameters"]["properties"]) for tool in tools}
    messages = [system(f"{SYSTEM}\n{TODAY}")]
    for index, said in enumerate(dialogue["turns"][: turn + 1]):
        if said["role"] == "user":
            messages.append(user(said["text"]))
            continue
        for call in said.get("calls", ()):
            name, arguments = as_call(call, naming, order.get(naming.names[call["service"], call["name"]]))
            messages.append(assistant("", (name, arguments)))
            if index == turn and not answered:
                return messages
            more = rng if index == turn else None
            messages.append(result(name, shown_result(call, _about(dialogue, index, turn), naming.words, more)))
        messages.append(assistant(said["text"]))
    return messages


def _about(dialogue: Dialogue, index: int, turn: int) -> str:
    """What the assistant says after the call of turn ``index``, until it calls again; ``turn`` is the last one."""
    texts = [dialogue["turns"][index]["text"]]
    for said in dialogue["turns"][index + 1 : turn + 1]:
        if said.get("calls"):
            break
        texts += [said["text"]] if said["role"] == "assistant" else []
    return " ".join(texts)


# --- one sample -------------------------------------------------------------------------------------------------------


def _naming(rng: random.Random, dialogue: Dialogue, rows: dict[tuple[str, str], Row], words: Words) -> Naming:
    """The dialogue's tools, and those of up to two services that do something else."""
    stems = {stem_of(service) for service in dialogue["services"]}
    others = sorted({service for service, _ in rows if stem_of(service) not in stems})
    extra = rng.sample(others, min(rng.choices((0, 1, 2), (5, 3, 1))[0], len(others)))
    names = plain_names([*dialogue["services"], *extra], rows)
    return Naming(words, {key: words.tool(name) for key, name in names.items()}, rows)


def _fitting(rng: random.Random, dialogue: Dialogue, naming: Naming, max_tokens: int, answered: bool) -> Sample | None:
    """The dialogue up to one of its calls: the last that fits in most cases, one before it otherwise."""
    turns = [index for index, _ in calls_of(dialogue)]
    if rng.random() < 0.25:
        turns = turns[: rng.randint(1, len(turns))]
    for turn in reversed(turns):
        used = {(call["service"], call["name"]) for index, call in calls_of(dialogue) if index <= turn}
        tools = _offered(rng, dialogue, naming, used)
        sample = Sample(conversation(dialogue, naming, turn, tools, answered, rng), tools)
        if length(sample) <= max_tokens * CHARACTERS_PER_TOKEN:
            return sample
    return None


def _offered(rng: random.Random, dialogue: Dialogue, naming: Naming, used: set[tuple[str, str]]) -> list[Tool]:
    """Tools that are used, most others of the dialogue's services, and one of each service that is not needed."""
    kept = [key for key in naming.names if key in used or (key[0] in dialogue["services"] and rng.random() < 0.7)]
    for service in {key[0]: None for key in naming.names if key[0] not in dialogue["services"]}:
        kept.append(rng.choice([key for key in naming.names if key[0] == service]))
    shuffled = isinstance(naming.words, OtherWords)
    if shuffled or rng.random() < 0.5:
        rng.shuffle(kept)
    return [as_tool(naming.rows[key], naming.names[key], naming.words, rng if shuffled else None) for key in kept]


def length(sample: Sample) -> int:
    """About the characters that a sample's prompt has."""
    total = 0
    for message in sample.messages:
        content = message["content"]
        total += 12 + len(content if isinstance(content, str) else "".join(b.get("text", "") for b in content))
        for call in message.get("tool_calls", ()):
            total += 30 + len(json.dumps(call["function"]["arguments"])) + len(call["function"]["name"])
    for tool in sample.tools:
        function = tool["function"]
        total += len(function["name"]) + 3
        for name, schema in function["parameters"]["properties"].items():
            total += len(name) + 6 + len("|".join(map(str, schema.get("enum", ()))))
    return total
