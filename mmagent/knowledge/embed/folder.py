"""A model's folder from anywhere: checked before it is opened, read without code or pickles. It knows no embedder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.errors import MMAgentError, ModelError

if TYPE_CHECKING:
    import torch

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""For every ``from_pretrained``."""
_DECIDING = (".json", ".safetensors", ".model", ".spm", ".txt", ".jinja", ".tiktoken")
"""Ends of the names of files that can decide a vector; pickles and cards cannot."""
_SLACK = 16 * 1024**2
"""Numbers that a network may have beside its weights, such as tables of positions and a pooler that nobody asks."""


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json, refused where it and the weights do not belong together.

    Raises:
        NotFound: There is none.
        ModelError: It cannot be read, asks for code of its own, or there are no safetensors.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from mmagent.engine import checkpoint

    config = checkpoint.read_config(folder)
    kind = config.get("model_type")
    if "auto_map" in config and kind not in CONFIG_MAPPING:
        raise ModelError(
            f"{folder} is of the kind {kind}, which needs Python code that comes with the model; "
            "such code is never run, choose a model that transformers has the code for"
        )
    checkpoint.check_depth(config, checkpoint.read_weights(folder), folder)
    return config


def read_network(kind: Any, folder: Path, dtype: torch.dtype, optional: Iterable[str] = ()) -> Any:
    """A network with its weights, ready to run, on the CPU.

    Args:
        kind: An ``AutoModel...`` class.
        folder: Where configuration and weights are.
        dtype: Of its numbers.
        optional: Beginnings of the names of weights that may be missing.

    Raises:
        NotFound: There is no config.json.
        ModelError: The files are incomplete, damaged, or do not belong together.
    """
    import torch
    from transformers import AutoConfig

    from mmagent.engine import checkpoint

    read_config(folder)
    weights = checkpoint.read_weights(folder)
    with explained(folder):
        config = AutoConfig.from_pretrained(str(folder), **LOCAL)
        with torch.device("meta"):
            described = kind.from_config(config, trust_remote_code=False).num_parameters()
        if described > 2 * weights.parameters + _SLACK:
            raise ModelError(
                f"the configuration in {folder} has {described:,} numbers and its weights have {weights.parameters:,}, "
                "so they do not belong together; copy or download the model again"
            )
        model, info = kind.from_pretrained(
            str(folder), config=config, dtype=dtype, output_loading_info=True, use_safetensors=True, **LOCAL
        )
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(tuple(optional)))
    if missing:
        raise ModelError(
            f"the weights of {folder} are incomplete: {len(missing)} are not there, first {missing[0]}; "
            "copy or download them again"
        )
    return model.eval()


def hash_folder(folder: Path, *facts: str) -> str:
    """Hexadecimal, 24 digits: of the files of a folder that can decide a vector, and of ``facts``.

    Raises:
        ModelError: A file cannot be read.
    """
    digest = hashlib.sha256("\0".join(facts).encode())
    try:
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        for name in sorted(name for name in files if name.endswith(_DECIDING)):
            with files[name].open("rb") as stream:
                digest.update(f"\0{name}\0".encode() + hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise ModelError(f"{folder} cannot be read ({error.strerror or error}); allow it, or copy it again") from error
    return digest.hexdigest()[:24]


def pick_device(wanted: str | None) -> torch.device:
    """The device of that name, by default the setting's.

    Raises:
        ConfigurationError: It is not on this machine.
    """
    from mmagent.engine import load
    from mmagent.settings import settings

    return load.pick_device(wanted or settings().device)


def pick_dtype(device: torch.device) -> torch.dtype:
    """16 bits on a GPU, which is twice as fast there and a rounding of some 1e-3 in a cosine; else float32."""
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float16 if device.type == "mps" else torch.float32


@contextmanager
def explained(folder: Path | str) -> Iterator[None]:
    """Loading without progress bars and warnings; whatever goes wrong becomes a `ModelError` of one line."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except MMAgentError:
        raise
    except Exception as error:  # files from anywhere fail anywhere
        line = " ".join(str(error).split())[:300]
        raise ModelError(
            f"the model in {folder} cannot be loaded ({line}); copy or download it again, or choose another"
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
