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
from mmagent.chat.conversation import check_length, conversation
from mmagent.chat.profiles import Profile, profile_of
from mmagent.chat.protocol import (
    Capabilities,
    ModelDone,
    ModelEvent,
    ModelReasoning,
    ModelRequest,
    ModelText,
    ModelToolCall,
    ToolSpec,
)
from mmagent.content import quotable_lines
from mmagent.engine.pictures import limit_picture_tokens
from mmagent.errors import MMAgentError, ModelBusy, ModelError
from mmagent.settings import Settings, settings

if TYPE_CHECKING:
    from mmagent.engine import Engine, Grammar, Loaded, Prompt, Response, Vocabulary


class LocalModel:
    """A network in this process, behind the `ChatModel` protocol.

    It loads at its first use. It answers several requests at once (`Settings.max_rows`); more wait their turn, and too
    many are refused.

    Args:
        path_or_id: ``nano`` (ships with the package), a directory that ``save_pretrained`` wrote, or a hub id.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; by default the setting.
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``int8``; by default the setting.
    """

    def __init__(self, path_or_id: str | Path = "nano", *, device: str | None = None, dtype: str | None = None) -> None:
        self._source = nano.folder() if path_or_id == "nano" else path_or_id
        self._device, self._dtype = device, dtype
        self._engine: Engine | None = None
        self._known_profile: Profile | None = None
        self._loading, self._prompting = threading.Lock(), threading.Lock()
        self._workers = ThreadPoolExecutor(settings().max_rows, thread_name_prefix="mmagent-model")
        self._places = threading.BoundedSemaphore(settings().max_rows + settings().max_queue)

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
        self.engine()

    def count_tokens(self, request: ModelRequest) -> int:
        """Tokens of the prompt that ``request`` makes, pictures included. Loads the model where need be."""
        return len(self.prompt(self.engine(), request).ids)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Answer ``request``; closing the iterator ends the work within a token.

        Raises:
            ModelBusy: Too many requests wait already.
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

        if not self._places.acquire(blocking=False):
            raise ModelBusy(
                f"{settings().max_queue} requests wait for {self.name} already; try again later, "
                f"or allow more with {Settings.variable('max_queue')}"
            )
        job = self._workers.submit(self._answer, request, cancelled, post)
        job.add_done_callback(lambda _: self._places.release())
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
        from mmagent.engine import Response, Sampler

        engine, sampling = self.engine(), request.sampling
        profile = self.profile(engine.loaded)
        grammar = _grammar(request, profile, engine.loaded.vocabulary)
        response = Response(
            engine.loaded.vocabulary,
            grammar.format,
            sampling.stop,
            reasoning=profile.reasoning,
            reasoning_open=profile.reasoning_open,
        )
        sampler = Sampler(
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, seed=sampling.seed
        )
        prompt = self.prompt(engine, request)
        check_length(engine.loaded, prompt, request.messages)
        generation = engine.generate(
            prompt, grammar=grammar, sampler=sampler, max_tokens=sampling.max_tokens, cancelled=cancelled
        )
        with closing(iter(generation)) as tokens:  # type: ignore[type-var]
            for token in tokens:
                yield from map(_event, response.feed(token))
                if response.stopped:
                    break
        if not cancelled.is_set():
            yield from map(_event, response.finish())
            yield ModelDone(generation.usage, _stop(generation.stop, response))

    def engine(self) -> Engine:
        """The engine that runs it, loaded by the first call.

        Raises:
            ModelError: It cannot be loaded.
        """
        with self._loading:
            if self._engine is None:
                from mmagent.engine import Engine
                from mmagent.engine.load import load

                loaded = load(self._source, self._device, self._dtype)
                if loaded.processor is not None:
                    limit_picture_tokens(loaded.model, loaded.processor, self.profile(loaded).picture_tokens)
                self._engine = Engine(
                    loaded,
                    release=True,
                    max_rows=settings().max_rows,
                    prefix_cache_bytes=settings().prefix_cache_bytes,
                    feature_cache_bytes=settings().feature_cache_bytes,
                )
            return self._engine

    def profile(self, loaded: Loaded) -> Profile:
        """How the model thinks and calls tools."""
        if self._known_profile is None:
            self._known_profile = profile_of(loaded.model.config, loaded.processor or loaded.tokenizer)
        return self._known_profile

    def prompt(self, engine: Engine, request: ModelRequest) -> Prompt:
        """A request as the tokens and pictures that the model is given."""
        from mmagent.engine import build_prompt

        loaded = engine.loaded
        asked = conversation(request, self.profile(loaded), loaded.name, sees=loaded.processor is not None)
        with self._prompting:  # encoding switches the tokenizer's state for a moment
            return engine.restore(build_prompt(loaded, asked.messages, asked.tools, asked.pictures))


def _grammar(request: ModelRequest, profile: Profile, vocabulary: Vocabulary) -> Grammar:
    from mmagent.engine import Grammar

    return Grammar(
        vocabulary,
        tools=_callable(request),
        output=request.output,
        quotable=quotable_lines(request.messages),
        require_call=bool(request.require_call),
        format=profile.format,
        reasoning=profile.reasoning,
        reasoning_open=profile.reasoning_open,
        regex=request.regex,
        choices=request.choices,
    )


def _callable(request: ModelRequest) -> tuple[ToolSpec, ...]:
    """The tools that may be called: all that the model is told of, or the one that it must call."""
    if not isinstance(request.require_call, str):
        return request.tools
    required = tuple(tool for tool in request.tools if tool.name == request.require_call)
    if not required:
        names = ", ".join(tool.name for tool in request.tools) or "none"
        raise ModelError(f"the tool {request.require_call} must be called, and is not there; there are: {names}")
    return required


def _event(part: Any) -> ModelEvent:
    from mmagent.engine.grammar.response import Thought

    if isinstance(part, str):
        return ModelText(part)
    if isinstance(part, Thought):
        return ModelReasoning(part.text)
    call_id = f"call_{uuid.uuid4().hex[:12]}"
    return ModelToolCall({"type": "tool_call", "id": call_id, "name": part.name, "args": part.arguments})


def _stop(stop: str, response: Response) -> Any:
    if response.stopped:
        return "stop"
    if stop == "end" and response.calls:
        return "tool_calls"
    return "length" if stop == "length" else "end"
