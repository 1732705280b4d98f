"""What a file is, by its first bytes. It never looks at a name and decodes nothing."""

from __future__ import annotations

from mmagent.errors import MediaError

SNIFF_BYTES = 32
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
    (b"\x1a\x45\xdf\xa3", "video/webm"),
)

_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # "BM" alone would take "BMW is a car" for a picture

_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}


def sniff(data: bytes) -> str | None:
    """The MIME type that the first bytes announce, or None where they say nothing that is known."""
    head = data[:SNIFF_BYTES]
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[:2] == b"BM":
        return "image/bmp" if int.from_bytes(head[14:18], "little") in _BMP_HEADERS else None
    if head[4:8] == b"ftyp":
        return {b"M4A ": "audio/mp4", b"avif": "image/avif", b"heic": "image/heic"}.get(head[8:12], "video/mp4")
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


def _is_text(head: bytes) -> bool:
    """Whether the bytes could open a text file (ASCII, or UTF-8 cut at any place)."""
    return not any(byte < 9 or 13 < byte < 32 for byte in head) and head.decode("utf-8", "ignore") != ""
