"""From what a user gives to the message that enters history, or an error and no trace. It knows media, and no model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from mmagent.content import Block, Media, Message, text
from mmagent.errors import InputError, LimitError
from mmagent.media import BlobStore
from mmagent.settings import Settings, settings

Content: TypeAlias = str | Media
"""What a question is made of: text, `Image`, `Audio`, `Video`, `Document`."""


def admit(content: Sequence[Content], blobs: BlobStore) -> Message:
    """The user's message, its media checked and stored. Decodes pictures, so call it in a thread.

    Raises:
        InputError: There is nothing in it, or something that is no content.
        MediaError: A file was refused.
        LimitError: It is too much.
        NotFound: A file is not there.
    """
    for item in content:
        if not isinstance(item, str | Media):
            kind = type(item).__name__
            raise InputError(f"a question is made of text and media, not {kind}; wrap a file: Image(path)")
    if all(isinstance(item, str) and not item.strip() for item in content):
        raise InputError("the question is empty; type a question or attach a picture")
    limits = settings()
    if (count := sum(isinstance(item, Media) for item in content)) > limits.max_images_per_turn:
        raise _over(f"{count} pictures", limits.max_images_per_turn, "max_images_per_turn")
    blocks: list[Block] = []
    size = 0
    for item in content:
        if isinstance(item, str):
            blocks += [text(item)] if item else []
            size += _bytes(item)
        else:
            blocks.append(block := blobs.admit(item, limits))
            size += blobs.path(block["file_id"]).stat().st_size
        if size > limits.max_request_bytes:
            raise _over(f"more than {size:,} bytes", limits.max_request_bytes, "max_request_bytes")
    others = any(block["type"] != "text" for block in blocks)  # what stands in a picture may be anybody's words
    return Message(role="user", content=tuple(blocks), labels=("untrusted",) if others else ())


async def admitted(content: Sequence[Content] | Message, blobs: BlobStore) -> Message:
    """`admit`, in a thread where there is something to read; a message has been admitted."""
    if isinstance(content, Message):
        return content
    if all(isinstance(item, str) for item in content):
        return admit(content, blobs)
    return await asyncio.to_thread(admit, content, blobs)


def _bytes(value: str) -> int:
    try:
        return len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InputError("the question has characters that are no text; give it in UTF-8") from error


def _over(found: str, limit: int, field: str) -> LimitError:
    setting = Settings.variable(field)
    return LimitError(f"the question has {found}, the limit is {limit:,}; send less or raise {setting}")
