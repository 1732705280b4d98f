"""Videos: a frame of each scene, the words in it, what is said, and what is refused."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read import Options, read
from mmagent.knowledge.read.pixels import pixels
from mmagent.knowledge.read.video import MAX_FRAMES, read_video, with_speech
from mmagent.settings import Settings
from mmagent.speech import Segment

RATE = 4
"""Frames in a second."""


def options(**changed: Any) -> Options:
    return Options.of(Settings(**{"ocr": False, **changed}))


def video(*scenes: tuple[float, Image.Image | str], form: str = "mp4", sound: bool = False, every: int = 8) -> bytes:
    """Scenes of some seconds each; a key frame every some frames."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=form) as opened:
        made: Any = opened
        codec = "libvpx" if form == "webm" else "mpeg4"
        stream = made.add_stream(codec, rate=RATE, options={"g": str(every), "sc_threshold": "1000000000"})
        stream.width, stream.height, stream.pix_fmt = 320, 160, "yuv420p"
        heard = made.add_stream("aac", rate=16_000) if sound else None
        for seconds, scene in scenes:
            picture = Image.new("RGB", (320, 160), scene) if isinstance(scene, str) else scene
            for _ in range(round(seconds * RATE)):
                made.mux(stream.encode(av.VideoFrame.from_image(picture)))
        made.mux(stream.encode())
        if heard:
            samples = np.random.default_rng(0).normal(0, 0.1, (1, 16_000 * 2)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 16_000
            made.mux(heard.encode(frame))
            made.mux(heard.encode())
    return file.getvalue()


def titled(words: str, more: str = "") -> Image.Image:
    picture = Image.new("RGB", (320, 160), "white" if not more else "silver")
    ImageDraw.Draw(picture).text((20, 30), words, "black", ImageFont.load_default(28))
    ImageDraw.Draw(picture).text((20, 100), more, "black", ImageFont.load_default(28))
    return picture


@pytest.mark.parametrize("form", ["mp4", "webm", "matroska", "mov"])
def test_each_scene_is_a_frame_with_its_time(form: str) -> None:
    data = video((3, "red"), (2, "blue"), (4, "white"), form=form)
    extract = read(data, "a", options())
    assert [(one.kind, one.t0, one.text) for one in extract.pictures] == [
        ("frame", 0, ""),
        ("frame", 3, ""),
        ("frame", 5, ""),
    ]
    assert [one.t1 for one in extract.pictures][:2] == [3, 5] and 8.7 <= (extract.pictures[2].t1 or 0) <= 9.1
    for one, (red, _, blue) in zip(extract.pictures, [(255, 0, 0), (0, 0, 255), (255, 255, 255)], strict=True):
        seen = pixels(data, extract.mime_type, t0=one.t0).getpixel((160, 80))
        assert isinstance(seen, tuple) and abs(seen[0] - red) < 40 and abs(seen[2] - blue) < 40
    assert pixels(data, extract.mime_type, t0=100).getpixel((9, 9))[1] > 200  # type: ignore[index]  # the last one


def test_words_are_told_once() -> None:
    extract = read_video(
        video((2, titled("Open the box")), (2, titled("Open the box", "Lift the lamp"))), "a", options(ocr=True)
    )
    assert [one.text for one in extract.pictures] == ["Open the box", "Lift the lamp"]


def test_frames_are_limited_and_spread() -> None:
    colours = [("red", "blue", "white", "black")[at % 4] for at in range(150)]
    extract = read_video(video(*((1.0, colour) for colour in colours), every=4), "a", options())
    times = [one.t0 or 0 for one in extract.pictures]
    assert 40 <= len(times) <= MAX_FRAMES and times[0] == 0 and times[-1] > 140


def test_of_a_long_video_only_key_frames_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.knowledge.read.video.WHOLE", 5.0)
    extract = read_video(video((3, "red"), (3, "blue"), (3, "white")), "a", options())
    times = [one.t0 for one in extract.pictures]
    assert times == [0, 4, 6]  # a key frame every 2 s


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.knowledge.read.video._FRAMES_SHARE", -1.0)
    with pytest.raises(InputError, match="no picture of it can be decoded"):
        read_video(video((2, "red")), "a", options())
    monkeypatch.setattr("mmagent.knowledge.read.video._FRAMES_SHARE", 0.4)
    monkeypatch.setattr("mmagent.knowledge.read.video._OCR_SHARE", -1.0)
    extract = read_video(video((2, titled("Open"))), "a", options(ocr=True))
    assert extract.pictures[0].text == "" and "MMAGENT_INDEX_TIMEOUT gives more" in extract.notes[0]


def test_limits_name_what_to_set() -> None:
    with pytest.raises(InputError, match=r"9 seconds and the limit is 5; MMAGENT_MAX_INDEX_SECONDS changes it"):
        read_video(video((9, "red")), "a", options(max_index_seconds=5))
    with pytest.raises(InputError, match=r"a frame of it is 320 x 160 .*max_image_pixels is 10,000"):
        read_video(video((1, "red")), "a", options(max_image_pixels=10_000))
    assert read_video(video((9, "red")), "a", options(max_video_seconds=5)).pictures


def test_what_is_said_is_added() -> None:
    silent = read_video(video((2, "red"), sound=True), "a", options())
    assert isinstance(silent, Extract) and silent.text == ""
    assert with_speech(silent, []) == silent
    extract = with_speech(silent, [Segment(0.2, 1.5, "Hello.")])
    assert (extract.text, extract.kind, extract.pictures) == ("Hello.", "speech", silent.pictures)
    assert [(mark.t0, mark.t1) for mark in extract.marks] == [(0.2, 1.5)]


def test_a_container_of_sound_only_is_a_recording(shared_data: Path) -> None:
    data = (shared_data / "video_audio_docling" / "sources" / "sample_10s_audio-m4a.m4a").read_bytes()
    extract = read_video(data, "a", options())
    assert (extract.text, extract.pictures, extract.mime_type) == ("", [], "audio/mp4")


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_damaged_videos_give_an_extract_or_a_reason(form: str) -> None:
    chance, good = random.Random(form), video((2, "red"), (2, "blue"), form=form)
    for _ in range(80):
        data = bytearray(good)
        for _ in range(chance.randint(1, 10)):
            data[chance.randrange(4, len(data))] = chance.randrange(256)
        try:
            extract = read_video(bytes(data), "a", options())
            assert all(one.t0 is not None and one.t1 is not None and one.t0 <= one.t1 for one in extract.pictures)
        except InputError as error:
            assert "\n" not in str(error)


def test_real_videos_have_frames(shared_data: Path) -> None:
    folder = shared_data / "video_audio_docling" / "sources"
    for name in ("sample_10s_video-mp4.mp4", "sample_10s_video-quicktime.mov"):
        data = (folder / name).read_bytes()
        extract = read(data, name, options())
        assert extract.pictures and extract.title == "Shakespeare on Scenery"
        assert pixels(data, extract.mime_type, t0=extract.pictures[-1].t0).size == (320, 320)
