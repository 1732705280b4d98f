"""Engines of Whisper on the same work: seconds for a window and for long form, and whether they say the same.

One random network of the size of whisper-tiny that never ends by itself, so that every engine decodes the same number
of tokens per window of 30 s; engines take turns, medians count. Those that are not installed are null.

    fast        faster-whisper (extra fast) in int8 against openai-whisper (extra whisper): bar 3 times as fast
    ours        transformers in bfloat16, by our decoding, against transformers' own pipeline in float32: bar 1.3
    long form   the same, several windows in a batch: not behind

Prints one JSON line; a missed bar is exit code 1. Beside other load, compare ``cpu``: seconds of all threads.

    python -m benchmarks.speech            # 96 tokens a window, 7 turns, 8 windows in long form
    python -m benchmarks.speech --quick    # 32 tokens, 3 turns, 4 windows
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
BARS = {"fast_vs_openai": 3.0, "ours_vs_pipeline": 1.3, "ours_vs_pipeline_long": 1.0}
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


def ours(engine: Any, windows: list[np.ndarray], tokens: int) -> Run:
    """An engine of ours; what it heard is forgotten, so that each turn takes all the work."""
    from mmagent.speech.engines import Ask

    def run() -> Sequence[Sequence[int]]:
        engine._heard.clear()
        return [found.tokens for found in engine.decode(windows, Ask("en", max_tokens=tokens))]

    return run


def pipeline(folder: Path, sound: np.ndarray, tokens: int, rows: int) -> Run:
    """The pipeline of transformers in float32, as its documentation says: chunks of 30 s, in a batch."""
    import torch
    from transformers import pipeline as make
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    made = make("automatic-speech-recognition", model=str(folder), dtype=torch.float32, device="cpu")
    options = {"language": "en", "task": "transcribe", "num_beams": 1, "do_sample": False, "max_new_tokens": tokens}
    cut = {"chunk_length_s": 30, "stride_length_s": 0, "batch_size": rows} if rows > 1 else {}

    def run() -> Sequence[Sequence[int]]:
        made({"raw": sound, "sampling_rate": 16000}, return_timestamps=True, generate_kwargs=dict(options), **cut)
        return ()

    return run


def measure(runs: dict[str, Run], turns: int) -> dict[str, dict[str, float]]:
    """Seconds of each, and of all its threads: the median of its turns."""
    for run in runs.values():
        run()
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
        "ours_vs_pipeline": ratio(short, "pipeline_float32", "ours_bfloat16"),
        "ours_vs_pipeline_long": ratio(long, "pipeline_float32", "ours_bfloat16"),
    }


def speed_and_parity(threads: int, tokens: int, turns: int, rows: int) -> dict[str, Any]:
    """The comparison."""
    import torch

    torch.set_num_threads(threads)
    files = checkpoints()
    there, window, sound = engines(files), speech(30.0), speech(30.0 * rows)
    short = {name: ours(engine, [window], tokens) for name, engine in there.items()}
    exact = {name: [list(each) for each in short[name]()] for name in short if name.endswith("float32")}
    del short["ours_float32"]
    short.pop("fast_float32", None)
    short["pipeline_float32"] = pipeline(files["transformers"], window, tokens, 1)
    windows = list(sound.reshape(rows, -1))
    long = {name: ours(there[name], windows, tokens) for name in ("ours_bfloat16", "fast_int8") if name in there}
    long["pipeline_float32"] = pipeline(files["transformers"], sound, tokens, rows)
    spent, spent_long = measure(short, turns), measure(long, max(2, turns // 2))
    return {
        "tokens": tokens,
        "said": {name: len(said[0]) for name, said in exact.items()},
        "same_tokens": {name: said == exact["ours_float32"] for name, said in exact.items()},
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
    tokens, turns, rows = (32, 3, 4) if arguments.quick else (96, 7, 8)
    found = speed_and_parity(arguments.threads, tokens, turns, rows)
    missed = [name for name, bar in BARS.items() if (ratio := found["ratios"][name]) is not None and ratio < bar]
    missed += [f"tokens of {name}" for name, same in found["same_tokens"].items() if not same]
    print(json.dumps({"benchmark": "speech", "threads": arguments.threads, **found, "bars": BARS, "missed": missed}))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
