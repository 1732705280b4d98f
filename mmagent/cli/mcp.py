"""``mmagent mcp``: the tools for other programs. It knows the options and where things are printed; no model."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmagent.cli.outcome import INTERRUPTED
from mmagent.errors import ConfigurationError, NotFound

TOKEN = "MMAGENT_MCP_TOKEN"


def serve(
    *, knowledge: Path | None = None, tools: Sequence[Path] = (), roots: Sequence[Path] = (), port: int | None = None
) -> None:
    """Serve the built-in tools and those of files, over stdio or HTTP, until the client leaves or Ctrl-C.

    Args:
        knowledge: A folder of documents for `search_knowledge`.
        tools: Python files with more tools.
        roots: Folders that pictures may be read from; the current one by default.
        port: Of 127.0.0.1, for HTTP; 0 picks one. None: stdio.

    Raises:
        NotFound: A file or folder is not there.
        ConfigurationError: A tool file does not run, or the port is taken.
        MissingExtra: The protocol's SDK is not installed.
    """
    from mmagent.agent import load_tools
    from mmagent.serve.mcp import ToolServer, over_http, over_stdio
    from mmagent.tools import BUILTIN, builtin

    for folder in (*roots, *([knowledge] if knowledge else ())):
        if not folder.is_dir():
            raise NotFound(f"there is no folder {folder}; give one of this machine")
    wanted = ["read_text", "look", "calculate", "today", *(["search_knowledge"] if knowledge else [])]
    own = [tool for path in tools for tool in load_tools(path)]
    server = ToolServer(
        [*(builtin(name) for name in BUILTIN if name in wanted), *own], list(roots) or [Path.cwd()], knowledge
    )
    try:
        if port is None:
            asyncio.run(_interruptible(over_stdio(server)))
            return
        token = os.environ.get(TOKEN, "")
        with _listen(port) as listening:
            print(f"serving http://127.0.0.1:{listening.getsockname()[1]}/mcp", file=sys.stderr)
            if not token:
                token = secrets.token_urlsafe(32)
                print(f"clients need the header: Authorization: Bearer {token}", file=sys.stderr, flush=True)
            asyncio.run(over_http(server, listening, token))
    finally:
        server.close()


async def _interruptible(work: Coroutine[Any, Any, None]) -> None:
    """End on Ctrl-C, although a thread sits on stdin and will not be woken."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task

    def stop() -> None:
        task.cancel()
        loop.call_later(1, os._exit, INTERRUPTED)

    with suppress(NotImplementedError):  # Windows has its own way
        loop.add_signal_handler(signal.SIGINT, stop)
    try:
        await work
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ConfigurationError(f"port {port} cannot be used ({error.strerror}); give another, or 0") from error
