from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mmagent.engine import memory
from mmagent.engine.memory import Machine, available_memory, graphics_memory, this_machine

GIB = 1 << 30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of files: 8 GiB free, no container, no GPU."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "cgroup" / "box").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: {16 << 20} kB\nMemAvailable: {8 << 20} kB\n")
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def contain(folder: Path, limit: str, used: int, files: int = 0) -> None:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - files}\ninactive_file {files}\n")


def test_this_machine_has_some() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 50 << 20 < available_memory() <= total


def test_memory_is_what_the_system_says(system: Path) -> None:
    assert available_memory() == 8 * GIB


def test_a_container_has_less(system: Path) -> None:
    (system / "proc" / "self" / "cgroup").write_text("0::/box\n")
    contain(system / "cgroup" / "box", "max", GIB)
    assert available_memory() == 8 * GIB
    contain(system / "cgroup" / "box", str(4 * GIB), 3 * GIB, files=GIB)
    assert available_memory() == 2 * GIB
    contain(system / "cgroup", str(GIB), 2 * GIB)
    assert available_memory() == 0


def test_without_proc_it_is_all_there_is(system: Path) -> None:
    (system / "proc" / "meminfo").unlink()
    assert available_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_gpu_is_asked_for(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0")
    assert graphics_memory() is None
    tool = system / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$1" > "$(dirname $0)"/asked 2>/dev/null; echo 80000\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    assert graphics_memory() == 80000 << 20
    assert this_machine("auto") == Machine("cuda", 80000 << 20, False)
    assert this_machine("cpu").device == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    graphics_memory()
    assert (tool.parent / "asked").read_text() == "--id=3\n"
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert graphics_memory() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool.write_text("#!/bin/sh\necho no devices were found\n")
    assert graphics_memory() is None
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert graphics_memory() is None
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert graphics_memory() is None


def test_dtypes_are_those_that_loading_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from mmagent.engine.load import pick_dtype

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    for device in ("cpu", "cuda", "mps"):
        for instructions in (True, False):
            monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda there=instructions: there)
            for parameters in (10**6, 10**10):
                for wanted in ("auto", "float32", "float16"):
                    told = Machine(device, 1, instructions).dtype(wanted, parameters)
                    picked = pick_dtype(wanted, torch.device(device), lambda count=parameters: count)
                    assert f"torch.{told}" == str(picked)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_instructions_are_those_that_torch_finds() -> None:
    import torch

    assert this_machine("cpu").bfloat16 == torch.cpu._is_avx512_bf16_supported()
