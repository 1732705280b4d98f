"""Tools in processes of their own: one that crashes or hangs harms nobody. It knows tools; it knows no turn.

Arguments and results cross as lines of JSON, media by their ids in the blob store. A process serves one call at a time
and is used again; one whose call failed to end is killed, with all that it started.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from pydantic_core import to_jsonable_python

from mmagent.agent.tools import AnyTool, Tool, tool
from mmagent.agent.tools.calls import failure, run_once
from mmagent.agent.tools.context import Progress, ToolContext
from mmagent.agent.tools.files import PREFIX, load_module, one_line
from mmagent.agent.tools.results import Outcome
from mmagent.agent.tools.workers import in_thread
from mmagent.errors import ConfigurationError
from mmagent.media import BlobStore
from mmagent.redact import redact
from mmagent.settings import settings

MAX_IDLE = 2
"""Processes that are kept for the next call."""
_MAX_LINE = 64 * 1024 * 1024
_START = "from mmagent.agent.tools.isolate import serve; serve()"
_idle: list[Child] = []
_loading = threading.Event()
"""Set in such a process while it runs a file to find a function."""


async def run_isolated(
    tool: AnyTool,
    arguments: dict[str, Any],
    context: ToolContext[Any],
    blobs: BlobStore,
    started: Callable[[], None],
) -> Outcome:
    """Run a tool in a process of its own. Cancelling this kills the process.

    Args:
        tool: The tool; its function is found again by its module and name.
        arguments: As `check` gave them.
        context: Is told of progress.
        blobs: Where media go.
        started: Called when the process is up and the function found.

    Raises:
        ConfigurationError: This is such a process, running the script that it was to take a function from.
    """
    if _loading.is_set():
        raise ConfigurationError("put what runs the agent under: if __name__ == '__main__':")
    request = {
        "tool": tool.name,
        "place": _place_of(tool),
        "args": to_jsonable_python(arguments),
        "blobs": str(blobs.root),
        "limit": settings().max_tool_output_chars,
    }
    loop, child = asyncio.get_running_loop(), Child()

    def heard(message: dict[str, Any]) -> None:
        if "ready" in message:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(started)
        elif "progress" in message:
            context.progress(*message["progress"])

    try:
        answer = await in_thread(lambda: child.ask(request, heard), f"tool {tool.name}")
    except BaseException:
        child.kill()
        raise
    if answer is None:
        return failure(f"{tool.name} failed: its process ended (exit code {child.kill()})", crashed=True)
    made = answer["outcome"]
    if made["crashed"]:  # who knows in what state it is
        child.kill()
    else:
        child.release()
    return Outcome(**made | {"content": tuple(made["content"]), "artifacts": tuple(made["artifacts"])})


class Child:
    """A process that runs tools, seen from outside. It is started, or taken from the idle ones, when it is asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = self._asked = False
        self._lock = threading.Lock()

    def ask(self, request: dict[str, Any], heard: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
        """Send a request and wait for the answer; None: the process ended before it.

        Args:
            request: JSON.
            heard: Is given every message before the answer.
        """
        process = self._begin()
        if process is None:
            return None
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            while (line := process.stdout.readline(_MAX_LINE)).endswith(b"\n"):
                message: dict[str, Any] = json.loads(line)
                if "outcome" in message:
                    return message
                heard(message)
        except (OSError, ValueError):  # it was killed meanwhile, or wrote nonsense
            pass
        finally:
            with self._lock:
                self._asked = False
                if self._killed:
                    _close(process)
        return None

    def release(self) -> None:
        """Keep the process for the next call."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and len(_idle) < MAX_IDLE:
            kept = Child()
            kept._process = process
            _idle.append(kept)
        elif process is not None:
            _end(process)
            _close(process)

    def kill(self) -> int | None:
        """End the process now, and all that it started; its exit code."""
        with self._lock:
            self._killed = True
            if self._process is None:
                return None
            code = _end(self._process)
            if not self._asked:  # else closing would wait for who reads, and that may be for what the tool left behind
                _close(self._process)
            return code

    def _begin(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            while self._process is None and _idle:
                with suppress(IndexError):
                    waiting = _idle.pop()._process
                    self._process = waiting if waiting is not None and waiting.poll() is None else None
            if self._process is None and not self._killed:
                self._process = _spawn()
            self._asked = not self._killed
            return None if self._killed else self._process


def close_idle() -> None:
    """End the processes that wait for the next call."""
    while _idle:
        _idle.pop().kill()


atexit.register(close_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they answer to the parent


def _spawn() -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> int | None:
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    return process.returncode


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()


def _place_of(tool: AnyTool) -> dict[str, Any]:
    """Where the function is found again."""
    module = str(tool.function.__module__)
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None)
    if module == "__main__" and spec is not None:  # python -m
        module = spec.name
    return {"module": module, "name": tool.function.__qualname__, "file": getattr(loaded, "__file__", None)}


def serve() -> None:
    """Be the process: answer requests from standard input until it closes. What tools print goes to standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    lines: SimpleQueue[bytes] = SimpleQueue()

    def listen() -> None:
        for line in requests:
            lines.put(line)
        os._exit(0)  # whoever asked is gone

    writing = threading.Lock()

    def say(message: dict[str, Any]) -> None:
        with writing:
            answers.write(json.dumps(message).encode() + b"\n")
            answers.flush()

    threading.Thread(target=listen, daemon=True).start()
    while True:
        say({"outcome": asdict(_answer(json.loads(lines.get()), say))})


def _answer(request: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> Outcome:
    name = request["tool"]
    try:
        made = _found(name, **request["place"])
        arguments = made.validate(request["args"])
    except Exception as error:
        return failure(redact(f"{name} failed: {one_line(error)}"), crashed=True)

    def tell(progress: Progress) -> None:
        say({"progress": [progress.message, progress.fraction]})

    say({"ready": True})
    context: ToolContext[Any] = ToolContext(on_progress=tell)
    return asyncio.run(run_once(made, arguments, context, BlobStore(Path(request["blobs"])), None, request["limit"]))


@lru_cache(maxsize=256)
def _found(tool_name: str, module: str, name: str, file: str | None) -> AnyTool:
    """The tool, made again from its function."""
    value: Any
    _loading.set()
    try:
        value = _module(module, file)
    finally:
        _loading.clear()
    for part in name.split("."):
        value = getattr(value, part)
    decorate: Any = tool(name=tool_name)
    made: AnyTool = decorate(value.function if isinstance(value, Tool) else value)
    return made


def _module(name: str, file: str | None) -> ModuleType:
    """A module by its name, or by its file where it has no name of its own."""
    if file and (name == "__main__" or name.startswith(PREFIX)):
        return load_module(Path(file))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not file or not error.name or not name.startswith(error.name):
            raise
        return load_module(Path(file))
