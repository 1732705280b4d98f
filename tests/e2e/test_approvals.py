"""Approvals, plans and going on, from the command line: at a terminal, in a pipe, and after a restart."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmagent.chat.scripted import ScriptedModel, Step, call
from mmagent.cli.main import main
from mmagent.session import Session

TOOLS = '''
from pathlib import Path
from mmagent import tool

@tool
def refund(order: str, euros: float) -> str:
    """Pay money back."""
    with open(Path(__file__).with_name("paid"), "a") as file:
        file.write(f"{order} {euros}\\n")
    return "refunded"
'''
POLICY = "rules:\n  - ask: refund\n    why: refunds are a person's decision\n"


@dataclass
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def shop(tmp_path: Path) -> list[str]:
    """The options of a shop that may refund only what somebody allows."""
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return ["--tools", str(tmp_path / "tools.py"), "--policy", str(tmp_path / "policy.yaml"), "--session", "ada"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def command(*arguments: str, script: list[Step], lines: str | None = None) -> Done:
        monkeypatch.setattr("mmagent.chat.factory.load_model", lambda name=None: ScriptedModel(script))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((lines or "").encode()), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["run" if lines is None else "chat", *arguments])
        assert isinstance(end.value.code, int)
        return Done(end.value.code, *capsys.readouterr())

    return command


REFUND = call("refund", order="A-17", euros=12.5)


def test_a_pipe_waits_and_another_process_decides(run: Run, shop: list[str], tmp_path: Path) -> None:
    done = run("My money back!", *shop, script=[REFUND])
    assert (done.code, done.out) == (3, "")
    assert "refunds are a person's decision" in done.err
    (identity,) = re.findall(r"--resume --allow (\S+)", done.err)

    again = run("--resume", *shop, script=[])
    assert again.code == 3 and identity in again.err
    done = run("--resume", "--allow", identity, *shop, script=["It is on its way."])
    assert (done.code, done.out) == (0, "It is on its way.\n")
    assert (tmp_path / "paid").read_text() == "A-17 12.5\n"

    twice = run("--resume", "--allow", identity, *shop, script=["No."])
    assert twice.code == 2 and "waits for an approval" in twice.err
    assert (tmp_path / "paid").read_text() == "A-17 12.5\n"


def test_a_denial_reaches_the_model(run: Run, shop: list[str], tmp_path: Path) -> None:
    (identity,) = re.findall(r"--resume --allow (\S+)", run("My money back!", *shop, script=[REFUND]).err)
    done = run("--resume", "--deny", identity, *shop, script=[lambda request: request.messages[-1].text])
    assert done.out == "error: refund was denied: the user said no\n"
    assert not (tmp_path / "paid").exists()


def test_json_has_what_waits(run: Run, shop: list[str]) -> None:
    done = run("My money back!", "--json", *shop, script=[REFUND])
    assert done.code == 3
    (waiting,) = json.loads(done.out)["pending"]
    assert (waiting["name"], waiting["args"]) == ("refund", {"order": "A-17", "euros": 12.5})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--resume"], "say which: --session NAME"),
        (["hello", "--resume", "--session", "ada"], "asks nothing; leave out the question"),
        (["hello", "--allow", "x", "--session", "ada"], "add --resume"),
        (["--resume", "--session", "nobody"], "nothing to go on with"),
        (["hello", "--policy", "none.yaml"], "there is no policy none.yaml"),
        (["--resume", "--session", "ada", "--allow", "x", "--deny", "x"], "cannot be both allowed and denied"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, arguments: list[str], says: str) -> None:
    done = run(*arguments, script=["No."])
    assert done.code == 2 and says in done.err and "Traceback" not in done.err
    assert Session.names() == []


def test_a_plan_is_shown_and_ticked_off(run: Run) -> None:
    def plan(first: str, second: str) -> Step:
        steps = [{"text": "look", "status": first}, {"text": "answer", "status": second}]
        return call("update_plan", steps=steps)

    done = run("go", "--plan", script=[plan("active", "pending"), plan("done", "active"), "Done."])
    assert done.out == "Done.\n"
    assert [mark for mark in ("▶ look", "☐ answer", "☑ look", "▶ answer") if mark not in done.err] == []


def test_a_conversation_takes_turns_back_and_goes_on_with_what_waits(run: Run, shop: list[str]) -> None:
    lines = "one\ntwo\n/rewind\n/rewind x\n/rewind 7\nMy money back!\n"
    done = run(*shop, script=["1", "2", REFUND], lines=lines)
    assert done.out == "1\n2\n" and done.code == 1
    assert "taken back, from: two" in done.err
    assert "takes a number of turns, not x" in done.err and "7 cannot be taken back" in done.err
    assert [message.text for message in Session.open("ada").messages][:3] == ["one", "1", "My money back!"]
    again = run(*shop, script=["Nothing was refunded."], lines="/resume\nNever mind.\n")
    assert "the last turn has no answer yet" in again.err
    assert again.out == "Nothing was refunded.\n"


CHILD = """
import sys
from mmagent.chat.scripted import ScriptedModel, call
from mmagent.chat import factory
from mmagent.cli.main import main
refund = call("refund", order="A-17", euros=12.5)
factory.load_model = lambda name=None: ScriptedModel([refund, lambda request: request.messages[-1].text])
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("typed", "answer", "paid"),
    [
        ("y\n", "refunded", True),
        ("\n", "error: refund was denied: the user said no", False),
        ("n, too much\n", "error: refund was denied: too much", False),
        ("what?\nyes\n", "refunded", True),
    ],
)
def test_at_a_terminal_somebody_is_asked(shop: list[str], tmp_path: Path, typed: str, answer: str, paid: bool) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", CHILD, "run", "My money back!", *shop]
    child = subprocess.Popen(command, stdin=end, stderr=end, stdout=subprocess.PIPE, text=True)
    os.close(end)
    shown = ""
    while "allow it?" not in shown:
        shown += os.read(terminal, 1024).decode()
    assert 'refund({"order": "A-17", "euros": 12.5})' in shown
    os.write(terminal, typed.encode())
    out, _ = child.communicate(timeout=60)
    os.close(terminal)
    assert (child.returncode, out) == (0, f"{answer}\n")
    assert (tmp_path / "paid").exists() is paid
