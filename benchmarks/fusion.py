"""Pictures as tokens, by gated layers, or as a vector before the head: what each learns for the same compute.

The recipes ``fusion-early``, ``fusion-cross-attention`` and ``fusion-late`` differ in the fusion, in the tokens of a
step (so that all see equally many samples in a step) and in their steps, which are such that all take equally many
floating point operations. These are counted by torch over forward and backward of real steps. Everything else is the
same: the vision tower and its lesson, the decoder, learning rates, and the data, numbers of three digits in small
pictures. Prints one JSON line; ``--out`` writes the curves as SVG and the table as Markdown.

python -m benchmarks.fusion            # two seeds of each, some 12 minutes of one core
python -m benchmarks.fusion --quick    # a few steps of each, within a minute
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmagent.train import Watch, load
from mmagent.train.encode import collate
from mmagent.train.plot import ticks
from mmagent.train.recipe import Recipe
from mmagent.train.sources import make_source
from mmagent.train.stream import Stream
from mmagent.train.trainer import Run

FUSIONS = {"early": "#1668b3", "cross-attention": "#d1611b", "late": "#2c8a3d"}
"""Each with its colour in the picture."""
SEEDS, POINTS, SAMPLES = 2, 5, 500
COUNTED = 3
"""Steps whose operations are counted."""
KINDS = ("digits", "numbers")
"""What is counted: digits that are right, and numbers whose digits all are."""


@dataclass
class Learnt:
    """One run."""

    fusion: str
    parameters: int
    flops: float
    """Of all steps."""
    seconds: float
    """Of all steps, on one thread."""
    samples: int
    """Learnt from."""
    curve: list[tuple[float, float]] = field(default_factory=list)
    """Operations so far, and share right."""
    right: dict[str, float] = field(default_factory=dict)
    """At the end, by what is counted."""


def flops_of_a_step(run: Run, stream: Stream) -> float:
    """The mean over some real steps, which do change the weights; attention counts as its two products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for step in range(COUNTED):
            run.step(step, stream.draw(step))
    return float(counter.get_total_flops()) / COUNTED


def ask(run: Run, count: int) -> dict[str, float]:
    """Share of fresh digits and of whole numbers that are right.

    That every most likely token is the right one, given the right ones before, is that greedy decoding says it.
    """
    source = run.recipe.data[0]
    draw, rng = make_source(source.source, source.options), random.Random("fusion: unseen")
    digits: list[float] = []
    numbers: list[float] = []
    run.bare.eval()
    with torch.no_grad():
        for _ in range(count):
            answers = run.bare(collate([run.encoder.encode(draw(rng))], run.encoder.side))
            right = answers.wanted == answers.got
            digits.append(float(right[:-1].float().mean()))  # the last one is the end
            numbers.append(float(right.all()))
    run.bare.train()
    return {"digits": statistics.mean(digits), "numbers": statistics.mean(numbers)}


def learn(fusion: str, recipe: Recipe, *, points: int, samples: int) -> Learnt:
    """Train and ask."""
    with tempfile.TemporaryDirectory() as folder:
        counting = Run(recipe, Path(folder) / "counted", Watch(), 0)
        flops = flops_of_a_step(counting, Stream(recipe, counting.encoder))
        run = Run(recipe, Path(folder) / "run", Watch(), 0)
        stream, spent = Stream(recipe, run.encoder), 0.0
        parameters = sum(weight.numel() for weight in run.network.parameters())
        learnt = Learnt(fusion, parameters, flops * recipe.steps, 0.0, 0)
        looks = {round(recipe.steps * (point + 1) / points) for point in range(points)}
        for step in range(recipe.steps):
            batches, began = stream.draw(step), time.thread_time()
            run.step(step, batches)
            spent += time.thread_time() - began
            learnt.samples += sum(len(batch.sources) for batch in batches)
            if step + 1 in looks:
                learnt.right = ask(run, samples)
                learnt.curve.append((flops * (step + 1), learnt.right["numbers"]))
        learnt.seconds = spent
        return learnt


def table(runs: list[Learnt]) -> str:
    """Means over seeds, and the range of what was right of all, as Markdown."""
    lines = [
        f"| fusion | parameters | samples | TFLOP | minutes of a core | {' | '.join(KINDS)} | of each seed |",
        "|---" * (6 + len(KINDS)) + "|",
    ]
    for fusion in FUSIONS:
        if found := [run for run in runs if run.fusion == fusion]:
            shares = [f"{statistics.mean(run.right[kind] for run in found):.1%}" for kind in KINDS]
            each = ", ".join(f"{run.right['numbers']:.1%}" for run in found)
            mean = {
                name: statistics.mean(getattr(run, name) for run in found) for name in ("flops", "seconds", "samples")
            }
            lines.append(
                f"| {fusion} | {found[0].parameters:,} | {mean['samples']:,.0f} | {mean['flops'] / 1e12:.2f} | "
                f"{mean['seconds'] / 60:.1f} | {' | '.join(shares)} | {each} |"
            )
    return "\n".join(lines) + "\n"


def picture(runs: list[Learnt]) -> str:
    """Share right over operations as SVG: a faint line for each seed, a strong one for their mean."""
    width, height, left, top, right, bottom = 720, 340, 56, 36, 150, 46
    most = max(run.flops for run in runs)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across, up = width - left - right, height - top - bottom
        return left + point[0] / most * across, top + (1 - point[1]) * up

    def line(points: list[tuple[float, float]], color: str, stroke: float, opacity: float) -> str:
        spots = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, points))
        return f'<polyline points="{spots}" fill="none" stroke="{color}" stroke-width="{stroke}" opacity="{opacity}"/>'

    def words(x: float, y: float, text: str, anchor: str = "start", fill: str = "#222") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{text}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        words(left, 20, "fresh numbers that are right, for the same compute"),
        words(place((most / 2, 0))[0], height - 10, "TFLOP of forward and backward", "middle"),
    ]
    for share in ticks(0, 1):
        x, y = place((0, share))
        parts += [
            f'<path d="M{x:.1f} {y:.1f}H{width - right}" stroke="#e3e6e9"/>',
            words(x - 8, y + 4, f"{share:.0%}", "end"),
        ]
    for spent in ticks(0, most / 1e12):
        parts.append(words(place((spent * 1e12, 0))[0], height - bottom + 18, f"{spent:g}", "middle"))
    for fusion, color in FUSIONS.items():
        curves = [[(0.0, 0.0), *run.curve] for run in runs if run.fusion == fusion]
        if curves:
            steps = list(zip(*curves, strict=True))
            mean = [(statistics.mean(x for x, _ in step), statistics.mean(y for _, y in step)) for step in steps]
            parts += [line(curve, color, 1, 0.35) for curve in curves]
            parts.append(line(mean, color, 2.4, 1))
            x, y = place(mean[-1])
            parts.append(words(x + 8, y + 4, f"{fusion} {mean[-1][1]:.0%}", fill=color))
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Run and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a few steps of each, one seed")
    parser.add_argument("--out", type=Path, help="a folder for fusion.svg and fusion-table.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = []
    for seed in range(1 if options.quick else SEEDS):
        for fusion in FUSIONS:
            recipe = load(f"fusion-{fusion}", seed=seed)
            if options.quick:
                recipe = recipe.model_copy(update={"steps": max(1, recipe.steps // 50)})
            samples, points = (60, 1) if options.quick else (SAMPLES, POINTS)
            runs.append(learn(fusion, recipe, points=points, samples=samples))
            last = runs[-1]
            shares = {kind: round(share, 3) for kind, share in last.right.items()}
            said = f"{fusion} seed {seed}: {last.flops / 1e12:.3f} TFLOP, {last.seconds:.0f} s, {shares}"
            print(said, file=sys.stderr, flush=True)
        if options.out:
            (options.out / "fusion.svg").write_text(picture(runs), encoding="utf-8")
            (options.out / "fusion-table.md").write_text(table(runs), encoding="utf-8")
    figures: dict[str, dict[str, float]] = {}
    for fusion in FUSIONS:
        found = [run for run in runs if run.fusion == fusion]
        figures[fusion] = {kind: round(statistics.mean(run.right[kind] for run in found), 4) for kind in KINDS}
        figures[fusion]["tflop"] = round(statistics.mean(run.flops for run in found) / 1e12, 3)
    print(json.dumps({"benchmark": "fusion", "quick": options.quick, "seeds": len(runs) // len(FUSIONS), **figures}))


if __name__ == "__main__":
    main()
