"""What a model is asked: the request of one step. It knows messages and models' capabilities; it runs nothing.

The same conversation always makes the same request, and a longer one begins with it: caches of prefixes live on that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mmagent.agent.tools import AnyTool
from mmagent.chat.protocol import ToolSpec
from mmagent.content import Block, MediaBlock, Message, text


def system_message(prompt: str) -> Message:
    """The message that every request begins with."""
    return Message(role="system", content=(text(prompt),))


def tool_specs(tools: Mapping[str, AnyTool]) -> tuple[ToolSpec, ...]:
    """What the model is told of its tools, in their order."""
    return tuple(ToolSpec(tool.name, tool.description, tool.parameters) for tool in tools.values())


def alternating(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with messages of the user's that follow one another made one.

    They do where a turn failed. The templates of some models refuse a conversation that does not alternate.
    """
    merged: list[Message] = []
    for message in messages:
        if message.role == "user" and merged and merged[-1].role == "user":
            both = (*merged[-1].content, text("\n"), *message.content)
            merged[-1] = merged[-1].model_copy(update={"content": both})
        else:
            merged.append(message)
    return tuple(merged)


def without_oldest_turns(messages: Sequence[Message], count: int) -> tuple[Message, ...]:
    """The conversation without its first ``count`` turns; a turn begins with the user's message."""
    starts = [index for index, message in enumerate(messages) if message.role == "user"]
    return tuple(messages[starts[count] :]) if count else tuple(messages)


def turns(messages: Iterable[Message]) -> int:
    """How many turns a conversation has."""
    return sum(message.role == "user" for message in messages)


def pictures(messages: Iterable[Message]) -> tuple[MediaBlock, ...]:
    """Every picture of a conversation, oldest first; their numbers count from 1 in this order."""
    return tuple(block for message in messages for block in message.media if block["type"] == "image")


def picture_note(number: int, picture: MediaBlock, *, readable: bool) -> str:
    """What stands in the place of a picture that the model cannot see.

    Args:
        number: The picture's number in the conversation.
        picture: Its block.
        readable: Whether the model has `read_text`.
    """
    extras = picture.get("extras", {})
    size = f"{extras.get('width', '?')}x{extras.get('height', '?')}"
    hint = "; read_text can read it" if readable else ""
    return f"[picture {number}: {size}, the model cannot see it{hint}]"


def without_pictures(messages: Sequence[Message], *, readable: bool) -> tuple[Message, ...]:
    """The conversation with a note in the place of each picture."""
    number = 0

    def instead(block: Block) -> Block:
        nonlocal number
        if block["type"] != "image":
            return block
        number += 1
        return text(picture_note(number, block, readable=readable))

    return tuple(
        message.model_copy(update={"content": tuple(map(instead, message.content))}) if message.media else message
        for message in messages
    )
