"""A toy of a training run, for tests: a network of 30,000 parameters that takes a step in hundredths of a second."""

from __future__ import annotations

import random
from typing import Any

from mmagent.train.recipe import Recipe, parse
from mmagent.train.sample import Draw, Sample, assistant, user

SHAPE = {
    "vocab_size": 300,
    "vocabulary_samples": 20,
    "width": 32,
    "layers": 2,
    "heads": 4,
    "key_value_heads": 2,
    "feed_forward": 48,
    "context": 512,
    "vision": {"image_side": 32, "stem_channels": [8, 8], "width": 24, "layers": 1, "heads": 2},
    "projection": 16,
}


def toy(**changes: Any) -> Recipe:
    """A recipe that reads digits and talks; fields may differ."""
    values = {
        "name": "toy",
        "stage": "instruct",
        "shape": SHAPE,
        "data": [
            {"source": "digits", "options": {"length": 2, "side": 32}},
            {"source": "digits", "options": {"length": 3, "side": 32, "questions": 3}},
        ],
        "losses": {"text": 1, "contrastive": 0.1, "marks": 0.1},
        "steps": 8,
        "tokens_per_step": 128,
        "tokens_per_batch": 96,
        "max_tokens": 64,
        "warmup": 2,
        "precision": "fp32",
        "check_every": 100,
        "check_samples": 4,
        "save_every": 100,
    }
    return parse(values | changes)


def talk(words: int = 8) -> Draw:
    """Text alone: two rounds of at most so many words each."""

    def draw(rng: random.Random) -> Sample:
        said = [" ".join(rng.choices("abc", k=rng.randint(1, words))) for _ in range(4)]
        return Sample([user(said[0]), assistant(said[1]), user(said[2]), assistant(said[3])])

    return draw
