"""kill -9 between any two statements of an update leaves a store that opens, agrees with itself and can go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DRIVER = '''
import os, signal, sqlite3, sys
from pathlib import Path
import numpy
from mmagent.knowledge import Knowledge

home = Path(sys.argv[1])
docs = home / "docs"
docs.mkdir()

class Embedder:
    fingerprint = "lengths"
    def embed(self, texts):
        rows = numpy.array([[len(text), 1.0] for text in texts], numpy.float32)
        return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)

def write(version):
    (docs / "a.md").write_text(f"# A\\n## One\\nsame words\\n## Two\\nversion {version}")
    (docs / f"b{version}.txt").write_text(f"only in {version}")
    (docs / f"b{version - 1}.txt").unlink(missing_ok=True)

def update(after=None):
    """Kills this process before statement number `after`."""
    real = sqlite3.connect
    def connect(*args, **options):
        connection = real(*args, **options)
        seen = 0
        def trace(statement):
            nonlocal seen
            seen += 1
            if seen == after:
                os.kill(os.getpid(), signal.SIGKILL)
        connection.set_trace_callback(trace)
        return connection
    sqlite3.connect = connect
    with Knowledge(home / "store", embedder=Embedder()) as knowledge:
        knowledge.add(docs)

after, version, killed = 1, 1, 0
write(version)
while True:
    child = os.fork()
    if child == 0:
        update(after)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    crashed = os.WIFSIGNALED(status)
    assert crashed or os.WEXITSTATUS(status) == 0
    with Knowledge(home / "store", embedder=Embedder()) as knowledge:
        assert knowledge.verify() == [], (after, knowledge.verify())
        found = sorted(hit.text for hit in knowledge.search("words", k=9))
        before = sorted(["same words", f"version {version - 1}", f"only in {version - 1}"]) if version > 1 else []
        now = sorted(["same words", f"version {version}", f"only in {version}"])
        both = sorted([*now, f"only in {version - 1}"])
        assert found in (before, both, now), (after, found)
        knowledge.add(docs)
        assert sorted(hit.text for hit in knowledge.search("words", k=9)) == now
    if not crashed:
        break
    after, version, killed = after + 1, version + 1, killed + 1
    write(version)
print(killed)
'''


def test_killed_between_any_two_statements(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30
