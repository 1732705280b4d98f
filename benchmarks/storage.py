"""Bytes on disk of a session about one picture of 1.0 MB: ten turns of three tool calls each, beside the peers.

Each framework keeps the session its own way, in a process of its own; all files count, after the store was closed.
A framework that is not installed is named as absent. Prints a table and a JSON line; exit code 1 where mmagent takes
more than 1.1 MB.

    python -m benchmarks.storage --quick
    python -m benchmarks.storage --peers-python PYTHON   # one that has what benchmarks/requirements.txt lists
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from benchmarks.agent_loop import CONTENDERS, Contender
from benchmarks.peers.agent_worker import AgentWorker
from benchmarks.peers.worker import SystemAbsent

PICTURE_BYTES, TURNS, CALLS = 1_000_000, 10, 3
MOST = 1_100_000
STORES = (
    *(contender for contender in CONTENDERS if contender.durable),
    Contender("pydantic-ai + JSON file", "pydantic_ai_agent", "JSON file", durable=True),
)


def picture(size: int) -> bytes:
    """A PNG of noise, of exactly ``size`` bytes; what it is short of is in a chunk of its own before the end."""
    side = 570
    noise = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(noise, 0))
    end = _chunk(b"IEND", b"")
    return start + _chunk(b"prVt", os.urandom(size - len(start) - len(end) - 12)) + end


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def measure(contender: Contender, python: str, shown: Path) -> dict[str, Any]:
    """Bytes with and without the picture, and milliseconds of a turn."""
    row: dict[str, Any] = {"name": contender.name}
    with AgentWorker(python if contender.peer else sys.executable, contender.module) as worker:
        for key, path in (("bytes", str(shown)), ("without", "")):
            filled = worker.ask("fill", form=contender.form, turns=TURNS, calls=CALLS, picture=path)
            row |= {key: filled["bytes"], f"{key}_turn_ms": round(1000 * statistics.median(filled["seconds"]), 2)}
        row["versions"] = worker.versions
    return row


def markdown(rows: list[dict[str, Any]], absent: dict[str, str]) -> str:
    """A table."""
    lines = ["| system | bytes | × picture | without a picture | ms/turn with / without |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['name']} | {row['bytes']:,} | {row['bytes'] / PICTURE_BYTES:.3g} | {row['without']:,} | "
        f"{row['bytes_turn_ms']:.1f} / {row['without_turn_ms']:.1f} |"
        for row in rows
    ]
    return "\n".join([*lines, "", *(f"{name} is absent: {why}." for name, why in absent.items())])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="mmagent alone")
    parser.add_argument("--peers-python", default=sys.executable, metavar="PYTHON")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(folder) / "picture.png"
        shown.write_bytes(picture(PICTURE_BYTES))
        for contender in STORES:
            if options.quick and contender.peer:
                continue
            try:
                rows.append(measure(contender, options.peers_python, shown))
            except SystemAbsent as error:
                absent[contender.name] = str(error)
    print(markdown(rows, absent))
    print(json.dumps({"benchmark": "storage", "rows": rows, "absent": absent}))
    raise SystemExit(any(row["bytes"] > MOST for row in rows if row["name"].startswith("mmagent")))


if __name__ == "__main__":
    main()
