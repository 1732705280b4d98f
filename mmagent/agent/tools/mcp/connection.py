"""One live connection to an MCP server, in a thread and an event loop of its own, for callers of any thread and loop.
It knows how connections begin, break and end; it knows no tool.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from mmagent.agent.tools.mcp.child import MAX_LOG_LINE, MAX_LOG_LINES
from mmagent.agent.tools.mcp.foreign import clean
from mmagent.agent.tools.mcp.transport import Broken, Secrets, Tell
from mmagent.errors import MMAgentError, ToolError

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp.client._transport import TransportStreams

logger = logging.getLogger(__name__)

T = TypeVar("T")
CONNECT_TIMEOUT = 30.0
"""Seconds that a server has to start and to introduce itself."""
END_TIMEOUT = 1.5
"""Seconds that connections have to end; a child needs a second at most, and a server over HTTP may never answer."""
MAX_ERROR = 500
"""Characters of what a server says of a failure."""

Opens: TypeAlias = "Callable[[Tell], AbstractAsyncContextManager[TransportStreams]]"
"""Opens what messages go through."""


class Connection:
    """Connects when it is first needed, and again when the connection is broken.

    Args:
        label: What messages call the server.
        transport: Opens what messages go through.
        secrets: What must not be shown.
    """

    def __init__(self, label: str, transport: Opens, secrets: Secrets) -> None:
        self.label, self._transport, self._secrets = label, transport, secrets
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._live: _Live | None = None
        self._open: set[asyncio.Task[None]] = set()
        """Of all connections that have not wholly ended."""
        self._closed = False

    def submit(self, work: Callable[[ClientSession], Awaitable[T]], timeout: float) -> Future[T]:
        """Have ``work`` done over the connection; cancelling the future cancels it at the server.

        The future raises `ToolError` when the server fails, does not answer within ``timeout`` seconds, or is gone.

        Raises:
            ToolError: The connection was closed.
        """
        with self._lock:
            if self._closed:
                raise ToolError(f"{self.label} is closed; make another MCPServer")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name=self.label, daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(self._call(work, timeout), self._loop)

    def close(self) -> None:
        """End the connection, the thread and the child; whoever waits for an answer gets an error. It takes a second
        or two at most, and may be called again.
        """
        with self._lock:
            self._closed, loop, thread = True, self._loop, self._thread
            self._loop = None
            if loop is None or thread is None:
                return
            ended = asyncio.run_coroutine_threadsafe(self._end(), loop)
            ended.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
        if thread is not threading.current_thread():  # which it is where the garbage collector calls this
            thread.join(timeout=5)

    async def _call(self, work: Callable[[ClientSession], Awaitable[T]], timeout: float) -> T:
        from mcp import MCPError
        from pydantic import ValidationError

        if self._live is None or self._live.broken:
            self._live = _Live(self.label, self._transport, self._secrets)
            self._open.add(task := self._live.task)
            task.add_done_callback(self._open.discard)
        live = self._live
        session = await asyncio.shield(live.ready)
        try:
            async with asyncio.timeout(timeout):
                return await work(session)
        except ToolError as error:
            raise ToolError(self._secrets.hide(str(error))) from None
        except TimeoutError as error:
            raise ToolError(f"{self.label} did not answer within {timeout:g} s") from error
        except MCPError as error:
            if error.message == "Connection closed" and not live.broken:
                await asyncio.wait([live.task], timeout=1)  # it is about to say why
            if error.message == "Session terminated":
                live.end("was started anew")
            if live.broken:
                hint = "" if self._closed else "; the next call connects again"
                raise ToolError(f"{self.label} {live.why}{hint}") from error
            said = clean(self._secrets.hide(error.message[: 4 * MAX_ERROR]), MAX_ERROR)
            raise ToolError(f"{self.label} refused: {said}") from error
        except ValidationError as error:
            raise ToolError(f"{self.label} sent what is no MCP; update it") from error
        except (RuntimeError, Broken) as error:
            said = clean(self._secrets.hide(str(error)[: 4 * MAX_ERROR]), MAX_ERROR)
            raise ToolError(f"{self.label} cannot go on: {said}") from error

    async def _end(self) -> None:
        if self._live is not None:
            self._live.end("was closed")
            if not self._live.ready.done():
                self._live.task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=END_TIMEOUT)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=1)


class _Live:
    """A connection from its beginning to its end, held open by one task: the SDK's scopes may not change tasks."""

    def __init__(self, label: str, transport: Opens, secrets: Secrets) -> None:
        self._label, self._secrets = label, secrets
        self._lines = 0
        self.ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        """The session, once it may be used."""
        self.ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._stop = asyncio.Event()
        self.broken = False
        self.why = ""
        """What became of it, in words that go after the server's name."""
        self.task = asyncio.create_task(self._hold(transport))

    async def _hold(self, transport: Opens) -> None:
        from mcp import Client
        from mcp.types import Implementation

        import mmagent

        try:
            async with asyncio.timeout(CONNECT_TIMEOUT) as clock:
                client = Client(
                    transport(self.end),
                    client_info=Implementation(name="mmagent", version=mmagent.__version__),
                    logging_callback=self._log,
                    cache=None,
                )
                async with client:
                    clock.reschedule(None)
                    self.ready.set_result(client.session)
                    await self._stop.wait()
        except (Exception, asyncio.CancelledError) as error:
            self.end(self._reason(error))
            if not self.ready.done():
                mine = next((leaf for leaf in _leaves(error) if isinstance(leaf, MMAgentError)), None)
                self.ready.set_exception(mine or ToolError(f"{self._label} {self.why}"))

    def end(self, why: str) -> None:
        """The connection is over, or to be ended; the first reason counts."""
        if not self.broken:
            self.broken, self.why = True, self._secrets.hide(why)
            logger.debug("%s %s", self._label, self.why)
            self._stop.set()

    def _reason(self, error: BaseException) -> str:
        leaves = list(_leaves(error))
        if broken := next((leaf for leaf in leaves if isinstance(leaf, Broken)), None):
            return str(broken)
        if isinstance(error, TimeoutError) and not self.ready.done():
            return f"did not introduce itself within {CONNECT_TIMEOUT:g} s"
        leaf = leaves[-1] if leaves else error
        said = clean(f"{type(leaf).__name__}: {leaf}".removesuffix(": "), MAX_ERROR)
        return f"{'cannot be reached' if not self.ready.done() else 'is gone'} ({said})"

    async def _log(self, params: object) -> None:
        self._lines += 1
        if self._lines <= MAX_LOG_LINES:
            said = clean(self._secrets.hide(str(getattr(params, "data", ""))[: 4 * MAX_LOG_LINE]), MAX_LOG_LINE)
            logger.info("%s: %s", self._label, said)


def _leaves(error: BaseException | None) -> Iterator[BaseException]:
    """The errors in a group, and those that they came of."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop(0)
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
        elif not isinstance(error, asyncio.CancelledError):
            yield error
        waiting += [error.__cause__, error.__context__]


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
