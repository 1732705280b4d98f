"""From a folder, a file or a hub id to the engine that runs it. It knows what lies there, no networks."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from mmagent import nano
from mmagent.engine import checkpoint, hub
from mmagent.errors import ConfigurationError, InputError, ModelError, NotFound
from mmagent.settings import Settings, settings
from mmagent.speech.engines import Engine

Name = Literal["auto", "transformers", "faster-whisper", "openai-whisper"]

NANO = "nano"
"""The speech model that ships (`mmagent.nano.speech_folder`)."""
LITTLE = (
    "nano hears a little: letters, digits, order numbers and short support phrases in English; set "
    f"{Settings.variable('speech_model')} to a larger Whisper for the rest"
)
"""What to expect of it, and what to do about it."""

_log = logging.getLogger(__name__)

_KINDS = "nano, a Whisper of save_pretrained, one for faster-whisper (model.bin), or a .pt file of openai-whisper"


def load_engine(where: str | Path, device: str = "auto", engine: Name = "auto") -> Engine:
    """The engine for a model; what it needs is checked now, the network is loaded when it is first needed.

    Args:
        where: ``nano``, a folder, a ``.pt`` file, or a hub id that is on this machine. Nothing is ever downloaded.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        engine: ``auto`` goes by what lies there; of a folder with several, faster-whisper where it is installed and no
            other device than the CPU is asked for, else transformers.

    Raises:
        ModelError: nano's weights are not in this installation.
        NotFound: There is no such folder or file, or no model of that id on this machine.
        ConfigurationError: Files are missing (the message names them), or it is another architecture.
        MissingExtra: The package that runs it is not installed.
    """
    from mmagent.speech.engines.faster import FasterWhisperEngine
    from mmagent.speech.engines.original import OpenAIWhisperEngine
    from mmagent.speech.engines.transformers import TransformersEngine

    if engine not in get_args(Name):
        raise InputError(f"there is no engine {engine!r:.40}; give one of: {', '.join(get_args(Name))}")
    place = find_model(where)
    if engine == "auto":
        engine = _pick(place, device)
    if engine == "openai-whisper":
        return OpenAIWhisperEngine(_file(place), device)
    if place.is_file():
        raise ConfigurationError(f"{place} is a file, and {engine} needs a folder; give one, or engine=openai-whisper")
    return FasterWhisperEngine(place, device) if engine == "faster-whisper" else TransformersEngine(place, device)


def chosen(model: str | Path | None = None) -> str | Path:
    """The speech model that is given, else that of the settings, else nano: the log says then how little that hears.

    Raises:
        ConfigurationError: None is set, and nano's weights are not in this installation.
    """
    if found := model or settings().speech_model:
        return found
    try:
        nano.speech_folder()
    except ModelError as error:
        raise ConfigurationError(f"there is no speech model: {error}") from error
    _log.warning("no speech model is set; %s", LITTLE)
    return NANO


def find_model(where: str | Path) -> Path:
    """Where a model lies: what was given, its place in the hub's cache, or in this package.

    Raises:
        ModelError: It is nano, whose weights are not in this installation.
        NotFound: There is nothing.
    """
    if where == NANO:
        return nano.speech_folder()
    path = Path(where).expanduser()
    if path.exists():
        return path
    if not hub.HUB_ID.fullmatch(str(where)):
        raise NotFound(f"there is no speech model {path}; give {_KINDS}, or a hub id (ORG/NAME)")
    if folder := hub.cached(str(where)):
        return folder
    raise NotFound(
        f"the speech model {where} is not on this machine; give a folder, or get it with: mmagent pull {where}"
    )


def _pick(place: Path, device: str) -> Name:
    if place.is_file():
        return "openai-whisper"
    whole = any((place / name).is_file() for name in (checkpoint.WEIGHTS, checkpoint.INDEX))
    if (place / "model.bin").is_file():
        quick = find_spec("ctranslate2") is not None and device in ("auto", "cpu")
        return "faster-whisper" if quick or not whole else "transformers"
    if not whole and next(place.glob("*.pt"), None) is not None:
        return "openai-whisper"
    return "transformers"


def _file(place: Path) -> Path:
    """The one ``.pt`` file of a folder, or the file itself."""
    if place.is_file():
        return place
    found = sorted(place.glob("*.pt"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5]) or "none"
        raise ConfigurationError(
            f"one .pt file is needed, and {place} has {len(found)} ({names}); give the file itself"
        )
    return found[0]
