"""Our models as LangChain chat models, for `create_agent` and LangGraph. It knows messages, and no agent of ours.

Importing this module loads langchain; reach it through `mmagent.chat.as_langchain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from contextvars import copy_context
from dataclasses import fields
from operator import itemgetter
from queue import SimpleQueue
from typing import Any, Literal, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, PrivateAttr, model_validator

from mmagent.chat import factory
from mmagent.chat.langchain_messages import read_messages, read_output, read_tools, write_chunk
from mmagent.chat.protocol import (
    ChatModel,
    ModelDone,
    ModelEvent,
    ModelRequest,
    ModelToolCall,
    Sampling,
)
from mmagent.errors import ConfigurationError, ModelError
from mmagent.media import BlobStore

StructuredMethod = Literal["json_schema", "function_calling", "json_mode"]


def as_langchain(model: ChatModel | str | None = None, *, blobs: BlobStore | None = None) -> ChatMMAgent:
    """One of our models as a LangChain chat model: sync, async, streaming, tools, structured output and pictures.

    Pictures are standard image blocks with ``base64`` or a ``data:`` address, and in human messages also with a
    ``file:`` address or a path as ``url``; each is checked against the limits of `mmagent.settings` and kept in the
    blob store. Nothing is fetched from the network. Where ``tool_choice`` asks for a call and the model answers in
    words, that is a `ModelError`.

    Args:
        model: A chat model, or what `load_model` takes: by default the configured model.
        blobs: Where pictures are kept; by default with the user's other data.

    Raises:
        ConfigurationError: It is something else.
    """
    if model is None or isinstance(model, str):
        return ChatMMAgent(model=model or "auto", blobs=blobs)
    if not isinstance(model, ChatModel):
        raise ConfigurationError(
            f"a {type(model).__name__} is no model of mmagent; give a chat model, a model's name, a Tool or a Knowledge"
        )
    return ChatMMAgent(chat=model, blobs=blobs)


class ChatMMAgent(BaseChatModel):
    """What `as_langchain` makes: any `ChatModel` of ours, with LangChain's face.

    Sampling values that are None are the model's own; a call may give others (``invoke(..., temperature=0.7)``), and
    also the name of another ``model``, which is then kept loaded beside this one.
    """

    model: str = "auto"
    """Its name. Without ``chat``, what `load_model` takes."""
    chat: Any = None
    """The `ChatModel` behind it; None loads the one that ``model`` names."""
    blobs: Any = None
    """The `BlobStore` that pictures are kept in; None is the user's."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: list[str] | None = None
    """Strings that end an answer, each left out of it."""
    _others: dict[str, ChatModel] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: dict[str, Any]) -> dict[str, Any]:
        from mmagent.paths import blobs_dir

        chat = given.get("chat") or factory.load_model(given.get("model"))
        return {**given, "chat": chat, "model": chat.name, "blobs": given.get("blobs") or BlobStore(blobs_dir())}

    @property
    def _llm_type(self) -> str:
        return "mmagent"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        own = {item.name: getattr(self, item.name) for item in fields(Sampling)}
        return {"model": self.model} | {key: value for key, value in own.items() if value is not None}

    def _resolve_model_profile(self) -> ModelProfile:
        can = self.chat.capabilities
        return ModelProfile(
            name=self.model,
            max_input_tokens=can.context_length,
            text_inputs=True,
            image_inputs=can.images,
            image_url_inputs=False,
            image_tool_message=can.images,
            audio_inputs=False,
            video_inputs=False,
            pdf_inputs=False,
            text_outputs=True,
            tool_calling=can.tools,
            tool_choice=can.tools,
            tool_call_streaming=can.tools,
            structured_output=True,
        )

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools.

        Args:
            tools: Whatever LangChain takes for a tool, other than tools that run at a provider.
            tool_choice: "auto" or None, "none", "any" or "required" or True, or the name of the one tool to call.
            kwargs: ``parallel_tool_calls=False`` keeps the first call of an answer; the rest as in ``invoke``.
        """
        specs = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=specs, tool_choice=tool_choice, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: StructuredMethod = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answers that follow ``schema``: a pydantic class gives its instances, anything else gives dicts.

        Args:
            schema: A pydantic class, a ``TypedDict``, or a JSON Schema; None, with ``json_mode``, is any JSON object.
            method: ``json_schema`` and ``json_mode`` answer with JSON, ``function_calling`` by the call of a tool.
            include_raw: A dict of ``raw`` (the message), ``parsed`` and ``parsing_error`` instead.
            strict: No matter: local models always hold a schema, others are asked to.
            kwargs: There are none; LangChain's signature has them.

        Raises:
            ConfigurationError: An argument is not known, or there is no schema.
        """
        if kwargs or method not in ("json_schema", "function_calling", "json_mode"):
            what = f"method {method!r}" if not kwargs else f"argument {', '.join(kwargs)}"
            raise ConfigurationError(f"there is no {what}; use json_schema, function_calling or json_mode")
        if schema is None and method != "json_mode":
            raise ConfigurationError(f"{method} needs a schema; give one, or use json_mode")
        if schema is not None and method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw)
        parser: Any = JsonOutputParser()
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            parser = PydanticOutputParser(pydantic_object=schema)
        asked: Any = self.bind(
            response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": _json_schema(schema)}},
            ls_structured_output_format={"kwargs": {"method": method}, "schema": schema or {}},
        )
        if not include_raw:
            return cast("Runnable[LanguageModelInput, dict[str, Any] | BaseModel]", asked | parser)
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        wrong = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=asked) | parsed.with_fallbacks([wrong], exception_key="parsing_error")

    def get_num_tokens(self, text: str) -> int:
        """Tokens of a prompt that is one message with this text."""
        return self.get_num_tokens_from_messages([HumanMessage(text)])

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Tokens of the prompt that these messages and tools make, pictures included; loads the model's tokenizer."""
        offered = {"tools": [convert_to_openai_tool(tool) for tool in tools or ()]}
        return int(self.chat.count_tokens(self._request(messages, None, offered)))

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        chat = await asyncio.to_thread(self._chat, kwargs.get("model"))
        request = await asyncio.to_thread(self._request, messages, stop, kwargs)
        calls, single = 0, kwargs.get("parallel_tool_calls") is False
        async with aclosing(cast("AsyncGenerator[ModelEvent, None]", chat.stream(request))) as events:
            async for event in events:
                if isinstance(event, ModelToolCall):
                    if single and calls:
                        continue
                    _check_required(request.require_call, event.call["name"], chat.name)
                elif isinstance(event, ModelDone) and not calls:
                    _check_whole(request, event, chat.name)
                    _check_required(request.require_call, None, chat.name)
                yield ChatGenerationChunk(message=write_chunk(event, calls, chat.name))
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

    def _chat(self, name: str | None) -> ChatModel:
        """The model that a call asks for by name, or this one."""
        if name is None or name == self.model:
            return cast("ChatModel", self.chat)
        if name not in self._others:
            self._others[name] = factory.load_model(name)
        return self._others[name]

    def _request(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> ModelRequest:
        """What our model is asked."""
        tools, required = read_tools(kwargs.get("tools") or [], kwargs.get("tool_choice"))
        asked = self._identifying_params | {key: value for key, value in kwargs.items() if value is not None}
        sampling = {item.name: asked[item.name] for item in fields(Sampling) if item.name in asked}
        return ModelRequest(
            messages=read_messages(messages, self.blobs),
            blobs=self.blobs,
            tools=tools,
            output=read_output(kwargs.get("response_format")),
            require_call=required,
            sampling=Sampling(**(sampling | {"stop": tuple(stop or self.stop or ())})),
        )


def _check_required(required: bool | str, called: str | None, model: str) -> None:
    """Refuse an answer without a call (None), or with that of another tool, where one was required."""
    if not required or (called is not None and (required is True or called == required)):
        return
    what = "a tool" if required is True else required
    did = "answered in words" if called is None else f"called {called}"
    raise ModelError(f"{model} was to call {what} and {did}; ask more plainly")


def _check_whole(request: ModelRequest, done: ModelDone, model: str) -> None:
    """Refuse a call or a structured answer that was cut: LangChain's parsers would mend it in silence."""
    if done.stop == "length" and (request.require_call or request.output is not None):
        what = "answer" if request.require_call is False else "call"
        limit = request.sampling.max_tokens
        raise ModelError(f"max_tokens, which is {limit}, cut the {what} of {model} short; raise max_tokens")


def _json_schema(schema: dict[str, Any] | type | None) -> dict[str, Any]:
    if schema is None:
        return {"type": "object"}
    if isinstance(schema, dict) and ("properties" in schema or "type" in schema) and "function" not in schema:
        return schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()
    return convert_to_json_schema(schema)


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
        done = thread.submit(copy_context().run, asyncio.run, pump())
        done.add_done_callback(lambda _: items.put(None))
        try:
            while (item := items.get()) is not None:
                yield item
            done.result()
        finally:
            with suppress(RuntimeError):  # the loop is closed: there is nothing left to cancel
                started.result()()
