"""Two processes that ask in one session: one waits for the other or is told so, and their turns never mix."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.lives import Planned, invalid, make_tools
from mmagent.agent import Agent
from mmagent.media import BlobStore
from mmagent.session import Session
from tests.blocking import no_blocking  # noqa: F401 # a fixture

ROOT = Path(__file__).parents[2]
TURNS = 8
SCRIPT = """
import asyncio, random, sys
from pathlib import Path
from benchmarks.lives import Planned, make_tools
from mmagent.agent import Agent
from mmagent.errors import StoreLocked
from mmagent.media import BlobStore
from mmagent.session import Session
from tests.blocking import no_blocking  # noqa: F401 # a fixture

name, folder, turns = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
dice = random.Random(name)

async def main():
    session = Session.open("shared", folder / "sessions.sqlite3")
    agent = Agent(Planned(dice), make_tools(folder / "effects", dice), session=session, builtins=False,
                  blobs=BlobStore(folder))
    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(turns):
        try:
            await agent.arun(f"{name}.{turn} ri/u")
            print("answered", flush=True)
        except StoreLocked:
            print("locked", flush=True)

asyncio.run(main())
"""


def test_turns_of_two_processes_do_not_mix(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, name, str(tmp_path), str(TURNS)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    said = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        output, _ = child.communicate(timeout=120)
        assert child.returncode == 0
        said += output.split()
    assert set(said) <= {"answered", "locked"}

    session = Session.open("shared", tmp_path / "sessions.sqlite3")
    messages = session.messages
    session.close()
    assert not invalid(messages)
    roles = ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    turns = [messages[start : start + len(roles)] for start in range(0, len(messages), len(roles))]
    assert len(turns) == said.count("answered")
    for turn in turns:
        name = turn[0].text.split(" ")[0]
        assert [message.role for message in turn] == roles
        numbers = [call["args"]["number"] for message in turn for call in message.tool_calls]
        assert numbers == [f"{name}.0.0", f"{name}.0.1", f"{name}.1.0"]
        assert turn[-1].text == f"done {name}"
    effects = (tmp_path / "effects").read_text().splitlines()
    assert len(effects) == len(set(effects)) == 3 * said.count("answered")


@pytest.mark.parametrize("seed", range(3))
async def test_turns_of_one_process_do_not_mix(tmp_path: Path, seed: int, no_blocking: list[str]) -> None:  # noqa: F811
    dice = random.Random(seed)
    session = Session.memory()  # whose writing waits for no disk
    tools = make_tools(tmp_path / "effects", dice)
    agents = [Agent(Planned(dice), tools, session=session, builtins=False, blobs=BlobStore(tmp_path)) for _ in range(4)]
    await asyncio.gather(*(agent.arun(f"{number}.0 r/u") for number, agent in enumerate(agents)))
    answers = [message.text for message in session.messages if message.role == "assistant" and not message.tool_calls]
    questions = [message.text.split(" ")[0] for message in session.messages if message.role == "user"]
    assert answers == [f"done {question}" for question in questions]
    assert not invalid(session.messages)
