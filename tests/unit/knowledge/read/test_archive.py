from __future__ import annotations

import random
import struct
import zipfile
import zlib
from dataclasses import replace
from io import BytesIO

import pytest

from mmagent.errors import InputError
from mmagent.knowledge.read import ZIP, Options, read, type_of
from mmagent.knowledge.read.archive import members
from mmagent.settings import Settings

OPTIONS = Options.of(Settings())


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def found(data: bytes, **limits: int) -> dict[str, bytes | str]:
    return dict(members(data, replace(OPTIONS, **limits)))  # type: ignore[arg-type]


def test_files_come_out_in_order_and_what_nobody_wrote_is_passed_over() -> None:
    data = zipped(
        ("b/two.md", b"2"),
        ("a.txt", b"1"),
        ("b/", b""),
        (".hidden/x.md", b"no"),
        ("b/.x", b"no"),
        ("__MACOSX/b/._x", b"no"),
    )
    assert list(members(data, OPTIONS)) == [("b/two.md", b"2"), ("a.txt", b"1")]
    assert type_of(data, "a.zip") == ZIP
    with pytest.raises(InputError, match="archive; unpack it"):
        read(data, "a.zip", OPTIONS)
    assert found(zipped(("a.txt", b"x" * 99), method=zipfile.ZIP_STORED)) == {"a.txt": b"x" * 99}


@pytest.mark.parametrize("name", ["/etc/x.md", "../x.md", "a/../../x.md", "C:/x.md", "..\\x.md", "\\\\host\\x.md"])
def test_names_that_lead_out_are_refused(name: str) -> None:
    data = zipped(("good.md", b"x"), ("N" * len(name), b"y")).replace(b"N" * len(name), name.encode())
    contents = found(data)
    assert contents.pop("good.md") == b"x"
    assert [reason for reason in contents.values()] == ["its name leads out of the archive; pack it again"]


def test_names_are_printable() -> None:
    data = zipped(("NNNNNN.md", b"y")).replace(b"NNNNNN", b"\x1b[2J\n\t")
    assert list(found(data)) == ["?[2J??.md"]


def test_a_name_that_comes_twice_is_refused_the_second_time() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zipped(("a.md", b"1"), ("a.md", b"2"))
    assert [content for _, content in members(data, OPTIONS)] == [
        b"1",
        "the archive has another file of that name; rename one",
    ]


def test_archives_in_archives_are_refused_and_office_files_are_not() -> None:
    inner = zipped(("a.md", b"1"))
    office = zipped(("[Content_Types].xml", b"<x/>"), ("word/document.xml", b"<x/>"))
    contents = found(zipped(("inner.zip", inner), ("a.docx", office), ("a.tgz", b"\x1f\x8b\x08")))
    assert contents["inner.zip"] == contents["a.tgz"] == "it is an archive in an archive; unpack it"
    assert contents["a.docx"] == office


def test_encrypted_and_unusual_members_are_refused() -> None:
    data = bytearray(zipped(("a.md", b"1")))
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    assert found(bytes(data)) == {"a.md": "it is encrypted; pack it without a password"}
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "deflate" in str(found(zipped(("a.md", b"1" * 999), method=method))["a.md"])


def test_limits_on_files_and_bytes_name_the_setting() -> None:
    data = zipped(*((f"{n}.md", b"x") for n in range(5)))
    with pytest.raises(InputError, match="5 files and the limit is 4; MMAGENT_MAX_ARCHIVE_FILES"):
        found(data, max_archive_files=4)
    bomb = zipped(("a.md", b"a" * 900), ("bomb.txt", bytes(50_000_000)), ("b.md", b"b"))
    contents = found(bomb, max_archive_bytes=1000)
    assert contents["a.md"] == b"a" * 900
    for name in ("bomb.txt", "b.md"):
        assert "1,000 bytes unpacked" in str(contents[name]) and "MMAGENT_MAX_ARCHIVE_BYTES" in str(contents[name])


def test_a_bomb_is_not_unpacked_past_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    inflated = 0
    real = zlib.decompressobj

    class Counting:
        def __init__(self, bits: int) -> None:
            self._real = real(bits)

        def decompress(self, data: bytes, limit: int) -> bytes:
            nonlocal inflated
            step = self._real.decompress(data, limit)
            inflated += len(step)
            return step

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    bomb = zipped(("bomb.txt", bytes(80_000_000)))
    monkeypatch.setattr("mmagent.knowledge.read.archive.zlib.decompressobj", Counting)
    assert "unpacked" in str(found(bomb, max_archive_bytes=1_000_000)["bomb.txt"])
    assert inflated < 5_000_000


def test_sizes_in_headers_are_not_believed() -> None:
    data = zipped(("a.txt", bytes(3_000_000)))
    lying = data.replace((3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert "damaged" in str(found(lying)["a.txt"])
    assert "unpacked" in str(found(lying, max_archive_bytes=1_000_000)["a.txt"])
    flipped = data.replace(zlib.crc32(bytes(3_000_000)).to_bytes(4, "little"), b"\0\1\2\3")
    assert "damaged" in str(found(flipped)["a.txt"])


def test_overlapping_files_are_refused() -> None:
    """As in David Fifield's bomb: many directory entries share the same packed bytes."""
    data = zipped(("a.txt", bytes(1_000_000)))
    directory = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[directory:end]
    entries = entry + entry.replace(b"a.txt", b"b.txt")
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2, 2, len(entries), directory, 0)
    with pytest.raises(InputError, match="overlap"):
        found(data[:directory] + entries + tail)


def test_a_long_directory_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputError, match="entries and the limit is"):
        found(zipped(*((f"{n}/", b"") for n in range(50))), max_archive_files=2)


def test_damaged_archives_are_read_or_refused() -> None:
    original, pick = zipped(*((f"{n}.md", bytes(range(256)) * n) for n in range(6))), random.Random(3)
    with pytest.raises(InputError, match="damaged"):
        found(original[:-10])
    for _ in range(500):
        damaged = bytearray(original)
        for _ in range(pick.randrange(1, 6)):
            damaged[pick.randrange(len(damaged))] = pick.randrange(256)
        try:
            type_of(bytes(damaged), "a.zip")
            contents = found(bytes(damaged), max_archive_bytes=100_000)
        except InputError as reason:
            assert "\n" not in str(reason)
        else:
            assert sum(len(content) for content in contents.values() if isinstance(content, bytes)) <= 100_000
