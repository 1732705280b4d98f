"""A process that runs agents of one framework on command. It knows how to time a turn, and no framework.

The other end, and how the two talk, is `worker.Worker`; as there, nothing here runs while others are measured.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.agents import ANSWER, SCRIPT, Agents, Conversation, open_agents, versions
from benchmarks.peers.worker import ROOT, Worker

QUIET = {
    "OMP_NUM_THREADS": "1",
    "AGNO_TELEMETRY": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OTEL_SDK_DISABLED": "true",
    "NO_COLOR": "1",
}


class AgentWorker(Worker):
    """Starts the process of one framework.

    Args:
        python: An interpreter that has it installed.
        module: Its module beside this one.

    Raises:
        SystemAbsent: It is not installed there.
    """

    def __init__(self, python: str, module: str) -> None:
        self._process = subprocess.Popen(
            [python, "-m", __name__, module],
            cwd=ROOT,
            env={**os.environ, **QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.versions = self._read()["versions"]


class _Server:
    def __init__(self, module: str, folder: Path) -> None:
        self._module, self._folder = module, folder
        self._agents: dict[str, Agents] = {}
        self._count = 0

    def open(self, form: str) -> dict[str, Any]:
        """An agent with an empty store, in the place of the one of that form."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        self._agents[form] = open_agents(self._module, form, folder)
        return {}

    async def time(self, form: str, steps: Sequence[int], turns: int) -> dict[str, Any]:
        """So many turns, each in a session of its own: the seconds of each, and of opening its session."""
        opening, seconds = [], []
        gc.collect()
        for _ in range(turns):
            self._count += 1
            began = time.perf_counter()
            conversation = self._agents[form].conversation(f"s{self._count}")
            opening.append(time.perf_counter() - began)
            seconds.append(await _turn(conversation, steps))
        return {"seconds": seconds, "opening": opening}

    async def fill(self, form: str, turns: int, calls: int, picture: str) -> dict[str, Any]:
        """One session of so many turns with so many steps of a call each, the first about a picture; what it takes."""
        self.open(form)
        conversation = self._agents[form].conversation("filled")
        shown = Path(picture).read_bytes() if picture else None
        seconds = [await _turn(conversation, [1] * calls, shown if turn == 0 else None) for turn in range(turns)]
        return {"seconds": seconds, "bytes": self._agents[form].size()}

    def peak(self) -> dict[str, Any]:
        """Of the resident memory, in MiB."""
        return {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


async def _turn(conversation: Conversation, steps: Sequence[int], picture: bytes | None = None) -> float:
    SCRIPT.play(steps)
    began = time.perf_counter()
    answer = await conversation.ask("What is on the shelves?", picture)
    seconds = time.perf_counter() - began
    if answer != ANSWER or SCRIPT.looked_up != sum(steps):
        raise RuntimeError(f"{SCRIPT.looked_up} of {sum(steps)} calls ran, and the answer is {answer!r}")
    return seconds


async def _serve(module: str, folder: Path, answer: Any) -> None:
    server = _Server(module, folder)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            result = getattr(server, command.pop("do"))(**command)
            answer(await result if asyncio.iscoroutine(result) else result)
        except Exception as error:  # a framework that fails is named in the report; the others go on
            answer({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})


def main() -> None:
    """Serve the module named on the command line."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between our lines

    def answer(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=out, flush=True)

    try:
        answer({"versions": versions(sys.argv[1])})
    except ImportError as error:
        answer({"error": f"not installed: {error}"})
        return
    with tempfile.TemporaryDirectory(prefix="agents-") as folder:
        asyncio.run(_serve(sys.argv[1], Path(folder), answer))


if __name__ == "__main__":
    main()
