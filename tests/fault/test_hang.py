"""A tool that never returns keeps neither a turn nor the process from ending."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from mmagent.session import Session

SCRIPT = """
import sys, threading
from pathlib import Path
from mmagent.agent import Agent, tool
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.testing import ScriptedModel, call

folder, timeout = Path(sys.argv[1]), float(sys.argv[2])

@tool(timeout=timeout)
def hang() -> None:
    print("running", flush=True)
    threading.Event().wait()

session = Session.open("a", folder / "s.sqlite3")
agent = Agent(ScriptedModel([["Wait. ", call("hang")], "done"]), [hang], session=session, builtins=False,
              blobs=BlobStore(folder))
print(agent.run("go").text)
"""


def start(folder: Path, timeout: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(timeout)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_process_ends_although_a_tool_hangs(tmp_path: Path) -> None:
    child = start(tmp_path, 0.05)
    output, _ = child.communicate(timeout=60)
    assert (child.returncode, output) == (0, "running\ndone\n")


def test_ctrl_c_ends_a_turn_in_a_hanging_tool_and_the_history_is_whole(tmp_path: Path) -> None:
    child = start(tmp_path, 3600)
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    messages = Session.open("a", tmp_path / "s.sqlite3").messages
    assert [(message.role, message.text) for message in messages] == [
        ("user", "go"),
        ("assistant", "Wait. "),
        ("tool", "error: interrupted; it is unknown whether hang took effect"),
    ]
