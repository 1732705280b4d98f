"""From a journal's entries to the conversation. Pure: it knows no disk and no clock, and changes nothing stored.

Whatever was lost or interleaved, every tool call in the result has exactly one outcome, right after the message that
made it and in the order of the calls, so that any model accepts the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pydantic import ValidationError

from mmagent.content import Message, ToolCallBlock, text
from mmagent.errors import StoreError
from mmagent.session.journal import Entry

MESSAGE = "message"
"""A `Message`, as ``{"message": …, "interrupted": …}``; an interrupted one is the part that there was."""
TOOL_INTENT = "tool_intent"
"""A tool is about to run: ``{"id": …, "name": …, "effect": …, "args": …}``. Its outcome is a ``tool`` message."""


@dataclass
class _Said:
    """A message of the user or the model, and what became of the calls in it."""

    message: Message
    effects: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Message] = field(default_factory=dict)

    def unfold(self) -> Iterator[Message]:
        yield self.message
        for call in self.message.tool_calls:
            yield self.outcomes.get(call["id"]) or _lost(call, self.effects.get(call["id"], "read"))


def replay(entries: Iterable[Entry]) -> tuple[Message, ...]:
    """The messages of a session, in order, repaired.

    Raises:
        StoreError: An entry cannot be understood.
    """
    said: list[_Said] = []
    asked: dict[str, _Said] = {}
    for entry in entries:
        if entry.kind == TOOL_INTENT and entry.data.get("id") in asked:
            asked[entry.data["id"]].effects[entry.data["id"]] = entry.data.get("effect", "unsafe")
        elif entry.kind == MESSAGE:
            message = _message(entry)
            if message.role != "tool":
                said.append(_Said(message))
                asked |= {call["id"]: said[-1] for call in message.tool_calls}
            elif message.tool_call_id in asked:
                asked[message.tool_call_id].outcomes.setdefault(message.tool_call_id, message)
    return tuple(message for one in said for message in one.unfold())


def _message(entry: Entry) -> Message:
    try:
        return Message.model_validate(entry.data["message"])
    except (KeyError, ValidationError) as error:
        raise StoreError(
            f"entry {entry.seq} of the session is no message that this mmagent knows; upgrade it or take a new session"
        ) from error


def _lost(call: ToolCallBlock, effect: str) -> Message:
    note = "error: interrupted"
    if effect == "unsafe":
        note += f"; it is unknown whether {call['name']} took effect"
    return Message(role="tool", content=(text(note),), tool_call_id=call["id"], name=call["name"])
