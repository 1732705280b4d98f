"""From a directory or hub id to a network on a device. It knows files, devices and dtypes, no prompts.

Weights are safetensors only, remote code is never run, and nothing is downloaded unless ``MMAGENT_OFFLINE=false``.
What cannot work is refused by the files' own sizes, before memory is taken: see `mmagent.engine.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mmagent.engine import checkpoint, hub
from mmagent.engine.checkpoint import Weights
from mmagent.engine.memory import BIG, available_memory
from mmagent.engine.processors import load_processor
from mmagent.engine.vocabulary import Vocabulary
from mmagent.errors import ConfigurationError, MMAgentError, ModelError, NotFound
from mmagent.settings import Settings, settings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_SLACK = 64 * 1024**2
"""Numbers that a network may have beside its weights, such as tables of positions."""


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
    decoder_dtype: str | None = None
    """What the decoder's weights are rounded to where they can be; None is ``dtype``."""

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
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``int8`` (the decoder; all else stays wider); by
            default the setting.

    Raises:
        NotFound: There is no such directory, or no model of that id on this machine.
        ModelError: The files are incomplete or damaged, or the weights take more memory than is free.
        ConfigurationError: The device is not on this machine.
    """
    folder, weights = _folder_with_weights(path_or_id)
    checkpoint.check_depth(checkpoint.read_config(folder), weights, folder)
    config = read_config(folder)
    place = pick_device(device or settings().device)
    kind = _class_for(config)
    number = pick_dtype(dtype or settings().dtype, place, lambda: weights.parameters)
    _check_memory(path_or_id, weights, place, number)
    with checkpoint.quiet(), _explained(path_or_id):
        model = _read_network(kind, config, weights, folder, number)
        processor, tokenizer = _processor_and_tokenizer(folder, config)
    return Loaded(
        model=model.eval().to(place),
        processor=processor,
        tokenizer=tokenizer,
        device=place,
        dtype=number,
        name=model_name(path_or_id),
        context_length=context_length(config),
        decoder_dtype=pick_decoder_dtype(dtype or settings().dtype, place, number),
    )


def read_config(path_or_id: str | Path) -> Any:
    """A model's configuration, without its weights.

    Raises:
        NotFound: There is no such directory, or no model of that id on this machine.
        ModelError: The configuration cannot be read, or it needs code of its own.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    import mmagent.model  # noqa: F401 - makes our own networks known to the Auto classes

    folder = find_folder(path_or_id)
    values = checkpoint.read_config(folder)
    kind = values.get("model_type")
    if "auto_map" in values and kind not in CONFIG_MAPPING:
        raise ModelError(
            f"{path_or_id} is of the kind {kind}, which needs Python code that comes with the model; "
            "such code is never run, choose a model that transformers has the code for"
        )
    with checkpoint.quiet(), _explained(path_or_id):
        return AutoConfig.from_pretrained(str(folder), **_LOCAL)


def find_folder(path_or_id: str | Path) -> Path:
    """The directory of a model: itself, or where the hub's cache has it. Online, what is not there comes now.

    Raises:
        NotFound: There is no such directory, or no model of that id on this machine.
        ModelError: The download failed.
    """
    path = Path(path_or_id).expanduser()
    if path.is_dir():
        return path
    name = str(path_or_id)
    if path.exists() or not hub.HUB_ID.fullmatch(name):
        raise NotFound(
            f"there is no model directory {path}; give a directory that save_pretrained wrote, or a hub id (ORG/NAME)"
        )
    if folder := hub.cached(name):
        return folder
    if settings().offline:
        raise NotFound(
            f"the model {name} is not on this machine; give a directory, or get it with: mmagent pull {name}"
        )
    return hub.download(hub.plan(name))


def takes_pictures(config: Any) -> bool:
    """Whether the network of this configuration has a vision tower."""
    from transformers import AutoModelForImageTextToText

    return type(config) in AutoModelForImageTextToText._model_mapping


def context_length(config: Any) -> int:
    """Tokens that a network of this configuration takes, prompt and answer together."""
    text = config.get_text_config(decoder=True)
    return int(getattr(text, "max_position_embeddings", None) or 4096)


def model_name(path_or_id: str | Path) -> str:
    """What users know a model by: the directory's name (of a training run's ``model``, the run's), or the hub id."""
    path = Path(path_or_id).expanduser()
    if not path.is_dir():
        return str(path_or_id)
    place = path.resolve()
    return place.parent.name if place.name == "model" and place.parent.name else place.name


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
        wanted: A name, or ``auto``; ``int8`` is for decoders, and the rest is as for ``auto``.
        device: Where the network will run.
        parameters: Function that counts the network's parameters; called only where the count decides.
    """
    if wanted in _DTYPES:
        return _DTYPES[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() and parameters() > BIG
    return torch.bfloat16 if fast else torch.float32


def pick_decoder_dtype(wanted: str, device: torch.device, number: torch.dtype) -> str:
    """The dtype that a decoder's weights are rounded to, where it is of a family that can be.

    Args:
        wanted: A name, or ``auto``: 8 bits where the CPU has instructions for them.
        device: Where the network will run.
        number: The dtype of the rest.

    Raises:
        ConfigurationError: ``int8`` was asked for, and the device is no CPU.
    """
    from mmagent.engine.decoder.native import native_dtypes

    if wanted == "int8" and device.type != "cpu":
        raise ConfigurationError(f"int8 is for CPUs, not for {device.type}; set {Settings.variable('dtype')} to auto")
    fast = device.type == "cpu" and "int8" in native_dtypes()
    return "int8" if wanted == "int8" or (wanted == "auto" and fast) else str(number).removeprefix("torch.")


def _class_for(config: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if takes_pictures(config) else AutoModelForCausalLM


def _folder_with_weights(path_or_id: str | Path) -> tuple[Path, Weights]:
    folder = find_folder(path_or_id)
    checkpoint.read_config(folder)
    try:
        return folder, checkpoint.read_weights(folder)
    except ModelError as error:
        if Path(path_or_id).expanduser().is_dir():
            raise
        if settings().offline:
            raise ModelError(f"{error}, with: mmagent pull {path_or_id}") from error
        folder = hub.download(hub.plan(str(path_or_id)))  # half of it was here
        return folder, checkpoint.read_weights(folder)


def _check_memory(path_or_id: str | Path, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse what cannot be held, before it is tried: the system would end the process without a word."""
    name = str(dtype).removeprefix("torch.")
    needed = weights.bytes_as(name)
    places = {"memory": available_memory()}  # weights pass through it on their way to a GPU, too
    if device.type == "cuda":
        places["GPU memory"] = torch.cuda.mem_get_info(device)[0]
    for place, free in places.items():
        if needed > free:
            advice = f"set {Settings.variable('dtype')}=bfloat16, " if weights.bytes_as("bfloat16") <= free else ""
            raise ModelError(
                f"{path_or_id} needs {needed / 1e9:.1f} GB of {place} as {name} and {free / 1e9:.1f} GB are free; "
                f"{advice}close other programs, or choose a smaller model (mmagent models says what fits)"
            )


def _read_network(kind: Any, config: Any, weights: Weights, folder: Path, dtype: torch.dtype) -> Any:
    empty = _empty_network(kind, config, weights, folder)
    try:
        model, info = kind.from_pretrained(
            str(folder), dtype=dtype, output_loading_info=True, use_safetensors=True, **_LOCAL
        )
    except RuntimeError as error:
        if misfit := next(_misfits(empty, weights), None):  # transformers only logs which
            raise ModelError(
                f"the weights of {folder} do not fit its configuration: {misfit}; copy or download both again"
            ) from error
        raise
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"the weights of {folder} are incomplete: {len(missing)} are not there, first {missing[0]}; "
            "copy or download them again"
        )
    return model


def _empty_network(kind: Any, config: Any, weights: Weights, folder: Path) -> Any:
    """The network without its numbers; one larger than its weights is refused, as what lacks would be made."""
    with torch.device("meta"):
        network = kind.from_config(config)
    described = network.num_parameters() + sum(buffer.numel() for buffer in network.buffers())
    # a quantized file packs up to eight numbers in one byte's place
    packed = 16 * weights.other_bytes if hasattr(config, "quantization_config") else 0
    if described > 2 * weights.parameters + packed + _SLACK:
        raise ModelError(
            f"the configuration in {folder} has {described:,} numbers and its weights have {weights.parameters:,}, "
            "so they do not belong together; copy or download the model again"
        )
    return network


def _misfits(network: Any, weights: Weights) -> Iterator[str]:
    for name, tensor in network.state_dict().items():
        shape, expected = weights.shapes.get(name), tuple(tensor.shape)
        if shape not in (None, expected):
            yield f"{name} is {list(shape)} and should be {list(expected)}"


def _processor_and_tokenizer(folder: Path, config: Any) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    if takes_pictures(config):
        processor = load_processor(folder, config, **_LOCAL)
        return processor, processor.tokenizer
    return None, AutoTokenizer.from_pretrained(str(folder), **_LOCAL)


@contextmanager
def _explained(path_or_id: str | Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise ModelError(
            f"the weights of {path_or_id} are damaged ({_line(error)}); copy or download them again"
        ) from error
    except MMAgentError:
        raise
    except Exception as error:  # files from anywhere fail anywhere
        raise ModelError(f"the model {path_or_id} cannot be loaded: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
