"""An MCP server that is a child process: started, heard, and ended, whatever it does. It knows processes and pipes; it
knows no tool.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mmagent.agent.tools.mcp import transport
from mmagent.agent.tools.mcp.foreign import clean
from mmagent.agent.tools.mcp.transport import MIB, Broken, Inbox, Secrets, Tell
from mmagent.errors import ConfigurationError

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage

logger = logging.getLogger(__name__)

MAX_LOG_LINES, MAX_LOG_LINE = 200, 500
"""Lines of a child's stderr that are logged, and characters of each."""
GRACE, TERM_GRACE = 0.5, 0.25
"""Seconds that a child has to end by itself once its stdin closes, and then after SIGTERM."""

_DIES_WITH_US = (
    "import ctypes, os, sys; parent = int(sys.argv[1]); ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == parent and os.execvp(sys.argv[2], sys.argv[2:])"
)
"""PR_SET_PDEATHSIG with SIGKILL: Linux ends the child when the thread that started it is gone, killed or not."""


@asynccontextmanager
async def child(
    command: Sequence[str], env: Mapping[str, str], cwd: str | Path | None, label: str, secrets: Secrets, tell: Tell
) -> AsyncIterator[TransportStreams]:
    """A child process that speaks over its stdin and stdout. It is gone, with all that it started, when this ends.

    Args:
        command: The program and its arguments.
        env: What it gets beside the few variables that every program needs.
        cwd: Where it runs.
        label: What to call it in the log.
        secrets: What must not get there.
        tell: See `Tell`.

    Raises:
        ConfigurationError: There is no such program or folder.
    """
    from mcp.client.stdio import get_default_environment

    environment = get_default_environment() | dict(env)
    named = os.path.abspath(Path(cwd or "", command[0])) if os.sep in command[0] else command[0]
    program = shutil.which(named, path=environment.get("PATH"))
    if program is None:
        raise ConfigurationError(f"{label}: there is no program {command[0]!r}; install it or correct the command")
    arguments = [program, *command[1:]]
    if sys.platform == "linux":
        arguments = [sys.executable, "-I", "-S", "-c", _DIES_WITH_US, str(os.getpid()), *arguments]
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=cwd, start_new_session=True
        )
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{label} cannot be started: {error}; correct the command") from error
    last_words = [""]
    listening = asyncio.create_task(_log(process, label, secrets, last_words))
    try:
        yield Inbox(_FromChild(process, last_words), tell), _ToChild(process, tell)
    finally:
        ending = asyncio.ensure_future(_end(process))
        while (
            not ending.done()
        ):  # every wait in there is bounded; whoever cancels this gets the child's end all the same
            with suppress(asyncio.CancelledError):
                await asyncio.shield(ending)
        listening.cancel()
        await asyncio.wait([listening])


class _FromChild:
    """A child's stdout: a message a line. What is no message is left out, as servers print all kinds of things."""

    def __init__(self, process: asyncio.subprocess.Process, last_words: list[str]) -> None:
        self._process, self._last_words = process, last_words
        self._messages = self._read()

    async def _read(self) -> AsyncIterator[SessionMessage | Exception]:
        from mcp.shared.message import SessionMessage
        from mcp.types import jsonrpc_message_adapter

        async for line in self._lines():
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                logger.debug("a line of %d bytes is no message; it is left out", len(line))
                yield ValueError("no message")
            else:
                yield SessionMessage(message)

    async def _lines(self) -> AsyncIterator[bytes]:
        assert self._process.stdout
        pieces: list[bytes] = []
        size = 0
        while chunk := await self._process.stdout.read(65536):
            *whole, rest = chunk.split(b"\n")
            for part in whole:
                yield b"".join((*pieces, part))
                pieces, size = [], 0
            pieces.append(rest)
            size += len(rest)
            if size > transport.MAX_MESSAGE:
                raise Broken(f"sent more than {transport.MAX_MESSAGE // MIB} MiB at once")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 0.2)
        code = self._process.returncode
        said = f": {self._last_words[0]}" if self._last_words[0] else ""
        raise Broken(f"ended{'' if code is None else f' with code {code}'}{said}")

    async def receive(self) -> SessionMessage | Exception:
        return await anext(self._messages)

    __anext__ = receive

    def __aiter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        """Nothing: the pipe is closed with the process."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class _ToChild:
    """A child's stdin: a message a line."""

    def __init__(self, process: asyncio.subprocess.Process, tell: Tell) -> None:
        self._process, self._tell = process, tell

    async def send(self, item: SessionMessage) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await self._process.stdin.drain()
        except (OSError, RuntimeError):
            await asyncio.sleep(0.1)  # if it has ended, its stdout tells more
            self._tell("reads nothing any more")

    async def aclose(self) -> None:
        """Nothing: the pipe is closed with the process."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


async def _log(process: asyncio.subprocess.Process, label: str, secrets: Secrets, last_words: list[str]) -> None:
    """Log the beginning of a child's stderr and read the rest, so that it never waits for us."""
    assert process.stderr
    left, rest = MAX_LOG_LINES, ""
    while chunk := await process.stderr.read(65536):
        *lines, rest = (rest + chunk.decode("utf-8", "replace")).split("\n")
        rest = rest[-4 * MAX_LOG_LINE :]
        for line in lines[:left]:
            logger.info("%s: %s", label, clean(secrets.hide(line[: 4 * MAX_LOG_LINE]), MAX_LOG_LINE))
        if 0 < left <= len(lines):
            logger.info("%s goes on writing to stderr; the rest is left out", label)
        left = max(left - len(lines), 0)
        if lines:
            last_words[0] = clean(secrets.hide(lines[-1][: 4 * MAX_LOG_LINE]), 200)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close a child's stdin, then ask it to end, then kill it and what it left behind."""
    if process.stdin:
        process.stdin.close()
    await _gone(process, GRACE)
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        await _gone(process, TERM_GRACE)
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    await _gone(process, TERM_GRACE)
    pipes = getattr(process, "_transport", None)
    if pipes is not None:
        pipes.close()  # also those that a runaway grandchild still holds


async def _gone(process: asyncio.subprocess.Process, seconds: float) -> None:
    until = time.monotonic() + seconds
    while process.returncode is None and time.monotonic() < until:
        await asyncio.sleep(0.01)  # Process.wait() would also wait for whoever else holds its pipes


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)  # it leads a group of its own
        elif process.returncode is None:
            process.send_signal(number)
