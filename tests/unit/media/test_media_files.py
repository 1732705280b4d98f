"""Recordings, videos and documents are what their content says, within their limits, and refused in one line if not."""

from __future__ import annotations

import io
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagent.content import Audio, Document, Image, Media, Video
from mmagent.errors import LimitError, MediaError
from mmagent.media import BlobStore
from mmagent.media.source import recognise
from mmagent.settings import Settings

RATE = 16_000


def sound(form: str, seconds: float = 0.5, subtype: str | None = None) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(RATE * seconds), dtype=np.float32), RATE, format=form, subtype=subtype)
    return file.getvalue()


def container(form: str, *, pictures: bool, audio: bool) -> bytes:
    """A second of black pictures, of silence, or of both."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=form) as made:
        out: Any = made
        codecs = ("vp8", "libopus") if form == "webm" else ("mpeg4", "aac")
        picture = out.add_stream(codecs[0], rate=5) if pictures else None
        speech = out.add_stream(codecs[1], rate=48_000, layout="mono") if audio else None
        if picture is not None:
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
            for _ in range(5):
                out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
            out.mux(picture.encode())
        if speech is not None:
            frame: Any = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="flt", layout="mono")
            frame.sample_rate = 48_000
            fifo: Any = av.AudioFifo()
            fifo.write(frame)
            resampler: Any = av.AudioResampler(speech.format, "mono", 48_000)
            while (piece := fifo.read(960, partial=True)) is not None:
                for fitting in resampler.resample(piece):
                    out.mux(speech.encode(fitting))
            out.mux(speech.encode())
    return file.getvalue()


def office(folder: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(f"{folder}/document.xml", "<x/>")
    return file.getvalue()


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return {
        "wav": sound("WAV"),
        "flac": sound("FLAC"),
        "ogg": sound("OGG"),
        "opus": sound("OGG", subtype="OPUS"),
        "mp3": sound("MP3"),
        "m4a": container("ipod", pictures=False, audio=True),
        "voice.webm": container("webm", pictures=False, audio=True),
        "mp4": container("mp4", pictures=True, audio=True),
        "mov": container("mov", pictures=True, audio=False),
        "mkv": container("matroska", pictures=True, audio=True),
        "webm": container("webm", pictures=True, audio=False),
    }


@pytest.mark.parametrize(
    ("name", "kind", "mime_type", "seconds"),
    [
        ("wav", Audio, "audio/wav", 0.5),
        ("flac", Audio, "audio/flac", 0.5),
        ("ogg", Audio, "audio/ogg", 0.5),
        ("opus", Audio, "audio/ogg", 0.5),
        ("mp3", Audio, "audio/mpeg", 0.5),
        ("m4a", Audio, "audio/mp4", 1),
        ("voice.webm", Audio, "audio/webm", 1),
        ("mp4", Audio, "video/mp4", 1),
        ("mp4", Video, "video/mp4", 1),
        ("mov", Video, "video/quicktime", 1),
        ("mkv", Video, "video/x-matroska", 1),
        ("webm", Video, "video/webm", 1),
    ],
)
def test_recordings_and_videos_are_stored_as_they_are(
    name: str, kind: type[Media], mime_type: str, seconds: float, made: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "file.txt"  # the name lies, the bytes do not
    path.write_bytes(made[name])
    store = BlobStore(tmp_path / "blobs")
    block = store.admit(kind(path))
    assert (block["type"], block["mime_type"], block["extras"]["name"]) == (
        kind.__name__.lower(),
        mime_type,
        "file.txt",
    )
    assert block["extras"]["seconds"] == pytest.approx(seconds, abs=0.1)
    assert store.get(block["file_id"]) == made[name]


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (b"%PDF-1.7\n...", "application/pdf"),
        (office("word"), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (office("ppt"), "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
        (office("xl"), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("Grüße\n\tan alle\r\n".encode(), "text/plain"),
    ],
)
def test_documents_are_stored_as_they_are(data: bytes, mime_type: str, tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    block = store.admit(Document(data))
    assert (block["type"], block["mime_type"]) == ("file", mime_type)
    assert block["extras"] == {"name": "the document"}
    assert store.get(block["file_id"]) == data


@pytest.mark.parametrize(
    ("media", "why"),
    [
        (Audio(b"hello"), "the recording is no recording: its content is of an unknown type"),
        (Audio(b""), "its content is nothing: it is empty"),
        (Audio(b"%PDF-1.7"), "its content is application/pdf"),
        (Audio(b"RIFF\0\0\0\0WAVEfmt "), "is a damaged or unsupported audio/wav recording"),
        (Audio(b"fLaC" + b"\0" * 60), "is a damaged or unsupported audio/flac recording"),
        (Video(b"\0\0\0\x18ftypmp42" + b"\0" * 40), "is a damaged or unsupported video/mp4 video"),
        (Video(b"\x1a\x45\xdf\xa3" + b"\0" * 40), "is a damaged or unsupported video/webm video"),
        (Document(b""), "the document is empty"),
        (Document(b"\x00\x01\x02"), "the document is no document: its content is of an unknown type"),
        (Document("latin-1: \xe9".encode("latin-1")), "of an unknown type"),
        (Document(b"PK\x03\x04 and nothing more"), "its content is application/zip"),
        (Document(b"\x89PNG\r\n\x1a\n"), "its content is image/png"),
    ],
)
def test_what_is_something_else_is_refused_in_one_line(media: Media, why: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=why) as refused:
        BlobStore(tmp_path).admit(media)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_sound_alone_is_no_video_and_pictures_alone_no_recording(made: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="there are no pictures in it"):
        BlobStore(tmp_path).admit(Video(made["m4a"]))
    with pytest.raises(MediaError, match="there is no sound in it"):
        BlobStore(tmp_path).admit(Audio(made["webm"]))


@pytest.mark.parametrize(
    ("kind", "limits", "setting"),
    [
        (Audio, Settings(max_audio_bytes=100), "max_audio_bytes is 100; make the recording smaller or set MMAGENT_MAX"),
        (Video, Settings(max_video_bytes=100), "max_video_bytes is 100; make the video smaller"),
        (Document, Settings(max_document_bytes=100), "max_document_bytes is 100; make the document smaller"),
    ],
)
def test_what_is_too_large_is_refused(kind: type[Media], limits: Settings, setting: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 101)
    for source in (b"x" * 101, tmp_path / "large"):
        with pytest.raises(LimitError, match=setting):
            BlobStore(tmp_path / "blobs").admit(kind(source), limits)


def test_what_is_too_long_is_refused(made: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="2 s long: max_audio_seconds is 1; make the recording shorter"):
        BlobStore(tmp_path).admit(Audio(sound("WAV", 2)), Settings(max_audio_seconds=1))
    assert BlobStore(tmp_path).admit(Video(made["mp4"]), Settings(max_video_seconds=2))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_taken_but_nothing_breaks(data: st.DataObject) -> None:
    """Bytes are cut off and flipped. Whatever the decoders make of it, no other error comes out."""
    seed = data.draw(st.sampled_from([sound("WAV", 0.01), sound("FLAC", 0.01), sound("OGG", 0.01), office("word")]))
    bad = bytearray(seed[: data.draw(st.integers(1, len(seed)))])
    for _ in range(data.draw(st.integers(0, 8))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        for kind in (Audio, Video, Document):
            with suppress(MediaError):
                BlobStore(Path(folder)).admit(kind(bytes(bad)))


def test_files_of_unknown_kind_are_recognised(made: dict[str, bytes], tmp_path: Path) -> None:
    limits = Settings(max_document_bytes=1_000)
    for name, kind in {"wav": Audio, "m4a": Audio, "voice.webm": Audio, "mp4": Video, "webm": Video}.items():
        (tmp_path / name).write_bytes(made[name])
        assert type(recognise(tmp_path / name, limits)) is type(recognise(made[name], limits)) is kind
    assert isinstance(recognise(b"\x89PNG\r\n\x1a\n", limits), Image)
    assert isinstance(recognise(b"%PDF-1.7", limits), Document)
    assert recognise("schön".encode(), limits) == "schön"
    with pytest.raises(MediaError, match="3 bytes of unknown type cannot be shown"):
        recognise(b"\x00\x01\x02", limits)
    with pytest.raises(MediaError, match="is a folder"):
        recognise(tmp_path, limits)
    with pytest.raises(LimitError, match="max_document_bytes is 1,000"):
        recognise(b"x" * 1_001, limits)


@pytest.mark.parametrize(
    ("array", "size", "colour"),
    [
        (np.full((2, 3), 255, np.uint8), (3, 2), (255, 255, 255)),
        (np.zeros((2, 3, 1), np.uint8), (3, 2), (0, 0, 0)),
        (np.full((2, 3, 3), [1.0, 0.5, 0.0]), (3, 2), (255, 128, 0)),
        (np.full((2, 3, 4), [0, 0, 255, 255], np.uint8), (3, 2), (0, 0, 255)),
        (np.ones((2, 3), bool), (3, 2), (255, 255, 255)),
    ],
)
def test_arrays_of_picture_shape_are_pictures(
    array: Any, size: tuple[int, int], colour: tuple[int, int, int], tmp_path: Path
) -> None:
    store = BlobStore(tmp_path)
    picture = store.open_image(store.admit(Image(array))["file_id"])
    assert (picture.size, picture.getpixel((0, 0))) == (size, colour)


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros(5, np.uint8), r"shape \(5,\) is no picture"),
        (np.zeros((2, 2, 2), np.uint8), r"shape \(2, 2, 2\) is no picture"),
        (np.zeros((2, 2), np.int64), "an array of int64 is no picture"),
        (np.full((2, 2), 1.5), "not all from 0 to 1"),
        (np.full((2, 2), np.nan), "not all from 0 to 1"),
        (np.zeros((1, 9_000), np.uint8), "max_image_side"),
    ],
)
def test_other_arrays_are_no_pictures(array: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=why):
        BlobStore(tmp_path).admit(Image(array))
