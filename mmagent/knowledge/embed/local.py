"""What embedders of a local folder have in common: where it is, its name as a space, one loading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar


class FolderEmbedder(ABC):
    """A network in a folder, loaded when it is first needed, once, whichever thread needs it.

    Args:
        folder: What ``save_pretrained`` wrote.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; by default the setting.
    """

    _KIND: ClassVar[str]
    """The beginning of the fingerprint."""
    _FACTS: ClassVar[str]
    """How inputs are made and outputs scaled, where that is no matter of the folder; to be changed along with it."""

    def __init__(self, folder: str | Path, *, device: str | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self._device = device
        self._loading = Lock()
        self._tokenizing = Lock()
        """Held while a tokenizer works: it keeps how it pads and cuts as its own state."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the files that decide the vectors, and of how texts and pictures are prepared.

        Raises:
            ModelError: A file cannot be read.
        """
        from mmagent.knowledge.embed.folder import hash_folder

        return f"{self._KIND}-{hash_folder(self.folder, self._FACTS)}"

    def _open(self) -> Any:
        """What `_load` made, the first time."""
        with self._loading:
            return self._loaded

    @cached_property
    def _loaded(self) -> Any:
        return self._load()

    @abstractmethod
    def _load(self) -> Any:
        """The network and what makes its inputs."""
