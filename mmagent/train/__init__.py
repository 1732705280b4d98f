"""Training as a feature: recipes in, a model directory out. Nothing else in the package imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.train.recipe import Recipe, load
    from mmagent.train.sample import Mark, Sample, Shown
    from mmagent.train.trainer import Progress, Watch, train

__all__ = ["Mark", "Progress", "Recipe", "Sample", "Shown", "Watch", "load", "train"]

_HOMES = {
    "Mark": "mmagent.train.sample",
    "Progress": "mmagent.train.trainer",
    "Recipe": "mmagent.train.recipe",
    "Sample": "mmagent.train.sample",
    "Shown": "mmagent.train.sample",
    "Watch": "mmagent.train.trainer",
    "load": "mmagent.train.recipe",
    "train": "mmagent.train.trainer",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
