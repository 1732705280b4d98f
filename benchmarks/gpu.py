"""Decode and prefill on one NVIDIA GPU, against the memory's speed and against transformers in the same run.

Random bfloat16 weights of real shapes are made on the device, so nothing is downloaded; it needs torch and transformers
alone. The ceiling of decode is the memory: each token reads every matrix and all keys and values once. The memory's
speed is that of a copy on this very device, bytes read plus bytes written. Each measurement stands alone: one that
fails says so in the table and in the exit code, and the others go on. Prints Markdown, then one JSON line.

    python -m benchmarks.gpu                       # 135M, 1.5B and 7B
    python -m benchmarks.gpu --shapes 135M --no-peer
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from mmagent.engine.decoder import fused_ops
from mmagent.engine.decoder.blocks import read_blocks
from mmagent.engine.decoder.fused import TorchNetwork
from mmagent.engine.decoder.network import Part

PROMPT, TOKENS, LONG_PROMPT, ROWS, REPEATS = 512, 128, 2048, 8, 3

SHAPES: dict[str, dict[str, Any]] = {
    "135M": {
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "1.5B": {
        "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960,
        "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "7B": {
        "model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
        "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
}  # fmt: skip
"""Those of SmolLM2-135M, Qwen2.5-1.5B and Qwen2.5-7B."""
BARS = {("135M", "decode_tokens_per_s"): 1000.0, ("1.5B", "bandwidth_share"): 0.50, ("7B", "bandwidth_share"): 0.65}
"""On a GPU of the class of an H100."""


@dataclass
class Report:
    """What was measured of one shape, by name, and what could not be."""

    shape: str
    figures: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str, work: Callable[[], float]) -> None:
        """Put a figure down, or why there is none."""
        try:
            self.figures[name] = float(f"{work():.4g}")
        except Exception as error:  # the next measurement may still work
            self.failures[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        torch.cuda.empty_cache()


def seconds(work: Callable[[], object]) -> float:
    """The median of three, the device waited for."""
    taken = []
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def memory_speed() -> float:
    """Bytes read plus bytes written in a second of copying 2 GiB."""
    source = torch.randint(0, 255, (1 << 31,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source))


def build(shape: str) -> Any:
    """A random network of transformers, made on the device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(SHAPES[shape])
    config = AutoConfig.for_model(values.pop("model_type"), max_position_embeddings=8192, **values)
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.eval()


def prompt(size: int, vocabulary: int, seed: int) -> list[int]:
    """Random tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, vocabulary, (size,), generator=generator).tolist()


class Ours:
    """`TorchNetwork` under measurement."""

    def __init__(self, model: Any) -> None:
        blocks = read_blocks(model)
        assert blocks is not None
        self.network = TorchNetwork(blocks, device="cuda", dtype="bfloat16", slots=ROWS)
        self.vocabulary = blocks.vocabulary
        self.row_bytes = 2 * len(blocks.layers) * blocks.kv_heads * blocks.head_dim * 2
        """Keys and values of one position."""

    def rows(self, count: int, length: int = PROMPT) -> list[Any]:
        """Prefilled ones."""
        rows = [self.network.row() for _ in range(count)]
        for seed, row in enumerate(rows):
            self.network.run([Part(row, prompt(length, self.vocabulary, seed))])
        return rows

    def generate(self, rows: list[Any], count: int = TOKENS) -> None:
        """Greedy tokens, each read back before the next pass, as a caller does who looks at them."""
        tokens = [7] * len(rows)
        for _ in range(count):
            logits = self.network.run([Part(row, [token]) for row, token in zip(rows, tokens, strict=True)])
            tokens = torch.stack([line.argmax() for line in logits]).tolist()

    def speed(self, count: int) -> float:
        """Tokens of all rows in a second, the steps recorded before."""
        rows = self.rows(count)

        def again() -> None:
            for row in rows:
                row.length = PROMPT
            self.generate(rows)

        again()
        return count * TOKENS / seconds(again)

    def first_step(self) -> float:
        """Seconds from a prefilled row to the first decoded token: kernels are compiled, the step is recorded."""
        rows = self.rows(1)
        torch.cuda.synchronize()
        began = time.perf_counter()
        self.generate(rows, 1)
        return time.perf_counter() - began

    def replay(self) -> float:
        """Seconds of one recorded step, without what stands around it."""
        rows = self.rows(1)
        self.generate(rows, 2)
        step = self.network.decode_step
        graph = list(step.graphs.values())[-1][0]
        for _ in range(10):
            graph.replay()
        return seconds(lambda: [graph.replay() for _ in range(100)]) / 100

    def prefill(self) -> float:
        """Tokens in a second of a long prompt."""
        ids = prompt(LONG_PROMPT, self.vocabulary, 0)
        work: Callable[[], object] = lambda: self.network.run([Part(self.network.row(), ids)])  # noqa: E731
        work()
        return LONG_PROMPT / seconds(work)

    def difference(self, model: Any) -> float:
        """Of 32 decoded tokens' logits from transformers' own, relative."""
        ids = prompt(PROMPT + 32, self.vocabulary, 3)
        row = self.network.row()
        self.network.run([Part(row, ids[:PROMPT])])
        ours = torch.cat([self.network.run([Part(row, [token])])[0] for token in ids[PROMPT:]])
        with torch.no_grad():
            theirs = model(torch.tensor([ids], device="cuda"), logits_to_keep=32).logits[0].float()
        return float((ours - theirs).norm() / theirs.norm())


def measure_ours(report: Report, model: Any, speed: float) -> None:
    """All figures of `TorchNetwork`."""
    figures = report.figures
    ours = Ours(model)
    report.measure("first_step_s", ours.first_step)
    report.measure("logits_difference", lambda: ours.difference(model))
    report.measure("decode_tokens_per_s", lambda: ours.speed(1))
    report.measure(f"decode_tokens_per_s_{ROWS}_rows", lambda: ours.speed(ROWS))
    report.measure("prefill_tokens_per_s", ours.prefill)
    ours.network.decode_step = ours.network.new_step(ours.network.decode_step.kernels)
    report.measure("step_ms", lambda: 1000 * ours.replay())
    if "step_ms" in figures:
        read = ours.network.weight_bytes + (PROMPT + 2) * ours.row_bytes
        report.measure("bandwidth_share", lambda: read / (figures["step_ms"] / 1000) / speed)
    ours.network.decode_step = ours.network.new_step(fused_ops)
    report.measure("torch_only_decode_tokens_per_s", lambda: ours.speed(1))


def measure_peer(report: Report, model: Any) -> None:
    """``generate`` of transformers: as it comes, and with a static cache, which it compiles."""
    ids = torch.tensor([prompt(PROMPT, model.config.vocab_size, 0)], device="cuda")

    def generate(count: int, **how: Any) -> None:
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False,
            pad_token_id=0, **how,
        )  # fmt: skip

    def decode(**how: Any) -> float:
        """Tokens in a second, prefill left out."""
        for _ in range(2):  # the second still records graphs
            generate(TOKENS + 1, **how)
        return TOKENS / (seconds(lambda: generate(TOKENS + 1, **how)) - seconds(lambda: generate(1, **how)))

    report.measure("transformers_decode_tokens_per_s", decode)
    began = time.perf_counter()
    report.measure("transformers_compiled_decode_tokens_per_s", lambda: decode(cache_implementation="static"))
    report.figures["transformers_compiled_total_s"] = round(time.perf_counter() - began, 1)


def measure(shape: str, speed: float, peer: bool) -> Report:
    """One shape; its memory is free afterwards."""
    report = Report(shape)
    made: list[Any] = []

    def make() -> float:
        began = time.perf_counter()
        made.append(build(shape))
        return time.perf_counter() - began

    report.measure("build_s", make)
    for model in made:
        try:
            measure_ours(report, model, speed)
        except Exception as error:
            report.failures["ours"] = f"{type(error).__name__}: {error}"
        if peer:
            measure_peer(report, model)
    made.clear()
    gc.collect()
    torch.cuda.empty_cache()
    return report


def missed(report: Report) -> list[str]:
    """Bars that were not reached, in words."""
    return [
        f"{shape} {name}: {report.figures[name]} < {bar}"
        for (shape, name), bar in BARS.items()
        if shape == report.shape and report.figures.get(name, bar) < bar
    ]


def markdown(device: str, speed: float, reports: list[Report]) -> str:
    """A table, shapes side by side."""
    names = list(dict.fromkeys(name for report in reports for name in (*report.figures, *report.failures)))
    lines = [
        f"### {device}, torch {torch.__version__}, memory {speed / 1e12:.2f} TB/s as measured",
        "",
        "| " + " | ".join(["", *(report.shape for report in reports)]) + " |",
        "|---" * (len(reports) + 1) + "|",
    ]
    for name in names:
        cells = [str(report.figures.get(name, report.failures.get(name, ""))) for report in reports]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--no-peer", action="store_true", help="leave transformers' generate out")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("nothing measured: there is no NVIDIA GPU that this torch can use")
        return
    device, speed = torch.cuda.get_device_name(), memory_speed()
    reports = []
    for shape in arguments.shapes:
        reports.append(measure(shape, speed, not arguments.no_peer))
        print(markdown(device, speed, reports[-1:]), flush=True)
    bars = [line for report in reports for line in missed(report)]
    shapes = {report.shape: {"figures": report.figures, "failures": report.failures} for report in reports}
    print("\n" + markdown(device, speed, reports))
    print(
        json.dumps(
            {"benchmark": "gpu", "device": device, "memory_bytes_per_s": speed, "shapes": shapes, "missed": bars}
        )
    )
    raise SystemExit(int(bool(bars) or any(report.failures for report in reports)))


if __name__ == "__main__":
    main()
