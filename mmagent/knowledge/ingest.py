"""Finds and reads the documents to take in. It knows nothing of stores and vectors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmagent.errors import InputError, NotFound
from mmagent.knowledge.chunk import CHUNKER, Passage, passages
from mmagent.settings import Settings

MARKDOWN = frozenset({".md", ".markdown"})
PLAIN = frozenset({".txt", ".text"})
KINDS = "Markdown (.md, .markdown) and plain text (.txt, .text)"


@dataclass(frozen=True)
class Document:
    """A file that was read."""

    path: str
    uri: str
    digest: str
    """Of the content and the way it is cut."""
    text: str
    markdown: bool

    def passages(self) -> list[Passage]:
        """Its passages, in order."""
        return passages(self.text, Path(self.path).stem, markdown=self.markdown)


@dataclass
class Found:
    """What stands at the given paths."""

    documents: dict[Path, str] = field(default_factory=dict)
    """File to uri."""
    folders: list[Path] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Uri and reason of what cannot be taken in."""


def find(paths: Iterable[Path]) -> Found:
    """The files at paths, folders searched through; hidden ones are passed over.

    Raises:
        NotFound: A path does not exist.
    """
    found = Found()
    for given in paths:
        path = given.expanduser().absolute()
        if not os.path.exists(path):  # unlike Path.exists, False for any name that cannot be one
            raise NotFound(f"there is no file or folder {given}; check the path")
        path = path.resolve()
        if path.is_dir():
            found.folders.append(path)
        files = _walk(path, found) if path.is_dir() else [path]
        for file in files:
            uri = file.relative_to(path).as_posix() if path.is_dir() else str(file)
            if reason := _refusal(file):
                found.skipped.append((os.fsencode(uri).decode("utf-8", "replace"), reason))
            else:
                found.documents.setdefault(file, uri)
    return found


def _walk(folder: Path, found: Found) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        found.skipped.append((str(error.filename), f"it cannot be read ({error.strerror}); check its permissions"))

    for root, folders, files in os.walk(folder, onerror=refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _refusal(file: Path) -> str:
    kind = file.suffix.lower()
    if kind not in MARKDOWN | PLAIN:
        return f"{kind or 'a file without an ending'} is not taken in yet; {KINDS} are"
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    return "" if file.is_file() else "it is not a file"


def read(file: Path, uri: str, max_bytes: int) -> Document:
    """Reads a document.

    Raises:
        InputError: It cannot be taken in; the message is the reason.
    """
    try:
        if (size := file.stat().st_size) > max_bytes:
            limit = Settings.variable("max_document_bytes")
            raise InputError(f"it has {size:,} bytes and the limit is {max_bytes:,}; {limit} changes it")
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror}); check its permissions") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("it is not UTF-8 text; save it as UTF-8") from error
    if "\0" in text:
        raise InputError("it is not text")
    digest = hashlib.sha256(b"%d\0" % CHUNKER + content).hexdigest()
    if not text.strip():
        raise InputError("there is no text in it")
    return Document(str(file), uri, digest, text, file.suffix.lower() in MARKDOWN)
