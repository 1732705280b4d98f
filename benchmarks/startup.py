"""How long a user waits before anything happens: ``import mmagent`` and ``mmagent --help``, beside bare Python.

python -m benchmarks.startup [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": ["-c", "pass"],
    "import mmagent": ["-c", "import mmagent"],
    "mmagent --help": ["-m", "mmagent", "--help"],
}


def main() -> None:
    """Time each command in a new process, in turn, and print the medians in seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 rounds, not 21")
    rounds = 5 if parser.parse_args().quick else 21
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - began)
    medians = {name: round(statistics.median(values[1:]), 4) for name, values in times.items()}  # the first warms up
    print(json.dumps({"benchmark": "startup", "rounds": rounds, "seconds": medians}))


if __name__ == "__main__":
    main()
