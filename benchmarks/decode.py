"""Tokens per second of one greedy sequence: mmagent's engine, transformers, llama.cpp and OpenVINO on the same weights.

Every system runs in a process of its own, waits while others are measured, and goes first in turn; the first round
warms up and is not counted. Decode is 128 tokens after a prompt of 64; prefill is a prompt of 512. A sample during
which other processes took more than a tenth of the machine is taken again, twice at most, and the quietest counts,
whatever it says. A system that is not installed is named as absent. Prints a table for each network, then a JSON line.

    python -m benchmarks.decode --quick                        # nano and 22M, about a minute
    python -m benchmarks.decode --peers-python PYTHON --markdown  # one that has what benchmarks/requirements.txt lists
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from benchmarks.peers.checkpoints import NAMES, checkpoint, parameters
from benchmarks.peers.machine import Bandwidth, OtherLoad, describe
from benchmarks.peers.worker import SystemAbsent, Worker

PROMPT, TOKENS, LONG_PROMPT = 64, 128, 512
QUIET, TRIES = 0.1, 3
BASE = "transformers bf16"


@dataclass(frozen=True)
class Contender:
    """A system in one number format."""

    name: str
    module: str
    form: str
    bytes_per_weight: float
    peer: bool = False
    """Whether it runs in the Python of ``--peers-python``."""


CONTENDERS = (
    Contender("transformers fp32", "torch_transformers", "float32", 4),
    Contender(BASE, "torch_transformers", "bfloat16", 2),
    Contender("transformers bf16 static", "torch_transformers", "static", 2),
    Contender("mmagent int8", "own_engine", "int8", 1),
    Contender("mmagent bf16", "own_engine", "bfloat16", 2),
    Contender("mmagent fp32", "own_engine", "float32", 4),
    Contender("llama.cpp Q8_0", "llama_cpp_bare", "q8_0", 34 / 32, peer=True),
    Contender("llama.cpp BF16", "llama_cpp_bare", "bf16", 2, peer=True),
    Contender("OpenVINO int8", "openvino_bare", "int8", 1, peer=True),
    Contender("OpenVINO bf16", "openvino_bare", "bf16", 2, peer=True),
)


@dataclass
class Samples:
    """What was measured of one contender on one network."""

    decode: list[float] = field(default_factory=list)
    """Tokens per second."""
    prefill: list[float] = field(default_factory=list)
    """Milliseconds."""
    cosine: float = 0.0
    """Of the logits after the long prompt, to transformers in float32."""
    same_tokens: int = 0
    """Of those decoded, how many from the first on are those of transformers in float32."""


@dataclass
class Table:
    """One network, all contenders."""

    model: str
    parameters: int
    samples: dict[str, Samples]
    absent: dict[str, str]
    bandwidth: list[float] = field(default_factory=list)
    """GB/s, once a round."""
    others: list[float] = field(default_factory=list)
    """Share of the machine that other processes took, of each sample."""


class Comparison:
    """The processes of all systems, and what they are asked.

    Args:
        pythons: The interpreter with mmagent and transformers, and that with the peers.
        threads: That compute.
    """

    def __init__(self, pythons: tuple[str, str], threads: int) -> None:
        self._bandwidth = Bandwidth(threads)
        self._stack = ExitStack()
        self._workers: dict[str, Worker] = {}
        self.absent: dict[str, str] = {}
        for module, peer in {contender.module: contender.peer for contender in CONTENDERS}.items():
            try:
                self._workers[module] = self._stack.enter_context(Worker(pythons[peer], module, threads))
            except SystemAbsent as error:
                self.absent[module] = str(error)
        self.versions = [worker.versions for worker in self._workers.values()]

    def close(self) -> None:
        """End the processes."""
        self._stack.close()

    def run(self, model: str, folder: Path, rounds: int) -> Table:
        """Measure every contender on one network."""
        table = Table(model, parameters(folder), {}, {})
        ids = prompt_ids(json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"])
        present = self._open(folder, ids, table)
        for number in range(rounds + 1):
            began = time.perf_counter()
            first = number % len(present)
            bandwidth = self._bandwidth.measure()
            for contender in present[first:] + present[:first]:
                self._sample(contender, ids, table)
            table.bandwidth.append(bandwidth)
            print(f"{model}: round {number} took {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        for samples in (table.bandwidth, *(s for row in table.samples.values() for s in (row.decode, row.prefill))):
            del samples[0]  # the round that warms up
        del table.others[: len(present)]
        for worker in self._workers.values():
            worker.ask("close")
        return table

    def _open(self, folder: Path, ids: list[int], table: Table) -> list[Contender]:
        """Load the network everywhere, and compare logits and tokens with those of the first contender."""
        logits: np.ndarray | None = None
        tokens: list[int] = []
        present = []
        for contender in CONTENDERS:
            try:
                if contender.module in self.absent:
                    raise SystemAbsent(self.absent[contender.module])
                worker, form = self._workers[contender.module], contender.form
                worker.ask("open", folder=str(folder), form=form)
                got = np.frombuffer(base64.b64decode(worker.ask("logits", form=form, ids=ids)["logits"]), "<f4")
                worker.ask("prefill", form=form, ids=ids[:PROMPT])
                said = worker.ask("decode", form=form, count=TOKENS)["tokens"]
            except SystemAbsent as error:
                table.absent[contender.name] = str(error)
                continue
            if logits is None:
                logits, tokens = got, said
            cosine = float(got @ logits / np.linalg.norm(got) / np.linalg.norm(logits))
            same = next((at for at, pair in enumerate(zip(said, tokens, strict=True)) if pair[0] != pair[1]), TOKENS)
            table.samples[contender.name] = Samples(cosine=cosine, same_tokens=same)
            present.append(contender)
        return present

    def _sample(self, contender: Contender, ids: list[int], table: Table) -> None:
        tries = [self._try(contender, ids)]
        while tries[-1][0] > QUIET and len(tries) < TRIES:
            tries.append(self._try(contender, ids))
        others, prefill, decode = min(tries, key=itemgetter(0))
        samples = table.samples[contender.name]
        samples.prefill.append(1000 * prefill)
        samples.decode.append(TOKENS / decode)
        table.others.append(others)

    def _try(self, contender: Contender, ids: list[int]) -> tuple[float, float, float]:
        """What others took meanwhile, seconds of prefill, seconds of decode."""
        worker, form = self._workers[contender.module], contender.form
        load = OtherLoad([other.pid for other in self._workers.values()])
        prefill = worker.ask("prefill", form=form, ids=ids)["seconds"]
        worker.ask("prefill", form=form, ids=ids[:PROMPT])
        decode = worker.ask("decode", form=form, count=TOKENS)["seconds"]
        return load.share(), prefill, decode


def prompt_ids(vocabulary: int) -> list[int]:
    """A long prompt that visits the vocabulary, special tokens left out."""
    return [16 + index * 7919 % (vocabulary - 16) for index in range(LONG_PROMPT)]


def rows(table: Table) -> list[dict[str, Any]]:
    """A table's figures, one contender each."""
    bandwidth = statistics.median(table.bandwidth)
    base = statistics.median(table.samples[BASE].decode) if BASE in table.samples else None
    result = []
    for contender in CONTENDERS:
        if samples := table.samples.get(contender.name):
            rate = statistics.median(samples.decode)
            read = rate * table.parameters * contender.bytes_per_weight / 1e9
            result.append(
                {
                    "system": contender.name,
                    "tokens_per_s": round(rate, 1),
                    "min": round(min(samples.decode), 1),
                    "max": round(max(samples.decode), 1),
                    "ratio": base and round(rate / base, 2),
                    "gb_per_s": round(read, 1),
                    "bandwidth_percent": round(100 * read / bandwidth),
                    "prefill_ms": round(statistics.median(samples.prefill), 1),
                    "cosine": round(samples.cosine, 5),
                    "same_tokens": samples.same_tokens,
                }
            )
    return result


def markdown(table: Table) -> str:
    """A table's figures as RESULTS.md has them."""
    low, high = min(table.bandwidth), max(table.bandwidth)
    heading = f"{table.model} ({table.parameters / 1e6:.1f}M; read bandwidth "
    heading += f"{statistics.median(table.bandwidth):.1f} GB/s, {low:.1f}-{high:.1f})"
    lines = [
        f"| {heading} | tok/s | min-max | × {BASE} | GB/s | % bandwidth | prefill-512 ms | cosine | same tokens |",
        "|---|" + "---|" * 8,
    ]
    for row in rows(table):
        lines.append(
            f"| {row['system']} | {row['tokens_per_s']} | {row['min']:.0f}-{row['max']:.0f} | {row['ratio']} | "
            f"{row['gb_per_s']} | {row['bandwidth_percent']} | {row['prefill_ms']:.0f} | {row['cosine']} | "
            f"{row['same_tokens']} |"
        )
    others = f"{100 * statistics.median(table.others):.0f} % (at most {100 * max(table.others):.0f} %)"
    lines += ["", f"Other processes took {others} of the machine during a sample."]
    lines += [f"{name} is absent: {reason}." for name, reason in table.absent.items()]
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="nano and 22M, 2 rounds")
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers-python", default=sys.executable, help="an interpreter that has the peers")
    parser.add_argument("--folder", type=Path, default=Path(platformdirs.user_cache_dir("mmagent-benchmarks")))
    parser.add_argument("--markdown", action="store_true", help="with date, versions and machine, for RESULTS.md")
    options = parser.parse_args()
    if options.quick:
        options.models, options.rounds = ["nano", "22M"], 2
    return options


def main() -> None:
    """Measure and print."""
    options = arguments()
    comparison = Comparison((sys.executable, options.peers_python), options.threads)
    try:
        if options.markdown:
            print(f"{date.today()}, {describe()}, {options.threads} threads; {'; '.join(comparison.versions)}.\n")
        report = {}
        for name in options.models:
            table = comparison.run(name, checkpoint(name, options.folder), options.rounds)
            print(markdown(table), flush=True)
            report[name] = {
                "parameters": table.parameters,
                "bandwidth_gb_per_s": round(statistics.median(table.bandwidth), 1),
                "others": round(statistics.median(table.others), 3),
                "rows": rows(table),
                "absent": table.absent,
            }
    finally:
        comparison.close()
    print(json.dumps({"benchmark": "decode", "rounds": options.rounds, "models": report}))


if __name__ == "__main__":
    main()
