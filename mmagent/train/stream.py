"""Steps of a run as items of a dataset. It knows which sources are drawn when, not what they draw.

Step ``n`` is a function of recipe, process and ``n``, so a run that was interrupted goes on as it was.
"""

from __future__ import annotations

import logging
import math
import random

import torch

from mmagent.errors import ConfigurationError, MMAgentError
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
            if source.pictures is None or source.pictures == bool(sample.pictures):
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


class Stream(torch.utils.data.Dataset[list[Batch] | MMAgentError]):
    """Optimizer steps of one process.

    Args:
        recipe: What is drawn, and how much for a step.
        encoder: Makes tensors of it.
        rank: Which of the processes this is.
        processes: How many there are; they share a step's tokens.
        mixture: The recipe's sources, where somebody has made them already.
    """

    def __init__(
        self, recipe: Recipe, encoder: Encoder, rank: int = 0, processes: int = 1, mixture: Mixture | None = None
    ) -> None:
        self.recipe, self.encoder, self.rank, self.processes = recipe, encoder, rank, processes
        self.mixture = mixture or Mixture(recipe)

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> list[Batch] | MMAgentError:
        """The batches of a step; an error is a value: raised, a loader's process would wrap it in its traceback."""
        try:
            return self.draw(step)
        except MMAgentError as error:
            return error

    def draw(self, step: int) -> list[Batch]:
        """The batches of a step.

        Raises:
            ConfigurationError: There is nothing to draw.
            InputError: A row of a file cannot be read.
        """
        rng = random.Random(f"{self.recipe.seed} {step} {self.rank}")
        drawn: list[Example] = []
        total, wanted = 0, self.recipe.tokens_per_step / self.processes
        while total < wanted:
            example = self.example(rng, step)
            if drawn and total + example.size > wanted:
                break
            drawn.append(example)
            total += example.size
        return [self.encoder.collate(group) for group in self._grouped(self.encoder.arrange(drawn), total)]

    def _grouped(self, drawn: list[Example], total: int) -> list[list[Example]]:
        """Batches of about equally many tokens: pictures of a small one would have few others to be told from."""
        count = math.ceil(total / self.recipe.tokens_per_batch)
        groups: list[list[Example]] = [[]]
        done = 0
        for example in drawn:
            size = example.size
            if groups[-1] and done + size / 2 > total / count * len(groups):
                groups.append([])
            groups[-1].append(example)
            done += size
        return groups

    def example(self, rng: random.Random, step: int) -> Example:
        """The next sample that is not too long.

        Raises:
            ConfigurationError: Many in a row were too long.
        """
        for _ in range(TRIES):
            source, sample = self.mixture.draw(rng, step)
            example = self.encoder.encode(sample, source)
            if example.size <= self.recipe.max_tokens:
                return example
            log.debug("left out a sample of %s: %d tokens", source, example.size)
        raise ConfigurationError(
            f"{TRIES} samples in a row are longer than max_tokens ({self.recipe.max_tokens}), the last of {source}; "
            "raise it"
        )
