"""The messages of an MCP server, bounded in number and size, and how they come over HTTP. It knows bytes and secrets;
it knows no tool.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from mmagent.redact import MASK, redact

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams
    from mcp.shared._stream_protocols import ReadStream
    from mcp.shared.message import SessionMessage

MIB = 1024 * 1024
MAX_MESSAGE = 32 * MIB
"""Bytes of one message."""
MAX_MESSAGES, WINDOW = 10_000, 10.0
"""Messages within so many seconds; more are a flood."""


class Broken(Exception):
    """The connection is over; the message says why, in words that go after the server's name."""


Tell: TypeAlias = Callable[[str], None]
"""Is told why a connection is over, before anything is undone."""


class Secrets:
    """What must not be shown: the values of an environment and of headers.

    Args:
        values: The values; short ones are no secrets, and would be found everywhere.
    """

    def __init__(self, values: Sequence[str]) -> None:
        parts = {part for value in values for part in (value, *value.split(" ")) if len(part) >= 8}
        self._parts = sorted(parts, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """The text with a mask in their places, and in those of everything else that looks like a secret."""
        for part in self._parts:
            text = text.replace(part, MASK)
        return redact(text)


class Inbox:
    """The messages of a server, counted; when they end, so does the connection."""

    def __init__(self, messages: ReadStream[SessionMessage | Exception], tell: Tell) -> None:
        self._messages, self._tell = messages, tell
        self._since, self._count = time.monotonic(), 0

    @property
    def last_context(self) -> Any:
        return getattr(self._messages, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        return await self.__anext__()

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            message = await self._messages.__anext__()
            now = time.monotonic()
            if now - self._since > WINDOW:
                self._since, self._count = now, 0
            self._count += 1
            if self._count > MAX_MESSAGES:
                raise Broken(f"sent more than {MAX_MESSAGES} messages within {WINDOW:g} s")
        except Broken as error:
            self._tell(str(error))
            raise
        return message

    def __aiter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        await self._messages.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()


@asynccontextmanager
async def http(url: str, headers: Mapping[str, str], tell: Tell) -> AsyncIterator[TransportStreams]:
    """A connection over streamable HTTP. No response may be compressed; neither a response nor an event of a
    stream may be larger than `MAX_MESSAGE`."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    def failure(why: str) -> Broken:
        tell(why)
        return Broken(why)

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, inner: Any, lines: bool) -> None:
            self.inner, self.lines = inner, lines

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in self.inner:
                end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) if self.lines else -1
                size = size + len(chunk) if end < 0 else len(chunk) - end - 1
                if size > MAX_MESSAGE:
                    raise failure(f"sent more than {MAX_MESSAGE // MIB} MiB at once")
                yield chunk

        async def aclose(self) -> None:
            await self.inner.aclose()

    async def check(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise failure("compressed its answer, which nobody asked for")
        if response.status_code in (401, 403):
            raise failure(f"refused the connection (HTTP {response.status_code}); check the headers")
        # an event stream may go on for days: its lines are bounded here, its events by the client
        lines = response.headers.get("content-type", "").startswith("text/event-stream")
        response.stream = Bounded(response.stream, lines)

    async with (
        httpx2.AsyncClient(
            headers={**headers, "accept-encoding": "identity"},
            timeout=httpx2.Timeout(30, read=600),
            event_hooks={"response": [check]},
        ) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE) as (messages, outbox),
    ):
        yield Inbox(messages, tell), outbox
