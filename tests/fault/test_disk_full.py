"""A disk that is full in the middle of turns: the error says so, and with space the session goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import random, sys
from pathlib import Path
from benchmarks.lives import Planned, invalid, make_tools
from mmagent.agent import Agent
from mmagent.errors import StoreError
from mmagent.media import BlobStore
from mmagent.session import Session

folder, elsewhere = Path(sys.argv[1]), Path(sys.argv[2])
ballast = folder / "ballast"
ballast.write_bytes(bytes(3 << 20))
session = Session.open("a", folder / "sessions.sqlite3")
dice = random.Random(0)
agent = Agent(Planned(dice), make_tools(elsewhere / "effects", dice), session=session, builtins=False,
              blobs=BlobStore(elsewhere / "blobs"))
errors = answered = 0
last = ""
for turn in range(4000):
    try:
        agent.run(f"a.{turn} ri/u")
        answered += 1
    except StoreError as error:
        errors, last = errors + 1, str(error)
        if errors == 3:
            break
assert errors == 3 and answered, (errors, answered)
print(last)
ballast.unlink()
for turn in range(10):
    assert agent.run(f"b.{turn} ri/u").text == f"done b.{turn}"
assert not invalid(session.messages)
session.close()
again = Session.open("a", folder / "sessions.sqlite3")
answers = [message.text for message in again.messages if message.text.startswith("done ")]
assert answers[:answered] == [f"done a.{turn}" for turn in range(answered)], answers
assert answers[-1] == "done b.9"
assert not invalid(again.messages)
again.close()
paid = [line.split(" ")[1] for line in (elsewhere / "effects").read_text().splitlines() if line[0] == "u"]
assert len(set(paid)) == len(paid)
"""


def small_disk(folder: Path) -> list[str]:
    """What runs a command with a disk of 5 MiB mounted at a folder, for itself alone."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare, which mounts a small disk for one process")
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    mount = f'mount -t tmpfs -o size=5m tmpfs "{folder}" && exec "$@"'
    command = [unshare, *as_root, "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    return command


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "small", tmp_path / "large"
    folder.mkdir()
    elsewhere.mkdir()
    command = [*small_disk(folder), sys.executable, "-c", SCRIPT, str(folder), str(elsewhere)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "check that the disk has space" in done.stdout
