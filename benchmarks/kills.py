"""kill -9 of processes in the middle of turns, by the thousand: what a session promises, counted by an outside file.

One process imports everything and forks one life after another. A life opens four sessions of one journal, checks
them, goes on with turns that the life before left open (or asks something else), and then takes turns in all four at
once, of no to three tools each, in a row or side by side, until it is killed: at a random moment 1 to 60 ms after it
opened them (or earlier), or just before or after a named step. Every tool appends to a file of effects when it takes
effect; every acknowledged question and every finished turn is told through a pipe. Each life checks of each session:

- the history is valid: each call has one outcome, right after the message that made it, in order;
- every acknowledged question is there, once and in order, and so is the answer of every finished turn;
- no unsafe effect happened twice, by call and by question; what a tool reported has happened; what may have happened
  is not told as if it had not;
- an idempotent call had one key, however often it was repeated;
- the session takes the next turn.

0 violations in N kills bound the rate of violations at about 3/N with 95 % confidence. Prints a JSON line; exit code 1
where anything was violated; then the journals lie in the folder that is named.

    python -m benchmarks.kills --quick             # 100 random kills, 3 at each named step
    python -m benchmarks.kills --kills 2000 --each 20 [--journal postgresql://...]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from benchmarks.lives import EFFECTS, SESSIONS, Life, import_everything
from mmagent.testing.kill import KillAt, KillStep

LIVES_OF_A_FOLDER = 25
LONGEST_SECONDS = 20.0
EARLY = 0.1
"""Of the lives, how many may die before they have opened their sessions."""


@dataclass
class Told:
    """What lives told of a folder's sessions."""

    asked: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in SESSIONS})
    """The questions that were acknowledged."""
    answered: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in SESSIONS})
    """The questions of turns that were finished."""
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    ready: bool = False

    def line(self, line: str) -> None:
        """Take note of a line from the pipe."""
        kind, _, rest = line.partition(" ")
        session, _, question = rest.partition(" ")
        if kind == "asked":
            self.asked[session].append(question)
        elif kind == "answered":
            self.answered[session].append(question)
        elif kind == "violation":
            self.violations.append(rest)
        elif kind == "ready":
            self.ready = True
        self.counts[kind] += 1


class Killer:
    """Starts lives and ends them.

    Args:
        folder: For journals and effects.
        journal: The address of a PostgreSQL database; None: an SQLite file in the folder.
        seed: Of when and where they are killed.
    """

    def __init__(self, folder: Path, journal: str | None, seed: int) -> None:
        self._folder, self._journal = folder, journal
        self._dice = random.Random(seed)
        self._lives = 0
        self._place, self._told = folder, Told()
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []

    def random_kills(self, kills: int) -> None:
        """Kill so many lives at random moments."""
        for number in range(kills):
            if number % LIVES_OF_A_FOLDER == 0:
                self._move()
            wait = 0.0 if self._dice.random() < EARLY else LONGEST_SECONDS
            self._live(None, wait, self._dice.uniform(0.001, 0.06))
        self._move()

    def kills_at(self, step: KillStep, kills: int, *, after: bool) -> None:
        """Kill so many lives at a step, each at another time that it comes to it."""
        self._move()
        for number in range(kills):
            self._live(KillAt(step, after=after, nth=1 + number % 4), LONGEST_SECONDS, LONGEST_SECONDS)
        self._move()

    def _move(self) -> None:
        """A last life that checks everything, takes one more turn and ends well; then another folder."""
        if self._place != self._folder:
            self._live(None, LONGEST_SECONDS, LONGEST_SECONDS, last=True)
            self.counts.update(self._told.counts)
            effects = (self._place / EFFECTS).read_text().splitlines() if (self._place / EFFECTS).exists() else []
            self.counts["unsafe"] += sum(line[0] in "uU" for line in effects)
            again = Counter(line.split(" ")[1] for line in effects)
            self.counts["repeated"] += sum(times > 1 for times in again.values())
            self.violations += [f"{self._place.name}: {one}" for one in self._told.violations]
            if not self._told.violations:
                shutil.rmtree(self._place)
        self._place = self._folder / f"after-{self._lives}"
        self._place.mkdir()
        self._told = Told()

    def _live(self, kill: KillAt | None, opening: float, living: float, *, last: bool = False) -> None:
        self._lives += 1
        told, here = self._told, f"life {self._lives}"
        told.ready = False
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _be(Life(self._place, self._journal, self._lives, told.asked, told.answered, writing, kill, last))
        os.close(writing)
        lines = _Lines(reading, told.line)
        if opening:
            lines.read(opening, until=lambda: told.ready)
        lines.read(living)
        if not lines.ended:
            if kill or last:
                told.violations.append(f"{here} hangs")
            os.kill(child, signal.SIGKILL)
            lines.read(LONGEST_SECONDS)
        os.close(reading)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        expected = 0 if last else -signal.SIGKILL
        if code != expected:
            told.violations.append(f"{here} ended with {code}, not {expected}")
        self.counts["kills"] += code == -signal.SIGKILL


class _Lines:
    """Lines of a pipe, as they come."""

    def __init__(self, reading: int, take: Callable[[str], None]) -> None:
        self._reading, self._take, self._rest = reading, take, b""
        self.ended = False

    def read(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Take lines until the pipe ends, the time is over, or ``until`` is so."""
        end = time.monotonic() + seconds
        while not self.ended and not until():
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._reading], [], [], left)[0]:
                return
            data = os.read(self._reading, 1 << 16)
            self.ended = not data
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(line.decode())


def _be(life: Life) -> None:
    """Live, in a process of its own."""
    code = 0
    try:
        asyncio.run(life.run())
    except BaseException:
        life.tell("violation", traceback.format_exc().replace("\n", " | "))
        code = 2
    finally:
        os._exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 random kills, 3 at each named step")
    parser.add_argument("--kills", type=int, default=2000, help="at random moments")
    parser.add_argument("--each", type=int, default=20, help="at each named step")
    parser.add_argument("--journal", help="the address of a PostgreSQL database; else SQLite")
    parser.add_argument("--seed", type=int, default=20261122)
    options = parser.parse_args(arguments)
    kills, each = (100, 3) if options.quick else (options.kills, options.each)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    (folder / "first").mkdir()
    import_everything(folder / "first")
    gc.freeze()
    killer = Killer(folder, options.journal, options.seed)
    began = time.monotonic()
    if kills:
        killer.random_kills(kills)
    if each:
        for step in get_args(KillStep):
            for after in (False, True):
                killer.kills_at(step, each, after=after)
    report: dict[str, Any] = {
        "benchmark": "kills",
        "seconds": round(time.monotonic() - began, 1),
        **{name: killer.counts[name] for name in ("kills", "asked", "answered", "resumed", "unsafe", "repeated")},
        "violations": killer.violations,
    }
    if killer.violations:
        report["folder"] = str(folder)
    else:
        shutil.rmtree(folder)
    print(json.dumps(report))
    sys.exit(bool(killer.violations))


if __name__ == "__main__":
    main()
