"""What users make of an MCP server: its tools, resources and prompts. It knows tools and one connection, no transport's
details and no agent.
"""

from __future__ import annotations

import asyncio
import logging
import re
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from mmagent.agent.tools import AnyTool, Effect, Tool, ToolContext, ToolResult
from mmagent.agent.tools.mcp import child, foreign, results, transport
from mmagent.agent.tools.mcp.connection import CONNECT_TIMEOUT, Connection
from mmagent.content import Media
from mmagent.errors import ConfigurationError, MissingExtra, ToolError

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp.shared.dispatcher import ProgressFnT
    from mcp.types import Tool as Listed

logger = logging.getLogger(__name__)

T = TypeVar("T")
MAX_LISTED = 1000
"""Tools, resources or prompts of one server."""
MAX_PAGES = 100
MAX_PROGRESS = 1000
"""Notes of progress in one call that are passed on."""


@dataclass(frozen=True)
class Resource:
    """Something that a server lets be read."""

    uri: str
    name: str
    description: str = ""
    mime_type: str | None = None


@dataclass(frozen=True)
class Prompt:
    """A text that a server makes of arguments."""

    name: str
    description: str = ""
    arguments: tuple[str, ...] = ()


class MCPServer:
    """Tools of an MCP server, for ``Agent(tools=[MCPServer(...)])``. It connects when it is first needed.

    What the server says of its own tools (that they only read, say) counts only with ``trusted``; else each of its
    tools is ``unsafe``, private, untrusted and may send data out.

    Args:
        command: A program that speaks over its stdin and stdout, with its arguments: ``["uvx", "mcp-server-git"]``.
        url: The address of a server that speaks streamable HTTP, instead: ``"https://example.com/mcp"``.
        env: Variables that the program gets, beside PATH, HOME and their like.
        cwd: The folder that the program runs in.
        headers: Of every HTTP request, e.g. ``{"Authorization": "Bearer ..."}``.
        name: What to call it; None: the name of what runs, or the host.
        allow: Patterns of the names of the tools that are wanted, e.g. ``["read_*"]``; None: all.
        prefix: Whether to call its tools ``name__tool``.
        timeout: Seconds that a call may take.
        trusted: Whether to believe what it says of its tools.

    Raises:
        ConfigurationError: There is no command and no url, or both, or they cannot be used.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        *,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        allow: Sequence[str] | None = None,
        prefix: bool = False,
        timeout: float = 60,
        trusted: bool = False,
    ) -> None:
        if (command is None) == (url is None):
            raise ConfigurationError("an MCPServer has either a command, as a list, or a url")
        if isinstance(command, str) or (command is not None and not command):
            raise ConfigurationError('the command of an MCPServer is a list: ["program", "argument"]')
        if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise ConfigurationError("the url of an MCPServer begins with https:// or http://, and has a host")
        if timeout <= 0:
            raise ConfigurationError(f"the MCPServer has a timeout of {timeout:g} s; give it more than 0")
        if bad := [key for key, value in (headers or {}).items() if not f"{key}{value}".isprintable()]:
            raise ConfigurationError(f"the header {bad[0]!r} of the MCPServer has a line break in it; strip it")
        self.name = name or (_name_of(command) if command else str(urlsplit(url or "").hostname))
        """What messages call it."""
        self.timeout, self.trusted = timeout, trusted
        self._allow, self._prefix = None if allow is None else tuple(allow), prefix
        label = f"the MCP server {foreign.clean(self.name, 80)}"
        env, headers = dict(env or {}), dict(headers or {})
        secrets = transport.Secrets((*env.values(), *headers.values()))
        if command is not None:
            opened = partial(child.child, tuple(command), env, cwd, label, secrets)
            self._connection = Connection(label, opened, secrets)
        else:
            self._connection = Connection(label, partial(transport.http, url or "", headers), secrets)
        self._finalizer = weakref.finalize(self, self._connection.close)  # also when Python ends

    def mmagent_tools(self, *, prefix: bool = False) -> list[AnyTool]:
        """Its tools, asked for anew; this waits for the server.

        Args:
            prefix: Whether to call them ``name__tool`` in any case.

        Raises:
            ToolError: It does not answer, or floods.
            ConfigurationError: It cannot be started.
            MissingExtra: The SDK of the protocol is not installed.
        """
        tools: dict[str, AnyTool] = {}
        for listed in self._wait(partial(_listed, what="tools")):
            if self._allow is not None and not any(fnmatchcase(listed.name, pattern) for pattern in self._allow):
                continue
            made = self._tool(listed, self.name if prefix or self._prefix else "")
            if tools.setdefault(made.name, made) is not made:
                logger.warning("%s has two tools called %s; the second is left out", self._connection.label, made.name)
        return list(tools.values())

    def resources(self) -> list[Resource]:
        """What it lets be read; this waits for the server.

        Raises:
            ToolError: It does not answer, floods, or has no resources.
        """
        return [
            Resource(one.uri, foreign.clean(one.name, 200), foreign.clean(one.description or "", 1000), one.mime_type)
            for one in self._wait(partial(_listed, what="resources"))
        ]

    def read(self, uri: str) -> list[str | Media]:
        """A resource: texts, each after a line with its address, and files; this waits for the server.

        Raises:
            ToolError: It does not answer, or has no such resource.
        """

        async def work(session: ClientSession) -> list[str | Media]:
            return results.parts((await session.read_resource(uri)).contents)

        return self._wait(work)

    def prompts(self) -> list[Prompt]:
        """The prompts that it has; this waits for the server.

        Raises:
            ToolError: It does not answer, floods, or has no prompts.
        """
        return [
            Prompt(one.name, foreign.clean(one.description or "", 1000), tuple(a.name for a in one.arguments or ()))
            for one in self._wait(partial(_listed, what="prompts"))
        ]

    def prompt(self, name: str, /, **arguments: str) -> list[str | Media]:
        """A prompt, made of its arguments; this waits for the server.

        Raises:
            ToolError: It does not answer, or has no such prompt.
        """

        async def work(session: ClientSession) -> list[str | Media]:
            made = await session.get_prompt(name, arguments)
            return results.parts([message.content for message in made.messages])

        return self._wait(work)

    def close(self) -> None:
        """End the connection, and the program, within a second. Its tools fail from now on."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"MCPServer({self.name!r})"

    def _wait(self, work: Callable[[ClientSession], Awaitable[T]]) -> T:
        _require_sdk()
        waiting = self._connection.submit(work, self.timeout)
        try:
            return waiting.result()
        finally:
            waiting.cancel()

    def _tool(self, listed: Listed, prefix: str) -> AnyTool:
        hints = listed.annotations if self.trusted else None
        effect: Effect = "unsafe"
        if hints and hints.read_only_hint:
            effect = "read"
        elif hints and hints.idempotent_hint:
            effect = "idempotent"
        sends = not (hints and hints.open_world_hint is False)

        async def call(context: ToolContext, /, **arguments: Any) -> ToolResult:
            work = partial(_called, name=listed.name, arguments=arguments, progress=_progress(context))
            return await asyncio.wrap_future(self._connection.submit(work, self.timeout))

        return Tool.from_schema(
            foreign.tool_name(listed.name, prefix),
            foreign.clean(listed.description or listed.title or listed.name, foreign.MAX_DESCRIPTION),
            foreign.relaxed(listed.input_schema),
            call,
            effect=effect,
            timeout=self.timeout + CONNECT_TIMEOUT,  # the connection's own limits come first: they name the server
            private=not self.trusted,
            untrusted=True,
            sends=sends,
        )


async def _called(session: ClientSession, name: str, arguments: dict[str, Any], progress: ProgressFnT) -> ToolResult:
    """Call a tool. Not by the SDK's own function: that one runs regular expressions of the server over its results."""
    from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult, InputRequiredResult
    from pydantic import TypeAdapter

    answer: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(CallToolResult | InputRequiredResult)
    request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=arguments))
    result = await session.send_request(request, answer, progress_callback=progress)
    if not isinstance(result, CallToolResult):
        raise ToolError(f"{name} asks for more input, which it is not given")
    return results.tool_result(result)


def _progress(context: ToolContext) -> ProgressFnT:
    """Hands a server's notes of progress from the connection's thread to the loop that runs now."""
    loop = asyncio.get_running_loop()
    count = 0

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        nonlocal count
        count += 1
        if count <= MAX_PROGRESS:
            said = foreign.clean(message or "", 200)
            fraction = min(max(progress / total, 0.0), 1.0) if total else None
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(context.progress, said, fraction)

    return on_progress


async def _listed(session: ClientSession, what: str) -> list[Any]:
    """All pages of a list.

    Raises:
        ToolError: It has no end.
    """
    from mcp.types import PaginatedRequestParams

    found: list[Any] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await getattr(session, f"list_{what}")(params=PaginatedRequestParams(cursor=cursor))
        found += getattr(page, what)
        cursor = page.next_cursor
        if len(found) > MAX_LISTED:
            break
        if not cursor:
            return found
    raise ToolError(f"the list of {what} has more than {MAX_LISTED} entries or {MAX_PAGES} pages")


def _name_of(command: Sequence[str]) -> str:
    """The name of a program; of ``python server.py`` and the like, of what it runs."""
    words = [command[0], *(word for word in command[1:] if not word.startswith("-"))]
    runner = re.match(r"(python|node|npx|uvx)[\d.]*$", Path(command[0]).stem)
    return Path(words[1] if runner and len(words) > 1 else words[0]).stem


def _require_sdk() -> None:
    try:
        import mcp  # noqa: F401
    except ImportError as error:
        raise MissingExtra("an MCP server", "mcp") from error
