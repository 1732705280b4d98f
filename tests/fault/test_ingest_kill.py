"""kill -9 while documents are taken in: what was told to be done is there, nothing is there in part, the rest follows.

What is checked is in `benchmarks.ingest_kills`. The number is for CI; releases take ``TEST_INGEST_KILLS=50``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("TEST_INGEST_KILLS", "4"))


def test_kills_while_documents_are_taken_in() -> None:
    command = [sys.executable, "-m", "benchmarks.ingest_kills", "--kills", str(KILLS), "--documents", "150"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert not report["violations"], json.dumps(report, indent=1)
    assert done.returncode == 0
    assert report["kills"] == KILLS
