"""What a model's folder holds, found out before any of it is run. It knows JSON and safetensors headers, no torch.

A folder may come from anybody, so sizes are checked against each other before something of that size is made.
The header format is that of https://huggingface.co/docs/safetensors/index#format.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmagent.errors import ModelError, NotFound

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

MAX_JSON_BYTES = 64 * 1024**2
MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library itself."""
MAX_LAYERS = 10_000
"""The deepest published network has some hundred; transformers makes a list of this length before it reads a weight."""
MAX_LABELS = 50_000
"""Twice those of the largest classifiers; transformers makes a table of names this long."""
MAX_SIZE = 2**31
_DEPTH = re.compile(r"^num_hidden_layers$|^num_layers$|^n_layers?$|^depth$|^num_.*blocks$")

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F16": 16, "BF16": 16, "F32": 32, "C64": 64, "F64": 64,
}  # fmt: skip
_WIDE = ("F16", "BF16", "F32", "F64")
"""What is cast to the dtype that a network runs in; the rest stays as it is."""
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class Weights:
    """What the safetensors files of a folder hold."""

    files: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]
    """Of each tensor, by its name."""
    parameters: int
    other_bytes: int
    """Tensors that no dtype changes: integers, quantized weights."""

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files)

    def bytes_as(self, dtype: str) -> int:
        """Bytes of memory that the weights take in a dtype of `mmagent.settings`."""
        return self.parameters * DTYPE_BYTES[dtype] + self.other_bytes


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json, with sizes that a network can have.

    Raises:
        NotFound: The folder has none, so it holds no model.
        ModelError: It cannot be read, its sizes are absurd, or it asks for code or files that are never used.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise NotFound(f"{folder} is no model: it has no config.json; give a directory that save_pretrained wrote")
    config = read_json(file)
    for key, value in _leaves(config):
        if isinstance(value, int) and not -MAX_SIZE <= value <= _largest(key):
            raise ModelError(
                f"{file} says {key} = {value}, which no network has (at most {_largest(key)}); "
                "do not use a model from this source"
            )
        if key.endswith("implementation") and "/" in str(value):
            raise ModelError(
                f"{file} asks for {value!r:.80}, compiled code of the hub, which is never fetched; "
                f"remove {key} from it, or choose another model"
            )
    if "transformers_weights" in config:
        raise ModelError(f"{file} names weights of its own, which is not supported; call the file {WEIGHTS}")
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} has an adapter_config.json; merge the adapter into its model, save it, and load that"
        )
    return config


def read_weights(folder: Path) -> Weights:
    """The safetensors files of a folder, by their headers; no tensor is read.

    Raises:
        ModelError: There are none, one is missing or damaged, or the index points outside the folder.
    """
    files = tuple(_weight_files(folder))
    shapes: dict[str, tuple[int, ...]] = {}
    parameters = other_bytes = 0
    for file in files:
        for name, dtype, shape, size in _header(file):
            shapes[name] = shape
            if dtype in _WIDE:
                parameters += math.prod(shape)
            else:
                other_bytes += size
    return Weights(files, shapes, parameters, other_bytes)


def check_depth(config: dict[str, Any], weights: Weights, folder: Path) -> None:
    """Refuse a network of more layers than its weights have tensors, before it is built.

    Raises:
        ModelError: Configuration and weights do not belong together.
    """
    depths = [value for key, value in _leaves(config) if isinstance(value, int) and _DEPTH.search(key)]
    if min(depths, default=0) < 0:
        raise ModelError(f"the configuration of {folder} has a negative number of layers; download it again")
    deepest = max(depths, default=0)
    if deepest > len(weights.shapes):
        raise ModelError(
            f"the weights of {folder} are incomplete: they have {len(weights.shapes)} tensors for {deepest} layers; "
            "copy or download the model again"
        )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object out of a file that may be anything.

    Raises:
        ModelError: It is too large, no JSON, or no object.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{file} is larger than {MAX_JSON_BYTES >> 20} MiB; download it again")
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be loaded: it is no JSON ({_line(error)}); download it again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} cannot be loaded: it is no JSON object; download it again")
    return value


def _weight_files(folder: Path) -> Iterator[Path]:
    if (folder / WEIGHTS).is_file():
        yield folder / WEIGHTS
        return
    if not (folder / INDEX).is_file():
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        if pickles:
            raise ModelError(
                f"{folder} has its weights in {pickles[0]} only, a pickle, which can run any code and is never opened; "
                f"get the model as safetensors ({WEIGHTS})"
            )
        raise ModelError(f"{folder} has no weights: there is no {WEIGHTS}; copy or download it again")
    names = read_json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{folder / INDEX} has no weight_map; download it again")
    for name in sorted(set(names.values())):
        if not re.fullmatch(r"\w[\w.-]*\.safetensors", name):
            raise ModelError(
                f"{folder / INDEX} names a file {name!r:.80}, which is no safetensors file of the folder itself; "
                "do not use a model from this source"
            )
        if not (folder / name).is_file():
            raise ModelError(
                f"the weights of {folder} are incomplete: {name}, which {INDEX} names, is not there; "
                "copy or download it again"
            )
        yield folder / name


def _header(file: Path) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
    """Name, dtype, shape and bytes of each tensor; all bytes of the file belong to one, or it is refused."""
    end, total = 0, file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(MAX_HEADER_BYTES, total - 8):
                raise ValueError("the header is longer than the file")
            entries = json.loads(stream.read(length))
        for name, entry in entries.items():
            if name == "__metadata__":
                continue
            dtype, shape, (begin, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
            if not all(isinstance(side, int) and side >= 0 for side in (*shape, begin, stop)):
                raise ValueError(f"{name} has no shape")
            if math.prod(shape) * _BITS[dtype] != (stop - begin) * 8:
                raise ValueError(f"{name} has another size than its shape")
            end = max(end, stop)
            yield name, dtype, tuple(shape), stop - begin
        if 8 + length + end != total:
            raise ValueError(f"it has {total} bytes and should have {8 + length + end}")
    except (OSError, ValueError, RecursionError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the weights in {file} are damaged ({_line(error)}); copy or download them again") from error


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """Every value of a configuration that holds no others, with its key."""
    pending: list[tuple[str, Any]] = [("", value)]
    while pending:
        key, item = pending.pop()
        if isinstance(item, dict):
            pending += item.items()
        elif isinstance(item, list):
            pending += ((key, each) for each in item)
        else:
            yield key, item


def _largest(key: str) -> float:
    if _DEPTH.search(key):
        return MAX_LAYERS
    if re.search(r"theta|base|timescale", key):  # of rotary embeddings: frequencies, not sizes
        return math.inf
    return MAX_LABELS if key == "num_labels" else MAX_SIZE


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and warnings while it reads."""
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
