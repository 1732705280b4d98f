"""Reads documents in processes of their own, so that a crash, a hang or a memory blow-up costs one document.

It knows how to start, watch and end workers, and nothing of what they do.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeAlias

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read import Options, frames

MEMORY = 4 << 30
"""Bytes that a worker may take, unless it is told otherwise."""

_ROOT = Path(__file__).parents[3]
_START = (
    "import sys; sys.path.append(sys.argv[1]); from mmagent.knowledge.read.worker import main; "
    "main(int(sys.argv[2]), float(sys.argv[3]))"
)
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH")
"""What a worker gets of the environment: no keys and passwords, as it looks at files of strangers."""

_STOPPED = "reading it was stopped; take it in again"

_Task: TypeAlias = "tuple[Future[Any], dict[str, Any], bytes]"

_log = logging.getLogger(__name__)


class ReaderPool:
    """Workers that are started when needed, used again, and ended by `close`; it may be used from many threads.

    Args:
        workers: Processes at most.
        timeout: Seconds for one document.
        memory: Bytes of memory for one process.
    """

    def __init__(self, workers: int = 2, timeout: float = 300, memory: int = MEMORY) -> None:
        self._workers, self._timeout, self._memory = workers, timeout, memory
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0  # tasks that are queued or at work
        self._children: set[_Child] = set()
        self._closed = False
        atexit.register(self.close)

    def submit(self, data: bytes, name: str, options: Options) -> Future[Extract]:
        """Reads a document as `read` does; what it raises is in the future.

        Raises:
            RuntimeError: The pool is closed.
        """
        return self._enqueue({"op": "read", "name": name, "options": options.to_json()}, data)

    def pixels(
        self, data: bytes, mime_type: str, options: Options, *, page: int | None = None, t0: float | None = None
    ) -> Future[bytes]:
        """The picture that a document is or has on a page or at a time, as `pixels.pixels` makes it, as PNG.

        Raises:
            RuntimeError: The pool is closed.
        """
        place = {"mime_type": mime_type, "page": page, "t0": t0}
        return self._enqueue({"op": "pixels", **place, "options": options.to_json()}, data)

    def clip(self, data: bytes, options: Options, t0: float, t1: float) -> Future[bytes]:
        """What is heard in a recording or video from one second to another, as `pixels.clip` makes it.

        Raises:
            RuntimeError: The pool is closed.
        """
        return self._enqueue({"op": "clip", "t0": t0, "t1": t1, "options": options.to_json()}, data)

    def close(self) -> None:
        """Ends all workers; what they were at fails, and what was waiting is cancelled."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            children, threads = list(self._children), self._threads
        atexit.unregister(self.close)
        for child in children:
            child.end()
        for _ in range(threads):
            self._tasks.put(None)

    def __enter__(self) -> ReaderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enqueue(self, header: dict[str, Any], body: bytes) -> Future[Any]:
        future: Future[Any] = Future()
        if len(body) > frames.MAX_BYTES:
            future.set_exception(
                InputError(f"it has {len(body):,} bytes, and readers take {frames.MAX_BYTES:,}; split it")
            )
            return future
        with self._lock:
            if self._closed:
                raise RuntimeError("the reader pool is closed")
            self._waiting += 1
            if self._threads < min(self._workers, self._waiting):
                self._threads += 1
                threading.Thread(target=self._serve, name="mmagent-reader", daemon=True).start()
            self._tasks.put((future, header, body))
        return future

    def _serve(self) -> None:
        """One thread: takes tasks and has its child do them."""
        child: _Child | None = None
        while (task := self._tasks.get()) is not None:
            future, header, body = task
            del task
            if self._closed:
                future.cancel()
            elif future.set_running_or_notify_cancel():
                try:
                    result, child = self._done(child, header, body)
                except _Lost as lost:
                    child = None
                    future.set_exception(lost.reason)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    if isinstance(result, InputError):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
            del future, body
            with self._lock:
                self._waiting -= 1
        self._forget(child)

    def _done(self, child: _Child | None, header: dict[str, Any], body: bytes) -> tuple[Any, _Child | None]:
        """The outcome, and the child for the next task."""
        used = child is not None
        child = child or self._started()
        try:
            answer, data = child.ask(header, body)
            result = _outcome(header["op"], answer, data)
        except (OSError, EOFError, ValueError) as error:
            self._forget(child)
            if self._closed:
                raise _Lost(InputError(_STOPPED)) from error
            if child.overdue:
                raise _Lost(InputError(_overdue(self._timeout))) from error
            if used:  # what came before may have left it weak
                return self._done(None, header, body)
            _log.debug("the reader of %s ended with %s", header.get("name"), child.status())
            raise _Lost(InputError("its reader crashed; save it again or take another one")) from error
        if answer.get("spent"):
            self._forget(child)
            child = None
        return result, child

    def _started(self) -> _Child:
        with self._lock:
            if self._closed:
                raise _Lost(InputError(_STOPPED))
            try:
                child = _Child(self._memory, self._timeout)
            except OSError as error:
                raise _Lost(InputError(f"its reader could not be started ({error.strerror}); try again")) from error
            self._children.add(child)
        return child

    def _forget(self, child: _Child | None) -> None:
        if child is not None:
            child.end()
            with self._lock:
                self._children.discard(child)


class _Lost(Exception):
    """A task failed with its child."""

    def __init__(self, reason: InputError) -> None:
        self.reason = reason


class _Child:
    """A worker process; one thread at a time asks it."""

    def __init__(self, memory: int, timeout: float) -> None:
        self.overdue = False
        self._timeout = timeout
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, str(_ROOT), str(memory), str(timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
            env=_environment(),
        )

    def ask(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Its answer; it is killed when that takes too long."""
        assert self._process.stdin and self._process.stdout
        timer = threading.Timer(self._timeout, self._kill_overdue)
        timer.daemon = True
        timer.start()
        try:
            frames.write(self._process.stdin, header, body)  # type: ignore[arg-type]
            return frames.receive(self._process.stdout)  # type: ignore[arg-type]
        finally:
            timer.cancel()

    def end(self) -> None:
        """Kills it; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def status(self) -> int | None:
        """How it ended: the signal, negative, or the exit code."""
        return self._process.poll()

    def _kill_overdue(self) -> None:
        self.overdue = True
        self._process.kill()


def _outcome(op: str, answer: dict[str, Any], data: bytes) -> Extract | bytes | InputError:
    if "error" in answer:
        if answer.get("detail"):
            _log.debug("%s", answer["detail"])
        return InputError(str(answer["error"]))
    return data if op == "pixels" else frames.unpacked(answer, data)


def _overdue(timeout: float) -> str:
    from mmagent.settings import Settings

    return f"reading it took longer than {timeout:g} s; {Settings.variable('index_timeout')} changes it"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    threads = str(min(4, os.cpu_count() or 1))
    return kept | {"OMP_NUM_THREADS": threads, "MALLOC_ARENA_MAX": "2", "TOKENIZERS_PARALLELISM": "false"}
