"""Our tools for other people's agents, over the Model Context Protocol: stdio, or HTTP on this machine. It knows tools,
files below the folders that are served, and the protocol; it knows no model and no agent.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import os
import stat
import tempfile
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mmagent.agent.tools import AnyTool, Progress, ToolContext
from mmagent.agent.tools.calls import Outcome, failure, perform
from mmagent.agent.tools.schema import first_error
from mmagent.content import Block, Image, MediaBlock
from mmagent.errors import InputError, MissingExtra, MMAgentError, StoreError, ToolError
from mmagent.media import BlobStore
from mmagent.settings import settings
from mmagent.tools import builtin

if TYPE_CHECKING:
    import socket

    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, Tool

    from mmagent.knowledge import Knowledge

MAX_CALLS = 8
"""Tools that run at once; further calls wait."""
SEEING = ("look", "read_text")
"""Built-in tools that take a picture of the conversation; here they take a file, or its bytes."""
PICTURE = {
    "path": {"type": "string", "description": "The path of a picture in a folder that is served."},
    "data": {"type": "string", "description": "Instead of a path: the picture's file, as base64."},
}
_BY_FOLDERS = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")


class _OneCall(BlobStore):
    """The files of a call. A tool that nobody waits for any more can add none: their folder is gone."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._putting, self._over = threading.Lock(), False

    def put(self, data: bytes, mime_type: str) -> str:
        with self._putting:
            if self._over:
                raise StoreError("the call is over; return files before its timeout")
            return super().put(data, mime_type)

    def close(self) -> None:
        with self._putting:
            self._over = True


class ToolServer:
    """Tools, as an MCP server has them.

    Args:
        tools: What is served; of two of one name, the last.
        roots: Folders that pictures may be read from, by their paths.
        knowledge: Documents for `search_knowledge`; they are read when something is first looked for.

    Raises:
        MissingExtra: The SDK of the protocol is not installed.
    """

    def __init__(self, tools: Sequence[AnyTool], roots: Sequence[Path], knowledge: Path | None = None) -> None:
        try:
            from mcp.server.lowlevel import Server
        except ImportError as error:
            raise MissingExtra("mmagent mcp", "mcp") from error
        import mmagent

        self._tools = {tool.name: tool for tool in tools}
        self._roots = [root.expanduser().resolve() for root in roots]
        self._folder, self._opening = knowledge, threading.Lock()
        self._knowledge: Knowledge | None = None
        self._places = asyncio.Semaphore(MAX_CALLS)
        self.protocol: Server[Any] = Server(
            "mmagent",
            version=mmagent.__version__,
            instructions="Tools that see, read, search and calculate on this machine.",
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        """The SDK's server; `over_stdio` and `over_http` run it."""

    def close(self) -> None:
        """Let others use the documents."""
        if self._knowledge is not None:
            self._knowledge.close()

    async def _list(self, context: ServerRequestContext[Any], params: object) -> ListToolsResult:
        from mcp.types import ListToolsResult

        return ListToolsResult(tools=[_listed(tool) for tool in self._tools.values()])

    async def _call(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        with tempfile.TemporaryDirectory(prefix="mmagent-mcp-") as folder:
            blobs = _OneCall(Path(folder))
            try:
                async with self._places:
                    outcome = await self._perform(context, params.name, dict(params.arguments or {}), blobs)
                return await asyncio.to_thread(_answer, outcome, blobs)
            finally:
                blobs.close()

    async def _perform(
        self, context: ServerRequestContext[Any], name: str, arguments: dict[str, Any], blobs: BlobStore
    ) -> Outcome:
        try:
            tool = self._tools.get(name)
            if tool is None:
                raise ToolError(f"there is no tool {name}; there are: {', '.join(self._tools)}")
            pictures: tuple[MediaBlock, ...] = ()
            knowledge = None
            if _sees(tool):
                path, data = arguments.pop("path", None), arguments.pop("data", None)
                pictures = (await asyncio.to_thread(lambda: blobs.admit(Image(self._file(path, data)))),)
            elif tool.context_parameter:
                knowledge = await asyncio.to_thread(self._documents)
            checked = tool.validate(arguments)
        except ValidationError as error:
            return failure(f"{name} got wrong arguments: {first_error(error)}")
        except MMAgentError as error:
            return failure(str(error))
        own = ToolContext[Any](
            pictures=pictures,
            blobs=blobs,
            knowledge=knowledge,
            call_id=str(context.request_id),
            on_progress=_progress(context),
        )
        return await perform(tool, checked, own, blobs, tool.timeout or settings().tool_timeout)

    def _documents(self) -> Knowledge | None:
        if self._folder is None:
            return None
        with self._opening:
            if self._knowledge is None:
                from mmagent.knowledge import Knowledge

                self._knowledge = Knowledge.of_folder(self._folder)
            return self._knowledge

    def _file(self, path: object, data: object) -> bytes:
        """The bytes of a picture.

        Raises:
            ToolError: It is given twice, not at all, or as what is no base64.
            InputError: There is no such file below the folders that are served.
        """
        if (path is None) == (data is None):
            raise ToolError("give the picture as either path or data")
        if data is not None:
            try:
                return base64.b64decode(str(data).rpartition("base64,")[2], validate=True)
            except (binascii.Error, ValueError) as error:
                raise ToolError("the data is no base64; give the bytes of a picture file") from error
        return read_below(self._roots, str(path))


def read_below(roots: Sequence[Path], path: str) -> bytes:
    """The bytes of a file, at most ``max_image_bytes`` + 1 of them.

    Args:
        roots: Resolved folders. Neither ``..`` nor a link leads out of them.
        path: Absolute, or from one of the folders.

    Raises:
        InputError: There is no such file in them, or it cannot be read.
    """
    for root in roots:
        try:
            file = (root / path).resolve(strict=True)
            if not file.is_relative_to(root):
                continue
            with os.fdopen(_open_below(root, file), "rb") as opened:
                if stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                    return opened.read(settings().max_image_bytes + 1)
        except (OSError, ValueError, RuntimeError):  # ValueError: a NUL; RuntimeError: links in a circle
            continue
    raise InputError(f"there is no file {path[:200]!r} in the folders that are served; see --root")


def _open_below(root: Path, file: Path) -> int:
    """Open a file, where the system can from folder to folder: one of them may become a link at any moment."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    *folders, name = file.relative_to(root).parts or (".",)
    if not _BY_FOLDERS:
        return os.open(file, flags)
    at = os.open(root, flags | os.O_DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, flags | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, flags, dir_fd=at)
    finally:
        os.close(at)


async def over_stdio(server: ToolServer) -> None:
    """Serve the process that started this one, until it closes stdin. What tools print goes to stderr."""
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (messages, outbox):
        await server.protocol.run(messages, outbox, server.protocol.create_initialization_options())


async def over_http(server: ToolServer, listening: socket.socket, token: str) -> None:
    """Serve streamable HTTP at ``/mcp`` until cancelled or interrupted.

    Requests need ``Authorization: Bearer`` and the token, a Host header of this machine, and no foreign Origin.

    Args:
        server: What is served.
        listening: A socket of 127.0.0.1.
        token: The token.
    """
    import uvicorn

    app = server.protocol.streamable_http_app(max_request_body_size=settings().max_request_bytes)
    config = uvicorn.Config(_guarded(app, token), log_config=None, access_log=False, timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listening])


def _guarded(app: Callable[..., Awaitable[None]], token: str) -> Callable[..., Awaitable[None]]:
    """The application for those who know the token."""
    wanted = f"Bearer {token}".encode()

    async def guarded(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "lifespan" or (scope["type"] == "http" and hmac.compare_digest(given, wanted)):
            return await app(scope, receive, send)
        if scope["type"] == "http":
            head = [(b"www-authenticate", b"Bearer"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 401, "headers": head})
            await send({"type": "http.response.body", "body": b""})

    return guarded


def _sees(tool: AnyTool) -> bool:
    return tool.name in SEEING and tool is builtin(tool.name)


def _listed(tool: AnyTool) -> Tool:
    from mcp.types import Tool, ToolAnnotations

    schema = tool.parameters
    if _sees(tool):
        own = {key: part for key, part in schema["properties"].items() if key != "image"}
        schema = {**schema, "properties": {**PICTURE, **own}}
    return Tool(
        name=tool.name,
        description=tool.description,
        input_schema={"type": "object", **schema},
        annotations=ToolAnnotations(
            read_only_hint=tool.effect == "read",
            destructive_hint=tool.effect == "unsafe",
            idempotent_hint=tool.effect != "unsafe",
            open_world_hint=tool.sends,
        ),
    )


def _progress(context: ServerRequestContext[Any]) -> Callable[[Progress], None]:
    """Sends what a tool says of its progress; the protocol wants numbers that grow."""
    running: set[asyncio.Task[None]] = set()
    count = 0

    def tell(progress: Progress) -> None:
        nonlocal count
        count += 1
        done, total = (count, None) if progress.fraction is None else (progress.fraction, 1.0)
        running.add(task := asyncio.ensure_future(context.session.report_progress(done, total, progress.message)))
        task.add_done_callback(running.discard)

    return tell


def _answer(outcome: Outcome, blobs: BlobStore) -> CallToolResult:
    from mcp.types import CallToolResult, TextContent

    if outcome.error is not None:
        return CallToolResult(content=[TextContent(text=outcome.error)], is_error=True)
    data = outcome.data
    structured = data if isinstance(data, dict) or data is None else {"result": data}
    return CallToolResult(content=[_content(block, blobs) for block in outcome.content], structured_content=structured)


def _content(block: Block, blobs: BlobStore) -> Any:
    from mcp.types import AudioContent, BlobResourceContents, EmbeddedResource, ImageContent, TextContent

    if block["type"] == "text":
        return TextContent(text=block["text"])
    if block["type"] not in ("image", "audio", "video", "file"):
        return TextContent(text="")
    data = base64.b64encode(blobs.get(block["file_id"])).decode()
    kind = block.get("mime_type", "application/octet-stream")
    if block["type"] == "image":
        return ImageContent(data=data, mime_type=kind)
    if block["type"] == "audio":
        return AudioContent(data=data, mime_type=kind)
    return EmbeddedResource(resource=BlobResourceContents(uri=block["file_id"], blob=data, mime_type=kind))
