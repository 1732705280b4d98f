"""Reads a document of any kind into an `Extract`. It knows no files, stores and indexes; each kind has its own module.

`read` works in this process. Kinds whose parsers could crash, hang or swell go through a `pool.ReaderPool`;
`needs_worker` says which they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract
from mmagent.media.sniff import is_plain_text, sniff

if TYPE_CHECKING:
    from mmagent.settings import Settings

READER = 1
"""Grows when the same document reads differently; stores then take it in anew."""

KINDS = (
    "Markdown, plain text, HTML, CSV, JSON, subtitles, PDF, Word, PowerPoint and Excel documents, pictures, "
    "recordings, videos and zip archives of them"
)
"""What is taken in, as messages name it."""

ZIP = "application/zip"
"""The type of an archive, whose members `archive.members` gives; `read` takes none."""

_OFFICE = "application/vnd.openxmlformats-officedocument."
_READERS: dict[str, tuple[str, str]] = {
    "text/plain": ("text", "read_text"),
    "application/json": ("text", "read_text"),
    "application/jsonl": ("text", "read_text"),
    "text/vtt": ("text", "read_subtitles"),
    "application/x-subrip": ("text", "read_subtitles"),
    "text/markdown": ("markdown", "read_markdown"),
    "text/csv": ("table", "read_table"),
    "text/tab-separated-values": ("table", "read_table"),
    "text/html": ("html", "read_html"),
    _OFFICE + "wordprocessingml.document": ("word", "read_word"),
    _OFFICE + "presentationml.presentation": ("slides", "read_slides"),
    _OFFICE + "spreadsheetml.sheet": ("sheets", "read_sheets"),
    "application/pdf": ("pdf", "read_pdf"),
    "image/*": ("picture", "read_picture"),
    "audio/*": ("sound", "read_sound"),
    "video/*": ("video", "read_video"),
}
"""Module here and function in it for each MIME type."""

_ENDINGS = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".vtt": "text/vtt",
    ".srt": "application/x-subrip",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
} | dict.fromkeys(
    """.txt .text .rst .adoc .org .log .tex .xml .yaml .yml .toml .ini .cfg .conf .properties .diff .patch
    .py .pyi .js .jsx .ts .tsx .java .kt .scala .c .h .cc .cpp .hpp .cu .cs .go .rs .swift .rb .php .pl .lua .r .jl
    .sh .bash .ps1 .bat .sql .css .scss .proto .graphql .dockerfile .tf .vue""".split(),  # noqa: SIM905
    "text/plain",
)
"""What a text is by the ending of its name, where its bytes say nothing."""

_IN_PROCESS = frozenset({"text", "markdown", "table"})
"""Modules whose readers are Python only and take time and memory in proportion to the document."""

_LARGE = 1_000_000
"""Bytes from which even those are read elsewhere: it takes seconds."""

_KIND = {"image": "max_image_bytes", "audio": "max_audio_bytes", "video": "max_video_bytes"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How documents are read. It has only plain values, so that it can be sent to another process."""

    max_document_bytes: int
    max_image_bytes: int
    max_image_pixels: int
    max_image_side: int
    """Pixels."""
    max_audio_bytes: int
    max_video_bytes: int
    max_index_pages: int
    max_index_seconds: int
    """Of sound and video."""
    max_archive_bytes: int
    """Of all that an archive or Office file unpacks to."""
    max_archive_files: int
    index_timeout: float
    """Seconds for reading one document."""
    ocr: bool
    """Whether words in pictures, scans and frames are read."""
    pages_as_pictures: bool
    """Whether each page of a document is also listed as a picture to look at."""

    @classmethod
    def of(cls, limits: Settings, *, pages_as_pictures: bool = False) -> Options:
        """The options that settings give."""
        known = {name: getattr(limits, name) for name in cls.__dataclass_fields__ if name != "pages_as_pictures"}
        return cls(**known, pages_as_pictures=pages_as_pictures)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Options:
        """What `to_json` gave."""
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """Names what changes the outcome: the readers' version and what is looked for, not the limits."""
        return f"reader-{READER}" + "-ocr" * self.ocr + "-pages" * self.pages_as_pictures

    @cached_property
    def limits(self) -> Settings:
        """The same limits as the functions of `mmagent.media` take them."""
        from mmagent.settings import Settings

        return Settings.model_construct(**self.to_json())


def read(data: bytes, name: str, options: Options) -> Extract:
    """Reads a document.

    Args:
        data: All of the file.
        name: Its name; the ending says which kind of text a text is.
        options: Limits and what to look for.

    Raises:
        InputError: It cannot be taken in; the message is the reason, to be shown after the name.
    """
    mime_type = type_of(data, name)
    _check_bytes(len(data), mime_type, options)
    if mime_type == ZIP:
        raise InputError("it is an archive; unpack it")
    reader = _reader(mime_type)
    try:
        extract = reader(data, name, options)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError("reading it takes too much memory; split it or save it again") from error
    except Exception as error:  # a parser on hostile input: whatever it raises costs this document alone
        _log.debug("%s could not be read", name, exc_info=True)
        raise InputError(f"it could not be read ({type(error).__name__}); save it again or take another one") from error
    if not extract.text.strip() and not extract.pictures and mime_type.split("/")[0] not in ("audio", "video"):
        raise InputError("there is no text in it")
    headings = [replace(heading, title=storable(heading.title)) for heading in extract.headings]
    text, title = storable(extract.text), storable(extract.title)
    if mime_type in _READERS:  # the reader of a container knows better what is in it
        extract = replace(extract, mime_type=mime_type)
    return replace(extract, text=text, title=title, headings=headings)


def type_of(data: bytes, name: str) -> str:
    """The MIME type of a document that can be taken in: by its content, and of a text by the ending of its name.

    Raises:
        InputError: It is of no such kind; the message is the reason.
    """
    from mmagent.knowledge.read import archive

    ending = PurePath(name).suffix.lower()
    found = sniff(data)
    if found and found != "application/pdf" and is_plain_text(data):
        found = None  # a text that begins with such letters, e.g. "ID3"
    if found == ZIP:
        return archive.package_type(data)
    if found and _module(found):
        return found
    if data.startswith(archive.OLE):
        raise InputError(archive.ole_reason(data))
    if found == "application/gzip":
        raise InputError("it is packed by gzip; unpack it or pack it as zip")
    if found or ending not in _ENDINGS:
        raise InputError(f"{found or ending or 'a file without an ending'} is not taken in; {KINDS} are")
    return _ENDINGS[ending]


def needs_worker(data: bytes, name: str) -> bool:
    """Whether a document is to be read in another process, as its parser could crash, hang or swell.

    Raises:
        InputError: It cannot be taken in.
    """
    return len(data) > _LARGE or _module(type_of(data, name)) not in _IN_PROCESS


def refused(found: str, field: str, limit: int) -> InputError:
    """The reason that names the value found, the limit and the setting that changes it."""
    from mmagent.settings import Settings

    return InputError(f"it has {found} and the limit is {limit:,}; {Settings.variable(field)} changes it")


def _module(mime_type: str) -> str:
    entry = _READERS.get(mime_type) or _READERS.get(mime_type.split("/")[0] + "/*")
    return entry[0] if entry else ""


def _reader(mime_type: str) -> Callable[[bytes, str, Options], Extract]:
    module, function = _READERS.get(mime_type) or _READERS[mime_type.split("/")[0] + "/*"]
    reader: Callable[[bytes, str, Options], Extract] = getattr(import_module(f"{__name__}.{module}"), function)
    return reader


def _check_bytes(size: int, mime_type: str, options: Options) -> None:
    field = _KIND.get(mime_type.split("/")[0], "max_document_bytes")
    if size > (limit := int(getattr(options, field))):
        raise refused(f"{size:,} bytes", field, limit)


def storable(text: str) -> str:
    """The text without what no database takes; of the same length, so that spans still hold."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
