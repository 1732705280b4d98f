"""Tools in a process of their own: what crosses, what is told of its end, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mmagent.agent.tools import AnyTool, Progress, ToolContext, isolate, load_tools, tool
from mmagent.agent.tools.calls import perform
from mmagent.agent.tools.results import Outcome
from mmagent.errors import ConfigurationError
from mmagent.media import BlobStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")

TOOLS = '''
import ctypes, os, signal, subprocess, sys, time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import PIL.Image
from mmagent import ToolError, tool
from mmagent.agent import Progress


@dataclass
class Order:
    number: str
    due: date


@tool(isolate=True)
def plain(order: Order, count: int = 1) -> dict:
    """Plain."""
    print("noise on standard output")
    assert isinstance(order.due, date)
    return {"number": order.number, "year": order.due.year, "count": count}


@tool(isolate=True)
def where() -> int:
    """Which process this is."""
    return os.getpid()


@tool(isolate=True)
def meet(folder: str) -> int:
    """Wait until three processes are here."""
    Path(folder, str(os.getpid())).touch()
    while len(os.listdir(folder)) < 3:
        time.sleep(0.01)
    return os.getpid()


@tool(isolate=True)
def picture():
    """Words and a picture."""
    yield Progress("drawing", 0.5)
    yield "a picture"
    yield PIL.Image.new("RGB", (5, 4), "blue")


@tool(isolate=True)
async def later() -> str:
    """Async."""
    return "later"


@tool(isolate=True)
def refuses() -> None:
    """Refuses."""
    raise ToolError("not today")


@tool(isolate=True)
def crashes() -> None:
    """Crashes."""
    raise KeyError("x")


@tool(isolate=True)
def leaves() -> None:
    """Leaves."""
    os._exit(3)


@tool(isolate=True)
def segfaults() -> None:
    """Segfaults."""
    ctypes.string_at(0)


@tool(isolate=True)
def hangs(path: str) -> None:
    """Hangs, and so does what it started."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(f"{os.getpid()} {other.pid}")
    while True:
        time.sleep(600)


@tool(isolate=True)
def eats() -> None:
    """Wants more memory than it may have."""
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
    held = []
    while True:
        held.append(bytearray(1 << 30))


@tool(isolate=True)
def large() -> list:
    """Large."""
    return ["x" * 1000] * 10_000


@tool(isolate=True)
def escapes(path: str) -> None:
    """Starts what leaves its process group, and hangs."""
    if os.fork() == 0:
        os.setsid()
        Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(600)


@tool(isolate=True, effect="read", retries=1)
def once(path: str) -> str:
    """Dies the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "at last"
'''


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, AnyTool]]:
    path = tmp_path_factory.mktemp("tools") / "shop.py"
    path.write_text(TOOLS)
    yield {one.name: one for one in load_tools(path)}
    isolate.close_idle()


async def done(one: AnyTool, tmp_path: Path, *, timeout: float = 60, told: Any = None, **args: Any) -> Outcome:
    context = ToolContext[Any](call_id="c1", on_progress=told)
    return await perform(one, one.validate(args), context, BlobStore(tmp_path / "blobs"), timeout)


def words(outcome: Outcome) -> str:
    return "".join(block["text"] for block in outcome.content if block["type"] == "text")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_arguments_and_results_cross_as_json(tools: dict[str, AnyTool], tmp_path: Path) -> None:
    outcome = await done(tools["plain"], tmp_path, order={"number": "A-1", "due": "2026-01-02"})
    assert words(outcome) == '{"number": "A-1", "year": 2026, "count": 1}'
    assert words(await done(tools["later"], tmp_path)) == "later"


async def test_pictures_cross_by_their_ids_and_progress_is_told(tools: dict[str, AnyTool], tmp_path: Path) -> None:
    told: list[Progress] = []
    outcome = await done(tools["picture"], tmp_path, told=told.append)
    block: Any = outcome.content[1]
    assert (words(outcome), told) == ("a picture", [Progress("drawing", 0.5)])
    assert (block["extras"]["call_id"], block["extras"]["label"]) == ("c1", "picture 1")
    assert BlobStore(tmp_path / "blobs").open_image(block["file_id"]).size == (5, 4)


async def test_the_process_is_another_one_and_is_used_again(tools: dict[str, AnyTool], tmp_path: Path) -> None:
    seen = {words(await done(tools["where"], tmp_path)) for _ in range(5)}
    assert len(seen) == 1
    assert str(os.getpid()) not in seen


async def test_calls_at_once_have_a_process_each(tools: dict[str, AnyTool], tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    seen = await asyncio.gather(*(done(tools["meet"], tmp_path, folder=str(tmp_path / "here")) for _ in range(3)))
    assert len({words(outcome) for outcome in seen}) == 3
    assert len(isolate._idle) <= isolate.MAX_IDLE


@pytest.mark.parametrize(
    ("name", "error", "crashed"),
    [
        ("refuses", "not today", False),
        ("crashes", "crashes failed: KeyError: 'x'", True),
        ("leaves", "leaves failed: its process ended (exit code 3)", True),
        ("segfaults", "segfaults failed: its process ended (exit code -11)", True),
        ("eats", "eats failed: MemoryError", True),
    ],
)
async def test_how_it_ends_is_told(
    name: str, error: str, crashed: bool, tools: dict[str, AnyTool], tmp_path: Path
) -> None:
    outcome = await done(tools[name], tmp_path)
    assert (outcome.error, outcome.crashed) == (error, crashed)
    assert words(await done(tools["later"], tmp_path)) == "later"


@pytest.mark.parametrize("how", ["late", "cancelled"])
async def test_a_tool_that_hangs_is_killed_with_all_that_it_started(
    how: str, tools: dict[str, AnyTool], tmp_path: Path
) -> None:
    await done(tools["later"], tmp_path)  # so that a process is there, and the time is the tool's
    pids = tmp_path / "pids"
    task = asyncio.create_task(done(tools["hangs"], tmp_path, timeout=2 if how == "late" else 60, path=str(pids)))
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    began = time.monotonic()
    if how == "late":
        assert (await task).error == "hangs timed out after 2 s"
    else:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert time.monotonic() - began < 2  # 200 ms, and tenfold for a busy machine
    await until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


async def test_a_process_that_died_is_tried_again(tools: dict[str, AnyTool], tmp_path: Path) -> None:
    assert words(await done(tools["once"], tmp_path, path=str(tmp_path / "flag"))) == "at last"


async def test_large_results_are_cut_over_there(tools: dict[str, AnyTool], tmp_path: Path) -> None:
    outcome = await done(tools["large"], tmp_path)
    assert outcome.cut and words(outcome).endswith("20000 of 10040000 characters]")


async def test_processes_leave_nothing_open(tools: dict[str, AnyTool], tmp_path: Path) -> None:
    async def failed() -> None:
        await done(tools["leaves"], tmp_path)
        isolate.close_idle()

    await failed()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await failed()
    assert len(os.listdir("/proc/self/fd")) <= before


@tool(isolate=True)
def at_the_top(number: int) -> int:
    """A function of a module that another process cannot import by its name."""
    return number + 1


async def test_a_module_is_found_by_its_file_too(tmp_path: Path) -> None:
    assert words(await done(at_the_top, tmp_path, number=1)) == "2"


def test_what_cannot_cross_is_refused_at_decoration() -> None:
    def local() -> None: ...

    def with_context(ctx: ToolContext) -> None: ...

    with pytest.raises(ConfigurationError, match="the tool local cannot be isolated: define"):
        tool(isolate=True)(local)
    with pytest.raises(ConfigurationError, match="the parameter ctx of the tool with_context cannot be used"):
        tool(isolate=True)(with_context)


SCRIPT = """
import asyncio
from pathlib import Path
from mmagent import Agent, tool
from mmagent.testing import ScriptedModel, call

@tool(isolate=True)
def add(a: int, b: int) -> int:
    "Add."
    return a + b

def main() -> None:
    agent = Agent(ScriptedModel([call("add", a=1, b=2), "end"]), [add], builtins=False)
    print([event.content[0]["text"] for event in agent.run("go").events if event.type == "tool_finished"])

GUARD
"""


@pytest.mark.parametrize("guard", ["if __name__ == '__main__':\n    main()", "main()"])
def test_a_script_may_isolate_its_own_functions(guard: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.replace("GUARD", guard))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "['3']\n"


def test_a_process_that_is_killed_leaves_none_behind(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(TOOLS)
    code = (
        "import asyncio, os, sys\n"
        "from mmagent.agent.tools import ToolContext, isolate, load_tools\n"
        "from mmagent.agent.tools.calls import perform\n"
        "from mmagent.media import BlobStore\n"
        "one = next(one for one in load_tools('shop.py') if one.name == 'where')\n"
        "outcome = asyncio.run(perform(one, {}, ToolContext(), BlobStore('blobs'), 60))\n"
        "print(outcome.content[0]['text'], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    pid = int(done.stdout)
    asyncio.run(until(lambda: not alive(pid)))


async def test_what_a_tool_left_behind_does_not_hold_the_event_loop(tools: dict[str, AnyTool], tmp_path: Path) -> None:
    path = tmp_path / "pid"
    call = asyncio.create_task(done(tools["escapes"], tmp_path, path=str(path)))
    try:
        await until(lambda: path.exists() and path.read_text())
        ended = threading.Event()
        threading.Thread(target=lambda: ended.wait(30) or os.kill(int(path.read_text()), signal.SIGKILL)).start()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert alive(int(path.read_text()))  # so its end of the pipe is still open
        ended.set()
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)
