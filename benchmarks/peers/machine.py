"""What a timing must be read with: the machine, how fast it reads memory, and what others took of it meanwhile."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

GIB = 1024**3


def describe() -> str:
    """Processor, processors in use, memory, system, Python."""
    text = _text("/proc/cpuinfo")
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    flags = [name for name in ("avx512_bf16", "avx512_vnni", "amx_tile") if f" {name}" in text]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return (
        f"{os.cpu_count()} cores of {model or platform.machine()} ({', '.join(flags) or 'no AVX-512'}), "
        f"{memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    )


class Bandwidth:
    """How fast ``threads`` read memory that no cache holds."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._block = torch.ones(GIB // 8)  # 512 MiB of float32

    def measure(self) -> float:
        """GB/s of the best of ten passes: whatever gets in the way makes one slower, nothing makes one faster."""
        seconds = []
        for _ in range(10):
            began = time.perf_counter()
            self._block.sum()
            seconds.append(time.perf_counter() - began)
        return self._block.nbytes / min(seconds) / 1e9


class OtherLoad:
    """The share of the machine that processes other than ours take, from now on.

    Args:
        pids: Ours, beside this one.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = [os.getpid(), *pids]
        self._before = self._busy()

    def share(self) -> float:
        """0 to 1; 0 where the system does not tell."""
        now, before = self._busy(), self._before
        if now is None or before is None or now[0] == before[0]:
            return 0.0
        total, busy, ours = (new - old for new, old in zip(now, before, strict=True))
        return max(0.0, busy - ours) / total

    def _busy(self) -> tuple[int, int, int] | None:
        """Clock ticks of the machine, those that were not idle, and ours."""
        first = _text("/proc/stat").partition("\n")[0].split()[1:9]  # user nice system idle iowait irq softirq steal
        if not first:
            return None
        ticks = [int(value) for value in first]
        stats = [_text(f"/proc/{pid}/stat").rpartition(")")[2].split() for pid in self._pids]
        ours = sum(int(stat[11]) + int(stat[12]) for stat in stats if stat)
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4], ours


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
