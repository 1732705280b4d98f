"""The model that ships: weights, tokenizer and card, as files beside this one."""

from __future__ import annotations

from pathlib import Path

from mmagent.errors import ModelError

__all__ = ["folder"]


def folder() -> Path:
    """The directory of the model.

    Raises:
        ModelError: This installation has no weights in it.
    """
    here = Path(__path__[0])
    if not (here / "config.json").is_file():
        raise ModelError(
            f"nano is not in this installation ({here} has no config.json); make it, or choose another model"
        )
    return here
