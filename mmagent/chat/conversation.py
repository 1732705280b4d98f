"""From a request to a conversation that a model's chat template can render. It knows messages and profiles, no tokens.

Where the template knows no tools, they are described in the system message (``prompts/tools.md``), calls stand in the
assistant's text as the model writes them, and results come back in the user's place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmagent.chat.protocol import ModelRequest, ToolSpec
from mmagent.content import Block, Message, ToolCallBlock, text
from mmagent.engine.grammar.formats import ToolFormat
from mmagent.engine.prompt import Picture, Prompt
from mmagent.errors import ContextOverflow, ModelError
from mmagent.settings import Settings, settings

if TYPE_CHECKING:
    from mmagent.chat.profiles import Profile
    from mmagent.engine.load import Loaded


@dataclass(frozen=True)
class Conversation:
    """What `build_prompt` takes."""

    messages: list[dict[str, Any]]
    """In transformers' form."""
    tools: list[dict[str, Any]]
    """Functions in transformers' form."""
    pictures: list[Picture]
    """Those of the messages, in order."""


def conversation(request: ModelRequest, profile: Profile, name: str, *, sees: bool) -> Conversation:
    """A request in the form that a model's template takes.

    Args:
        request: What is asked.
        profile: The model's.
        name: The model's, for error messages.
        sees: Whether it takes pictures.

    Raises:
        ModelError: It does not take a kind of media, or (`ContextOverflow`) so many pictures in one message.
    """
    pictures = _pictures(request, name, sees)
    images = iter(pictures)
    messages: Iterable[Message] = request.messages
    if not profile.takes_tools:
        messages = _in_words(request.messages, request.tools, profile.format)
    elif profile.one_call:
        messages = _one_call_each(request.messages)
    tools = [_function(tool) for tool in request.tools] if profile.takes_tools else []
    return Conversation([_message(message, images, sees) for message in messages], tools, pictures)


def check_length(loaded: Loaded, prompt: Prompt, messages: Sequence[Message]) -> None:
    """Refuse a prompt that leaves no room for an answer, and say what takes the room.

    Raises:
        ContextOverflow: It has as many tokens as the model's context, or more.
    """
    if len(prompt.ids) < loaded.context_length:
        return
    placeholder = getattr(loaded.model.config, "image_token_id", -1)
    last = _text_tokens(loaded, messages[-1:])
    history = _text_tokens(loaded, [message for message in messages[:-1] if message.role != "system"])
    pictures = prompt.ids.count(placeholder)
    parts = {
        "instructions and tools": (len(prompt.ids) - last - history - pictures, "shorten them or give fewer tools"),
        "earlier messages": (history, "start a new conversation"),
        "the last message": (last, "shorten it"),
        "pictures": (pictures, "send fewer"),
    }
    listed = ", ".join(f"{name} {count}" for name, (count, _) in parts.items())
    most = max(parts, key=lambda name: parts[name][0])
    raise ContextOverflow(
        f"the prompt has {len(prompt.ids)} tokens and {loaded.name} takes {loaded.context_length}; most of them are "
        f"{most} ({listed}): {parts[most][1]}, or use a model with a longer context"
    )


def _text_tokens(loaded: Loaded, messages: Iterable[Message]) -> int:
    words = "".join(message.text + "".join(_json(call["args"]) for call in message.tool_calls) for message in messages)
    return len(loaded.tokenizer.encode(words, add_special_tokens=False, split_special_tokens=True))


def _pictures(request: ModelRequest, name: str, sees: bool) -> list[Picture]:
    blocks = [block for message in request.messages for block in message.media]
    if refused := next((block["type"] for block in blocks if block["type"] != "image" or not sees), None):
        raise ModelError(f"{name} takes no {refused}; put text in its place, or use a model that does")
    limit = settings().max_images_per_turn
    count = sum(len(message.media) for message in request.messages[-1:])
    if count > limit:  # an overflow, so that an agent leaves out turns that failed and were put together with this one
        setting = Settings.variable("max_images_per_turn")
        raise ContextOverflow(
            f"the last message has {count} pictures, the limit is {limit}; send fewer or raise {setting}"
        )
    return [Picture(block["file_id"], request.blobs.open_image(block["file_id"])) for block in blocks]


def _in_words(messages: Sequence[Message], tools: Sequence[ToolSpec], format: ToolFormat) -> Iterator[Message]:
    """The conversation without roles and calls of tools; what comes from the user's side in a row is one message."""
    place: list[Block] = []
    for message in _described(messages, tools, format):
        if message.role in ("user", "tool"):
            place += [*([text("\n")] if place else []), *_from_user(message)]
            continue
        if place:
            yield Message(role="user", content=tuple(place))
            place = []
        yield _said(message, format) if message.tool_calls else message
    if place:
        yield Message(role="user", content=tuple(place))


def _described(messages: Sequence[Message], tools: Sequence[ToolSpec], format: ToolFormat) -> Sequence[Message]:
    """The conversation with the tools in its system message."""
    if not tools:
        return messages
    from mmagent.prompts import render

    call = f"{format.open}{format.head('<name>')}<arguments>}}{format.close}"
    words = render("tools", tools=[json.dumps(_function(tool)) for tool in tools], call=call)
    if messages and messages[0].role == "system":
        first, *rest = messages
        return (first.model_copy(update={"content": (*first.content, text("\n\n" + words))}), *rest)
    return (Message(role="system", content=(text(words),)), *messages)


def _from_user(message: Message) -> Sequence[Block]:
    if message.role == "user":
        return message.content
    return (text("<tool_response>\n"), *message.content, text("\n</tool_response>"))


def _said(message: Message, format: ToolFormat) -> Message:
    """The assistant's message with its calls as the model writes them."""
    calls = (
        f"{format.head(call['name'])}{_json(call['args'], format.comma, format.colon)}}}" for call in message.tool_calls
    )
    if format.listed:
        written = format.open + format.comma.join(calls) + format.close
    else:
        written = format.between.join(format.open + call + format.close for call in calls)
    between = [text("\n")] if message.text else []
    return message.model_copy(
        update={"content": (*(block for block in message.content if block["type"] == "text"), *between, text(written))}
    )


def _json(value: Any, comma: str = ", ", colon: str = ": ") -> str:
    return json.dumps(value, ensure_ascii=False, separators=(comma, colon))


def _one_call_each(messages: Iterable[Message]) -> Iterator[Message]:
    """The conversation with each call right before its result, in a message of its own."""
    waiting: dict[str, ToolCallBlock] = {}
    for message in messages:
        if message.role == "tool" and (call := waiting.pop(message.tool_call_id or "", None)):
            yield Message(role="assistant", content=(call,))
        if len(message.tool_calls) < 2:
            yield message
            continue
        waiting = {call["id"]: call for call in message.tool_calls}
        first = message.tool_calls[0]
        del waiting[first["id"]]
        yield message.model_copy(update={"content": (*_without_calls(message), first)})


def _without_calls(message: Message) -> Iterator[Block]:
    return (block for block in message.content if block["type"] != "tool_call")


def _message(message: Message, pictures: Iterator[Picture], as_blocks: bool) -> dict[str, Any]:
    """A message in transformers' form. Thoughts are not given back to the model that had them."""
    blocks: list[dict[str, Any]] = []
    for block in message.content:
        if block["type"] == "text" and blocks and blocks[-1]["type"] == "text":
            blocks[-1]["text"] += block["text"]  # some templates put white space between blocks
        elif block["type"] == "text":
            blocks.append({"type": "text", "text": block["text"]})
        elif block["type"] == "image":
            blocks.append({"type": "image", "image": next(pictures).image})
    result: dict[str, Any] = {"role": message.role, "content": blocks if as_blocks else message.text}
    if message.role == "tool":
        result |= {"name": message.name, "tool_call_id": message.tool_call_id}
    if message.tool_calls:
        result["tool_calls"] = [
            {"type": "function", "id": call["id"], "function": {"name": call["name"], "arguments": call["args"]}}
            for call in message.tool_calls
        ]
    return result


def _function(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
