"""The main job, end to end, on cases that training never saw: share right of 200 (``--quick``: 12).

python -m benchmarks.shop [--quick] [--model NAME] [--count N] [--seed N] [--verbose]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from mmagent import load_model
from mmagent.evaluate.shop import Outcome, evaluate, summary

TOOLS = Path(__file__).parents[1] / "examples" / "shop" / "tools.py"


def main() -> None:
    """Run and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()

    def progress(outcome: Outcome) -> None:
        if options.verbose or outcome.wrong:
            print(f"{outcome.kind:18} {outcome.wrong or 'right'}", file=sys.stderr, flush=True)

    began = time.monotonic()
    count = 12 if options.quick else options.count
    outcomes = evaluate(load_model(options.model), TOOLS, count=count, seed=options.seed, progress=progress)
    seconds = round(time.monotonic() - began)
    print(json.dumps({"benchmark": "shop", "seed": options.seed, "seconds": seconds, **summary(outcomes)}))


if __name__ == "__main__":
    main()
