"""The agent as its users see it: what it is made of, and three ways to ask it. The loop itself is in `loop`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mmagent.agent.loop import Turn
from mmagent.agent.output import Output
from mmagent.agent.prompt import system_message
from mmagent.agent.question import Content
from mmagent.agent.toolbox import ToolLike, toolbox
from mmagent.chat.protocol import ChatModel, Sampling
from mmagent.content import Message
from mmagent.errors import ConfigurationError
from mmagent.events import Citation, Event, TurnFinished, Usage
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.settings import settings

if TYPE_CHECKING:
    from mmagent.knowledge import Knowledge


@dataclass(frozen=True)
class Result:
    """What a turn came to."""

    text: str
    """The answer."""
    output: Any
    """The instance of the type that was asked for, or None."""
    citations: tuple[Citation, ...]
    """The passages that the answer points at."""
    usage: Usage
    """Tokens of all steps."""
    steps: int
    """How often the model was asked."""
    events: tuple[Event, ...]
    """Everything that happened, in order."""
    messages: tuple[Message, ...]
    """The whole conversation after the turn."""


class Agent:
    """A model with tools, knowledge and a conversation.

    Args:
        model: A `ChatModel`, or the name of one; ``"auto"`` is the configured one, else the best on this
            machine that fits, else the one that ships.
        tools: Tools, functions to make tools of, files of tools, names of built-in ones; added to the built-in ones.
        instructions: What the model is told about its task.
        knowledge: What it can look things up in; a path is a folder of documents.
        session: The conversation; a name is one that is kept between processes, None one that is not.
        builtins: Whether it has the built-in tools that apply.
        prompts_dir: The user's own prompt templates; None: ``prompts`` in the user's configuration folder.
        max_steps: Model calls in one turn; None: the setting.
        turn_timeout: Seconds of one turn; None: the setting.
        sampling: How tokens are chosen; None: greedily, up to the setting ``max_tokens``.
        blobs: Where media are kept; None: the user's store.

    Raises:
        ConfigurationError: A tool, prompt or limit cannot be used.
        InputError: A file, folder, model or session of that name cannot be had.
        ModelError: The model cannot be loaded.
        StoreError: A session or knowledge store cannot be opened.
    """

    def __init__(
        self,
        model: str | ChatModel = "auto",
        tools: Iterable[ToolLike] | None = None,
        *,
        instructions: str | None = None,
        knowledge: Knowledge | str | Path | None = None,
        session: Session | str | None = None,
        builtins: bool = True,
        prompts_dir: Path | None = None,
        max_steps: int | None = None,
        turn_timeout: float | None = None,
        sampling: Sampling | None = None,
        blobs: BlobStore | None = None,
    ) -> None:
        from mmagent.chat import load_model
        from mmagent.paths import blobs_dir
        from mmagent.prompts import render

        limits = settings()
        self.max_steps = limits.max_steps if max_steps is None else max_steps
        self.turn_timeout = limits.turn_timeout if turn_timeout is None else turn_timeout
        if self.max_steps < 1 or self.turn_timeout <= 0:
            raise ConfigurationError("max_steps must be at least 1, and turn_timeout more than 0 seconds")
        self.sampling = sampling or Sampling(max_tokens=limits.max_tokens)
        self.system = system_message(render("agent", prompts_dir, instructions=instructions or ""))
        self.model = load_model(model) if isinstance(model, str) else model
        sees = self.model.capabilities.images
        self.tools = toolbox(tools, builtins=builtins, images=sees, knowledge=knowledge is not None)
        if not self.model.capabilities.tools:
            if tools:
                raise ConfigurationError(f"the model {self.model.name} cannot call tools; choose another, or give none")
            self.tools = {}
        self.blobs = blobs or BlobStore(blobs_dir())
        self.turns_left_out = 0
        """Of the session's turns, the oldest ones that no longer fit into the model's context."""
        self._close: list[Callable[[], None]] = []
        self.session = self._session(session)
        try:
            self.knowledge = self._knowledge(knowledge)
        except BaseException:
            self.close()
            raise

    async def stream(self, *content: Content, output: Any = None) -> AsyncGenerator[Event, None]:
        """Ask, and see what happens as it happens. Closing the iterator stops the model and the tools.

        Turns of one `Session` wait for each other. What the model had said when a turn was stopped stays.

        Args:
            content: The question: text and media, in any order.
            output: A type that the answer must have: a pydantic model, a dataclass ...

        Yields:
            Events; the last one is `TurnFinished`, or `TurnFailed` just before an error is raised.

        Raises:
            InputError: The question was refused; nothing has happened.
            ModelError: The model could not go on.
            TurnError: A limit was reached.
            StoreError: The session cannot be written.
            ConfigurationError: ``output`` has no JSON Schema.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        turn = Turn(self, events.put_nowait, None if output is None else Output(output))

        async def work() -> None:
            try:
                await turn.run(content)
            finally:
                events.put_nowait(None)

        task = asyncio.create_task(work())
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # whoever reads to the end has got it above

    async def arun(self, *content: Content, output: Any = None) -> Result:
        """Ask and wait for the answer. Arguments and errors as `stream`."""
        async with aclosing(self.stream(*content, output=output)) as stream:
            events = tuple([event async for event in stream])
        end = events[-1]
        assert isinstance(end, TurnFinished)
        return Result(
            text=end.text,
            output=None if output is None else Output(output).read(end.text),
            citations=end.citations,
            usage=end.usage,
            steps=end.steps,
            events=events,
            messages=self.session.messages,
        )

    def run(self, *content: Content, output: Any = None) -> Result:
        """`arun` for programs without an event loop.

        Raises:
            ConfigurationError: There is a running event loop.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.arun(*content, output=output))
        raise ConfigurationError("run() was called inside a running event loop; write: await agent.arun(...)")

    def close(self) -> None:
        """Close the session and the knowledge that the agent opened itself."""
        while self._close:
            self._close.pop()()

    def __enter__(self) -> Self:
        """The agent itself; `close` follows."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _knowledge(self, knowledge: Knowledge | str | Path | None) -> Knowledge | None:
        if not isinstance(knowledge, str | Path):
            return knowledge
        from mmagent.knowledge import Knowledge

        opened = Knowledge.of_folder(knowledge)
        self._close.append(opened.close)
        return opened

    def _session(self, session: Session | str | None) -> Session:
        if isinstance(session, Session):
            return session
        opened = Session.memory() if session is None else Session.open(session)
        self._close.append(opened.close)
        return opened
