"""A conversation as one model is shown it, kept up message by message. It knows sessions' states, and counts nothing.

It is a function of the session's journal, so another process shows the same; and while no picture is reduced and no
turn compacted, it only grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mmagent.agent.context.prompt import (
    begins_turn,
    caption,
    document,
    extend,
    file_note,
    is_text_file,
    picture_note,
    reference,
    replace_media,
    spoken,
)
from mmagent.agent.hearing import SAID
from mmagent.chat.protocol import Capabilities
from mmagent.content import Block, MediaBlock, Message, text
from mmagent.errors import MMAgentError
from mmagent.events import Event, MediaSubstituted
from mmagent.media import BlobStore
from mmagent.session.replay import PictureState, State
from mmagent.settings import settings

NOTE_CHARS = 400
"""Characters of a recording's words in a conversation that is told in short."""
_WHOLE = PictureState()


class Shown:
    """What a model is shown of a conversation.

    Args:
        capabilities: The model's.
        blobs: Where media are.
        readable: Whether the model has `read_text`.
    """

    def __init__(self, capabilities: Capabilities, blobs: BlobStore, *, readable: bool) -> None:
        self.capabilities, self.blobs, self.readable = capabilities, blobs, readable
        self.messages: list[Message] = []
        self.state = State()
        self.recall = capabilities.images and capabilities.tools
        """Whether the model can have pictures shown again."""
        self._version: int | None = None
        self._taken = 0
        self._numbers: dict[int, int] = {}
        self._numbered = 0
        self._documents: dict[str, str] = {}
        self._told: dict[int, MediaBlock] = {}

    async def catch_up(self, state: State, emit: Callable[[Event], None]) -> tuple[Sequence[Message], bool]:
        """Take in what is new in a state.

        Args:
            state: The session's.
            emit: Is told what the model cannot take, once for each.

        Returns:
            What was added, and whether it is all that there is, since the conversation did not just grow.
        """
        anew = state is not self.state or state.version != self._version
        if anew:
            self.state, self._version, self._taken, self.messages = state, state.version, 0, []
            self._numbers, self._numbered = {}, 0
        for number, block in enumerate(state.media[self._numbered :], start=self._numbered + 1):
            self._numbers[id(block)] = number
        self._numbered = len(state.media)
        new = state.messages[self._taken :]
        self._taken = len(state.messages)
        if any(message.media for message in new):
            await self._read(block for message in new for block in message.media if is_text_file(block))
            self._tell(new, emit)
        before = len(self.messages)
        added = [replace_media(message, self._instead) for message in new]
        for message in added:
            extend(self.messages, message)
        return (self.messages if anew else added), anew or before == 0

    def present(self, messages: Sequence[Message]) -> list[Message]:
        """Messages as the model would be shown them alone."""
        shown: list[Message] = []
        for message in messages:
            extend(shown, replace_media(message, self._instead))
        return shown

    def number(self, block: MediaBlock) -> int:
        """A picture's number in the conversation."""
        return self._numbers.get(id(block)) or int(block.get("extras", {}).get("number", 0))

    def numbered(self, block: MediaBlock) -> MediaBlock:
        """A picture's block that knows its number, for a place where the conversation does not tell it."""
        return {**block, "extras": {**block.get("extras", {}), "number": self.number(block)}}

    def pictures(self, *, current: bool) -> Iterator[tuple[int, MediaBlock, PictureState]]:
        """The pictures of the current turn, or those before it: number, block and what the model is shown of it."""
        messages = self.state.messages
        begin = self._begin()
        for message in messages[begin:] if current else messages[:begin]:
            for block in message.media:
                if block["type"] == "image":
                    yield self.number(block), block, self.level(block)

    def level(self, block: MediaBlock) -> PictureState:
        """How much of a picture the model is shown. A file that was shown twice is reduced in each place by itself."""
        pictures = self.state.pictures
        here = pictures.get(place(block, self.number(block)), _WHOLE)
        everywhere = pictures.get(block["file_id"], _WHOLE)
        return replace(here, pinned=True) if everywhere.pinned else here

    def note(self, block: MediaBlock) -> str:
        """What is said of a file in a conversation that is told in short."""
        if block["type"] != "image":
            return self._spoken(block, NOTE_CHARS) or file_note(block)
        number, state = self.number(block), self.level(block)
        if not self.capabilities.images:
            return picture_note(number, block, readable=self.readable)
        return state.note if state.level == "caption" else self.reference(block)

    def caption(self, block: MediaBlock, written: str) -> str:
        """`budget.caption` of a picture of the conversation."""
        return caption(self.number(block), block, written, recall=self.recall)

    def reference(self, block: MediaBlock) -> str:
        """`budget.reference` of a picture of the conversation."""
        return reference(self.number(block), block, recall=self.recall)

    def _begin(self) -> int:
        """Where the current turn begins."""
        messages = self.state.messages
        return next((index for index in reversed(range(len(messages))) if begins_turn(messages[index])), 0)

    def _instead(self, block: MediaBlock) -> Block:
        can = self.capabilities
        if block["type"] == "image":
            if not can.images:
                return text(self.note(block))
            state = self.level(block)
            if state.level == "full":
                return block
            return smaller_block(block, state.note) if state.level == "smaller" else text(state.note)
        if (block["type"] == "audio" and can.audio) or (block["type"] == "video" and can.video):
            return block
        if said := self._spoken(block, self._document_chars()):
            return text(said)
        if (words := self._documents.get(block["file_id"])) is not None:
            return text(document(block, words, self._document_chars()))
        return text(file_note(block))

    def _spoken(self, block: MediaBlock, chars: int) -> str:
        """A recording that was written down; empty for anything else."""
        said = block.get("extras", {}).get(SAID) if block["type"] == "audio" else None
        return "" if said is None else spoken(block, said, chars)

    def _document_chars(self) -> int:
        """Characters of a document that are shown: about a quarter of the context."""
        return min(settings().max_tool_output_chars, self.capabilities.context_length)

    async def _read(self, blocks: Iterator[MediaBlock]) -> None:
        for block in blocks:
            if block["file_id"] not in self._documents:
                try:
                    data = await asyncio.to_thread(self.blobs.get, block["file_id"])
                    self._documents[block["file_id"]] = data.decode("utf-8-sig", "replace")
                except MMAgentError:  # it is gone, so all that can be shown is that it was there
                    continue

    def _tell(self, new: Sequence[Message], emit: Callable[[Event], None]) -> None:
        """Say what of the current turn the model is shown something else for."""
        begin = max(self._begin() - (len(self.state.messages) - len(new)), 0)
        for block in (block for message in new[begin:] for block in message.media):
            instead = self._instead(block)
            taken = instead["type"] == block["type"] or (block["type"] == "image" and self.capabilities.images)
            if not taken and instead["type"] == "text" and id(block) not in self._told:
                self._told[id(block)] = block
                emit(MediaSubstituted(file_id=block["file_id"], instead=instead["text"]))


def place(block: MediaBlock, number: int) -> str:
    """What the journal calls one showing of a picture, whose file may be shown again later."""
    return f"{block['file_id']}#{number}"


def smaller_block(block: MediaBlock, file_id: str) -> MediaBlock:
    """The block of a picture with half the side, whose file is ``file_id``."""
    extras = block.get("extras", {})
    half: dict[str, Any] = {key: max(1, round(extras[key] / 2)) for key in ("width", "height") if key in extras}
    mime_type = "image/jpeg" if block.get("mime_type") == "image/jpeg" else "image/png"
    return {"type": "image", "file_id": file_id, "mime_type": mime_type, "extras": {**extras, **half}}
