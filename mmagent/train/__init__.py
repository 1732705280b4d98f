"""Training as a feature: recipes in, a model directory out. Nothing else in the package imports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["run"]


def run(
    recipe: str,
    *,
    out: Path,
    seed: int = 0,
    resume: bool = True,
    steps: int | None = None,
    progress: Callable[[str], None],
) -> Path:
    """Train a recipe; returns the directory of the trained model.

    Args:
        recipe: A name in `mmagent.train.recipes.RECIPES`.
        out: Where checkpoints, metrics and the model go.
        seed: Decides data and first weights.
        resume: Go on from ``out``'s checkpoint if there is one.
        steps: Train for another number of steps than the recipe's.
        progress: Called with a line of text now and then.

    Raises:
        ConfigurationError: No recipe of that name.
    """
    from dataclasses import replace

    from mmagent.train.recipes import recipe as find

    chosen = find(recipe)
    if steps is not None:
        chosen = replace(chosen, steps=steps)
    from mmagent.train.trainer import train

    return train(chosen, out, seed=seed, resume=resume, progress=progress)
