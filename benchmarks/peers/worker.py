"""A process that runs systems on command: one JSON object a line in, one out. It knows how to time, and no system.

It is started by `Worker` with the Python that has the system installed, reads from stdin until that closes, and waits
in a blocking read while other systems are measured.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self, cast

from benchmarks.peers.system import System, open_system, versions

ROOT = Path(__file__).parents[2]


class SystemAbsent(Exception):
    """A system is not installed, or refuses a checkpoint; the message says why."""


class Worker:
    """The other end: starts the process and talks to it.

    Args:
        python: An interpreter that has the system installed.
        module: The system's module beside this one.
        threads: That compute, pinned to as many processors.

    Raises:
        SystemAbsent: The system is not installed there.
    """

    def __init__(self, python: str, module: str, threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [python, "-m", __name__, module, str(threads)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.versions: str = self._read()["versions"]

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for what comes of it.

        Raises:
            SystemAbsent: The system could not do it.
        """
        stdin = cast(IO[str], self._process.stdin)
        stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        cast(IO[str], self._process.stdin).close()
        self._process.wait(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        line = cast(IO[str], self._process.stdout).readline()
        if not line:
            raise SystemAbsent(f"its process ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SystemAbsent(answer["error"])
        return answer


class _Server:
    """The systems of one module that are open, by their form."""

    def __init__(self, module: str, threads: int) -> None:
        self._module, self._threads = module, threads
        self._systems: dict[str, System] = {}

    def open(self, folder: str, form: str) -> dict[str, Any]:
        self._systems[form] = open_system(self._module, Path(folder), form, self._threads)
        return {}

    def close(self) -> dict[str, Any]:
        self._systems.clear()
        return {}

    def logits(self, form: str, ids: Sequence[int]) -> dict[str, Any]:
        return {"logits": base64.b64encode(self._systems[form].logits(ids)).decode()}

    def prefill(self, form: str, ids: Sequence[int]) -> dict[str, Any]:
        began = time.perf_counter()
        self._systems[form].prefill(ids)
        return {"seconds": time.perf_counter() - began}

    def decode(self, form: str, count: int) -> dict[str, Any]:
        began = time.perf_counter()
        tokens = self._systems[form].decode(count)
        return {"seconds": time.perf_counter() - began, "tokens": tokens}


def main() -> None:
    """Serve the module named on the command line."""
    module, threads = sys.argv[1], int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between our lines
    server = _Server(module, threads)

    def answer(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=out, flush=True)

    try:
        answer({"versions": versions(module)})
    except ImportError as error:
        answer({"error": f"not installed: {error}"})
        return
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer(getattr(server, command.pop("do"))(**command))
        except Exception as error:  # a system that fails is named in the report; the others go on
            answer({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})


if __name__ == "__main__":
    main()
