"""kill -9 at random points of turns: no acknowledged message is lost, no side effect repeated, the session goes on.

The rule of three: 0 failures in N kills bound the rate of failure at about 3/N with 95 % confidence. The default N is
for CI; ``TEST_KILLS=500 pytest tests/fault`` is for releases.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from mmagent.agent import Agent
from mmagent.content import Message
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.testing import ScriptedModel

KILLS = int(os.environ.get("TEST_KILLS", "10"))
CHILD = Path(__file__).with_name("endless_turns.py")
TRACE_LINES_OF_A_TURN = 16


def kill_after(lines: int, folder: Path, life: int) -> list[str]:
    """Run the child until its trace has that many lines, kill it, and return all that it traced."""
    child = subprocess.Popen([sys.executable, str(CHILD), str(folder), str(life)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    trace = [child.stdout.readline().strip() for _ in range(lines)]
    child.kill()
    trace += child.stdout.read().splitlines()
    child.wait()
    return trace


def check_history(messages: tuple[Message, ...]) -> None:
    """Every call has its outcome, right after the message that made it, in order; and there is no other outcome."""
    position = 0
    while position < len(messages):
        message = messages[position]
        assert message.role != "tool"
        outcomes = messages[position + 1 : position + 1 + len(message.tool_calls)]
        assert [one.tool_call_id for one in outcomes] == [call["id"] for call in message.tool_calls]
        position += 1 + len(message.tool_calls)


def test_kill_at_random_points(tmp_path: Path) -> None:
    dice = random.Random(20261122)
    acknowledged: list[str] = []
    for life in range(KILLS):
        trace = kill_after(dice.randrange(1, 3 * TRACE_LINES_OF_A_TURN), tmp_path, life)
        acknowledged += [line.removeprefix("accepted ") for line in trace if line.startswith("accepted ")]

        session = Session.open("shop", tmp_path / "sessions.sqlite3")
        check_history(session.messages)
        questions = [message.text for message in session.messages if message.role == "user"]
        assert len(set(questions)) == len(questions)
        assert [question for question in questions if question in acknowledged] == acknowledged

        model = ScriptedModel([f"life {life} goes on"])
        agent = Agent(model, session=session, builtins=False, blobs=BlobStore(tmp_path / "blobs"))
        assert agent.run(f"after kill {life}").text == f"life {life} goes on"
        check_history(model.requests[0].messages[1:])
        acknowledged.append(f"after kill {life}")
        session.close()

    paid = (tmp_path / "paid").read_text().split() if (tmp_path / "paid").exists() else []
    assert len(set(paid)) == len(paid)
    told = session_outcomes(tmp_path)
    assert {outcome for outcome in told if outcome.startswith("paid ")} <= {f"paid {number}" for number in paid}


def session_outcomes(folder: Path) -> list[str]:
    session = Session.open("shop", folder / "sessions.sqlite3")
    outcomes = [message.text for message in session.messages if message.role == "tool"]
    session.close()
    return outcomes
