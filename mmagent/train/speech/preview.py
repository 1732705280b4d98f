"""Hear samples as training hears them, before it runs. It knows a recipe's sources, no network."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from mmagent.errors import ConfigurationError
from mmagent.media.sound import RATE, wav
from mmagent.train.recipe import Recipe
from mmagent.train.speech.spoken import Spoken
from mmagent.train.stream import Mixture

PAUSE = 0.8
"""Seconds between two samples."""


@dataclass(frozen=True)
class Played:
    """A sample of a preview."""

    t0: float
    """Where it begins in the recording, in seconds."""
    source: str
    sample: Spoken

    def line(self) -> str:
        """What it is, for people."""
        said = " · ".join(line.text or "(not to be known)" for line in self.sample.lines) or "(nobody speaks)"
        return f"{self.t0:6.1f} s  {self.source:8}  {said}"


def preview(recipe: Recipe, out: Path, *, count: int = 12, seed: int = 0) -> list[Played]:
    """Draw ``count`` samples, the recipe's sources in turn, into one recording.

    Args:
        recipe: Of the stage ``speech``.
        out: The recording, a WAV.
        count: Samples in it.
        seed: Other samples; none of them is one that training draws.

    Raises:
        ConfigurationError: A source is not there, gives no speech, or the recording cannot be written.
        NotFound: The files of a source are not there.
    """
    rng, at = random.Random(f"preview {seed}"), 0.0
    found: list[Played] = []
    parts: list[np.ndarray] = []
    for number in range(count):
        one = recipe.data[number % len(recipe.data)]
        alone = recipe.model_copy(update={"data": [one.model_copy(update={"from_step": 0, "until_step": None})]})
        sample = cast("object", Mixture(alone).draw(rng, 0)[1])
        if not isinstance(sample, Spoken):
            raise ConfigurationError(f"the source {one.source} gives no speech; leave it out of a recipe for speech")
        found.append(Played(at, one.source, sample))
        parts += [sample.samples, np.zeros(round(PAUSE * RATE), np.float32)]
        at += sample.seconds + PAUSE
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(wav(np.concatenate(parts)))
    except OSError as error:
        raise ConfigurationError(
            f"the recording {out} cannot be written: {error}; choose another with --out"
        ) from error
    return found
