"""Whatever a tool returns becomes what a model is shown. It knows values and the blob store; it knows no tool.

Libraries are recognised by what is loaded already; none is imported for a value that it did not make. Text is cut
before it is copied, and files and pictures are held to the limits of `mmagent.settings`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from mmagent.agent.tools.context import ToolResult
from mmagent.agent.tools.tables import array_summary, is_array, is_figure, is_frame, png_of, table_of
from mmagent.content import Block, Image, Media, MediaBlock, text
from mmagent.errors import LimitError
from mmagent.media import BlobStore, sniff
from mmagent.media.source import read_source, recognise
from mmagent.settings import settings

SMALL = 4_000
"""Characters and items of a plain value that is shown without a thread."""
_SCALARS = frozenset((bool, int, float, type(None)))
_PLAIN = _SCALARS | {str, dict}
_BATCH = 256
_PIECE = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """What became of a call."""

    content: tuple[Block, ...]
    """What the model is shown."""
    data: Any = None
    """JSON for programs."""
    error: str | None = None
    """Why it failed."""
    crashed: bool = False
    """Whether it failed in a way its author did not foresee."""
    artifacts: tuple[MediaBlock, ...] = ()
    """Files for programs; the model is told one line of each."""
    cut: bool = False
    """Whether there was more text than the limit; the content says so."""


class Parts:
    """Collects what a tool returns, or yields one by one, in order.

    Args:
        blobs: Where media go.
        limit: Characters of text that are kept.
    """

    def __init__(self, blobs: BlobStore, limit: int) -> None:
        self._blobs, self._limit = blobs, limit
        self._blocks: list[Block] = []
        self._texts: list[str] = []
        """Pieces of the text block that is being written."""
        self._total = self._kept = self._media = 0
        self._data: Any = None
        self._artifacts: list[MediaBlock] = []

    def add(self, value: Any) -> None:
        """Take one more thing.

        Raises:
            InputError: It is a file or picture that cannot be shown; the message says why.
            PydanticSerializationError, ValueError: It is no JSON.
        """
        if isinstance(value, ToolResult):
            for item in value.content if isinstance(value.content, list) else [value.content]:
                self.add(item)
            if value.data is not None:
                self._data = to_jsonable_python(value.data, fallback=_fallback)
            for artifact in value.artifacts:
                self._artifact(artifact)
        elif value is None:
            self._write(["done"])
        elif isinstance(value, str):
            self._write([value])
        elif isinstance(value, bytes | bytearray | memoryview | Path):
            self._file(value)
        elif _is_media(value):
            self._show(value if isinstance(value, Media) else Image(value))
        elif is_figure(value):
            self._show(Image(png_of(value)))
        elif is_frame(value):
            self._write([table_of(value)])
        elif is_array(value):
            self._write([_dumps(array_summary(value))])
        elif isinstance(value, list | tuple) and _is_part(value):
            for item in value:
                self.add(item)
        else:
            self._write(_json(value))

    def outcome(self) -> Outcome:
        """All of it; "done" where there was nothing."""
        self._close()
        blocks = tuple(self._blocks) or (text("done"),)
        cut = self._total > self._limit
        note = (cut_note(self._limit, self._total),) if cut else ()
        return Outcome((*blocks, *note), data=self._data, artifacts=tuple(self._artifacts), cut=cut)

    def _write(self, pieces: Iterable[str]) -> None:
        """A text of its own; it stands on a new line after another."""
        if self._texts:
            pieces = chain(("\n",), pieces)
        else:
            self._texts.append("")
        for piece in pieces:
            self._total += len(piece)
            if self._kept < self._limit:
                kept = clean(piece[: self._limit - self._kept])
                self._texts.append(kept)
                self._kept += len(kept)

    def _close(self) -> None:
        if self._texts:
            self._blocks.append(text("".join(self._texts)))
            self._texts = []

    def _show(self, media: Media) -> None:
        limits = settings()
        self._media += 1
        if self._media > limits.max_images_per_turn:
            raise LimitError(
                f"there are more than {limits.max_images_per_turn} pictures and files in it: max_images_per_turn is "
                f"{limits.max_images_per_turn}; return fewer or set {type(limits).variable('max_images_per_turn')}"
            )
        self._close()
        self._blocks.append(self._blobs.admit(media))

    def _file(self, value: bytes | bytearray | memoryview | Path) -> None:
        found = recognise(value if isinstance(value, Path) else bytes(value), settings())
        if isinstance(found, Media):
            self._show(found)
        else:
            self._write([found])

    def _artifact(self, value: Any) -> None:
        """Keep a file of any type; a model is only told that there is one."""
        name, data = read_source(value.source if isinstance(value, Media) else value, settings(), "file")
        mime_type = sniff(data) or "application/octet-stream"
        file_id = self._blobs.put(data, mime_type)
        extras = {"name": name, "bytes": len(data)}
        self._artifacts.append({"type": "file", "file_id": file_id, "mime_type": mime_type, "extras": extras})
        self._write([f"[{name}: {len(data):,} bytes, {mime_type}; kept for the program]"])


def is_small(value: Any) -> bool:
    """Whether a value is plain and so small that showing it takes no time worth a thread."""
    return _size(value, SMALL) > 0


def cut_note(limit: int, total: int) -> Block:
    """What stands after text that was cut."""
    return text(f"\n[cut: this is the beginning, {limit} of {total} characters]")


def clean(value: str) -> str:
    """Half surrogate pairs, which no encoding can carry, become question marks."""
    return str.__str__(value).encode("utf-8", "replace").decode("utf-8")


def _is_media(value: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")  # whoever made a PIL image has imported it
    return isinstance(value, Media) or (pillow is not None and isinstance(value, pillow.Image))


def _is_part(value: Any) -> bool:
    """Whether a value in a list makes the list one of parts rather than one of data."""
    if isinstance(value, list | tuple):
        return any(type(item) not in _PLAIN and _is_part(item) for item in value)
    files = isinstance(value, ToolResult | Path | bytes | bytearray | memoryview)
    return files or _is_media(value) or is_figure(value) or is_frame(value)


def _size(value: Any, left: int) -> int:
    """What is left of a budget after a plain value; 0 or less: it is too large, or not plain."""
    kind = type(value)
    if kind is str:
        return left - len(value)
    if kind in _SCALARS:
        return left - 1
    if kind is ToolResult:
        return _size(value.data, _size(value.content, left)) if not value.artifacts else 0
    if kind in (dict, list, tuple):
        left -= 1
        for item in value.items() if kind is dict else value:
            left = left - 1 if type(item) in _SCALARS else _size(item, left)
            if left <= 0:
                break
        return left
    return 0


def _json(value: Any) -> Iterator[str]:
    """The pieces of ``json.dumps``; large values go a batch at a time, so that there is never all of it twice."""
    kind = type(value)
    if kind is str and len(value) > _PIECE:
        yield '"'
        yield from (_dumps(value[at : at + _PIECE])[1:-1] for at in range(0, len(value), _PIECE))
        yield '"'
    elif kind not in (dict, list, tuple) or _size(value, SMALL) > 0:
        yield _dumps(value)
    else:
        between, ends = "", "{}" if kind is dict else "[]"
        yield ends[0]
        for items in _batches(iter(value.items() if kind is dict else value)):
            yield between
            between = ", "
            if len(items) > 1:
                yield _dumps(dict(items) if kind is dict else items)[1:-1]
            elif kind is dict:
                yield _dumps({items[0][0]: None})[1:-5]
                yield from _json(items[0][1])
            else:
                yield from _json(items[0])
        yield ends[1]


def _batches(items: Iterator[Any]) -> Iterator[list[Any]]:
    """Small items together, others one by one."""
    while batch := list(islice(items, _BATCH)):
        if _size(batch, 8 * SMALL) > 0:
            yield batch
        else:
            yield from ([item] for item in batch)


def _dumps(value: Any) -> str:
    return json.dumps(to_jsonable_python(value, fallback=_fallback), ensure_ascii=False)


def _fallback(value: Any) -> Any:
    """JSON of what pydantic does not know."""
    if is_array(value):
        return array_summary(value)
    if is_frame(value):
        return table_of(value)
    raise PydanticSerializationError(f"Unable to serialize unknown type: {type(value)}")
