"""What goes through the pipes between a reader pool and its workers: JSON and plain bytes, and nothing that is run."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

from mmagent.knowledge.extract import Extract, Heading, Mark, Picture

MAX_BYTES = 256 * 1024 * 1024
"""Of either part of a frame."""

_SIZES = struct.Struct(">II")


def write(pipe: BinaryIO, header: dict[str, Any], body: bytes = b"") -> None:
    """Sends a frame.

    Raises:
        ValueError: It is too large.
        OSError: Nobody reads it.
    """
    head = json.dumps(header).encode()
    if max(len(head), len(body)) > MAX_BYTES:
        raise ValueError(f"a frame has {len(head):,} + {len(body):,} bytes")
    pipe.write(_SIZES.pack(len(head), len(body)) + head)
    pipe.write(body)
    pipe.flush()


def receive(pipe: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """The next frame.

    Raises:
        EOFError: The other side is gone.
        ValueError: What came is no frame.
    """
    head_size, body_size = _SIZES.unpack(_exactly(pipe, _SIZES.size))
    if max(head_size, body_size) > MAX_BYTES:
        raise ValueError(f"a frame has {head_size:,} + {body_size:,} bytes")
    header = json.loads(_exactly(pipe, head_size))
    if not isinstance(header, dict):
        raise ValueError("a frame's header is no object")
    return header, _exactly(pipe, body_size)


def packed(extract: Extract) -> tuple[dict[str, Any], bytes]:
    """An extract as the parts of a frame."""
    header = {
        "mime_type": extract.mime_type,
        "title": extract.title,
        "kind": extract.kind,
        "notes": extract.notes,
        "headings": [(h.start, h.end, h.level, h.title) for h in extract.headings],
        "marks": [(m.start, m.end, m.page, m.box, m.t0, m.t1) for m in extract.marks],
        "pictures": [(p.kind, p.page, p.box, p.t0, p.t1, p.text) for p in extract.pictures],
    }
    return header, extract.text.encode("utf-8")


def unpacked(header: dict[str, Any], body: bytes) -> Extract:
    """What `packed` was given.

    Raises:
        ValueError: It is something else.
    """
    try:
        return Extract(
            text=body.decode("utf-8"),
            mime_type=str(header["mime_type"]),
            title=str(header["title"]),
            headings=[Heading(*values) for values in header["headings"]],
            marks=[Mark(start, end, page, _box(box), t0, t1) for start, end, page, box, t0, t1 in header["marks"]],
            pictures=[Picture(kind, page, _box(box), *rest) for kind, page, box, *rest in header["pictures"]],
            kind=header["kind"],
            notes=[str(note) for note in header["notes"]],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no extract: {error}") from error


def _box(values: list[float] | None) -> tuple[float, float, float, float] | None:
    if values is None:
        return None
    left, top, right, bottom = values
    return left, top, right, bottom


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError("the other side is gone")
    return data
