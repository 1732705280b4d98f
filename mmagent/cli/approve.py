"""Asks at the terminal whether a call may run. It knows one request at a time, no policy and no agent."""

from __future__ import annotations

import asyncio
import json
import re
import sys

from mmagent.cli.printable import printable
from mmagent.events import ApprovalRequested

_NO = re.compile(r"(?:no?)?(?:(?<=\w)[\s,:;]+(.*))?", re.IGNORECASE | re.DOTALL)
_one_at_a_time = asyncio.Lock()


async def approve(request: ApprovalRequested) -> bool | str:
    """Show a call as it will run, and wait for an answer: ``y`` allows it, ``n`` or nothing denies it.

    What follows a ``n`` is the reason that the model is told. Whatever else is typed is asked about again.
    """
    args = json.dumps(request.args, ensure_ascii=False)
    async with _one_at_a_time:
        print(f"? {printable(request.name)}({printable(args)})", file=sys.stderr)
        print(f"  {printable(request.why)}", file=sys.stderr)
        while True:
            print("  allow it? [y/N, or n and the reason] ", end="", file=sys.stderr, flush=True)
            answer = (await _line()).strip()
            if answer.lower() in ("y", "yes"):
                return True
            if no := _NO.fullmatch(answer):
                return no[1] or "the user said no"


def can_ask() -> bool:
    """Whether there is somebody at a terminal to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def _line() -> str:
    """A line of the terminal; Ctrl-C leaves nobody reading behind."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(sys.stdin, tell)
    except NotImplementedError:  # Windows
        return await asyncio.to_thread(sys.stdin.readline)
    try:
        await ready
        return sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin)
