"""What a file is, by its first bytes. It never looks at a name and decodes nothing."""

from __future__ import annotations

import re
from io import BytesIO
from zipfile import ZipFile

from mmagent.errors import MediaError

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Characters that no text has; ESC is in logs."""

SNIFF_BYTES = 64
"""How many leading bytes `sniff` looks at."""

PICTURES = "PNG, JPEG, WebP, GIF, BMP or TIFF"
"""The picture formats, as error messages name them."""

PICTURE_FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}
"""Pillow's decoder of each picture type that is accepted; no other decoder is ever tried."""

RECORDINGS = "WAV, AIFF, FLAC, Ogg, MP3, M4A or WebM"
"""The formats of recordings, as error messages name them."""
VIDEOS = "MP4, WebM, MOV or MKV"
"""The formats of videos, as error messages name them."""
DOCUMENTS = "PDF, Word, PowerPoint, Excel or plain text"
"""The formats of documents, as error messages name them."""

CONTAINERS = {
    "audio/mp4": "audio/mp4",
    "video/mp4": "audio/mp4",
    "video/quicktime": "audio/mp4",
    "video/webm": "audio/webm",
    "video/x-matroska": "audio/x-matroska",
}
"""Types that may hold sound, pictures or both, and what they are where there is only sound."""

_OFFICE = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
"""What an Office file is, by the folder that its content is in (ECMA-376, part 1)."""
_MAX_MEMBERS = 100_000

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
)

_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # "BM" alone would take "BMW is a car" for a picture

_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_FORM = {b"AIFF": "audio/aiff", b"AIFC": "audio/aiff"}


def sniff(data: bytes) -> str | None:
    """The MIME type that the first bytes announce, or None where they say nothing that is known."""
    head = data[:SNIFF_BYTES]
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM":
        return _FORM.get(head[8:12])
    if head[:2] == b"BM":
        return "image/bmp" if int.from_bytes(head[14:18], "little") in _BMP_HEADERS else None
    if head[4:8] == b"ftyp":
        brands = {b"M4A ": "audio/mp4", b"avif": "image/avif", b"heic": "image/heic", b"qt  ": "video/quicktime"}
        return brands.get(head[8:12], "video/mp4")
    if head[:4] == b"\x1a\x45\xdf\xa3":  # EBML; its header says which
        return "video/x-matroska" if b"matroska" in head else "video/webm"
    if len(head) > 3 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08:
        return "audio/mpeg" if head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3 else None
    return next((mime_type for magic, mime_type in _MAGIC if head.startswith(magic)), None)


def sniff_picture(data: bytes, name: str) -> str:
    """The MIME type of a picture that can be decoded.

    Args:
        data: The file, or its first `SNIFF_BYTES` bytes.
        name: What to call the file in error messages.

    Raises:
        MediaError: The bytes are something else, or nothing that is known.
    """
    mime_type = sniff(data)
    if mime_type is not None and mime_type in PICTURE_FORMATS:
        return mime_type
    if not data:
        raise MediaError(f"{name} is empty; give a {PICTURES} picture")
    found = mime_type or ("text" if _is_text(data[:SNIFF_BYTES]) else "of an unknown type")
    raise MediaError(f"{name} is no picture: its content is {found}, whatever its name; give a {PICTURES} picture")


def sniff_document(data: bytes, name: str) -> str:
    """The MIME type of a document: PDF, an Office file by what is packed in it, or plain text in UTF-8.

    Raises:
        MediaError: The bytes are something else, or nothing that is known.
    """
    mime_type = sniff(data)
    if mime_type == "application/pdf":
        return mime_type
    office = _office(data) if mime_type == "application/zip" else None
    if office:
        return office
    if not data:
        raise MediaError(f"{name} is empty; give a {DOCUMENTS} document")
    if mime_type is None and is_plain_text(data):
        return "text/plain"
    raise MediaError(
        f"{name} is no document: its content is {mime_type or 'of an unknown type'}, whatever its name; "
        f"give a {DOCUMENTS} document"
    )


def is_plain_text(data: bytes) -> bool:
    """Whether the bytes are a text in UTF-8, all of them."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)


def _office(data: bytes) -> str | None:
    try:
        with ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()[:_MAX_MEMBERS]
    except Exception:  # a damaged archive is none
        return None
    if "[Content_Types].xml" not in names:
        return None
    return next((kind for folder, kind in _OFFICE.items() if any(name.startswith(folder) for name in names)), None)


def _is_text(head: bytes) -> bool:
    """Whether the bytes could open a text file (ASCII, or UTF-8 cut at any place)."""
    return not any(byte < 9 or 13 < byte < 32 for byte in head) and head.decode("utf-8", "ignore") != ""
