"""How much memory this machine has free for a model, and what it computes in. It knows the system's files, no torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")

BIG = 1_000_000_000
"""Parameters from which a CPU with bfloat16 instructions gains more by reading half the bytes than float32 is worth."""


@dataclass(frozen=True)
class Machine:
    """Where a model would run by the settings given, told without loading torch."""

    device: str
    """``cuda``, ``mps`` or ``cpu``."""
    free: int
    """Bytes that a model can have there."""
    bfloat16: bool
    """Whether the CPU multiplies bfloat16 itself."""

    def dtype(self, wanted: str, parameters: int) -> str:
        """The dtype that `mmagent.engine.load.pick_dtype` picks."""
        if wanted not in ("auto", "int8"):  # of int8, it is the dtype of what is not the decoder
            return wanted
        if self.device != "cpu":
            return "bfloat16" if self.device == "cuda" else "float16"
        return "bfloat16" if self.bfloat16 and parameters > BIG else "float32"


def this_machine(device: str = "auto") -> Machine:
    """This machine, for a device of `mmagent.settings`."""
    graphics = graphics_memory() if device in ("auto", "cuda") else None
    if graphics is not None:
        return Machine("cuda", graphics, False)
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    instructions = "avx512_bf16" in _text(PROC / "cpuinfo")
    return Machine("mps" if apple and device in ("auto", "mps") else "cpu", available_memory(), instructions)


def available_memory() -> int:
    """Bytes of memory that a process can still get: what the system says, or its container's limit if that is less.

    macOS does not say what it could free, so there it is all the memory of the machine.
    """
    for line in _text(PROC / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, *_container_limits())
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def graphics_memory() -> int | None:
    """Free bytes of the first visible NVIDIA GPU; None where there is none, or torch cannot use it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    command = shutil.which("nvidia-smi")
    if not command or not visible or visible.startswith("-") or metadata.version("torch").endswith("+cpu"):
        return None
    query = [command, f"--id={visible}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        return int(told.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _container_limits() -> list[int]:
    """Bytes left under each limit of this process's control groups (version 2), at least one number."""
    own = next((line[3:] for line in _text(PROC / "self/cgroup").splitlines() if line.startswith("0::")), "/")
    group = CGROUP / own.lstrip("/")
    left = [sys.maxsize]
    for folder in (group, *group.parents):
        if not folder.is_relative_to(CGROUP):
            break
        limit, used = _text(folder / "memory.max").strip(), _text(folder / "memory.current").strip()
        if limit.isdigit() and used.isdigit():
            left.append(max(0, int(limit) - int(used) + _file_pages(folder)))
    return left


def _file_pages(folder: Path) -> int:
    """Bytes that count as used and are given back on demand: files that were read."""
    lines = _text(folder / "memory.stat").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
