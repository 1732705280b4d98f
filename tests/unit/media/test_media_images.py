"""Pictures of every kind become upright RGB, and hostile ones a refusal in one line."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from mmagent.content import Audio, Document, Media, Video
from mmagent.content import Image as Picture
from mmagent.errors import LimitError, MediaError, NotFound
from mmagent.media import BlobStore, ImageInfo, check_image, decode_image, sniff
from mmagent.settings import Settings

FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}


def encoded(image: Image.Image, picture_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, picture_format, **options)
    return file.getvalue()


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    return Image.radial_gradient("L").convert("RGB").resize((width, height))


def empty_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


SEEDS = [encoded(gradient(), name) for name in FORMATS] + [
    encoded(gradient(), "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "jpeg")
]


def refusal(data: bytes, limits: Settings | None = None) -> MediaError:
    with pytest.raises(MediaError) as caught:
        check_image(data, "receipt.png", limits)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("receipt.png ", "a tile of receipt.png "))
    return caught.value


@pytest.mark.parametrize("picture_format", FORMATS)
def test_every_format_is_known_by_its_bytes_and_decoded(picture_format: str) -> None:
    data = encoded(gradient(), picture_format)
    assert check_image(data) == ImageInfo(f"image/{FORMATS[picture_format]}", 64, 48)
    assert decode_image(data).mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(orientation: int) -> None:
    upright = Image.new("RGB", (64, 32), "white")
    upright.paste("red", (0, 0, 16, 16))  # top left
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(inverse[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for picture_format in ("JPEG", "TIFF", "PNG", "WEBP"):
        shown = decode_image(encoded(stored, picture_format, exif=exif))
        assert shown.size == (64, 32)
        red, green, _ = shown.getpixel((4, 4))
        assert red > 200 > 60 > green
        assert shown.getpixel((60, 28))[1] > 200


def test_damaged_exif_is_no_reason_to_refuse() -> None:
    data = encoded(gradient(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(data).size == (64, 48)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "green", "blue")]
    for picture_format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], picture_format, save_all=True, append_images=frames[1:])
        red, green, blue = decode_image(data).getpixel((10, 5))
        assert red > 240 and green < 10 and blue < 10


def test_transparency_is_shown_over_white() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    half = Image.new("LA", (4, 4), (0, 128))
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette(bytes(768))
    assert decode_image(encoded(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(encoded(half, "PNG")).getpixel((0, 0)) == (127, 127, 127)
    assert decode_image(encoded(palette, "PNG", transparency=3)).getpixel((0, 0)) == (255, 255, 255)


def test_every_pixel_format_becomes_rgb() -> None:
    grey16 = Image.new("I;16", (2, 1), 40_000)
    assert decode_image(encoded(grey16, "PNG")).getpixel((0, 0)) == (155, 155, 155)
    assert decode_image(encoded(Image.new("1", (2, 1), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    red, green, blue = decode_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).getpixel((4, 4))
    assert red > 200 and green < 60 and blue < 60
    for mode, dark, bright in (("F", -0.5, 0.5), ("I", -7, 70_000)):
        wide = Image.new(mode, (2, 1), dark)
        wide.putpixel((1, 0), bright)
        shown = decode_image(encoded(wide, "TIFF"))
        assert (shown.getpixel((0, 0)), shown.getpixel((1, 0))) == ((0, 0, 0), (255, 255, 255))
    assert "damaged or unsupported" in str(refusal(encoded(Image.new("F", (2, 1), float("nan")), "TIFF")))


def test_text_named_png_is_refused_for_what_it_is() -> None:
    message = str(refusal(b"dear shop, my lamp is broken"))
    assert "its content is text" in message and "PNG, JPEG" in message
    assert "application/pdf" in str(refusal(b"%PDF-1.7\n"))
    assert "unknown type" in str(refusal(b"\0\1\2\3"))
    assert "is empty" in str(refusal(b""))
    assert sniff(b"BMW is a car, and this is no picture") is None


def test_a_truncated_jpeg_is_refused() -> None:
    data = encoded(gradient(640, 480), "JPEG")
    for share in (0.05, 0.5, 0.95):
        assert "damaged" in str(refusal(data[: int(len(data) * share)]))


@pytest.mark.parametrize(
    ("data", "limits", "expected"),
    [
        (empty_png(30_000, 30_000), {}, ["30,000 x 30,000", "8,192", "MMAGENT_MAX_IMAGE_SIDE"]),
        (empty_png(8_000, 8_000), {}, ["64,000,000", "25,000,000", "MMAGENT_MAX_IMAGE_PIXELS"]),
        (SEEDS[0], {"max_image_bytes": 100}, [f"{len(SEEDS[0]):,} bytes", "100", "MMAGENT_MAX_IMAGE_BYTES"]),
    ],
)
def test_a_limit_names_itself_what_was_found_and_its_setting(
    data: bytes, limits: dict[str, int], expected: list[str]
) -> None:
    error = refusal(data, Settings(**limits))
    assert isinstance(error, LimitError)
    assert all(part in str(error) for part in expected)


def test_size_is_refused_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for picture_format in FORMATS:
        data = encoded(gradient(), picture_format)
        assert isinstance(refusal(data, Settings(max_image_side=63)), LimitError)


def test_a_frame_or_tile_larger_than_the_header_says_is_refused() -> None:
    gif = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    descriptor = gif.index(b",", 13 + 3 * 2)
    gif[descriptor + 5 : descriptor + 9] = b"\xff\xff\xff\xff"  # a frame of 65,535 x 65,535 on a screen of 8 x 8
    assert isinstance(refusal(bytes(gif)), LimitError)

    tiles = {256: (4, 8), 257: (4, 8), 258: (3, 8), 259: (3, 8), 262: (3, 1), 277: (3, 1), 322: (4, 60_000)}
    tiles |= {323: (4, 60_000), 324: (4, 8), 325: (4, 9)}
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tiles.items()))
    body = zlib.compress(b"\0" * 64)
    tiff = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tiles)) + entries + b"\0" * 4
    assert isinstance(refusal(tiff), LimitError)


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    decoded_or_refused(data)


@hypothesis_settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2_000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
    st.integers(0, 5_000),
)
def test_any_damaged_picture_is_decoded_or_refused(seed: bytes, changes: list[tuple[int, bytes]], end: int) -> None:
    data = bytearray(seed)
    for place, patch in changes:
        place %= len(data)
        data[place : place + len(patch)] = patch
    decoded_or_refused(bytes(data if end > len(data) else data[:end]))


def decoded_or_refused(data: bytes) -> None:
    try:
        info = check_image(data)
    except MediaError as error:
        assert "\n" not in str(error)
    else:
        assert info.width * info.height <= 25_000_000


def test_decoders_say_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    for place in range(8, 500, 7):
        for seed in SEEDS:
            data = bytearray(seed)
            data[place % len(data)] ^= 0xFF
            decoded_or_refused(bytes(data))
    assert capfd.readouterr() == ("", "")


def test_other_kinds_of_media_and_other_sources_are_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    for media in (Audio(SEEDS[0]), Video(SEEDS[0]), Document(SEEDS[0])):
        with pytest.raises(MediaError, match="its content is image/"):
            store.admit(media)
    with pytest.raises(MediaError, match=r"a int is no picture; give a path, bytes or a PIL\.Image"):
        store.admit(Picture(7))  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="a int is no recording; give a path or bytes"):
        store.admit(Audio(7))  # type: ignore[arg-type]
    assert not store.root.exists()


def test_files_that_are_no_files_are_refused_in_one_line(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    (tmp_path / "empty.png").touch()
    (tmp_path / "note.png").write_text("not a picture")
    os.mkfifo(tmp_path / "pipe")
    expected = {
        "missing.png": (NotFound, "there is no file .*missing.png; check the path"),
        "note.png/x.png": (NotFound, "there is no file"),
        "nul\0.png": (NotFound, "there is no file"),
        "": (MediaError, "is a folder; give one picture"),
        "pipe": (MediaError, "is a device or pipe"),
        "empty.png": (MediaError, "empty.png is empty"),
        "note.png": (MediaError, "note.png is no picture: its content is text"),
    }
    for name, (kind, message) in expected.items():
        with pytest.raises(kind, match=message) as caught:
            store.admit(Media(f"{tmp_path}/{name}"))
        assert "\n" not in str(caught.value) and caught.type is kind
    assert not store.root.exists()


def test_a_file_is_never_read_beyond_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with pytest.raises(MediaError, match="device"):
        BlobStore(tmp_path).admit(Picture(tmp_path / "zero.png"))
    (tmp_path / "growing.png").write_bytes(SEEDS[0] + b"\0" * 10_000)
    monkeypatch.setattr("mmagent.media.source.check_bytes", lambda *_: None)  # as if it grew after the first look
    from mmagent.media.source import read_source

    assert len(read_source(tmp_path / "growing.png", Settings(max_image_bytes=500))[1]) == 501


def test_a_hostile_file_name_stays_one_printable_line(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m\nb.png").write_bytes(SEEDS[0])
    block = BlobStore(tmp_path / "blobs").admit(Picture(tmp_path / "a\x1b[31m\nb.png"))
    assert block["extras"]["name"].isprintable()


def test_importing_media_loads_no_decoder() -> None:
    heavy = "PIL", "numpy", "torch"
    code = f"import sys, mmagent.media; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("folder", ["photos_coral", "docs_docling/tiff", "docs_docling/webp"])
def test_real_pictures_are_taken(folder: str, tmp_path: Path, shared_data: Path) -> None:
    found = [
        path for path in (shared_data / folder).rglob("*") if path.suffix in (".jpg", ".bmp", ".tif", ".tiff", ".webp")
    ]
    assert found
    store = BlobStore(tmp_path)
    for path in sorted(found)[:8]:
        block = store.admit(Picture(path))
        shown = store.open_image(block["file_id"])
        assert shown.size == (block["extras"]["width"], block["extras"]["height"])
        assert len(set(shown.resize((16, 16)).tobytes())) > 1
