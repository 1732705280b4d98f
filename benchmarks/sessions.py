"""Long sessions and many: does the thousandth turn take what the hundredth did, how soon does a session go on?

- 1,000 turns of two tool calls in one session, whose model has room for a few dozen of them: resident memory, and the
  time of its last hundred turns beside the second hundred of another session.
- A session of 5,000 entries in a new process: from `Session.open` to the first request to the model.
- 1,000 sessions: finding words in what was said, and listing them.

Prints a table and a JSON line; exit code 1 where memory grows by more than 5 % in the second half, turns by 10 %, or
the long session takes more than 0.3 s to go on.

    python -m benchmarks.sessions [--quick]   # --quick: 400 turns, 200 sessions
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from benchmarks.peers.agents import SCRIPT
from benchmarks.peers.own_agent import OwnConversation, Scripted, make_tool
from mmagent import Agent, Capabilities
from mmagent.chat.protocol import ModelEvent, ModelRequest
from mmagent.content import Message, ToolCallBlock, text
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.session.replay import draft
from mmagent.session.session import open_journal

WARM_UP, WINDOW, CALLS = 100, 100, 2
ENTRIES, MOST_SECONDS = 5_000, 0.3
MEMORY_GROWTH, TIME_GROWTH = 1.05, 1.1
RESUME = """
import sys, time
from benchmarks.sessions import resume
resume(sys.argv[1])
"""


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Small(Scripted):
    """A model with little room, so that old turns are compacted; a token is four characters."""

    capabilities = Capabilities(context_length=8_000)

    def count_tokens(self, request: ModelRequest) -> int:
        """Of the text and the calls."""
        calls = [call["args"] for message in request.messages for call in message.tool_calls]
        return (sum(len(message.text) for message in request.messages) + len(str(calls))) // 4


async def turns(folder: Path, count: int) -> dict[str, Any]:
    """Many turns in one session: how memory grows, and how time does, beside the early turns of another session."""
    blobs = BlobStore(folder / "blobs")
    sessions = {name: Session.open(name, folder / f"{name}.sqlite3") for name in ("long", "short")}
    talks = {name: OwnConversation(sessions[name], make_tool("sqlite read"), blobs, Small()) for name in sessions}
    numbers = {name: itertools.count() for name in talks}

    async def turn(name: str) -> float:
        SCRIPT.play([1] * CALLS)
        began = time.perf_counter()
        await talks[name].ask(f"What is on the shelves in aisle {next(numbers[name])}?")
        return time.perf_counter() - began

    for _ in range(count // 2):
        await turn("long")
    half = resident()  # a database's cache has filled by now
    for _ in range(count - count // 2 - WINDOW):
        await turn("long")
    full = resident()
    for _ in range(WARM_UP):
        await turn("short")
    pairs = [(await turn("short"), await turn("long")) for _ in range(WINDOW)]  # in turn: machines drift
    early, late = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    report = {
        "turns": count,
        "turns_in_short": sessions["long"].state.compacted_turns,
        "early_turn_ms": round(1000 * early, 3),
        "late_turn_ms": round(1000 * late, 3),
        "time_growth": round(late / early, 3),
        "mib_at_half": round(half / 2**20, 1),
        "mib_at_end": round(full / 2**20, 1),
        "memory_growth": round(full / half, 3),
    }
    for session in sessions.values():
        session.close()
    return report


class Stopped(Exception):
    """The model was asked."""


class Stopping(Scripted):
    """A model that only notes when it is asked."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Stop."""
        raise Stopped(len(request.messages))
        yield


def resume(path: str) -> None:
    """In a new process: go on with the long session as far as the first request, and print the seconds."""
    import mmagent.session.sqlite  # noqa: F401 # imports are `benchmarks.startup`'s

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        session = Session.open("full", path)
        agent = Agent(Stopping(), [], session=session, builtins=False, blobs=BlobStore(Path(folder)))
        try:
            agent.run("Where were we?")
        except Exception as error:
            if not isinstance(error.__cause__, Stopped):
                raise
            seconds = time.perf_counter() - began
            print(json.dumps({"seconds": seconds, "messages": error.__cause__.args[0]}))


def fill(path: Path, entries: int) -> None:
    """A session of so many entries: questions, calls with their outcomes, and answers."""
    session = Session.open("full", path)
    made = 0
    while made < entries:
        call: ToolCallBlock = {"type": "tool_call", "id": f"call_{made}", "name": "look", "args": {"number": made}}
        found = f"Number {made} is on shelf {made % 7}, and there are {made % 11} of it."
        turn = [
            Message(role="user", content=(text(f"What is on the shelves in aisle {made}?"),)),
            Message(role="assistant", content=(call,)),
            Message(role="tool", content=(text(found),), tool_call_id=f"call_{made}", name="look"),
            Message(role="assistant", content=(text(f"There are {made % 11} of it."),)),
        ]
        session.write(*map(draft, turn), flush=False)
        made += len(turn)
    session.close()


def search(path: Path, count: int) -> dict[str, Any]:
    """Many sessions of ten messages each: finding and listing."""
    journal = open_journal(path)
    for number in range(count):
        session = Session(f"talk-{number}", journal)
        said = [
            Message(role=role, content=(text(f"In talk {number}, part {part}, the {thing} is on shelf {number % 7}."),))
            for part, thing in enumerate(("lamp", "chair", "table", "clock", "mirror"))
            for role in ("user", "assistant")
        ]
        session.write(*map(draft, said), flush=False)
    report: dict[str, Any] = {"sessions": count}
    for name, words, expected in (("rare", f"talk {count // 2} mirror", 1), ("common", "lamp shelf", 20)):
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            found = journal.search(words)
            seconds.append(time.perf_counter() - began)
        if len(found) < expected:
            raise RuntimeError(f"{words!r} was found {len(found)} times")
        report[f"search_{name}_ms"] = round(1000 * statistics.median(seconds), 2)
    began = time.perf_counter()
    assert len(journal.sessions()) >= count
    report["list_ms"] = round(1000 * (time.perf_counter() - began), 2)
    journal.close()
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="400 turns, 200 sessions")
    count, many = (400, 200) if parser.parse_args().quick else (1000, 1000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grown = asyncio.run(turns(folder, count))
        fill(folder / "full.sqlite3", ENTRIES)
        command = [sys.executable, "-c", RESUME, str(folder / "full.sqlite3")]
        resumed = [
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(5)
        ]
        found = search(folder / "many.sqlite3", many)
    seconds = statistics.median(entry["seconds"] for entry in resumed)
    report = {**grown, "resume_seconds": round(seconds, 3), "resume_messages": resumed[0]["messages"], **found}
    print("| figure | value |\n|---|---|")
    print("\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in report.items()))
    print(json.dumps({"benchmark": "sessions", **report}))
    slow = grown["memory_growth"] > MEMORY_GROWTH or grown["time_growth"] > TIME_GROWTH or seconds > MOST_SECONDS
    raise SystemExit(slow)


if __name__ == "__main__":
    main()
