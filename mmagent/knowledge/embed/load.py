"""From a name to an embedder. It knows the kinds of names and of folders, and nothing of what embedders do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.errors import ModelError, NotFound
from mmagent.settings import Settings, settings

if TYPE_CHECKING:
    from mmagent.knowledge.embed import Embedder, PictureEmbedder

KINDS = (
    "minilm, a folder with an embedding model (of sentence-transformers, CLIP, SigLIP, or mmagent with a contrastive "
    "head), or a hub id (org/name)"
)
"""What an embedder can be called, for error messages."""
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.spm", "*.jinja")
"""Files that are downloaded, folders included; no pickles and no Python."""
_UNWANTED = ("onnx/*", "openvino/*", "*.onnx*")


def load_embedder(name: str | Path) -> Embedder:
    """The embedder of texts of that name.

    Args:
        name: ``minilm`` (comes with mmagent), a folder, or a hub id.

    Raises:
        NotFound: There is no embedder of that name on this machine; the message lists what there can be.
        ModelError: The folder has no model that embeds, or the download failed.
    """
    if name == "minilm":
        from mmagent.knowledge.embed.minilm import MiniLM

        return MiniLM()
    if name == "nano":
        return load_picture_embedder(name)
    return _of_folder(find_folder(name))


def load_picture_embedder(name: str | Path) -> PictureEmbedder:
    """The embedder of pictures, and of texts in their space, of that name.

    Args:
        name: ``nano`` (where it has a contrastive head), a folder, or a hub id.

    Raises:
        NotFound: There is no embedder of that name on this machine; the message lists what there can be.
        ModelError: The model takes no pictures or has no space of pictures and texts, or the download failed.
    """
    from mmagent.knowledge.embed import PictureEmbedder

    if name == "minilm":
        raise ModelError(_NO_PICTURES.format(name=name))
    if name == "nano":
        from mmagent import nano

        return _contrastive(nano.folder(), "nano")
    embedder = _of_folder(find_folder(name))
    if not isinstance(embedder, PictureEmbedder) or not getattr(embedder, "takes_pictures", True):
        raise ModelError(_NO_PICTURES.format(name=name))
    return embedder


_NO_PICTURES = "{name} takes no pictures; choose the folder or hub id of a CLIP or SigLIP model as picture embedder"


def find_folder(name: str | Path) -> Path:
    """The folder of a model: itself, or where the hub's cache has it. Online, what is not there comes now.

    Raises:
        NotFound: There is no such folder, or no model of that id on this machine.
        ModelError: The download failed.
    """
    from mmagent.engine import hub

    folder = Path(os.path.expanduser(name))  # Path's own raises for an unknown ~user
    if str(name) and folder.is_dir():
        return folder
    text = str(name)
    if isinstance(name, Path) or not hub.HUB_ID.fullmatch(text):
        what = f"folder {text}" if folder.is_absolute() or text.startswith((".", "~")) else f"embedder {text!r:.100}"
        raise NotFound(f"there is no {what}; an embedder is {KINDS}")
    cached = hub.cached(text)
    if cached is not None and _complete(cached):
        return cached
    if settings().offline:
        raise NotFound(
            f"the embedder {text} is not on this machine and mmagent is offline; set "
            f"{Settings.variable('offline')}=false to get it, or choose {KINDS}"
        )
    return _download(text)


def _of_folder(folder: Path) -> Embedder:
    from mmagent.knowledge.embed.clip import KINDS as CLIP_KINDS

    modules = (folder / "modules.json").is_file()
    config = _read(folder / "config.json") if (folder / "config.json").is_file() else {}
    if not modules and not config:
        raise ModelError(f"{folder} has no config.json and no modules.json, so it is no model; an embedder is {KINDS}")
    kind = config.get("model_type")
    if kind == "mmagent":
        return _contrastive(folder, folder.resolve().name)
    if kind in CLIP_KINDS and not modules:
        from mmagent.knowledge.embed.clip import ClipEmbedder

        return ClipEmbedder(folder)
    if kind == "bert" and modules and _like_minilm(folder, config):
        from mmagent.knowledge.embed.minilm import MiniLM

        return MiniLM(folder)
    from mmagent.knowledge.embed.sentence import SentenceEmbedder, SentencePictureEmbedder

    return SentencePictureEmbedder(folder) if _has_processor(folder) else SentenceEmbedder(folder)


def _contrastive(folder: Path, name: str) -> PictureEmbedder:
    from mmagent.knowledge.embed.nano import ContrastiveEmbedder

    if _read(folder / "config.json").get("projection_dim") is None:
        raise ModelError(
            f"{name} has no picture space yet: its network has no contrastive head; "
            "choose the folder or hub id of a CLIP or SigLIP model"
        )
    return ContrastiveEmbedder(folder)


def _like_minilm(folder: Path, config: dict[str, Any]) -> bool:
    """Whether the folder is just BERT, the mean of its states, and length 1; then it runs without the library."""
    names = [str(module.get("type")).rsplit(".", 1)[-1] for module in _modules(folder)]
    if names not in (["Transformer", "Pooling", "Normalize"], ["Transformer", "Pooling"]):
        return False
    pooling = _read(folder / _paths(folder)[1] / "config.json")
    # both ways of writing it down: six switches, or one word
    modes = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True]
    mean = pooling.get("pooling_mode", "mean") == "mean" and modes in ([], ["pooling_mode_mean_tokens"])
    sentence = folder / "config_sentence_transformers.json"
    settings_ = folder / "sentence_bert_config.json"
    prompts = (_read(sentence).get("prompts") or {}) if sentence.is_file() else {}
    lower = settings_.is_file() and bool(_read(settings_).get("do_lower_case"))
    plain = config.get("hidden_act", "gelu") == "gelu" and (folder / "tokenizer.json").is_file()
    single = (folder / "model.safetensors").is_file()
    return mean and single and plain and not lower and not any(prompts.values())


def _has_processor(folder: Path) -> bool:
    """Whether the model may take pictures; whether it does, it says once it is loaded."""
    names = ("preprocessor_config.json", "processor_config.json")
    return any((folder / path / name).is_file() for path in _paths(folder) for name in names)


def _modules(folder: Path) -> list[dict[str, Any]]:
    file = folder / "modules.json"
    if not file.is_file():
        return []
    try:
        modules = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read: it is no JSON; download the model again") from error
    if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules):
        raise ModelError(f"{file} is no list of modules; download the model again")
    return modules


def _paths(folder: Path) -> list[str]:
    """Folders of the modules; those that would lead outside are left out here, and refused when the model is loaded."""
    paths = [str(module.get("path", "")) for module in _modules(folder)] or [""]
    return [path for path in paths if (folder / path).resolve().is_relative_to(folder.resolve())]


def _read(file: Path) -> dict[str, Any]:
    from mmagent.engine.checkpoint import read_json

    return read_json(file)


def _complete(folder: Path) -> bool:
    """Whether a cached model has weights, and the folders of its modules that have settings of their own."""
    weights = any((folder / path).glob("*.safetensors") for path in _paths(folder))
    parts = [
        folder / str(module.get("path", ""))
        for module in _modules(folder)
        if not str(module.get("type")).endswith("Normalize") and module.get("path")
    ]
    return weights and all(any(part.glob("*.json")) for part in parts)


def _download(hub_id: str) -> Path:
    """All that an embedder needs of a hub's model, folders of its modules included."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            hub_id, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED), library_name="mmagent"
        )
    except Exception as error:  # the hub's client has a dozen errors; each says what it is
        line = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{hub_id} cannot be downloaded ({line}); check the name and the network and try again, "
            "what has come is kept"
        ) from error
    return Path(folder)
