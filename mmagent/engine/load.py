"""From a directory or hub id to a network on a device. It knows files, devices and dtypes, no prompts.

Weights are safetensors only, remote code is never run, and nothing is downloaded unless ``MMAGENT_OFFLINE=false``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mmagent.engine.vocabulary import Vocabulary
from mmagent.errors import ConfigurationError, ModelError, NotFound
from mmagent.settings import Settings, settings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_BIG = 1_000_000_000
"""Parameters from which a CPU with bfloat16 instructions gains more by reading half the bytes than float32 is worth."""


@dataclass(frozen=True)
class Loaded:
    """A network that is ready to run, and what belongs to it."""

    model: Any
    processor: Any
    """None where the network takes text only."""
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    name: str
    context_length: int
    """Tokens, prompt and answer together."""

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Built once: some milliseconds, a second for 150,000 tokens."""
        ends = getattr(self.model.generation_config, "eos_token_id", None)
        ends = ends if isinstance(ends, list) else [ends]
        return Vocabulary(self.tokenizer, self.model.config.get_text_config().vocab_size, ends)


def load(path_or_id: str | Path, device: str | None = None, dtype: str | None = None) -> Loaded:
    """Load a vision-language model, or a text-only one, with what makes its prompts.

    Args:
        path_or_id: A directory that ``save_pretrained`` wrote, or a hub id.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; by default the setting.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``; by default the setting.

    Raises:
        NotFound: There is no such directory, or no model of that id on this machine.
        ModelError: The files are incomplete or damaged.
        ConfigurationError: The device is not on this machine.
    """
    config = read_config(path_or_id)
    place = pick_device(device or settings().device)
    kind = _class_for(config)
    number = pick_dtype(dtype or settings().dtype, place, lambda: _parameters(kind, config))
    with _quiet(), _explained(path_or_id):
        model, info = kind.from_pretrained(
            str(path_or_id), dtype=number, output_loading_info=True, use_safetensors=True, **_local()
        )
        if missing := sorted(info["missing_keys"]):
            raise ModelError(
                f"the weights of {path_or_id} are incomplete: {len(missing)} are not there, first {missing[0]}"
            )
        processor, tokenizer = _processor_and_tokenizer(path_or_id, takes_pictures(config))
    return Loaded(
        model=model.eval().to(place),
        processor=processor,
        tokenizer=tokenizer,
        device=place,
        dtype=number,
        name=model_name(path_or_id),
        context_length=context_length(config),
    )


def read_config(path_or_id: str | Path) -> Any:
    """A model's configuration, without its weights.

    Raises:
        NotFound: There is no such directory, or no model of that id on this machine.
        ModelError: The configuration cannot be read.
    """
    from transformers import AutoConfig

    import mmagent.model  # noqa: F401 - makes our own networks known to the Auto classes

    path = Path(path_or_id).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise NotFound(f"{path} is no model: it has no config.json; give a directory that save_pretrained wrote")
        with _quiet(), _explained(path_or_id):
            return AutoConfig.from_pretrained(str(path))
    if path.exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(path_or_id)):
        raise NotFound(f"there is no model directory {path}; give a directory that save_pretrained wrote, or a hub id")
    try:
        with _quiet():
            return AutoConfig.from_pretrained(str(path_or_id), **_local())
    except (OSError, ValueError) as error:
        variable = Settings.variable("offline")
        hint = f"set {variable}=false to download it" if settings().offline else "check the id and the network"
        raise NotFound(f"the model {path_or_id} is not on this machine; give a directory, or {hint}") from error


def takes_pictures(config: Any) -> bool:
    """Whether the network of this configuration has a vision tower."""
    from transformers import AutoModelForImageTextToText

    return type(config) in AutoModelForImageTextToText._model_mapping


def context_length(config: Any) -> int:
    """Tokens that a network of this configuration takes, prompt and answer together."""
    text = config.get_text_config(decoder=True)
    return int(getattr(text, "max_position_embeddings", None) or 4096)


def model_name(path_or_id: str | Path) -> str:
    """What users know a model by: the directory's name, or the hub id."""
    path = Path(path_or_id).expanduser()
    return path.resolve().name if path.is_dir() else str(path_or_id)


def pick_device(wanted: str) -> torch.device:
    """The device of that name; for ``auto`` the best there is: cuda, mps, cpu.

    Raises:
        ConfigurationError: It is not on this machine.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, is_there in there.items() if is_there))
    if not there.get(wanted, False):
        usable = ", ".join(name for name, is_there in there.items() if is_there)
        raise ConfigurationError(
            f"there is no device {wanted} here; set {Settings.variable('device')} to auto or: {usable}"
        )
    return torch.device(wanted)


def pick_dtype(wanted: str, device: torch.device, parameters: Any) -> torch.dtype:
    """The dtype of that name; for ``auto`` what the device does best.

    Args:
        wanted: A name, or ``auto``.
        device: Where the network will run.
        parameters: Function that counts the network's parameters; called only where the count decides.
    """
    if wanted != "auto":
        return _DTYPES[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() and parameters() > _BIG
    return torch.bfloat16 if fast else torch.float32


def _class_for(config: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if takes_pictures(config) else AutoModelForCausalLM


def _parameters(kind: Any, config: Any) -> int:
    with torch.device("meta"):
        return int(kind.from_config(config).num_parameters())


def _processor_and_tokenizer(path_or_id: str | Path, pictures: bool) -> tuple[Any, Any]:
    from transformers import AutoProcessor, AutoTokenizer

    if pictures:
        processor = AutoProcessor.from_pretrained(str(path_or_id), **_local())
        return processor, processor.tokenizer
    return None, AutoTokenizer.from_pretrained(str(path_or_id), **_local())


def _local() -> dict[str, Any]:
    return {"local_files_only": settings().offline, "trust_remote_code": False}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and warnings."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _explained(path_or_id: str | Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise ModelError(
            f"the weights of {path_or_id} are damaged ({_line(error)}); copy or download them again"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ModelError(f"the model {path_or_id} cannot be loaded: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
