"""The models that ship: weights, tokenizer and card of nano beside this file, of what listens for it in ``speech``."""

from __future__ import annotations

from pathlib import Path

from mmagent.errors import ModelError
from mmagent.settings import Settings

__all__ = ["folder", "speech_folder"]


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


def speech_folder() -> Path:
    """The directory of the speech model, a small Whisper.

    Raises:
        ModelError: This installation has no weights of it.
    """
    here = Path(__path__[0]) / "speech"
    if not (here / "config.json").is_file():
        raise ModelError(
            f"nano cannot hear in this installation ({here} has no config.json); set "
            f"{Settings.variable('speech_model')} to a folder with a Whisper model in safetensors, or train one: "
            "mmagent train nano-speech"
        )
    return here
