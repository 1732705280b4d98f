"""kill -9 of processes that take documents into a store: what `Knowledge.add` promises, checked after each death.

A life brings a store up to date with a folder of documents and is killed, with the processes that read for it, at a
random moment; then documents change, come and go, and the next life begins. After each death:

- `verify` finds nothing wrong (if it does, `rebuild` must repair it; such repairs are counted);
- as many documents are there in their present form as the life had been told by ``progress`` were done;
- no document that was there in its present form before has gone, and none is there in part.

In the end one life is left alone: it must take everything in, and each document must be found by its own word, by the
words alone and by the vectors alone. 0 violations in N kills bound the rate at about 3/N with 95 % confidence. Prints
a JSON line; exit code 1 where anything was violated; then the store lies in the folder that is named.

    python -m benchmarks.ingest_kills --quick     # 10 kills
    python -m benchmarks.ingest_kills --kills 50
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DOCUMENTS = 400
SECTIONS = 12
"""Of each document; each is a passage. A store writes a group at a time, and a life should write several."""
LONGEST_SECONDS = 60.0
_DIMENSION = 512
_PLACES = 4
"""Of a word in a vector: enough that no two words have the same ones."""


class Words:
    """Texts that share words have near vectors."""

    fingerprint = "benchmarks.ingest_kills"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        rows = np.full((len(texts), _DIMENSION), 1e-4, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                digest = hashlib.sha256(word.encode()).digest()
                for place in range(0, 4 * _PLACES, 4):
                    row[int.from_bytes(digest[place : place + 4], "big") % _DIMENSION] += 1
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


@dataclass
class Folder:
    """Documents that change; of each, the word that only its present form has."""

    place: Path
    rng: random.Random
    words: dict[str, str] = field(default_factory=dict)
    _made: int = 0

    def write(self, name: str) -> None:
        self._made += 1
        word = f"w{self._made}x{self.rng.randrange(1 << 30):x}"
        body = "\n\n".join(
            f"## Part {part}\n\nThis is part {part} of {word}. {'Rest. ' * 20}" for part in range(SECTIONS)
        )
        file = self.place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# Document {word}\n\n{body}\n", encoding="utf-8")
        self.words[name] = word

    def change(self) -> None:
        """A twentieth of the documents changes, a fortieth goes, as many come."""
        names = self.rng.sample(sorted(self.words), len(self.words) // 13)
        gone = names[: len(names) // 3]
        for name in names[len(gone) :]:
            self.write(name)
        for name in gone:
            (self.place / name).unlink()
            del self.words[name]
            self.write(f"{self.rng.randrange(10)}/new-{self._made}.md")


@dataclass
class Figures:
    """What was counted."""

    kills: int = 0
    finished: int = 0
    """Lives that were done before they were killed."""
    told: int = 0
    """Documents that lives were told were done, all lives together."""
    repaired: int = 0
    violations: list[str] = field(default_factory=list)


def run(kills: int, seed: int = 0, documents: int = DOCUMENTS) -> tuple[Figures, Path]:
    """The figures, and the folder where all of it lies."""
    place = Path(tempfile.mkdtemp(prefix="mmagent-ingest-kills-"))
    rng = random.Random(seed)
    folder, store = Folder(place / "documents", rng), place / "store"
    for number in range(documents):
        folder.write(f"{number % 10}/{number:04}.md")
    figures = Figures()
    whole = _life(store, folder.place, None)[1] if kills else 1.0  # how long a life lasts that takes everything in
    shutil.rmtree(store, ignore_errors=True)
    current: set[tuple[str, str]] = set()
    while figures.kills < kills and not figures.violations:
        if rng.random() < 0.1:
            shutil.rmtree(store, ignore_errors=True)
            current = set()
        done, seconds = _life(store, folder.place, rng.uniform(0.05, 1.1) * whole)
        figures.told += done
        figures.kills += seconds is None
        figures.finished += seconds is not None
        current = _check(store, folder, done, current, figures)
        folder.change()
        current &= set(folder.words.items())
    if not figures.violations:
        _life(store, folder.place, None)
        _check_all(store, folder, figures)
    return figures, place


def _life(store: Path, documents: Path, seconds: float | None) -> tuple[int, Any]:
    """How many documents it told were done, and how long it lasted; None where it was killed (after ``seconds``)."""
    command = [sys.executable, "-m", "benchmarks.ingest_kills", "--live", str(store), str(documents)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    pipe, told, began, first = child.stdout.fileno(), b"", 0.0, True
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        data = os.read(pipe, 65536)
        if not data:
            break
        told += data
        if first:
            first, began = False, time.monotonic()
            deadline = began + (LONGEST_SECONDS if seconds is None else seconds)
    ended = time.monotonic()
    killed = not _gone(child)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # the processes that read for it, too
    with child.stdout:
        told += child.stdout.read()
    child.wait()
    numbers = [int(line) for line in told.split(b"\n")[1:-1]]
    if killed and seconds is None:
        raise RuntimeError(f"a life of its own was not done after {LONGEST_SECONDS} s")
    if not killed and child.returncode:
        raise RuntimeError(f"a life failed with exit code {child.returncode}")
    return max(numbers, default=0), None if killed else ended - began


def _gone(child: subprocess.Popen[bytes]) -> bool:
    """Whether a life ended by itself: its pipe is closed a moment before it is gone."""
    try:
        child.wait(timeout=0 if child.stdout and select.select([child.stdout], [], [], 0)[0] == [] else 5)
    except subprocess.TimeoutExpired:
        return False
    return True


def _check(
    store: Path, folder: Folder, done: int, before: set[tuple[str, str]], figures: Figures
) -> set[tuple[str, str]]:
    """The documents that are there in their present form, each with its word."""
    from mmagent.knowledge import Knowledge

    with Knowledge(store, embedder=Words()) as knowledge:
        if not (store / "manifest.sqlite3").exists():
            if done:
                figures.violations.append(f"{done} documents were done, and there is no store")
            return set()
        _verify(knowledge, figures)
        there = set()
        for asset in knowledge.assets():
            name = Path(asset.path).relative_to(folder.place.resolve()).as_posix()
            word = folder.words.get(name, "")
            units = knowledge.get(asset.uri)
            if len(units) != SECTIONS or len({unit.title.split(" > ")[0] for unit in units}) != 1:
                figures.violations.append(f"{name} is there in part")
            if word and all(word in unit.text for unit in units):
                there.add((name, word))
    if len(there) < done:
        figures.violations.append(f"{done} documents were done, but only {len(there)} are there as they are now")
    if lost := before - there:
        figures.violations.append(f"{len(lost)} documents that were there have gone, {min(lost)} among them")
    return there


def _verify(knowledge: Any, figures: Figures) -> None:
    if wrong := knowledge.verify():
        figures.repaired += 1
        knowledge.rebuild()
        if still := knowledge.verify():
            figures.violations.append(f"wrong, and wrong after a rebuild: {wrong}; {still}")


def _check_all(store: Path, folder: Folder, figures: Figures) -> None:
    from mmagent.knowledge import Knowledge

    with Knowledge(store, embedder=Words()) as knowledge:
        _verify(knowledge, figures)
        if len(knowledge.assets()) != len(folder.words):
            figures.violations.append(
                f"{len(knowledge.assets())} documents are there in the end, not {len(folder.words)}"
            )
        for name, word in folder.words.items():
            for mode in ("lexical", "dense"):
                hits = knowledge.search(word, 1, mode=mode)
                if not hits or word not in hits[0].text:
                    figures.violations.append(f"{name} is not found by its word ({mode})")


def _live(store: Path, documents: Path) -> None:
    """What is killed: it tells that it begins, and then how many documents are done, a line each time."""
    from mmagent.knowledge import Knowledge

    print(0, flush=True)
    with Knowledge(store, embedder=Words()) as knowledge:
        knowledge.add(documents, progress=lambda progress: print(progress.done, flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 kills")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--live", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.live:
        _live(*options.live)
        return
    figures, place = run(10 if options.quick else options.kills, options.seed, options.documents)
    print(json.dumps({"benchmark": "ingest_kills", **vars(figures)}))
    if figures.violations:
        print(f"the documents and the store are in {place}", file=sys.stderr)
        sys.exit(1)
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
