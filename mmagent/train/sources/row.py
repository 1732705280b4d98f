"""What a row of a user's data may say, in the forms that people have. It knows one parsed row, no files of rows."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL.Image import Image as PILImage

from mmagent.errors import ConfigurationError, NotFound
from mmagent.train.sample import Message, Tool, assistant, result, system

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "function_response": "tool", "tool_response": "tool",
    "function_call": "call", "tool_call": "call",
}  # fmt: skip
"""What people call who speaks → what we call it; ``call`` is an assistant's message whose text is a call."""
PLACEHOLDER = "<image>"
"""Where a picture stands in the text of rows that name their pictures beside it."""
_TEXTS, _IMAGES = ("text", "input_text", "output_text"), ("image", "image_url", "input_image")
_FORMS = "messages, conversations, or prompt and answer"


class BadRow(ValueError):
    """What is wrong with a row, as the end of a sentence that begins with file and line."""


@dataclass(frozen=True)
class Picture:
    """A picture of a row, not yet opened."""

    source: Path | bytes

    def open(self) -> PILImage:
        """Its pixels.

        Raises:
            MediaError: It is no picture, a damaged one, or larger than a limit.
            NotFound: There is no such file.
        """
        from mmagent.media import decode_image
        from mmagent.media.source import read_source
        from mmagent.settings import settings

        name, data = read_source(self.source, settings())
        return decode_image(data, name)

    def check(self) -> None:
        """See that it is there, without reading it.

        Raises:
            NotFound: There is no such file.
        """
        if isinstance(self.source, Path) and not self.source.is_file():
            raise NotFound(f"there is no picture {self.source}")


@dataclass(frozen=True)
class Read:
    """A row as it was read."""

    messages: list[Message]
    tools: list[Tool]
    pictures: list[Picture]


def read_row(row: Any, folder: Path, tools: list[Tool], as_agent: bool = True) -> Read:
    """A row in one form.

    Args:
        row: The parsed JSON.
        folder: What paths of pictures are relative to.
        tools: Of rows that name none.
        as_agent: Whether to write the system message as an agent does.

    Raises:
        BadRow: It cannot be trained on; the message says why.
    """
    if not isinstance(row, dict):
        raise BadRow(f"it is a {type(row).__name__}; a row is an object with {_FORMS}")
    reader = _Reader(row, folder)
    messages = reader.messages()
    pictures = reader.placed(messages)
    own = row.get("tools") or row.get("functions")
    offered = as_tools(own) if own else tools
    _check_order(messages)
    _check_calls(messages, offered)
    return Read(_with_instructions(messages) if as_agent else messages, offered, pictures)


def as_tools(value: Any) -> list[Tool]:
    """Signatures in transformers' form.

    Raises:
        BadRow: They are none.
    """
    if isinstance(value, str):
        value = _json(value, "tools")
    if not isinstance(value, list):
        raise BadRow("tools is no list")
    made: list[Tool] = []
    for number, tool in enumerate(value, 1):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise BadRow(f"tool {number} has no name; a tool is an object with name, description and parameters")
        parameters = function.get("parameters") or {"type": "object", "properties": {}}
        if not isinstance(parameters, dict) or not isinstance(parameters.get("properties", {}), dict):
            raise BadRow(f"the parameters of the tool {function['name']} are no JSON Schema of an object")
        words = str(function.get("description") or "")
        known = {"name": function["name"], "description": words, "parameters": parameters}
        made.append({"type": "function", "function": known})
    if double := [name for name, count in Counter(t["function"]["name"] for t in made).items() if count > 1]:
        raise BadRow(f"there are two tools {double[0]}")
    return made


def read_tools(path: str) -> list[Tool]:
    """The signatures in a file: a JSON list, or a Python file of tools, which is run.

    Raises:
        NotFound: There is no such file.
        ConfigurationError: There are no tools in it.
    """
    if path.endswith(".py"):
        from mmagent.agent import load_tools

        found = load_tools(path)
        return as_tools([{"name": t.name, "description": t.description, "parameters": t.parameters} for t in found])
    try:
        return as_tools(Path(path).expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no file of tools {path}; check the path") from error
    except (BadRow, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} has no tools: {error}; give a JSON list of signatures, or a .py file"
        ) from error


class _Reader:
    """Reads the messages of one row, and finds its pictures on the way."""

    def __init__(self, row: dict[str, Any], folder: Path) -> None:
        self._row, self._folder = row, folder
        self._beside = [self._picture(value) for value in _listed(row, "images", "image")]
        self._inside: list[Picture] = []
        self._waiting: list[tuple[str | None, str]] = []  # id and name of calls whose results follow

    def messages(self) -> list[Message]:
        """In one form, whatever the row's."""
        row = self._row
        if (said := row.get("messages", row.get("conversations"))) is not None:
            if not isinstance(said, list) or not said:
                raise BadRow("its messages are no list, or an empty one")
            return _in_order([self._message(message, number) for number, message in enumerate(said, 1)])
        answer = next((row[key] for key in ("answer", "completion", "response", "output") if key in row), None)
        prompt = next((row[key] for key in ("prompt", "question", "instruction") if key in row), None)
        if not isinstance(prompt, str) or not isinstance(answer, str) or not answer.strip():
            raise BadRow(f"it has neither {_FORMS}; its keys are: {', '.join(map(str, row)) or 'none'}")
        first = [system(_text(row["system"], "system"))] if row.get("system") else []
        asked = {"role": "user", "content": self._blocks(_text(prompt, "prompt"))}
        return [*first, asked, assistant(_text(answer, "answer"))]

    def placed(self, messages: list[Message]) -> list[Picture]:
        """The pictures in the order of their places; those without a place come before the first user's words."""
        if self._beside and self._inside:
            raise BadRow("pictures stand in its messages and in images; name them in one of the two places")
        places = sum(block["type"] == "image" for m in messages for block in m["content"] if isinstance(block, dict))
        pictures = self._beside or self._inside
        if pictures and not places:
            first = next((m for m in messages if m["role"] == "user"), None)
            if first is None:
                raise BadRow("it has pictures and no message of a user's")
            first["content"] = [{"type": "image"}] * len(pictures) + first["content"]
        elif places != len(pictures):
            raise BadRow(f"it has {places} places for pictures and names {len(pictures)}")
        return pictures

    def _message(self, message: Any, number: int) -> Message:
        where = f"message {number}"
        if not isinstance(message, dict):
            raise BadRow(f"{where} is no object")
        said = message.get("role", message.get("from"))
        role = ROLES.get(said) if isinstance(said, str) else None
        if role is None:
            raise BadRow(f"the role of {where} is {said!r:.40}; choose one of: {', '.join(ROLES)}")
        content = message.get("content", message.get("value"))
        if role == "call":
            return self._calling("", _json(content, f"the call of {where}"), where)
        if role == "tool":
            return self._result(message, content, where)
        if role == "assistant":
            words = "".join(block["text"] for block in self._content(content, where, pictures=False))
            calls = message.get("tool_calls") or message.get("function_call") or []
            return self._calling(words, calls, where) if calls else assistant(words)
        if role == "system":
            return system("".join(block["text"] for block in self._content(content, where, pictures=False)))
        return {"role": "user", "content": self._content(content, where, pictures=True)}

    def _calling(self, words: str, calls: Any, where: str) -> Message:
        made = []
        for call in calls if isinstance(calls, list) else [calls]:
            function = call.get("function", call) if isinstance(call, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                raise BadRow(f"a call of {where} has no name")
            name, arguments = function["name"], function.get("arguments", {})
            if isinstance(arguments, str):
                arguments = _json(arguments or "{}", f"the arguments of {name} in {where}")
            if not isinstance(arguments, dict):
                raise BadRow(f"the arguments of {name} in {where} are no object")
            _text(json.dumps(arguments, ensure_ascii=False), f"the arguments of {name} in {where}")
            made.append((name, arguments))
            self._waiting.append((call.get("id"), name))
        return assistant(words, *made)

    def _result(self, message: dict[str, Any], content: Any, where: str) -> Message:
        """What a tool returned, with the name of the call that it answers, by its id, name or turn."""
        given, name = message.get("tool_call_id"), message.get("name")
        if given is not None and any(known is not None for known, _ in self._waiting):
            found = next((w for w in self._waiting if w[0] == given), None)
        elif name is not None:
            found = next((w for w in self._waiting if w[1] == name), None)
        else:
            found = self._waiting[0] if self._waiting else None
        if found is None:
            raise BadRow(f"{where} answers the call {given or name or ''!s:.60}, which was not made before it")
        place = self._waiting.index(found)
        self._waiting[place] = (None, "")  # answered; its place tells the order
        if all(not called for _, called in self._waiting):
            self._waiting.clear()
        if isinstance(content, dict) or (isinstance(content, list) and not _are_blocks(content)):
            content = json.dumps(content, ensure_ascii=False)
        words = "".join(block["text"] for block in self._content(content, where, pictures=False))
        return result(found[1], words) | {"place": place}

    def _content(self, content: Any, where: str, *, pictures: bool) -> list[dict[str, Any]]:
        """Blocks of text, and of pictures where there may be some."""
        if content is None:
            return []
        if isinstance(content, str):
            text = _text(content, where)
            return self._blocks(text) if pictures else [{"type": "text", "text": text}]
        if not isinstance(content, list):
            raise BadRow(f"the content of {where} is neither text nor a list of blocks")
        blocks: list[dict[str, Any]] = []
        for block in content:
            kind = block.get("type") if isinstance(block, dict) else None
            if kind in _TEXTS:
                blocks.append({"type": "text", "text": _text(block.get("text"), where)})
            elif kind in _IMAGES and pictures:
                self._found(block, kind)
                blocks.append({"type": "image"})
            else:
                may = "text and image" if pictures else "text"
                raise BadRow(f"{where} has a block of the type {kind!r:.40}; there may be blocks of {may}")
        return blocks

    def _found(self, block: dict[str, Any], kind: str) -> None:
        value = next((block[key] for key in ("image_url", "image", "path", "url") if block.get(key)), None)
        value = value.get("url") if isinstance(value, dict) else value
        if value is not None:
            self._inside.append(self._picture(value))
        elif kind != "image":
            raise BadRow(f"a block of the type {kind} names no picture")

    def _blocks(self, text: str) -> list[dict[str, Any]]:
        """Text with its placeholders as blocks, where the row names pictures beside it."""
        if not self._beside or PLACEHOLDER not in text:
            return [{"type": "text", "text": text}] if text else []
        blocks: list[dict[str, Any]] = []
        for place, words in enumerate(text.split(PLACEHOLDER)):
            blocks += [{"type": "image"}] if place else []
            blocks += [{"type": "text", "text": words.strip("\n")}] if words.strip() else []
        return blocks

    def _picture(self, value: Any) -> Picture:
        if isinstance(value, dict):
            value = value.get("path") or value.get("url")
        if not isinstance(value, str) or not value:
            raise BadRow("a picture is no path")
        if data := re.match(r"data:[\w/+.-]*;base64,", value):
            try:
                return Picture(base64.b64decode(value[data.end() :], validate=True))
            except binascii.Error as error:
                raise BadRow("a picture's data URL is no base64") from error
        if re.match(r"\w{2,}://", value) and not value.startswith("file://"):
            raise BadRow(
                f"the picture {value:.80} is somewhere else; download it, and give a path relative to the file"
            )
        return Picture(self._folder / value.removeprefix("file://"))


def _listed(row: dict[str, Any], *keys: str) -> list[Any]:
    value: Any = next((row[key] for key in keys if row.get(key)), [])
    return value if isinstance(value, list) else [value]


def _are_blocks(content: list[Any]) -> bool:
    return all(isinstance(block, dict) and block.get("type") in (*_TEXTS, *_IMAGES) for block in content)


def _json(text: Any, what: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{what} is no JSON") from error


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"the text of {where} is a {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(f"the text of {where} has half a character (\\ud800 to \\udfff)") from error
    return value


def _in_order(messages: list[Message]) -> list[Message]:
    """Results in the order of their calls, as an agent gives them."""
    ordered: list[Message] = []
    for message in messages:
        ordered.append(message)
        last = len(ordered) - 1
        while message["role"] == "tool" and last and ordered[last - 1].get("place", -1) > message["place"]:
            ordered[last], last = ordered[last - 1], last - 1
        ordered[last] = message
    return [{key: value for key, value in message.items() if key != "place"} for message in ordered]


def _check_order(messages: list[Message]) -> None:
    """A system message may only stand first, calls must have been answered, and there must be something to learn."""
    if any(message["role"] == "system" for message in messages[1:]):
        raise BadRow("a system message stands after others; only the first message may be one")
    if not any(m["role"] == "assistant" and (m["content"].strip() or m.get("tool_calls")) for m in messages):
        raise BadRow("the assistant says nothing in it, so there is nothing to learn")
    if messages[0]["role"] == "assistant" or (messages[0]["role"] == "system" and messages[1]["role"] != "user"):
        raise BadRow("nobody asks anything before the assistant speaks")
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            open_calls.remove(message["name"])
        elif open_calls:
            raise BadRow(f"the call of {open_calls[0]} is not answered before the next message")
        open_calls += [call["function"]["name"] for call in message.get("tool_calls", ())]


def _check_calls(messages: list[Message], tools: list[Tool]) -> None:
    names = [tool["function"]["name"] for tool in tools]
    for message in messages:
        for call in message.get("tool_calls", ()):
            if (name := call["function"]["name"]) not in names:
                there = f"which is not among its tools ({', '.join(names)})" if names else "and it has no tools"
                raise BadRow(
                    f"{name} is called, {there}; name it in tools, or give a file of tools with the option tools"
                )


def _with_instructions(messages: list[Message]) -> list[Message]:
    """The system message as an agent writes it, with a row's own as the instructions."""
    given = messages[0]["role"] == "system"
    own = messages[0]["content"] if given else ""
    said = own if own.startswith(_prompt("")) else _prompt(own)
    return [system(said), *messages[given:]]


@lru_cache(maxsize=256)
def _prompt(instructions: str) -> str:
    from mmagent.prompts import render

    return render("agent", instructions=instructions)
