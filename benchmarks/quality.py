"""What rounded weights cost: perplexity of bfloat16 and int8 decoders against float32, on real trained networks.

stories260K on stories it wrote itself (temperature 1), nano on cases of the shop it has not seen (the assistant's
words, given everything before them). Bar: at most 1 % more. Prints one JSON line; a missed bar is exit code 1.

    python -m benchmarks.quality            # 64 stories, 100 cases
    python -m benchmarks.quality --quick    # 8 stories, 15 cases
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from mmagent import nano
from mmagent.engine.decoder.blocks import read_blocks
from mmagent.engine.decoder.native import NativeNetwork, native_dtypes
from mmagent.engine.decoder.network import Insets, Part
from mmagent.engine.features import encode_picture, place_features
from mmagent.engine.load import load
from mmagent.testing import read_stories
from mmagent.train.encode import Encoder
from mmagent.train.packing import IGNORED
from mmagent.train.sources.shop import shop

STORIES = Path(__file__).parents[2] / "shared/data/weights_stories260K"
BEGIN = 1
Text = tuple[list[int], list[int], Insets | None]
"""Tokens, the labels of each next one (`IGNORED` where it does not count), and pictures."""


def write_stories(network: NativeNetwork, count: int) -> Iterator[Text]:
    """Stories of 256 tokens at most."""
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        row, tokens = network.row(), [BEGIN]
        while len(tokens) < 256 and (len(tokens) == 1 or tokens[-1] != BEGIN):
            logits = network.run([Part(row, tokens[-1:])])[0][0]
            tokens.append(int(torch.multinomial(logits.softmax(0), 1, generator=generator)))
        yield tokens[:-1], tokens[1:], None


def shop_cases(loaded: Any, count: int) -> Iterator[Text]:
    """Cases with held-out wordings and fresh values."""
    vision = loaded.model.config.vision_config
    side = int(vision.image_size)
    encoder = Encoder(loaded.tokenizer, loaded.processor.image_seq_length, side, side // int(vision.patch_size))
    rng, draw = random.Random("quality"), shop()
    for _ in range(count):
        sample = draw(rng)
        row = encoder.encode(sample).row
        features = [encode_picture(loaded, shown.image) for shown in sample.pictures]
        yield row.ids[:-1], row.labels[1:], place_features(loaded, row.ids, features)[1]


def perplexity(network: NativeNetwork, texts: Iterable[Text]) -> float:
    """Of the tokens that count."""
    loss, count = 0.0, 0
    for ids, labels, insets in texts:
        logits = network.run([Part(network.row(), ids, len(ids), insets)])[0]
        wanted = torch.tensor(labels)
        loss += float(torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum"))
        count += int((wanted != IGNORED).sum())
    return math.exp(loss / count)


def compare(model: Any, texts: list[Text] | int) -> dict[str, float]:
    """Perplexity in float32, and how much more it is (a share) with other weights."""
    blocks = read_blocks(model)
    assert blocks is not None
    exact = NativeNetwork(blocks, "float32")
    known = list(write_stories(exact, texts)) if isinstance(texts, int) else texts
    base = perplexity(exact, known)
    more = {dtype: perplexity(NativeNetwork(blocks, dtype), known) / base - 1 for dtype in native_dtypes()[1:]}
    return {"float32": round(base, 4), **{dtype: round(share, 6) for dtype, share in more.items()}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="8 stories and 15 cases")
    quick = parser.parse_args().quick
    if not native_dtypes():
        raise SystemExit("this CPU or build has no native kernels, so there is nothing to compare")
    loaded = load(nano.folder(), "cpu", "float32")
    result = {"nano": compare(loaded.model, list(shop_cases(loaded, 15 if quick else 100)))}
    if STORIES.is_dir():
        result["stories260K"] = compare(read_stories(STORIES)[0], 8 if quick else 64)
    print(json.dumps({"benchmark": "quality", **result}))
    worst = max(share for figures in result.values() for dtype, share in figures.items() if dtype != "float32")
    raise SystemExit(int(worst > 0.01))


if __name__ == "__main__":
    main()
