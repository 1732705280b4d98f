"""The door to LangChain for tools: theirs in (`as_tool`), ours out, and one `as_langchain` for all that goes out. It
knows both kinds of tools and what a call comes to; it knows no loop and no journal.

Importing this module loads langchain; reach it through `mmagent.as_langchain`, or give an agent a LangChain tool.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast, overload
from uuid import uuid4

from langchain.tools import ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, ToolException
from langchain_core.tools import Tool as OneArgumentTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.v1 import ValidationError as ValidationErrorV1
from pydantic_core import to_jsonable_python

from mmagent.agent.tools import AnyTool, Options, Tool
from mmagent.agent.tools.calls import perform
from mmagent.agent.tools.context import ToolContext, ToolResult
from mmagent.agent.tools.results import Outcome
from mmagent.agent.tools.schema import first_error
from mmagent.chat import langchain_export
from mmagent.chat.langchain import wire_block
from mmagent.chat.langchain_messages import read_messages, source
from mmagent.content import QUOTED_KEY, Image, Media, Message
from mmagent.errors import ConfigurationError, MediaError, ToolError
from mmagent.knowledge import Knowledge, Scoped
from mmagent.media import BlobStore
from mmagent.settings import settings

if TYPE_CHECKING:
    from langchain_core.retrievers import BaseRetriever

    from mmagent.chat.langchain_export import ChatMMAgent
    from mmagent.chat.protocol import ChatModel

T = TypeVar("T")


@overload
def as_langchain(
    thing: ChatModel | str | None = None, *, blobs: BlobStore | None = None, context: None = None
) -> ChatMMAgent: ...
@overload
def as_langchain(
    thing: AnyTool, *, blobs: BlobStore | None = None, context: ToolContext[Any] | None = None
) -> StructuredTool: ...
@overload
def as_langchain(
    thing: Knowledge | Scoped, *, blobs: BlobStore | None = None, context: None = None
) -> BaseRetriever: ...
def as_langchain(thing: Any = None, *, blobs: BlobStore | None = None, context: ToolContext[Any] | None = None) -> Any:
    """A model, a tool or a knowledge store of ours for LangChain and LangGraph, e.g. for ``create_agent``.

    A tool becomes a ``StructuredTool``: pictures are content blocks with base64, what is for programs
    (`ToolResult.data`) is the message's artifact, and a failure is told to the model. Where a LangGraph graph calls it,
    it sees the conversation's pictures. Effects, policies and approvals belong to `Agent`; a graph knows none of them.

    Args:
        thing: A chat model or what `load_model` takes (a LangChain chat model comes out), a `Tool` (a LangChain tool),
            or a `Knowledge` or `Scoped` (a retriever; `mmagent.knowledge.langchain` has a vector store too). None: the
            configured model.
        blobs: Where pictures are kept; by default with the user's other data.
        context: For a tool: what it is given besides the conversation, e.g. ``ToolContext(knowledge=..., deps=...)``.

    Raises:
        ConfigurationError: It is something else.
    """
    if isinstance(thing, Knowledge | Scoped):
        from mmagent.knowledge.langchain import KnowledgeRetriever

        return KnowledgeRetriever(knowledge=thing)
    if isinstance(thing, Tool):
        from mmagent.paths import blobs_dir

        context = context or ToolContext()
        return _Exported(thing, replace(context, blobs=blobs or context.blobs or BlobStore(blobs_dir()))).tool()
    return langchain_export.as_langchain(thing, blobs=blobs)


def as_tool(base: BaseTool, **options: Unpack[Options]) -> AnyTool:
    """A LangChain tool as ours, sync or async. Agents do this to those among their tools.

    Its pictures (base64 or ``data:``) are shown to the model, an address stays words, its artifact is
    `ToolResult.data`. A parameter that LangChain injects is hidden from the model; only the call's id can be given.
    ``return_direct`` has no meaning here: the model always sees the result.

    Args:
        base: The tool.
        options: What LangChain does not know of a tool, above all its ``effect``; as `tool` takes them.

    Raises:
        ConfigurationError: The tool wants a LangGraph graph's state, or its arguments have no JSON Schema.
    """
    try:
        function = convert_to_openai_tool(base)["function"]
    except PydanticInvalidForJsonSchema as error:
        raise ConfigurationError(
            f"the arguments of the tool {base.name} cannot be told to a model: {str(error).splitlines()[0]}"
        ) from error
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    _refuse_state(base, parameters.get("properties", {}))

    def call(context: ToolContext[Any], /, **arguments: Any) -> Any:
        with _telling(base):
            return _returned(base, base.invoke(_call(base, arguments, context)))

    async def acall(context: ToolContext[Any], /, **arguments: Any) -> Any:
        with _telling(base):
            return _returned(base, await base.ainvoke(_call(base, arguments, context)))

    chosen: Callable[..., Any] = acall if _is_async(base) else call
    return Tool.from_schema(base.name, base.description, parameters, chosen, **options)


def _is_async(base: BaseTool) -> bool:
    """Whether it has a coroutine of its own; LangChain would run any other in a thread that a program waits for."""
    if isinstance(base, StructuredTool | OneArgumentTool):
        return base.coroutine is not None
    return type(base)._arun is not BaseTool._arun


def _refuse_state(base: BaseTool, shown: dict[str, Any]) -> None:
    """Refuse a tool with a required parameter that only a graph can fill in."""
    schema = base.args_schema
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return
    for name, info in schema.model_fields.items():
        injected = any(item is InjectedToolCallId or isinstance(item, InjectedToolCallId) for item in info.metadata)
        if info.is_required() and name not in shown and info.alias not in shown and not injected:
            raise ConfigurationError(
                f"the parameter {name} of the tool {base.name} is filled in by a LangGraph graph, and there is none; "
                "write the tool with @tool and a ToolContext, or give the parameter a default"
            )


def _call(base: BaseTool, arguments: dict[str, Any], context: ToolContext[Any]) -> Any:
    call_id = context.call_id or f"call_{uuid4().hex[:12]}"
    return {"type": "tool_call", "name": base.name, "args": arguments, "id": call_id}


@contextmanager
def _telling(base: BaseTool) -> Iterator[None]:
    """What LangChain raises for the model to read becomes a `ToolError`."""
    try:
        yield
    except ToolException as error:
        raise ToolError(str(error)) from error
    except ValidationError as error:
        raise ToolError(f"{base.name} got wrong arguments: {first_error(error)}") from error
    except ValidationErrorV1 as error:
        raise ToolError(f"{base.name} got wrong arguments: {' '.join(str(error).split())}") from error


def _returned(base: BaseTool, message: Any) -> ToolResult:
    if not isinstance(message, ToolMessage):
        raise ToolError(f"{base.name} returned a {type(message).__name__}, which only a LangGraph graph can follow")
    if message.status == "error":
        raise ToolError(message.text)
    artifact = message.artifact
    files = artifact if isinstance(artifact, list | tuple) else [artifact]
    if artifact is not None and files and all(isinstance(item, bytes | Media) for item in files):
        return ToolResult(_parts(message), artifacts=files)
    return ToolResult(_parts(message), data=to_jsonable_python(artifact, fallback=str, bytes_mode="base64"))


def _parts(message: ToolMessage) -> Any:
    """What to show of a message: its text, or its blocks one by one."""
    if isinstance(message.content, str):
        return message.content
    return [_part(block) for block in cast("list[dict[str, Any]]", message.content_blocks)]


def _part(block: dict[str, Any]) -> Any:
    if block["type"] == "text":
        return block["text"]
    if block["type"] != "image":
        return block.get("value", block)
    url = str(block.get("url") or "")
    if url and not url.startswith("data:"):  # a path too: the tool's words may come from anybody
        return f"[a picture at {url}, which is not fetched]"
    try:
        return Image(source(block, paths=False))
    except MediaError as error:
        raise ToolError(str(error)) from error


class _Exported:
    """A tool of ours behind LangChain's call.

    Args:
        tool: The tool.
        context: What it is given besides the conversation; its blob store keeps what it returns.
    """

    def __init__(self, tool: AnyTool, context: ToolContext[Any]) -> None:
        self._tool, self._context = tool, context
        self._reads = bool(tool.context_parameter) or QUOTED_KEY in json.dumps(tool.parameters)

    def tool(self) -> StructuredTool:
        """What LangChain takes. A graph fills in what is annotated with ``ToolRuntime``, if with nothing else."""

        def run(mmagent_runtime: ToolRuntime = None, **arguments: Any) -> Any:  # type: ignore[assignment]
            return _finished(self._run(mmagent_runtime, arguments))

        async def arun(mmagent_runtime: ToolRuntime = None, **arguments: Any) -> Any:  # type: ignore[assignment]
            return await self._run(mmagent_runtime, arguments)

        return StructuredTool(
            name=self._tool.name,
            description=self._tool.description,
            args_schema=self._tool.parameters,
            func=run,
            coroutine=arun,
            response_format="content_and_artifact",
            handle_tool_error=True,
            metadata={"effect": self._tool.effect},
        )

    async def _run(self, runtime: ToolRuntime | None, arguments: dict[str, Any]) -> tuple[Any, Any]:
        """Content and artifact."""
        tool, blobs = self._tool, cast("BlobStore", self._context.blobs)
        if runtime is not None and not isinstance(runtime, ToolRuntime):  # a model's argument of that name
            raise ToolException(f"{tool.name} got wrong arguments: mmagent_runtime: Extra inputs are not permitted")
        messages = await asyncio.to_thread(self._messages, runtime)
        try:
            checked = tool.validate(arguments, messages)
        except ValidationError as error:
            raise ToolException(f"{tool.name} got wrong arguments: {first_error(error)}") from error
        call_id = (runtime and runtime.tool_call_id) or f"call_{uuid4().hex[:12]}"
        pictures = tuple(block for message in messages or () for block in message.media if block["type"] == "image")
        context = replace(
            self._context,
            pictures=pictures or self._context.pictures,
            call_id=call_id,
            idempotency_key=self._context.idempotency_key or call_id,
            hits=[],
            labels=Counter(),
        )
        outcome = await perform(tool, checked, context, blobs, tool.timeout or settings().tool_timeout)
        if outcome.error is not None:
            raise ToolException(outcome.error)
        return await asyncio.to_thread(_content, outcome, blobs), _artifact(outcome)

    def _messages(self, runtime: ToolRuntime | None) -> Sequence[Message] | None:
        """The conversation of the graph that calls, where the tool has a use for it."""
        if runtime is None or not self._reads:
            return None
        state: Any = runtime.state
        messages = state.get("messages", ()) if isinstance(state, dict) else getattr(state, "messages", ())
        return read_messages(messages, cast("BlobStore", self._context.blobs))


def _finished(running: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, wherever this is called: it runs on an event loop in a thread of its own."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(copy_context().run, asyncio.run, running).result()


def _content(outcome: Outcome, blobs: BlobStore) -> str | list[dict[str, Any]]:
    texts = [block["text"] for block in outcome.content if block["type"] == "text"]
    return "".join(texts) if len(texts) == len(outcome.content) else list(_blocks(outcome, blobs))


def _blocks(outcome: Outcome, blobs: BlobStore) -> Iterator[dict[str, Any]]:
    for block in outcome.content:
        if block["type"] in ("text", "image"):
            yield wire_block(block, blobs)
        elif block["type"] in ("audio", "video", "file"):
            data = base64.b64encode(blobs.get(block["file_id"])).decode()
            yield {"type": block["type"], "base64": data, "mime_type": block.get("mime_type", "")}


def _artifact(outcome: Outcome) -> Any:
    """What is for programs: `ToolResult.data`; where the tool made files, ``{"data": ..., "files": [blocks]}``."""
    return {"data": outcome.data, "files": list(outcome.artifacts)} if outcome.artifacts else outcome.data
