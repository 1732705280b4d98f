"""Engines of Whisper on the same work: seconds for a window and for long form, and whether they say the same.

One random network of the size of whisper-tiny that never ends by itself, so that every engine decodes the same 96
tokens (as many as people say) of each window of 30 s; engines take turns, medians count. Those that are not installed
are null.

    window      one window
    long form   several windows: in a batch where the engine can; openai-whisper takes one after the other
    fast        faster-whisper (extra fast) in int8 against openai-whisper (extra whisper): bar 3 times in long form
    ours        transformers in bfloat16, by our decoding, against transformers' own pipeline in float32: bar 1.3 times
                for a window, and not behind in long form

Prints one JSON line; a missed bar is exit code 1. Beside other load, compare ``cpu``: seconds of all threads.

    python -m benchmarks.speech            # 5 turns, 8 windows in long form
    python -m benchmarks.speech --quick    # 1 turn, 4 windows
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SHARED = Path(__file__).parents[2] / "shared/data"
RANKS = SHARED / "whisper_tokenizer_assets/multilingual.tiktoken"
TINY = {"d_model": 384, "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536, "encoder_layers": 4, "decoder_layers": 4}
TINY |= {"encoder_attention_heads": 6, "decoder_attention_heads": 6}
TOKENS = 96
BARS = {"fast_vs_openai_long": 3.0, "ours_vs_pipeline": 1.3, "ours_vs_pipeline_long": 1.0}
Run = Callable[[], Sequence[Sequence[int]]]
"""Decodes the windows, and gives the tokens of each where it tells them."""


def speech(seconds: float) -> np.ndarray:
    """Real speech, over and over."""
    recording = np.load(SHARED / "speech_jfk/audio/jfk.npy")
    return np.resize(recording, round(seconds * 16000)).astype(np.float32)


def checkpoints() -> dict[str, Path]:
    """The network in the files of each engine that is installed; made once, then kept in the folder for such."""
    from mmagent.errors import MissingExtra
    from mmagent.speech.engines.convert import convert
    from mmagent.testing.whisper import save_whisper

    folder = Path(tempfile.gettempdir()) / "mmagent-benchmark-whisper-1"
    found = {"transformers": folder / "transformers"}
    if not (found["transformers"] / "tokenizer.json").is_file():
        save_whisper(found["transformers"], RANKS, endless=True, gain=2.0, **TINY)
    for to, name in (("ctranslate2", "fast"), ("openai", "openai.pt")):
        target = folder / name
        try:
            found[to] = target if target.exists() else convert(found["transformers"], target, to)  # type: ignore[arg-type]
        except MissingExtra:
            continue
    return found


def engines(files: dict[str, Path]) -> dict[str, Any]:
    """Those that are installed, by name and precision."""
    from mmagent.errors import MissingExtra
    from mmagent.speech.engines.faster import FasterWhisperEngine
    from mmagent.speech.engines.original import OpenAIWhisperEngine
    from mmagent.speech.engines.transformers import TransformersEngine

    source = files["transformers"]
    makers: dict[str, Callable[[], Any]] = {
        "ours_bfloat16": lambda: TransformersEngine(source, "cpu", "bfloat16"),
        "ours_float32": lambda: TransformersEngine(source, "cpu", "float32"),
        "fast_int8": lambda: FasterWhisperEngine(files["ctranslate2"], "cpu", "int8"),
        "fast_float32": lambda: FasterWhisperEngine(files["ctranslate2"], "cpu", "float32"),
        "openai_float32": lambda: OpenAIWhisperEngine(files["openai"], "cpu"),
    }
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except (KeyError, MissingExtra):
            continue
    return found


def ours(engine: Any, windows: list[np.ndarray]) -> Run:
    """An engine behind our port; what it heard is forgotten, so that each turn takes all the work."""
    from mmagent.speech.engines import Ask

    if engine.name == "openai-whisper":
        engine.rows = 1  # its own transcribe knows no batches

    def run() -> Sequence[Sequence[int]]:
        engine._heard.clear()
        return [found.tokens for found in engine.decode(windows, Ask("en", max_tokens=TOKENS))]

    return run


def pipeline(folder: Path, sound: np.ndarray, rows: int) -> Run:
    """The pipeline of transformers in float32, as its documentation says: chunks of 30 s, in a batch."""
    import torch
    from transformers import pipeline as make
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    made = make("automatic-speech-recognition", model=str(folder), dtype=torch.float32, device="cpu")
    options = {"language": "en", "task": "transcribe", "num_beams": 1, "do_sample": False, "max_new_tokens": TOKENS}
    cut = {"chunk_length_s": 30, "stride_length_s": 0, "batch_size": rows} if rows > 1 else {}

    def run() -> Sequence[Sequence[int]]:
        made({"raw": sound, "sampling_rate": 16000}, return_timestamps=True, generate_kwargs=dict(options), **cut)
        return ()

    return run


def measure(runs: dict[str, Run], turns: int) -> dict[str, dict[str, float]]:
    """Seconds of each, and of all its threads: the median of its turns."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            spent[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {
            "seconds": round(statistics.median(wall for wall, _ in taken), 3),
            "cpu": round(statistics.median(cpu for _, cpu in taken), 3),
        }
        for name, taken in spent.items()
    }


def ratios(short: dict[str, dict[str, float]], long: dict[str, dict[str, float]], of: str) -> dict[str, float | None]:
    """How many times as fast; None where one is not installed."""

    def ratio(spent: dict[str, dict[str, float]], slow: str, quick: str) -> float | None:
        return round(spent[slow][of] / spent[quick][of], 2) if {slow, quick} <= spent.keys() else None

    return {
        "fast_vs_openai": ratio(short, "openai_float32", "fast_int8"),
        "fast_vs_openai_long": ratio(long, "openai_float32", "fast_int8"),
        "ours_vs_pipeline": ratio(short, "pipeline_float32", "ours_bfloat16"),
        "ours_vs_pipeline_long": ratio(long, "pipeline_float32", "ours_bfloat16"),
    }


def speed_and_parity(threads: int, turns: int, rows: int) -> dict[str, Any]:
    """The comparison."""
    import torch

    torch.set_num_threads(threads)
    files = checkpoints()
    there, sound = engines(files), speech(30.0 * rows)
    windows = list(sound.reshape(rows, -1))
    short = {name: ours(engine, windows[:1]) for name, engine in there.items()}
    said = {name: [list(each) for each in run()] for name, run in short.items()}  # warms them up, too
    compared = [name for name in there if name not in ("ours_float32", "fast_float32")]
    short = {name: short[name] for name in compared}
    long = {name: ours(there[name], windows) for name in compared}
    short["pipeline_float32"] = pipeline(files["transformers"], windows[0], 1)
    long["pipeline_float32"] = pipeline(files["transformers"], sound, rows)
    short["pipeline_float32"]()
    spent, spent_long = measure(short, turns), measure(long, (turns + 1) // 2)
    return {
        "tokens": TOKENS,
        "same_tokens": {name: said[name] == said["ours_float32"] for name in said if name.endswith("float32")},
        "window": spent,
        "long_form": {"windows": rows, **spent_long},
        "ratios": ratios(spent, spent_long, "seconds"),
        "ratios_cpu": ratios(spent, spent_long, "cpu"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # CTranslate2 reads it when it is imported
    if not RANKS.is_file():
        sys.exit(f"there is no {RANKS}; the network needs Whisper's vocabulary")
    turns, rows = (1, 4) if arguments.quick else (5, 8)
    found = speed_and_parity(arguments.threads, turns, rows)
    missed = [name for name, bar in BARS.items() if (ratio := found["ratios"][name]) is not None and ratio < bar]
    missed += [f"tokens of {name}" for name, same in found["same_tokens"].items() if not same]
    print(json.dumps({"benchmark": "speech", "threads": arguments.threads, **found, "bars": BARS, "missed": missed}))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
