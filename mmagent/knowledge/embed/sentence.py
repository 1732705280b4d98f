"""Whatever sentence-transformers loads, as an embedder. It knows that library, nothing of documents and stores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from mmagent.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

_BATCH = 32
_QUERY = "query"
_DOCUMENT = ("document", "passage", "corpus")
"""Names of the prompts for documents, as sentence-transformers looks for them."""


class SentenceEmbedder:
    """A model of sentence-transformers 6: text models, CLIP wrappers, vision-language embedders. Safe for threads.

    Prompts come with the model (``config_sentence_transformers.json``): `embed` uses the one for documents, and
    `embed_query` the one for questions.

    Args:
        name_or_folder: A folder that ``SentenceTransformer.save`` wrote, or a hub id (downloaded only where
            ``MMAGENT_OFFLINE=false``).
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; by default the setting. On a GPU it runs in 16 bits.
    """

    def __init__(self, name_or_folder: str | Path, *, device: str | None = None) -> None:
        self._source, self._device = name_or_folder, device
        self._loading, self._running = Lock(), Lock()

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are.

        Raises:
            NotFound: They are nowhere on this machine.
            ModelError: The download failed.
        """
        from mmagent.knowledge.embed.load import find_folder

        return find_folder(self._source)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the files that decide the vectors, prompts among them.

        Raises:
            NotFound: They are nowhere on this machine.
            ModelError: A file cannot be read.
        """
        from mmagent.knowledge.embed.folder import hash_folder

        return f"sentence-{hash_folder(self.folder, 'SigLIP padded to its length, length 1')}"

    @property
    def takes_pictures(self) -> bool:
        """Whether the model embeds pictures. Loads it.

        Raises:
            NotFound, ModelError, ConfigurationError: As for `embed`.
        """
        return bool(self._open().supports("image"))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1 of documents: ``[N, D]`` float32. What is longer than the model takes is cut.

        Raises:
            NotFound: The model is nowhere on this machine.
            ModelError: The model cannot be loaded or cannot embed these.
            MissingExtra: sentence-transformers is not installed.
            ConfigurationError: The device is not on this machine.
        """
        prompts = self._open().prompts
        return self._encode(list(texts), next((name for name in _DOCUMENT if name in prompts), None))

    def embed_query(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1 of questions: ``[N, D]`` float32, in the space of `embed`. Raises what `embed` raises."""
        return self._encode(list(texts), _QUERY if _QUERY in self._open().prompts else None)

    def _encode(self, inputs: list[Any], prompt: str | None) -> NDArray[np.float32]:
        import numpy as np

        model = self._open()
        more: dict[str, Any] = {} if prompt is None else {"prompt_name": prompt}
        if padding := _padding(model):
            more["processing_kwargs"] = {"text": padding}
        try:
            with self._running:  # its tokenizer keeps how it pads as its own state
                made = model.encode(
                    inputs, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False, **more
                )
        except Exception as error:  # models from anywhere fail anywhere
            line = " ".join(str(error).split())[:300]
            raise ModelError(f"{self._source} could not embed ({line}); use another embedder") from error
        return np.asarray(made, dtype=np.float32)

    def _open(self) -> Any:
        with self._loading:
            return self._model

    @cached_property
    def _model(self) -> Any:
        from mmagent.knowledge.embed.folder import LOCAL, explained, pick_device, pick_dtype

        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtra(f"the embedder {self._source}", "embed") from error
        folder, place = self.folder, pick_device(self._device)
        _check(folder)
        with explained(folder):
            model = SentenceTransformer(
                str(folder),
                device=str(place),
                model_kwargs={"use_safetensors": True, "dtype": pick_dtype(place)},
                **LOCAL,
            ).eval()
        if _kind(model).startswith("siglip"):  # trained on texts of full length, padding seen like words: no mask
            model.tokenizer.model_input_names = ["input_ids"]
        return model


class SentencePictureEmbedder(SentenceEmbedder):
    """A `SentenceEmbedder` whose model takes pictures too: CLIP wrappers, vision-language embedders."""

    def embed_pictures(self, pictures: Sequence[PILImage]) -> NDArray[np.float32]:
        """Vectors of length 1 of RGB pictures: ``[N, D]`` float32, in the space of `embed`.

        Raises:
            NotFound, ConfigurationError: As for `embed`.
            ModelError: Also where the model takes no pictures.
        """
        if not self.takes_pictures:
            raise ModelError(f"{self._source} takes no pictures; use a CLIP or SigLIP model as picture embedder")
        prompts = self._open().prompts
        # a prompt for documents is an instruction to those models that read conversations, and text to nobody else
        prompt = (
            next((name for name in _DOCUMENT if name in prompts), None) if self._open().supports("message") else None
        )
        return self._encode([picture.convert("RGB") for picture in pictures], prompt)


def _kind(model: Any) -> str:
    return str(getattr(getattr(model[0], "config", None), "model_type", ""))


def _padding(model: Any) -> dict[str, Any]:
    """How texts must be padded and cut, where the library's own way is wrong: it pads SigLIP's texts to the longest of
    them, and cuts CLIP's where the tokenizer says, which may not know the network's limit.
    """
    if _kind(model) not in ("clip", "siglip", "siglip2"):
        return {}
    limit = int(model[0].config.text_config.max_position_embeddings)
    return {"padding": True if _kind(model) == "clip" else "max_length", "max_length": limit, "truncation": True}


def _check(folder: Path) -> None:
    """Refuse what would run code or open pickles, and networks whose weights do not fit them.

    Raises:
        ModelError: The folder is such.
    """
    from mmagent.knowledge.embed.folder import read_config

    try:
        listed = folder / "modules.json"
        modules = json.loads(listed.read_bytes()) if listed.is_file() else [{"type": "", "path": ""}]
        parts = [(str(module["type"]), str(module["path"])) for module in modules]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'modules.json'} cannot be read ({error}); download the model again") from error
    for kind, path in parts:
        if kind and not kind.startswith("sentence_transformers."):
            raise ModelError(f"{folder} needs the class {kind!r:.80}, code that comes with it, which is never run")
        place = (folder / path).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise ModelError(f"{folder} has a part outside itself ({path!r:.80}); do not use a model from this source")
        if (place / "config.json").is_file() and (kind.endswith(("Transformer", "CLIPModel")) or not kind):
            read_config(place)
        elif any(place.glob("*.bin")) and not any(place.glob("*.safetensors")):
            raise ModelError(f"{place} has its weights in a pickle, which is never opened; get it as safetensors")
