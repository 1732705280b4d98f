"""A journal, a model and a tool that do what others do, for those that do it with a difference. No differences here."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mmagent.chat.protocol import Capabilities, ChatModel, ModelEvent, ModelRequest
from mmagent.errors import ConfigurationError
from mmagent.session.journal import Draft, Entry, Found, Journal, SessionInfo

if TYPE_CHECKING:
    from mmagent.agent.tools import AnyTool

ToolT = TypeVar("ToolT", bound="AnyTool")


class WrappedJournal(Journal):
    """A journal that does what another does."""

    def __init__(self, journal: Journal) -> None:
        self.inner = journal
        self.quick = journal.quick

    def create(self, name: str, *, parent: str | None = None) -> str:
        """See `Journal.create`."""
        return self.inner.create(name, parent=parent)

    def append(self, session: str, drafts: Sequence[Draft], *, flush: bool = True) -> int:
        """See `Journal.append`."""
        return self.inner.append(session, drafts, flush=flush)

    def read(self, session: str, after: int = 0, until: int | None = None) -> Sequence[Entry]:
        """See `Journal.read`."""
        return self.inner.read(session, after, until)

    def latest(self, session: str, kind: str) -> Entry | None:
        """See `Journal.latest`."""
        return self.inner.latest(session, kind)

    def find(self, name: str) -> SessionInfo | None:
        """See `Journal.find`."""
        return self.inner.find(name)

    def sessions(self, *, parent: str | None = None) -> Sequence[SessionInfo]:
        """See `Journal.sessions`."""
        return self.inner.sessions(parent=parent)

    def rename(self, session: str, name: str) -> None:
        """See `Journal.rename`."""
        self.inner.rename(session, name)

    def fork(self, session: str, name: str, until: int | None = None) -> str:
        """See `Journal.fork`."""
        return self.inner.fork(session, name, until)

    def search(self, words: str, limit: int = 20) -> Sequence[Found]:
        """See `Journal.search`."""
        return self.inner.search(words, limit)

    def delete(self, session: str) -> None:
        """See `Journal.delete`."""
        self.inner.delete(session)

    def media(self) -> frozenset[str]:
        """See `Journal.media`."""
        return self.inner.media()

    def lease(self, session: str) -> AbstractContextManager[None] | None:
        """See `Journal.lease`."""
        return self.inner.lease(session)

    def close(self) -> None:
        """See `Journal.close`."""
        self.inner.close()


class WrappedModel:
    """A model that does what another does."""

    def __init__(self, model: ChatModel) -> None:
        self.inner = model

    @property
    def name(self) -> str:
        """See `ChatModel.name`."""
        return self.inner.name

    @property
    def capabilities(self) -> Capabilities:
        """See `ChatModel.capabilities`."""
        return self.inner.capabilities

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See `ChatModel.stream`."""
        async with aclosing(cast("AsyncGenerator[ModelEvent, None]", self.inner.stream(request))) as events:
            async for event in events:
                yield event

    def count_tokens(self, request: ModelRequest) -> int:
        """See `ChatModel.count_tokens`."""
        return self.inner.count_tokens(request)


def around(tool: ToolT, before: Callable[[], None], after: Callable[[], None] = lambda: None) -> ToolT:
    """The same tool, with something done before and after its function, whichever kind that is.

    Raises:
        ConfigurationError: The tool is isolated: its function runs where nothing can be put around it.
    """
    if tool.isolate:
        raise ConfigurationError(
            f"the tool {tool.name} is isolated, so its function runs in another process; give one that is not"
        )
    function: Callable[..., Any] = tool.function
    wrapper: Callable[..., Any]
    if tool.kind == "async generator":

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            before()
            async for value in function(*args, **kwargs):
                yield value
            after()

    elif tool.kind == "generator":

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            before()
            value = yield from function(*args, **kwargs)
            after()
            return value

    elif tool.kind == "async":

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            before()
            value = await function(*args, **kwargs)
            after()
            return value

    else:

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            before()
            value = function(*args, **kwargs)
            if inspect.isawaitable(value):
                return ended(value)
            after()
            return value

        async def ended(work: Awaitable[Any]) -> Any:
            value = await work
            after()
            return value

    wrapped = copy.copy(tool)
    wrapped.function = functools.wraps(function)(wrapper)
    return wrapped
