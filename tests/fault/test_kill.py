"""kill -9 in the middle of turns: no acknowledged message is lost, no side effect repeated, the session goes on.

What is checked is in `benchmarks.lives`. The numbers are for CI; releases take ``TEST_KILLS=2000 TEST_KILLS_EACH=20``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

from mmagent.testing.kill import KillStep
from tests.postgres import Server, postgres  # noqa: F401 # a fixture

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("TEST_KILLS", "200"))
EACH = int(os.environ.get("TEST_KILLS_EACH", "2"))
STEPS = 2 * len(get_args(KillStep))


def killed(*options: str, kills: int, each: int) -> dict[str, Any]:
    """The report of a process that forks: this one may have threads."""
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", str(kills), "--each", str(each), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert not report["violations"], json.dumps(report, indent=1)
    assert done.returncode == 0
    return report


def test_kills_at_random_moments() -> None:
    report = killed(kills=KILLS, each=0)
    assert report["kills"] == KILLS
    assert report["asked"] and report["resumed"] and report["unsafe"]


def test_kills_at_every_step() -> None:
    assert killed(kills=0, each=EACH)["kills"] == EACH * STEPS


def test_kills_with_postgresql(postgres: Server) -> None:  # noqa: F811
    address = postgres.database()
    assert killed("--journal", address, kills=KILLS // 10, each=1)["kills"] == KILLS // 10 + STEPS
