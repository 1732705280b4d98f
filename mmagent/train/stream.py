"""Steps of a run as items of a dataset. It knows which sources are drawn when, not what they draw.

Step ``n`` is a function of recipe, process and ``n``, so a run that was interrupted goes on as it was.
"""

from __future__ import annotations

import logging
import random

import torch

from mmagent.errors import ConfigurationError
from mmagent.train.encode import Batch, Encoder, Example
from mmagent.train.recipe import Recipe
from mmagent.train.sample import Draw, Sample
from mmagent.train.sources import SOURCES, make_source

log = logging.getLogger(__name__)

TRIES = 50
"""Samples in a row that may not be what the recipe wants."""


class Mixture:
    """The sources of a recipe, drawn by weight."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.draws: list[Draw] = [_make(one.source, one.options, recipe.on_bad_row) for one in recipe.data]

    def draw(self, rng: random.Random, step: int) -> tuple[str, Sample]:
        """A sample as step ``step`` has them, and the name of its source.

        Raises:
            ConfigurationError: The recipe has no source at that step.
        """
        now = [i for i, one in enumerate(self.recipe.data) if one.from_step <= step < (one.until_step or step + 1)]
        if not now:
            raise ConfigurationError(f"{self.recipe.name} has no data at step {step}; see from_step and until_step")
        index = rng.choices(now, [self.recipe.data[i].weight for i in now])[0]
        source, draw = self.recipe.data[index], self.draws[index]
        for _ in range(TRIES):
            sample = draw(rng)
            if source.pictures in (None, bool(sample.pictures)):
                return source.source, sample
        which = "with" if source.pictures else "without"
        raise ConfigurationError(f"{TRIES} samples of {source.source} in a row were not {which} pictures; set pictures")


def _make(name: str, options: dict[str, object], on_bad_row: str) -> Draw:
    import inspect
    from importlib import import_module

    if name in SOURCES and "on_bad_row" not in options:
        module, function = SOURCES[name].split(":")
        if "on_bad_row" in inspect.signature(getattr(import_module(module), function)).parameters:
            options = {**options, "on_bad_row": on_bad_row}
    return make_source(name, dict(options))


class Stream(torch.utils.data.Dataset[list[Batch]]):
    """Optimizer steps of one process.

    Args:
        recipe: What is drawn, and how much for a step.
        encoder: Makes tensors of it.
        rank: Which of the processes this is.
        processes: How many there are; they share a step's tokens.
    """

    def __init__(self, recipe: Recipe, encoder: Encoder, rank: int = 0, processes: int = 1) -> None:
        self.recipe, self.encoder, self.rank, self.processes = recipe, encoder, rank, processes
        self._mixture: Mixture | None = None

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> list[Batch]:
        if self._mixture is None:  # made where it is used: files are read once, in the loader's own process
            self._mixture = Mixture(self.recipe)
        rng = random.Random(f"{self.recipe.seed} {step} {self.rank}")
        batches: list[Batch] = []
        group: list[Example] = []
        held = total = 0
        while total < self.recipe.tokens_per_step / self.processes:
            example = self.example(rng, step)
            size = len(example.row.ids)
            if group and held + size > self.recipe.tokens_per_batch:
                batches.append(self.encoder.collate(group))
                group, held = [], 0
            group.append(example)
            held, total = held + size, total + size
        return [*batches, self.encoder.collate(group)]

    def example(self, rng: random.Random, step: int) -> Example:
        """The next sample that is not too long.

        Raises:
            ConfigurationError: Many in a row were too long.
        """
        mixture = self._mixture or Mixture(self.recipe)
        for _ in range(TRIES):
            source, sample = mixture.draw(rng, step)
            example = self.encoder.encode(sample, source)
            if len(example.row.ids) <= self.recipe.max_tokens:
                return example
            log.debug("left out a sample of %s: %d tokens", source, len(example.row.ids))
        raise ConfigurationError(
            f"{TRIES} samples in a row are longer than max_tokens ({self.recipe.max_tokens}), the last of {source}; "
            "raise it"
        )
