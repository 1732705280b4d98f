"""Damaged recordings of every container give samples or a typed error: no crash, and little memory.

``FUZZED_FILES=2000`` looks at more of them than the 200 of every run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

COUNT = int(os.environ.get("FUZZED_FILES", "200"))


def test_damaged_recordings_are_heard_or_refused() -> None:
    program = Path(__file__).with_name("damaged.py")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(program), str(COUNT)],
        capture_output=True, text=True, timeout=60 + COUNT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4_000:]
    assert not done.stderr, "a library's own messages are for nobody"
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["heard"] > COUNT // 10 and result["refused"] > COUNT // 10
    assert result["grown"] < 300
