"""A chat model that runs in this process: messages to prompts, tokens to events, threads to asyncio. It knows the
engine and the protocol, no agent and no tool code.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent import nano
from mmagent.chat.protocol import Capabilities, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall, ToolSpec
from mmagent.content import Message, quotable_lines
from mmagent.errors import MMAgentError, ModelError
from mmagent.settings import settings

if TYPE_CHECKING:
    from mmagent.engine import Decoder, Picture, Prompt, Response


class LocalModel:
    """A network in this process, behind the `ChatModel` protocol.

    It loads at its first use. It answers one request at a time, in its own thread; others wait their turn.

    Args:
        path_or_id: ``nano`` (ships with the package), a directory that ``save_pretrained`` wrote, or a hub id.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; by default the setting.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``; by default the setting.
    """

    def __init__(self, path_or_id: str | Path = "nano", *, device: str | None = None, dtype: str | None = None) -> None:
        self._source = nano.folder() if path_or_id == "nano" else path_or_id
        self._device, self._dtype = device, dtype
        self._decoder: Decoder | None = None
        self._loading, self._prompting = threading.Lock(), threading.Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mmagent-model")

    @cached_property
    def name(self) -> str:
        """The directory's name, or the hub id."""
        from mmagent.engine.load import model_name

        return model_name(self._source)

    @cached_property
    def capabilities(self) -> Capabilities:
        """Read from the configuration; the weights are not loaded for it.

        Raises:
            NotFound: There is no such model on this machine.
        """
        from mmagent.engine.load import context_length, read_config, takes_pictures

        config = read_config(self._source)
        return Capabilities(context_length=context_length(config), images=takes_pictures(config), constrained=True)

    def load(self) -> None:
        """Load the network now, not at the first request; a second call does nothing.

        Raises:
            NotFound: There is no such model on this machine.
            ModelError: Its files are incomplete or damaged.
            ConfigurationError: The device is not on this machine.
        """
        self._load()

    def count_tokens(self, request: ModelRequest) -> int:
        """Tokens of the prompt that ``request`` makes, pictures included. Loads the model where need be."""
        return len(self._prompt(self._load(), request).ids)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Answer ``request``; closing the iterator ends the work within a token.

        Raises:
            ModelError: The model could not be loaded or could not go on (`ContextOverflow` before any token,
                `GrammarError` where a tool's or the output's schema cannot be held).
        """
        cancelled = threading.Event()
        inbox: asyncio.Queue[ModelEvent | BaseException] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def post(item: ModelEvent | BaseException) -> None:
            try:
                loop.call_soon_threadsafe(inbox.put_nowait, item)
            except RuntimeError:  # the loop is closed: nobody listens
                cancelled.set()

        job = self._worker.submit(self._answer, request, cancelled, post)
        try:
            while True:
                item = await inbox.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if isinstance(item, ModelDone):
                    return
        finally:
            cancelled.set()
            job.cancel()

    def _answer(
        self, request: ModelRequest, cancelled: threading.Event, post: Callable[[ModelEvent | BaseException], None]
    ) -> None:
        try:
            for event in self._events(request, cancelled):
                post(event)
        except MMAgentError as error:
            post(error)
        except Exception as error:
            failure = ModelError(f"{self.name} could not go on: {type(error).__name__}: {' '.join(str(error).split())}")
            failure.__cause__ = error
            post(failure)

    def _events(self, request: ModelRequest, cancelled: threading.Event) -> Iterator[ModelEvent]:
        from mmagent.engine import Grammar, Response, Sampler

        decoder, sampling = self._load(), request.sampling
        vocabulary = decoder.loaded.vocabulary
        grammar = Grammar(
            vocabulary,
            tools=request.tools,
            output=request.output,
            quotable=quotable_lines(request.messages),
            require_call=request.require_call,
        )
        response = Response(vocabulary, grammar.format, sampling.stop)
        sampler = Sampler(
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, seed=sampling.seed
        )
        generation = decoder.generate(
            self._prompt(decoder, request),
            grammar=grammar,
            sampler=sampler,
            max_tokens=sampling.max_tokens,
            cancelled=cancelled,
        )
        with closing(iter(generation)) as tokens:  # type: ignore[type-var]
            for token in tokens:
                yield from map(_event, response.feed(token))
                if response.stopped:
                    break
        if not cancelled.is_set():
            yield from map(_event, response.finish())
            yield ModelDone(generation.usage, _stop(generation.stop, response))

    def _load(self) -> Decoder:
        with self._loading:
            if self._decoder is None:
                from mmagent.engine import Decoder
                from mmagent.engine.load import load

                self._decoder = Decoder(
                    load(self._source, self._device, self._dtype),
                    prefix_cache_bytes=settings().prefix_cache_bytes,
                    feature_cache_bytes=settings().feature_cache_bytes,
                )
            return self._decoder

    def _prompt(self, decoder: Decoder, request: ModelRequest) -> Prompt:
        from mmagent.engine import build_prompt

        loaded = decoder.loaded
        pictures = _pictures(request, loaded.name, loaded.processor is not None)
        images = iter(pictures)
        messages = [_message(message, images, loaded.processor is not None) for message in request.messages]
        with self._prompting:  # encoding switches the tokenizer's state for a moment
            return decoder.restore(
                build_prompt(loaded, messages, [_function(tool) for tool in request.tools], pictures)
            )


def _pictures(request: ModelRequest, name: str, can_see: bool) -> list[Picture]:
    from mmagent.engine import Picture

    blocks = [block for message in request.messages for block in message.media]
    if refused := next((block["type"] for block in blocks if block["type"] != "image" or not can_see), None):
        raise ModelError(f"{name} takes no {refused}; put text in its place, or use a model that does")
    return [Picture(block["file_id"], request.blobs.open_image(block["file_id"])) for block in blocks]


def _message(message: Message, pictures: Iterator[Picture], as_blocks: bool) -> dict[str, Any]:
    """A message in transformers' form."""
    blocks: list[dict[str, Any]] = []
    for block in message.content:
        if block["type"] == "text":
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


def _event(part: Any) -> ModelEvent:
    if isinstance(part, str):
        return ModelText(part)
    call_id = f"call_{uuid.uuid4().hex[:12]}"
    return ModelToolCall({"type": "tool_call", "id": call_id, "name": part.name, "args": part.arguments})


def _stop(stop: str, response: Response) -> Any:
    if response.stopped:
        return "stop"
    if stop == "end" and response.calls:
        return "tool_calls"
    return "length" if stop == "length" else "end"
