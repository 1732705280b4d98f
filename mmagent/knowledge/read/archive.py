"""Unpacks zip archives and checks Office packages, never trusting what their headers promise. It writes no files."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, TypeAlias
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from mmagent.errors import InputError, MediaError
from mmagent.media.sniff import sniff, sniff_document

if TYPE_CHECKING:
    from mmagent.knowledge.read import Options

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How Office files before 2007 begin, and those with a password."""

Member: TypeAlias = "tuple[str, bytes | str]"
"""Name, and its content, or the reason why it cannot be taken in."""

_STEP, _SLICE = 1 << 20, 1 << 16
"""Bytes that are unpacked, and looked at, at a time."""
_MAX_PARTS = 20_000
"""Of an Office file."""
_ENTRY = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s22xHH")
_DAMAGED = "it is damaged; save it again or take another one"
_ENTITY = re.compile(rb"<\0?!\0?E\0?N\0?T\0?I\0?T\0?Y")
"""In UTF-8 and both kinds of UTF-16."""
_MARKUP = (".svg", ".htm", ".html", ".xhtml", ".mht")
"""Parts that may declare entities, as nothing reads them."""
_OPEN_DOCUMENT = b"mimetypeapplication/vnd.oasis.opendocument"
_EBOOK = b"mimetypeapplication/epub+zip"


def package_type(data: bytes) -> str:
    """The MIME type of what begins like a zip archive: an Office file's own, or that of an archive.

    Raises:
        InputError: It is a package of a kind that is not taken in, or no archive at all.
    """
    if _OPEN_DOCUMENT in data[:200]:
        raise InputError("OpenDocument is not taken in; save it as .docx, .pptx, .xlsx or PDF")
    if _EBOOK in data[:200]:
        raise InputError("an e-book is not taken in; save it as HTML or PDF")
    if data.count(_ENTRY) > _MAX_PARTS:
        raise InputError(f"it has more than {_MAX_PARTS:,} files in it; split it")
    try:
        return sniff_document(data, "")
    except MediaError:
        return "application/zip"


def ole_reason(data: bytes) -> str:
    """Why an OLE file is not taken in."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return "it is encrypted; save it without a password"
    for stream, kind in (("WordDocument", "docx"), ("PowerPoint Document", "pptx"), ("Workbook", "xlsx")):
        if stream.encode("utf-16-le") in data:
            return f"it is in the Office format from before 2007; save it as .{kind}"
    return "it is in a format from before 2007; save it as .docx, .pptx, .xlsx or PDF"


def members(data: bytes, options: Options) -> Iterator[Member]:
    """The files in a zip archive, in its order; folders, hidden files and macOS's copies are passed over.

    Names are labels: nothing is written to disk. Only as much is unpacked as the limits allow.

    Raises:
        InputError: It is no archive that can be read, or has too many files.
    """
    from mmagent.knowledge.read import refused

    if data.count(_ENTRY) > 20 * options.max_archive_files:
        raise refused(f"more than {20 * options.max_archive_files:,} entries", *_limit(options, "max_archive_files"))
    infos = [info for info in _entries(data) if not _passed_over(info)]
    if len(infos) > options.max_archive_files:
        raise refused(f"{len(infos):,} files", *_limit(options, "max_archive_files"))
    left, names = options.max_archive_bytes, set[str]()
    for info in infos:
        label = "".join(c if c.isprintable() else "?" for c in info.filename)
        try:
            _check_name(info, label, names)
            if left <= 0:
                raise _too_large(options)
            content = _content(data, info, left)
            left -= len(content)
            if left < 0:
                raise _too_large(options)
            _check_nesting(content)
        except InputError as reason:
            yield label, str(reason)
        else:
            yield label, content


def check_package(data: bytes, options: Options) -> None:
    """Makes sure that an Office file is what its headers promise before a library opens it.

    Every part is unpacked, bounded, and thrown away: sizes must be true and their sum within the limit, and no part may
    declare entities, which Office files never do.

    Raises:
        InputError: It is encrypted, damaged or too large.
    """
    total = 0
    for info in _entries(data):
        if info.flag_bits & 1:
            raise InputError("it is encrypted; save it without a password")
        checksum, tail, size = 0, b"", 0
        may_declare = info.filename.lower().endswith(_MARKUP)
        for step in _inflated(data, info):
            size += len(step)
            total += len(step)
            if total > options.max_archive_bytes:
                raise _too_large(options)
            checksum = zlib.crc32(step, checksum)
            if not may_declare and _ENTITY.search(tail + step):
                raise InputError("it declares XML entities, which Office files never do; save it again")
            tail = step[-20:]
        if (size, checksum) != (info.file_size, info.CRC):
            raise InputError(_DAMAGED)


def _entries(data: bytes) -> list[ZipInfo]:
    try:
        with ZipFile(BytesIO(data)) as archive:
            infos = archive.infolist()
    except (BadZipFile, NotImplementedError, ValueError, OSError, struct.error, UnicodeError) as error:
        raise InputError(_DAMAGED) from error
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise InputError("files in it overlap, as in an archive made to do harm; pack it again")
        end = info.header_offset + 30 + info.compress_size
    return infos


def _passed_over(info: ZipInfo) -> bool:
    parts = info.filename.replace("\\", "/").split("/")
    return info.is_dir() or any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)


def _check_name(info: ZipInfo, label: str, names: set[str]) -> None:
    path = info.filename.replace("\\", "/")
    if path.startswith("/") or ":" in path.split("/")[0] or ".." in path.split("/"):
        raise InputError("its name leads out of the archive; pack it again")
    if label in names:
        raise InputError("the archive has another file of that name; rename one")
    names.add(label)
    if info.flag_bits & 1:
        raise InputError("it is encrypted; pack it without a password")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise InputError("it is packed by a method that is not read; pack it as usual (deflate)")


def _check_nesting(content: bytes) -> None:
    if sniff(content) == "application/gzip" or (sniff(content) == "application/zip" and _is_archive(content)):
        raise InputError("it is an archive in an archive; unpack it")


def _is_archive(content: bytes) -> bool:
    try:
        return package_type(content) == "application/zip"
    except InputError:
        return False  # its reader says why


def _content(data: bytes, info: ZipInfo, limit: int) -> bytes:
    """The content of a member, or a little more than the limit of it."""
    steps: list[bytes] = []
    size = 0
    for step in _inflated(data, info):
        steps.append(step)
        size += len(step)
        if size > limit:
            break
    content = b"".join(steps)
    if size <= limit and (size, zlib.crc32(content)) != (info.file_size, info.CRC):
        raise InputError(_DAMAGED)
    return content


def _inflated(data: bytes, info: ZipInfo) -> Iterator[bytes]:
    """What a member really holds, in steps; its promised size is not looked at."""
    head = data[info.header_offset : info.header_offset + _LOCAL.size]
    if len(head) < _LOCAL.size:
        raise InputError(_DAMAGED)
    magic, name_length, extra_length = _LOCAL.unpack(head)
    begin = info.header_offset + _LOCAL.size + name_length + extra_length
    if magic != b"PK\x03\x04" or begin + info.compress_size > len(data):
        raise InputError(_DAMAGED)
    packed = memoryview(data)[begin : begin + info.compress_size]
    if info.compress_type == ZIP_STORED:
        yield from (bytes(packed[at : at + _STEP]) for at in range(0, len(packed), _STEP))
    elif info.compress_type == ZIP_DEFLATED:
        yield from _deflated(packed)
    else:
        raise InputError(_DAMAGED)


def _deflated(packed: memoryview) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for at in range(0, len(packed), _SLICE):
            rest = bytes(packed[at : at + _SLICE])
            while rest and not inflater.eof:
                yield inflater.decompress(rest, _STEP)
                rest = inflater.unconsumed_tail
        while not inflater.eof and (held_back := inflater.decompress(b"", _STEP)):
            yield held_back
    except zlib.error as error:
        raise InputError(_DAMAGED) from error
    if not inflater.eof:
        raise InputError(_DAMAGED)


def _too_large(options: Options) -> InputError:
    from mmagent.knowledge.read import refused

    return refused(f"more than {options.max_archive_bytes:,} bytes unpacked", *_limit(options, "max_archive_bytes"))


def _limit(options: Options, field: str) -> tuple[str, int]:
    return field, int(getattr(options, field))
