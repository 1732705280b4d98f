"""The door to LangChain: its models in (`LangChainModel`), ours out (`as_langchain`). It knows no agent and no tools.

Importing this module loads langchain; reach it through `mmagent.chat`, which waits until it is needed.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Literal, cast
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import Runnable
from pydantic import SecretStr

from mmagent.chat.langchain_export import as_langchain
from mmagent.chat.protocol import (
    Capabilities,
    ModelDone,
    ModelEvent,
    ModelRequest,
    ModelText,
    ModelToolCall,
    Sampling,
    ToolSpec,
)
from mmagent.content import QUOTED_KEY, Block, Message, ToolCallBlock
from mmagent.errors import ConfigurationError, ContextOverflow, MMAgentError, ModelError
from mmagent.events import Usage
from mmagent.media import BlobStore
from mmagent.media.sound import as_wav

__all__ = ["LangChainModel", "as_langchain"]

CONTEXT_LENGTH = 32_768
"""Tokens that a model without a profile is taken to read."""

CHARS_PER_TOKEN = 4
PICTURE_TOKENS = 1_000
"""What `LangChainModel.count_tokens` estimates with; between what the large providers charge for a picture."""

WIRE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
"""Picture types that providers take; others travel as PNG."""

WIRE_SOUND = ("audio/wav", "audio/mpeg")
"""Types of recordings that providers take; others travel as WAV."""
SOUND_TOKENS = 32
"""What `LangChainModel.count_tokens` estimates a second of a recording with."""

QUOTED_NOTE = "Must be copied verbatim from the conversation."

OUTPUT_NOTE = (
    "When you answer instead of calling a tool, answer with one JSON value that follows this JSON Schema, "
    "and with nothing else, no code fence:\n"
)

Stop = Literal["end", "tool_calls", "length", "stop"]


class LangChainModel:
    """Any LangChain chat model, any provider, any OpenAI-compatible server.

    Pictures travel as base64 and only on the wire; a tool's pictures follow its text result in a user message, since
    providers take none in tool messages. An output schema is asked for in a system note: that works with every
    provider, together with tools and streaming. A call that is required is asked for with ``tool_choice``. `Sampling`
    values are sent where they differ from their defaults (``max_tokens`` always), the LangChain model has a field of
    that name, and you did not set that field yourself.

    Args:
        model: A LangChain chat model, or a provider string such as ``"openai:gpt-5"``.
        options: With a provider string: what ``init_chat_model`` takes, e.g. ``base_url`` and ``api_key``.

    Raises:
        ConfigurationError: The provider is unknown, its package is not installed, or it refuses the options.
    """

    def __init__(self, model: BaseChatModel | str, **options: Any) -> None:
        if isinstance(model, str):
            self.name = model
            model = _initialise(model, options)
        elif options:
            raise ConfigurationError(f"{', '.join(options)} cannot be given beside a model; set them on the model")
        else:
            self.name = _name_of(model)
        self.capabilities = _capabilities_of(model)
        if getattr(model, "stream_usage", True) is None:
            model = model.model_copy(update={"stream_usage": True})  # else servers other than OpenAI's report no usage
        self._model = model

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Ask the provider; closing the iterator closes the connection.

        Where the provider reports no usage, it is estimated as `count_tokens` does.

        Raises:
            ConfigurationError: The answer must match a regex or be one of some choices.
            ContextOverflow: The provider says that the prompt is too long.
            ModelError: The provider failed, or sent a call whose arguments are no JSON object.
        """
        if request.regex is not None or request.choices:
            raise ConfigurationError(
                f"{self.name} cannot be held to a regex or to choices; use an output schema, or a local model"
            )
        chunks: list[AIMessage] = []
        try:
            messages = await asyncio.to_thread(self._wire_messages, request)
            answers = self._with_tools(request).astream(messages, **_sampling(self._model, request.sampling))
            async with aclosing(cast("AsyncGenerator[AIMessage, None]", answers)) as stream:
                async for chunk in stream:
                    chunks.append(chunk)
                    if piece := str(chunk.text):
                        yield ModelText(piece)
        except MMAgentError:
            raise
        except Exception as error:
            raise self._failure(error) from error
        if not chunks:
            raise ModelError(f"{self.name} sent an empty answer; try again")
        answer = _merge(chunks)
        calls = self._calls(answer, request)
        for call in calls:
            yield ModelToolCall(call)
        yield ModelDone(self._usage(answer, request), "tool_calls" if calls else _stop(answer))

    def count_tokens(self, request: ModelRequest) -> int:
        """An estimate, since providers keep their tokenizers: 4 characters a token, and the constants above."""
        chars = sum(len(json.dumps([tool.name, tool.description, tool.parameters])) for tool in request.tools)
        chars += len(json.dumps(request.output)) if request.output else 0
        tokens = 0
        for message in request.messages:
            chars += len(message.text) + sum(
                len(json.dumps([call["name"], call["args"]])) for call in message.tool_calls
            )
            for block in message.media:
                seconds = block.get("extras", {}).get("seconds") or 60.0
                tokens += int(seconds * SOUND_TOKENS) if block["type"] == "audio" else PICTURE_TOKENS
        return -(-chars // CHARS_PER_TOKEN) + tokens

    def _wire_messages(self, request: ModelRequest) -> list[BaseMessage]:
        media = [block["type"] for message in request.messages for block in message.media]
        if not self.capabilities.images and "image" in media:
            raise ModelError(f"{self.name} takes no pictures; choose a model that does, or take the picture out")
        if not self.capabilities.audio and "audio" in media:
            raise ModelError(f"{self.name} takes no recordings; choose a model that does, or put text in its place")
        return list(wire_messages(request))

    def _with_tools(self, request: ModelRequest) -> Runnable[Any, AIMessage]:
        if not request.tools:
            return self._model
        choice = "any" if request.require_call is True else request.require_call
        try:
            required = {"tool_choice": choice} if choice else {}
            return self._model.bind_tools([_wire_tool(tool) for tool in request.tools], **required)
        except NotImplementedError as error:
            raise ModelError(f"{self.name} takes no tools; choose a model that does") from error

    def _calls(self, answer: AIMessage, request: ModelRequest) -> list[ToolCallBlock]:
        """The calls of an answer, with parsed arguments and with ids that stand nowhere else in the conversation."""
        seen = {call["id"] for message in request.messages for call in message.tool_calls}
        calls: list[ToolCallBlock] = []
        for name, args, call_id in _raw_calls(answer):
            if not isinstance(args, dict):
                why = "max_tokens cut it short; raise max_tokens" if _stop(answer) == "length" else "try again"
                raise ModelError(f"{self.name} called {name or 'a tool'} with arguments that are no JSON object; {why}")
            if not call_id or call_id in seen:
                call_id = f"call_{uuid4().hex[:12]}"
            seen.add(call_id)
            calls.append({"type": "tool_call", "id": call_id, "name": name, "args": args})
        return calls

    def _usage(self, answer: AIMessage, request: ModelRequest) -> Usage:
        if usage := answer.usage_metadata:
            return Usage(
                prompt_tokens=usage["input_tokens"],
                cached_tokens=usage.get("input_token_details", {}).get("cache_read") or 0,
                completion_tokens=usage["output_tokens"],
            )
        chars = len(answer.text) + sum(len(json.dumps(call["args"])) for call in answer.tool_calls)
        return Usage(
            prompt_tokens=self.count_tokens(request),
            completion_tokens=-(-chars // CHARS_PER_TOKEN),
        )

    def _failure(self, error: Exception) -> ModelError:
        line = one_line(error, [value for value in vars(self._model).values() if isinstance(value, SecretStr)])
        names = [kind.__name__ for kind in type(error).__mro__]
        if any("ContextOverflow" in name for name in names):
            return ContextOverflow(f"the prompt is too long for {self.name}: {line}; start a new conversation")
        advice = next((hint for part, hint in _HINTS.items() if any(part in name for name in names)), "try again")
        return ModelError(f"{self.name} failed: {line}; {advice}")


_HINTS = {
    "Authentication": "check the API key",
    "PermissionDenied": "check what the API key may use",
    "NotFound": "check the model's name and the address",
    "RateLimit": "wait a little and try again",
    "Connect": "check the address and that the server is running",
    "Timeout": "try again, or raise the model's timeout",
}
"""What to do next, by a part of the name of the error's class or of one of its bases."""

_SECRET = re.compile(
    r"(?i)\bbearer\s+\S+|\b(?:sk|pk|rk|gsk|xai|hf|nvapi)[-_][\w*.-]{6,}|\bAIza[\w-]{10,}"
    r"|(?<=key=)[^\s&'\"]+|(?<=://)[^/\s@]+:[^/\s@]+(?=@)"
)


def one_line(error: BaseException, secrets: list[SecretStr] | None = None) -> str:
    """An error's class and first line, at most 300 characters, with everything that looks like an API key masked."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    for secret in secrets or []:
        if len(value := secret.get_secret_value()) >= 8:
            line = line.replace(value, "***")
    line = _SECRET.sub("***", line)[:300].rstrip(" .;")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def wire_messages(request: ModelRequest) -> Iterator[BaseMessage]:
    """A request's messages as LangChain's: one system message first, then the rest in order."""
    system = [message.text for message in request.messages if message.role == "system"]
    if request.output is not None:
        system.append(OUTPUT_NOTE + json.dumps(_wire_schema(request.output), ensure_ascii=False))
    if system:
        yield SystemMessage("\n\n".join(system))
    pictures: list[dict[str, Any]] = []  # of tool results; they wait until every result of the step is told
    for message in request.messages:
        if message.role == "tool":
            pictures += _labelled_pictures(message, request.blobs)
            told = message.text or ("the picture follows" if message.media else "done")
            yield ToolMessage(told, tool_call_id=message.tool_call_id or "", name=message.name)
        elif message.role == "user":
            blocks = pictures + [wire_block(block, request.blobs) for block in message.content]
            pictures = []
            yield HumanMessage(cast("Any", blocks) if any(b["type"] != "text" for b in blocks) else message.text)
        elif message.role == "assistant":
            if pictures:
                yield HumanMessage(cast("Any", pictures))
                pictures = []
            calls = [{**call, "type": "tool_call"} for call in message.tool_calls]
            yield AIMessage(message.text, tool_calls=calls)  # without reasoning: providers refuse what is not theirs
    if pictures:
        yield HumanMessage(cast("Any", pictures))


def _labelled_pictures(message: Message, blobs: BlobStore) -> Iterator[dict[str, Any]]:
    for number, block in enumerate(message.media, 1):
        what = "Recording" if block["type"] == "audio" else "Picture"
        yield {
            "type": "text",
            "text": f"{what} {number} that {message.name or 'the tool'} returned ({message.tool_call_id}):",
        }
        yield wire_block(block, blobs)


def wire_block(block: Block, blobs: BlobStore) -> dict[str, Any]:
    """A text, picture or recording as a standard block of LangChain's, files as base64.

    Raises:
        ModelError: It is of another kind.
    """
    if block["type"] == "text":
        return {"type": "text", "text": block["text"]}
    mime_type = block.get("mime_type", "")
    if block["type"] == "audio":
        data = blobs.get(block["file_id"])
        if mime_type not in WIRE_SOUND:
            data, mime_type = as_wav(data, block["file_id"]), "audio/wav"
        return {"type": "audio", "base64": base64.b64encode(data).decode(), "mime_type": mime_type}
    if block["type"] != "image":
        raise ModelError(f"a {block['type']} block cannot be sent to a provider; send text, pictures and recordings")
    if mime_type in WIRE_TYPES:
        data = blobs.get(block["file_id"])
    else:
        png = io.BytesIO()
        blobs.open_image(block["file_id"]).save(png, "PNG")
        data, mime_type = png.getvalue(), "image/png"
    return {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": mime_type}


def _wire_tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": _wire_schema(tool.parameters)}
    return {"type": "function", "function": function}


def _wire_schema(schema: Any) -> Any:
    """A JSON Schema without the keyword for quotes, which no provider knows: it is said in words instead."""
    if isinstance(schema, list):
        return [_wire_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _wire_schema(value) for key, value in schema.items() if key != QUOTED_KEY or value is not True}
    if len(plain) < len(schema):
        plain["description"] = f"{plain.get('description', '')} {QUOTED_NOTE}".strip()
    return plain


def _sampling(model: BaseChatModel, sampling: Sampling) -> dict[str, Any]:
    wanted = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature or None,
        "top_p": sampling.top_p if sampling.top_p < 1 else None,
        "top_k": sampling.top_k or None,
        "seed": sampling.seed,
    }
    fields = type(model).model_fields
    sent = {key: value for key, value in wanted.items() if value is not None and key in fields}
    chosen: dict[str, Any] = {key: value for key, value in sent.items() if getattr(model, key) is None}
    return chosen | ({"stop": list(sampling.stop)} if sampling.stop else {})


def _merge(chunks: list[AIMessage]) -> AIMessage:
    """One message of all chunks; a model that cannot stream gives one whole message."""
    first = chunks[0]
    return cast("AIMessage", first + chunks[1:]) if isinstance(first, AIMessageChunk) else first


def _raw_calls(answer: AIMessage) -> Iterator[tuple[str, Any, str | None]]:
    """Name, arguments and id of each call. Streamed arguments are parsed strictly; LangChain mends cut ones."""
    if isinstance(answer, AIMessageChunk):
        for chunk in answer.tool_call_chunks:
            yield chunk["name"] or "", _json(chunk["args"] or "{}"), chunk["id"]
    else:
        for call in answer.tool_calls:
            yield call["name"], call["args"], call["id"]
        for wrong in answer.invalid_tool_calls:
            yield wrong["name"] or "", None, wrong["id"]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _stop(answer: AIMessage) -> Stop:
    metadata = answer.response_metadata
    reason = str(
        next((metadata[key] for key in ("finish_reason", "stop_reason", "done_reason") if key in metadata), "")
    )
    if "length" in reason.lower() or "max" in reason.lower():
        return "length"
    return "stop" if reason == "stop_sequence" else "end"


def _initialise(name: str, options: dict[str, Any]) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    try:
        return cast("BaseChatModel", init_chat_model(name, **options))
    except ImportError as error:
        provider = name.partition(":")[0].replace("_", "-")
        found = re.search(r"pip install (?:-U )?[\"']?([\w.\[\]-]+)", str(error))
        package = found[1] if found else f"langchain-{provider}"
        raise ConfigurationError(
            f"{name} needs the package {package}; install it with: pip install {package}"
        ) from error
    except Exception as error:
        secrets = [SecretStr(str(value)) for key, value in options.items() if "key" in key or "token" in key]
        raise ConfigurationError(
            f"{name} cannot be set up: {one_line(error, secrets)}; check the name, the API key and the options"
        ) from error


def _name_of(model: BaseChatModel) -> str:
    names = (getattr(model, field, None) for field in ("model_name", "model", "model_id"))
    return next((name for name in names if isinstance(name, str) and name), model.get_name())


def _capabilities_of(model: BaseChatModel) -> Capabilities:
    """From the model's profile; where it has none, text, tools and pictures are assumed, and no recordings."""
    profile = model.profile or {}
    return Capabilities(
        context_length=profile.get("max_input_tokens") or CONTEXT_LENGTH,
        images=profile.get("image_inputs", True),
        audio=profile.get("audio_inputs", False),
        tools=profile.get("tool_calling", True),
    )
