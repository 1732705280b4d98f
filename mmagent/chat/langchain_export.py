"""Our models as LangChain chat models, for `create_agent` and LangGraph. It knows messages, and no agent of ours.

Importing this module loads langchain; reach it through `mmagent.chat.as_langchain`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import fields
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel

from mmagent.chat.protocol import (
    ChatModel,
    ModelDone,
    ModelEvent,
    ModelReasoning,
    ModelRequest,
    ModelText,
    ModelToolCall,
    Sampling,
    ToolSpec,
)
from mmagent.content import Block, Image, MediaBlock, Message, Role
from mmagent.errors import ConfigurationError, MediaError, ModelError
from mmagent.media import BlobStore


def as_langchain(model: ChatModel | str | None = None, *, blobs: BlobStore | None = None) -> BaseChatModel:
    """One of our models as a LangChain chat model: sync, async, streaming, tools, structured output and pictures.

    Pictures are standard image blocks with ``base64``, a ``data:`` or ``file:`` address, or a path as ``url``; each is
    checked against the limits of `mmagent.settings` and kept in the blob store. Nothing is fetched from the network.
    Where ``tool_choice`` asks for a call and the model answers in words, that is a `ModelError`.

    Args:
        model: A chat model, or what `load_model` takes: by default the configured model.
        blobs: Where pictures are kept; by default with the user's other data.
    """
    if model is None or isinstance(model, str):
        from mmagent.chat.factory import load_model

        model = load_model(model)
    if blobs is None:
        from mmagent.paths import blobs_dir

        blobs = BlobStore(blobs_dir())
    can = model.capabilities
    return ExportedModel(
        chat=model,
        blobs=blobs,
        model_name=model.name,
        profile={
            "max_input_tokens": can.context_length,
            "image_inputs": can.images,
            "tool_calling": can.tools,
            "structured_output": True,
        },
    )


class ExportedModel(BaseChatModel):
    """What `as_langchain` makes."""

    chat: Any
    """The `ChatModel` behind it."""
    blobs: Any
    """The `BlobStore` that pictures are kept in."""
    model_name: str

    @property
    def _llm_type(self) -> str:
        return "mmagent"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools. ``tool_choice``: "auto", "none", "any", or the name of the one tool to call."""
        specs = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=specs, tool_choice=tool_choice, **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answers that follow ``schema``: a pydantic class gives its instances, anything else gives dicts."""
        if include_raw:
            raise ConfigurationError(
                "include_raw is not supported; bind response_format and parse the message yourself"
            )
        parser: Any
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            parser, json_schema = PydanticOutputParser(pydantic_object=schema), schema.model_json_schema()
        else:
            parser, json_schema = JsonOutputParser(), convert_to_json_schema(schema)
        spec = {"name": "answer", "schema": json_schema}
        answering = self.bind(response_format={"type": "json_schema", "json_schema": spec}) | parser
        return cast("Runnable[LanguageModelInput, dict[str, Any] | BaseModel]", answering)

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        request, forced = await asyncio.to_thread(self._request, messages, stop, kwargs)
        calls = 0
        async with aclosing(cast("AsyncGenerator[ModelEvent, None]", self.chat.stream(request))) as events:
            async for event in events:
                if isinstance(event, ModelDone) and forced and not calls:
                    raise ModelError(f"{self.model_name} was to call a tool and answered in words; ask more plainly")
                yield ChatGenerationChunk(message=_chunk(event, calls, self.model_name))
                calls += isinstance(event, ModelToolCall)

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, **kwargs))

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        return _drain(self._astream(messages, stop, **kwargs))

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, **kwargs))

    def _request(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> tuple[ModelRequest, bool]:
        """What our model is asked, and whether it must call a tool."""
        tools, forced = _choose(kwargs.get("tools") or [], kwargs.get("tool_choice"))
        sampling = {item.name: kwargs[item.name] for item in fields(Sampling) if kwargs.get(item.name) is not None}
        request = ModelRequest(
            messages=tuple(self._message(message) for message in messages),
            blobs=self.blobs,
            tools=tools,
            output=_output(kwargs.get("response_format")),
            require_call=forced,
            sampling=Sampling(**(sampling | {"stop": tuple(stop or ())})),
        )
        return request, forced

    def _message(self, message: BaseMessage) -> Message:
        content = [self._block(block) for block in cast("list[dict[str, Any]]", message.content_blocks) if _told(block)]
        if isinstance(message, ToolMessage):
            call_id, name = message.tool_call_id, message.name
            return Message(role="tool", content=tuple(content), tool_call_id=call_id, name=name)
        if isinstance(message, AIMessage):
            for call in message.tool_calls:
                content.append(
                    {"type": "tool_call", "id": call["id"] or "", "name": call["name"], "args": call["args"]}
                )
        return Message(role=_role(message), content=tuple(content))

    def _block(self, block: dict[str, Any]) -> Block:
        if block["type"] == "text":
            return {"type": "text", "text": block["text"]}
        if block["type"] != "image":
            raise MediaError(f"a message holds a block of type {block['type']!r}; this version takes text and pictures")
        if (file_id := block.get("file_id")) and file_id in self.blobs:
            return cast("MediaBlock", {key: block[key] for key in ("type", "file_id", "mime_type") if key in block})
        return cast("MediaBlock", self.blobs.admit(Image(_source(block))))


def _told(block: dict[str, Any]) -> bool:
    """Calls are read from the message itself; reasoning is the model's own affair."""
    return block["type"] not in ("tool_call", "tool_call_chunk", "invalid_tool_call", "reasoning")


def _role(message: BaseMessage) -> Role:
    kinds: dict[type[BaseMessage], Role] = {SystemMessage: "system", HumanMessage: "user", AIMessage: "assistant"}
    for kind, role in kinds.items():
        if isinstance(message, kind):
            return role
    raise ConfigurationError(
        f"{type(message).__name__} is no message that mmagent knows; use system, human, AI or tool"
    )


def _source(block: dict[str, Any]) -> bytes | Path:
    """The bytes or the path of a standard image block."""
    url = block.get("url") or ""
    encoded = block.get("base64") or (url.partition(",")[2] if url.startswith("data:") else "")
    if encoded:
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise MediaError(f"a picture's base64 is damaged ({error}); encode the file again") from error
    if url.startswith("file:"):
        return Path(url2pathname(urlsplit(url).path))
    if not url or "://" in url:
        what = f"at {url[:80]} would have to be fetched" if url else "has neither base64 nor a path"
        raise MediaError(f"a picture {what}, which mmagent does not do; give its bytes as base64")
    return Path(url)


def _choose(tools: list[dict[str, Any]], choice: Any) -> tuple[tuple[ToolSpec, ...], bool]:
    """The tools to offer, and whether one must be called."""
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
    if chosen := tuple(spec for spec in specs if spec.name == choice):
        return chosen, True
    raise ConfigurationError(f"tool_choice is {choice!r}; there are: {', '.join(spec.name for spec in specs)}")


def _output(response_format: dict[str, Any] | None) -> dict[str, Any] | None:
    if not response_format or response_format.get("type") == "text":
        return None
    return cast("dict[str, Any]", response_format.get("json_schema", {}).get("schema", {"type": "object"}))


def _chunk(event: ModelEvent, index: int, model_name: str) -> AIMessageChunk:
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


def _drain(source: AsyncGenerator[ChatGenerationChunk, None]) -> Iterator[ChatGenerationChunk]:
    """The items of an async generator, which runs on an event loop in a thread of its own; closing this cancels it."""
    items: SimpleQueue[ChatGenerationChunk | None] = SimpleQueue()
    started: Future[Callable[[], object]] = Future()

    async def pump() -> None:
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
        started.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        async with aclosing(source):
            async for item in source:
                items.put(item)

    with ThreadPoolExecutor(max_workers=1) as thread:
        done = thread.submit(asyncio.run, pump())
        done.add_done_callback(lambda _: items.put(None))
        try:
            while (item := items.get()) is not None:
                yield item
            done.result()
        finally:
            with suppress(RuntimeError):  # the loop is closed: there is nothing left to cancel
                started.result()()
