"""A process that takes one turn after another until it is killed, and writes a line for everything that happened."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from mmagent.agent import Agent, tool
from mmagent.events import TurnStarted
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.testing import ScriptedModel, call


async def main(folder: Path, life: int) -> None:
    @tool
    def pay(number: str) -> str:
        """Pay, which must never happen twice."""
        descriptor = os.open(folder / "paid", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{number}\n".encode())
        os.close(descriptor)
        return f"paid {number}"

    @tool(effect="read")
    async def look_up(number: str) -> str:
        """Look something up."""
        return f"found {number}"

    session = Session.open("shop", folder / "sessions.sqlite3")
    for turn in itertools.count():
        name = f"{life}-{turn}"
        script = [["One moment. ", call("look_up", number=name), call("pay", number=name)], "It is paid for."]
        agent = Agent(ScriptedModel(script), [pay, look_up], session=session, builtins=False, blobs=BlobStore(folder))
        async for event in agent.stream(f"question {name}"):
            line = f"accepted question {name}" if isinstance(event, TurnStarted) else event.type
            print(line, flush=True)


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
