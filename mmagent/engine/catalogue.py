"""The models on this machine: what each is, and whether it fits. It knows files and sizes, and never loads torch."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from mmagent import nano
from mmagent.engine.checkpoint import check_depth, read_config, read_json, read_weights
from mmagent.engine.hub import HUB_ID, cache_folder, cached, disk_size
from mmagent.engine.memory import Machine, this_machine
from mmagent.errors import ModelError, NotFound
from mmagent.paths import data_dir
from mmagent.settings import settings

logger = logging.getLogger(__name__)

WORKING_MEMORY = 1 << 30
"""Bytes that a model takes beside its weights: torch itself, a picture's activations, the prefix cache."""
COMFORTABLE = 0.8
"""Share of the free memory that a model may take and still leave the machine usable."""

Fit = Literal["fits", "tight", "too large", "unusable"]


@dataclass(frozen=True)
class Entry:
    """A model on this machine."""

    name: str
    """What ``--model`` takes."""
    folder: Path
    size: int
    """Bytes on disk, of all versions."""
    modalities: tuple[str, ...]
    """What goes in: text, image, audio, video. Empty where the configuration cannot be read."""
    parameters: int | None
    context: int | None
    """Tokens, prompt and answer together."""
    needed: int | None
    """Bytes of memory, weights and work."""
    fit: Fit
    problem: str | None
    """Why it is unusable."""
    chats: bool
    """Whether it can be an agent's model: transformers knows its kind, and it has a chat template."""


def installed() -> list[Entry]:
    """Nano, the models of the hub's cache, and the folders under ``models`` of the data directory."""
    machine = this_machine(settings().device)
    return [_told(describe(name, folder, machine, size)) for name, folder, size in _folders()]


def best() -> Entry | None:
    """The model that ``auto`` means beside nano: of those that chat and fit, one that sees before one that does not,
    then the one of most parameters.
    """
    usable = [entry for entry in installed() if entry.name != "nano" and entry.chats and entry.fit == "fits"]
    return max(usable, key=lambda entry: ("image" in entry.modalities, entry.parameters or 0), default=None)


def _told(entry: Entry) -> Entry:
    """Say of half a download that it is one."""
    if entry.problem and HUB_ID.fullmatch(entry.name) and any(cache_folder(entry.name).glob("blobs/*.incomplete")):
        return replace(entry, problem=f"its download was interrupted; go on with: mmagent pull {entry.name}")
    return entry


def describe(name: str, folder: Path, machine: Machine, size: int | None = None) -> Entry:
    """What a folder holds and whether it fits ``machine``; a folder that is no whole model is told as ``unusable``."""
    size = disk_size(folder) if size is None else size
    try:
        config = read_config(folder)
    except (ModelError, NotFound) as error:
        return Entry(name, folder, size, (), None, None, None, "unusable", str(error), False)
    context = _context(config)
    try:
        weights = read_weights(folder)
        check_depth(config, weights, folder)
    except ModelError as error:
        return Entry(name, folder, size, modalities(config), None, context, None, "unusable", str(error), False)
    in_memory = weights.bytes_as(machine.dtype(settings().dtype, weights.parameters))
    return Entry(
        name,
        folder,
        size,
        modalities(config),
        weights.parameters,
        context,
        in_memory + WORKING_MEMORY,
        fit_of(in_memory, machine.free),
        None,
        _known(str(config.get("model_type"))) and _has_template(folder),
    )


def fit_of(weights: int, free: int) -> Fit:
    """Whether weights of so many bytes fit in so many free ones; what is too large is refused when it is loaded."""
    if weights > free:
        return "too large"
    return "fits" if weights + WORKING_MEMORY <= COMFORTABLE * free else "tight"


def modalities(config: dict[str, Any]) -> tuple[str, ...]:
    """What a network of this configuration takes, told by its parts."""
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    keys = {key for part in parts for key, value in part.items() if value is not None}
    there = {
        "text": "vocab_size" in keys and not {"num_mel_bins"} <= config.keys(),
        "image": bool(keys & {"vision_config", "image_token_id", "image_token_index"}) or "patch_size" in config,
        "audio": bool(keys & {"audio_config", "num_mel_bins", "audio_token_id"}),
        "video": bool(keys & {"video_token_id", "video_token_index"}),
    }
    return tuple(name for name, is_there in there.items() if is_there)


def _folders() -> Iterator[tuple[str, Path, int | None]]:
    try:
        yield "nano", nano.folder(), None
    except ModelError as error:
        logger.debug("%s", error)
    yield from _cached()
    for folder in sorted((data_dir() / "models").glob("*/config.json")):
        yield str(folder.parent), folder.parent, None


def _cached() -> Iterator[tuple[str, Path, int | None]]:
    """The models of the hub's cache. Of several versions the one in use; half a download is one too."""
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).expanduser().glob("models--*--*")):
        hub_id = folder.name.removeprefix("models--").replace("--", "/", 1)
        if not HUB_ID.fullmatch(hub_id):
            continue
        snapshots = sorted((folder / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
        yield hub_id, cached(hub_id) or (snapshots[-1] if snapshots else folder), disk_size(folder)


def _context(config: dict[str, Any]) -> int | None:
    inner = (config.get(key) for key in ("text_config", "llm_config", "language_config", "thinker_config"))
    for part in (*(part for part in inner if isinstance(part, dict)), config):
        for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
            if isinstance(part.get(key), int):
                return int(part[key])
    return None


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    try:
        return bool(read_json(folder / "tokenizer_config.json").get("chat_template"))
    except ModelError:
        return False


@lru_cache(maxsize=1)
def _kinds() -> frozenset[str]:
    """The kinds of networks that transformers has code for, by its folders, as importing it takes seconds."""
    spec = importlib.util.find_spec("transformers")
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else Path()
    return frozenset(path.name for path in folder.glob("*/") if (path / "__init__.py").is_file())


def _known(kind: str) -> bool:
    return kind == "mmagent" or kind.replace("-", "_") in _kinds()
