"""Milliseconds that an agent framework adds to each step of a turn: mmagent, agno, smolagents, LangChain and others.

Models play a script in process, the tool adds up nothing, so only the framework is left. Three turns: one tool, ten
tools one after another, four at once; each in a session of its own, which is opened before. In memory and with what
each framework keeps sessions in; mmagent journals each call before and after it, and with ``unsafe`` tools flushes to
the disk before each runs. Every framework runs in a process of its own and waits while others are measured; the first
round warms up. A framework that is not installed is named as absent. Prints a table and a JSON line; exit code 1
where mmagent in memory is not ahead of every peer.

    python -m benchmarks.agent_loop --quick
    python -m benchmarks.agent_loop --peers-python PYTHON   # one that has what benchmarks/requirements.txt lists
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.agent_worker import AgentWorker
from benchmarks.peers.machine import OtherLoad, describe
from benchmarks.peers.worker import SystemAbsent

CASES = {"1 tool": [1], "10 tools": [1] * 10, "4 at once": [4]}


@dataclass(frozen=True)
class Contender:
    """A framework with one way to keep its sessions."""

    name: str
    module: str
    form: str
    durable: bool = False

    @property
    def peer(self) -> bool:
        """Whether it runs in the Python of ``--peers-python``."""
        return self.module != "own_agent"


CONTENDERS = (
    Contender("mmagent", "own_agent", "memory"),
    Contender("mmagent, sync tool", "own_agent", "memory sync"),
    Contender("agno", "agno_agent", "memory"),
    Contender("smolagents", "smolagents_agent", "memory"),
    Contender("langchain create_agent", "langchain_agent", "memory"),
    Contender("langchain + InMemorySaver", "langchain_agent", "InMemorySaver"),
    Contender("openai-agents", "openai_agent", "memory"),
    Contender("pydantic-ai", "pydantic_ai_agent", "memory"),
    Contender("mmagent + SQLite, unsafe tools", "own_agent", "sqlite unsafe", durable=True),
    Contender("mmagent + SQLite, read tools", "own_agent", "sqlite read", durable=True),
    Contender("agno + SqliteDb", "agno_agent", "SqliteDb", durable=True),
    Contender("langchain + SqliteSaver", "langchain_agent", "SqliteSaver", durable=True),
    Contender("langchain + SqliteSaver, durability sync", "langchain_agent", "SqliteSaver sync", durable=True),
    Contender("openai-agents + SQLiteSession", "openai_agent", "SQLiteSession", durable=True),
)


@dataclass
class Samples:
    """What was measured of one contender."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {case: [] for case in CASES})
    """Of a whole turn."""
    opening: list[float] = field(default_factory=list)
    """Of opening a session."""

    def step_ms(self, case: str) -> float:
        """Median milliseconds of a step; the answer is a step too."""
        return 1000 * statistics.median(self.seconds[case]) / (len(CASES[case]) + 1)


def measure(python: str, rounds: int, turns: int) -> tuple[dict[str, Samples], dict[str, str], dict[str, Any]]:
    """The samples of each contender, the absent ones with the reason, and what the figures must be read with."""
    samples: dict[str, Samples] = {}
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        workers: dict[str, AgentWorker] = {}
        for contender in CONTENDERS:
            try:
                if contender.module not in workers:
                    worker = AgentWorker(python if contender.peer else sys.executable, contender.module)
                    workers[contender.module] = stack.enter_context(worker)
                workers[contender.module].ask("open", form=contender.form)
                samples[contender.name] = Samples()
            except SystemAbsent as error:
                absent[contender.name] = str(error)
        present = [contender for contender in CONTENDERS if contender.name in samples]
        others: list[float] = []
        for number in range(rounds + 1):
            for contender in present[number % len(present) :] + present[: number % len(present)]:
                load = OtherLoad([worker.pid for worker in workers.values()])
                for case, steps in CASES.items():
                    taken = workers[contender.module].ask("time", form=contender.form, steps=steps, turns=turns)
                    if number:  # the first round warms up
                        samples[contender.name].seconds[case] += taken["seconds"]
                        samples[contender.name].opening += taken["opening"]
                others.append(load.share())
        meta = {
            "machine": describe(),
            "versions": [worker.versions for worker in workers.values()],
            "peak_mib": {module: round(worker.ask("peak")["mib"]) for module, worker in workers.items()},
            "others_percent": round(100 * statistics.median(others), 1),
        }
    return samples, absent, meta


def rows(samples: dict[str, Samples]) -> list[dict[str, Any]]:
    """The figures, in the order of `CONTENDERS`."""
    return [
        {
            "name": contender.name,
            "durable": contender.durable,
            **{case: round(taken.step_ms(case), 4) for case in CASES},
            "turn_ms": round(1000 * statistics.median(taken.seconds["10 tools"]), 3),
            "opening_ms": round(1000 * statistics.median(taken.opening), 3),
        }
        for contender in CONTENDERS
        if (taken := samples.get(contender.name))
    ]


def behind(figures: list[dict[str, Any]]) -> list[str]:
    """Where a peer that keeps nothing is as fast as mmagent, or faster."""
    ours = next(row for row in figures if row["name"] == "mmagent")
    peers = [row for row in figures if not row["durable"] and not row["name"].startswith("mmagent")]
    return [f"{row['name']}: {case}" for row in peers for case in CASES if row[case] <= ours[case]]


def markdown(figures: list[dict[str, Any]], absent: dict[str, str]) -> str:
    """A table."""
    lines = [
        f"| ms a step | {' | '.join(CASES)} | 10 tools, the turn | opening a session |",
        "|---|" + "---|" * (len(CASES) + 2),
    ]
    for row in figures:
        cells = [f"{row[case]:.3f}" for case in CASES]
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['turn_ms']:.2f} | {row['opening_ms']:.2f} |")
    return "\n".join([*lines, "", *(f"{name} is absent: {why}." for name, why in absent.items())])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 5 turns, not 7 of 10")
    parser.add_argument("--peers-python", default=sys.executable, metavar="PYTHON")
    options = parser.parse_args()
    samples, absent, meta = measure(options.peers_python, *((2, 5) if options.quick else (7, 10)))
    figures = rows(samples)
    print(markdown(figures, absent))
    print(f"{meta['machine']}; other processes took {meta['others_percent']} %. {'; '.join(meta['versions'])}.")
    slower = behind(figures)
    print(json.dumps({"benchmark": "agent_loop", **meta, "rows": figures, "absent": absent, "behind": slower}))
    raise SystemExit(bool(slower))


if __name__ == "__main__":
    main()
