"""A process that reads documents for a `pool.ReaderPool`, one after the other. It ends when its parent does."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, TypeAlias

from mmagent.errors import InputError
from mmagent.knowledge.read import Options, frames, read

Frame: TypeAlias = "tuple[dict[str, Any], bytes]"

_GRACE = 10
"""Seconds after the time limit until a worker whose parent could not end it is ended by the system."""


def main(memory: int, timeout: float) -> None:
    """Answers requests from standard input on standard output.

    Args:
        memory: Bytes of memory that it may take, where the system can limit that.
        timeout: Seconds for one request; its parent watches it.
    """
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nothing:  # what a library prints or asks for does not come between frames
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    _limit(memory)
    frames_in: SimpleQueue[Frame] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, frames_in), daemon=True).start()
    while True:
        header, body = frames_in.get()
        _set_alarm(timeout + _GRACE)
        answer, data = _answer(header, body)
        _set_alarm(0)
        answer["spent"] = bool(answer.get("spent")) or _taken() > memory // 4
        del body
        with contextlib.suppress(BrokenPipeError):  # the other thread sees it, too
            frames.write(answers, answer, data)


def _listen(requests: BinaryIO, frames_in: SimpleQueue[Frame]) -> None:
    """Takes requests in; when the parent is gone, ends the process, whatever it is at."""
    try:
        while True:
            frames_in.put(frames.receive(requests))
    except (EOFError, OSError, ValueError):
        os._exit(0)


def _answer(header: dict[str, Any], body: bytes) -> Frame:
    try:
        options = Options.from_json(header["options"])
        if header["op"] == "pixels":
            return {}, _png(body, header["mime_type"], header["page"], header["t0"], options)
        if header["op"] == "clip":
            from mmagent.knowledge.read.pixels import clip

            return {}, clip(body, header["t0"], header["t1"])
        return frames.packed(read(body, header["name"], options))
    except InputError as error:
        spent = isinstance(error.__cause__, MemoryError)
        return {"error": str(error), "detail": _traceback(error), "spent": spent}, b""
    except MemoryError as error:
        reason = "showing it takes too much memory; make it smaller"
        return {"error": reason, "detail": _traceback(error), "spent": True}, b""
    except Exception as error:
        reason = f"it could not be shown ({type(error).__name__}); save it again or take another one"
        return {"error": reason, "detail": _traceback(error)}, b""


def _png(data: bytes, mime_type: str, page: int | None, t0: float | None, options: Options) -> bytes:
    from mmagent.knowledge.read.pixels import pixels

    buffer = BytesIO()
    pixels(data, mime_type, page=page, t0=t0, limits=options.limits).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _limit(memory: int) -> None:
    """Asks the system to refuse more memory than that, and to keep no images of crashes. Not all systems can."""
    try:
        import resource
    except ImportError:
        return
    for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _set_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)  # no handler: the system ends the process


def _taken() -> int:
    """Bytes of memory that this process has."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0  # not on Linux: only an error of memory ends it early
    return pages * os.sysconf("SC_PAGE_SIZE")


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-4000:]


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
