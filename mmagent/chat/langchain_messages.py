"""What LangChain says and hears, in our terms: messages, offered tools, pieces of answers. It knows both forms; it
asks no model and runs no tool.

Importing this module loads langchain.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk

from mmagent.chat.protocol import ModelEvent, ModelReasoning, ModelText, ModelToolCall, ToolSpec
from mmagent.content import Block, Image, MediaBlock, Message, Role, text
from mmagent.errors import ConfigurationError, MediaError
from mmagent.media import BlobStore

FAILED = "error: "
"""What the text of a tool's result begins with where the call failed."""


def read_messages(messages: Iterable[BaseMessage], blobs: BlobStore) -> tuple[Message, ...]:
    """A LangChain conversation as ours, whichever provider's blocks it holds.

    Messages of one role in a row become one, since most chat templates take turns. Of an answer, only words, pictures
    and calls stay: what else a provider puts there (thoughts, signatures, its own tools) no other model can read.

    Args:
        messages: System, human, AI and tool messages.
        blobs: Where their pictures are put. Nothing is fetched from the network, and only a human message may name a
            file of this machine.

    Raises:
        ConfigurationError: A message is of another kind.
        MediaError: A block cannot be taken, or (`LimitError`) is too large.
    """
    names: dict[str, str] = {}
    read: list[Message] = []
    for given in messages:
        message = _message(given, names, blobs)
        names |= {call["id"]: call["name"] for call in message.tool_calls}
        if read and _continues(read[-1], message):
            between = (text("\n"),) if read[-1].content and message.content else ()
            read[-1] = read[-1].model_copy(update={"content": (*read[-1].content, *between, *message.content)})
        else:
            read.append(message)
    return tuple(read)


def read_tools(tools: list[dict[str, Any]], choice: Any) -> tuple[tuple[ToolSpec, ...], bool | str]:
    """The tools to offer, and whether one must be called, or which.

    Args:
        tools: In OpenAI's form.
        choice: As ``bind_tools`` takes it.

    Raises:
        ConfigurationError: A tool is no function, or there is none of the name that must be called.
    """
    if provided := next((tool for tool in tools if "function" not in tool), None):
        raise ConfigurationError(
            f"a tool of type {provided.get('type')!r} runs at its provider; mmagent takes functions and their schemas"
        )
    functions = [tool["function"] for tool in tools]
    specs = tuple(
        ToolSpec(item["name"], item.get("description", ""), item.get("parameters") or {"type": "object"})
        for item in functions
    )
    if isinstance(choice, dict):
        choice = choice.get("function", choice).get("name", "any")
    if choice in (None, False, "auto"):
        return specs, False
    if choice == "none":
        return (), False
    if choice in (True, "any", "required"):
        return specs, True
    if any(spec.name == choice for spec in specs):
        return specs, str(choice)
    raise ConfigurationError(f"tool_choice is {choice!r}; there are: {', '.join(spec.name for spec in specs)}")


def read_output(response_format: dict[str, Any] | None) -> dict[str, Any] | None:
    """The JSON Schema of a response format in OpenAI's form."""
    if not response_format or response_format.get("type") == "text":
        return None
    return cast("dict[str, Any]", response_format.get("json_schema", {}).get("schema", {"type": "object"}))


def write_chunk(event: ModelEvent, index: int, model_name: str) -> AIMessageChunk:
    """An event of our model as a piece of LangChain's message.

    Args:
        event: The event.
        index: How many calls came before it.
        model_name: The model's.
    """
    if isinstance(event, ModelText):
        return AIMessageChunk(content=event.text)
    if isinstance(event, ModelToolCall):
        call, args = event.call, json.dumps(event.call["args"], ensure_ascii=False)
        piece = tool_call_chunk(name=call["name"], args=args, id=call["id"], index=index)
        return AIMessageChunk(content="", tool_call_chunks=[piece])
    if isinstance(event, ModelReasoning):
        return AIMessageChunk(content="", additional_kwargs={"reasoning_content": event.text})
    used = event.usage
    return AIMessageChunk(
        content="",
        usage_metadata=UsageMetadata(
            input_tokens=used.prompt_tokens,
            output_tokens=used.completion_tokens,
            total_tokens=used.prompt_tokens + used.completion_tokens,
            input_token_details={"cache_read": used.cached_tokens},
        ),
        response_metadata={"finish_reason": "stop" if event.stop == "end" else event.stop, "model_name": model_name},
        chunk_position="last",
    )


def source(block: dict[str, Any], *, paths: bool) -> bytes | Path:
    """The bytes or the path of a standard image block.

    Args:
        block: The block.
        paths: Whether it may name a file of this machine. What a tool or a model says may not: it could name any.

    Raises:
        MediaError: It has neither, its base64 is damaged, or it names a file and may not.
    """
    url = str(block.get("url") or "")
    encoded = block.get("base64") or (url.partition(",")[2] if url.startswith("data:") else "")
    if encoded:
        try:
            return base64.b64decode(encoded, validate=True)
        except (TypeError, ValueError) as error:  # ValueError: also of letters that are not ASCII
            raise MediaError(f"a picture's base64 is damaged ({error}); encode the file again") from error
    local = url.startswith("file:") or "://" not in url
    if url and local and paths:
        try:
            return Path(url2pathname(urlsplit(url).path) if url.startswith("file:") else url)
        except ValueError as error:
            raise MediaError(f"a picture's address is damaged ({error}); give its path") from error
    what = (
        f"at {url[:80]} would have to be {'read' if local else 'fetched'}" if url else "has neither base64 nor a path"
    )
    raise MediaError(f"a picture {what}, which mmagent does not do; give its bytes as base64")


def _message(message: BaseMessage, names: dict[str, str], blobs: BlobStore) -> Message:
    role = _role(message)
    blocks = cast("list[dict[str, Any]]", message.content_blocks)
    if isinstance(message, ToolMessage):
        content = [_block(block, blobs) for block in blocks]
        if message.status == "error" and not message.text.startswith(FAILED):
            content.insert(0, text(FAILED))
        call_id = message.tool_call_id
        return Message(role=role, content=tuple(content), tool_call_id=call_id, name=message.name or names.get(call_id))
    if not isinstance(message, AIMessage):
        own = isinstance(message, HumanMessage)
        return Message(role=role, content=tuple(_block(block, blobs, paths=own) for block in blocks))
    said = [_block(block, blobs) for block in blocks if block["type"] in ("text", "image")]
    calls: Iterator[Block] = (
        {"type": "tool_call", "id": call["id"] or "", "name": call["name"], "args": call["args"]}
        for call in message.tool_calls
    )
    return Message(role=role, content=(*said, *calls))


def _block(block: dict[str, Any], blobs: BlobStore, *, paths: bool = False) -> Block:
    if block["type"] == "text":
        return text(block["text"])
    if block["type"] != "image":
        raise MediaError(f"a message holds a block of type {block['type']!r}; this version takes text and pictures")
    if (file_id := block.get("file_id")) and file_id in blobs:
        return cast("MediaBlock", {key: block[key] for key in ("type", "file_id", "mime_type") if key in block})
    return blobs.admit(Image(source(block, paths=paths)))


def _role(message: BaseMessage) -> Role:
    kinds: Sequence[tuple[type[BaseMessage], Role]] = (
        (SystemMessage, "system"),
        (HumanMessage, "user"),
        (AIMessage, "assistant"),
        (ToolMessage, "tool"),
    )
    for kind, role in kinds:
        if isinstance(message, kind):
            return role
    raise ConfigurationError(
        f"{type(message).__name__} is no message that mmagent knows; use system, human, AI or tool"
    )


def _continues(last: Message, message: Message) -> bool:
    """Whether a message goes on where the last one ended. Results of tools stay apart, and so do calls."""
    return message.role == last.role != "tool" and not last.tool_calls
