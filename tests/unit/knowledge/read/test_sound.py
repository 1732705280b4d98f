"""Recordings: what the header says, and passages of what was said."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmagent.errors import InputError
from mmagent.knowledge.read import Options, read
from mmagent.knowledge.read.sound import read_sound, spoken
from mmagent.settings import Settings
from mmagent.speech import Segment


def options(**changed: Any) -> Options:
    return Options.of(Settings(**{"ocr": False, **changed}))


def sound(form: str = "WAV", seconds: float = 2.0, title: str = "") -> bytes:
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 16_000, 1, format=form) as made:
        if title:
            made.title = title
        made.write(np.random.default_rng(0).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32))
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "mime_type"), [("WAV", "audio/wav"), ("FLAC", "audio/flac"), ("OGG", "audio/ogg"), ("MP3", "audio/mpeg")]
)
def test_a_recording_is_checked_and_has_no_text_yet(form: str, mime_type: str) -> None:
    extract = read(sound(form, title="Call of Monday"), "a", options())
    assert (extract.text, extract.kind, extract.mime_type) == ("", "speech", mime_type)
    assert extract.title == ("" if form == "OGG" else "Call of Monday")


def test_the_limit_is_the_one_of_indexes() -> None:
    with pytest.raises(InputError, match=r"it has 2 seconds and the limit is 1; MMAGENT_MAX_INDEX_SECONDS changes it"):
        read_sound(sound(), "a.wav", options(max_index_seconds=1))
    assert read_sound(sound(), "a.wav", options(max_audio_seconds=1)).kind == "speech"


def test_what_is_no_recording_is_refused() -> None:
    for data in (b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"hello", sound("FLAC")[:60]):
        with pytest.raises(InputError, match=r"^it is "):
            read_sound(data, "a.wav", options())


def test_what_was_said_is_a_line_for_each_segment() -> None:
    extract = spoken(
        [Segment(0, 2, "Hello."), Segment(2, 5, " Where is \n my order? "), Segment(5, 6, " ")], "audio/wav", "T"
    )
    assert (extract.text, extract.kind, extract.title) == ("Hello.\nWhere is my order?", "speech", "T")
    (mark,) = extract.marks
    assert (mark.start, mark.end, mark.t0, mark.t1) == (0, len(extract.text), 0, 5)


def test_nothing_said_is_a_reason() -> None:
    for nothing in ([], [Segment(0, 1, " ")]):
        with pytest.raises(InputError, match=r"^no speech was heard in it$"):
            spoken(nothing, "audio/wav")


def test_passages_end_at_pauses_and_are_not_too_long() -> None:
    def times(*spans: tuple[float, float]) -> list[tuple[float | None, float | None]]:
        extract = spoken([Segment(t0, t1, f"{t0}") for t0, t1 in spans], "audio/wav")
        starts = [mark.start for mark in extract.marks]
        assert all(extract.text[mark.start : mark.end].split()[0] == str(mark.t0) for mark in extract.marks)
        assert starts == sorted(starts)
        return [(mark.t0, mark.t1) for mark in extract.marks]

    steady = [(float(at), at + 5.0) for at in range(0, 90, 5)]
    assert times(*steady) == [(0, 30), (30, 60), (60, 90)]
    assert times((0, 10), (10, 18), (21, 25)) == [(0, 18), (21, 25)]  # a pause of 3 s after 18
    assert times((0, 10), (13, 18), (18, 25)) == [(0, 25)]  # a pause, but too early
    assert times((0, 10), (10, 17), (18.5, 26), (26, 33)) == [(0, 17), (18.5, 33)]  # too long: the longest pause
    assert times((0, 40), (40, 41)) == [(0, 40), (40, 41)]  # one segment is never cut


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_damaged_recordings_give_an_extract_or_a_reason(form: str) -> None:
    from mmagent.media.sound import waveform

    chance, good = random.Random(form), sound(form, 0.4)
    for _ in range(100):
        data = bytearray(good)
        for _ in range(chance.randint(1, 10)):
            data[chance.randrange(min(len(data), 400 if chance.random() < 0.7 else len(data)))] = chance.randrange(256)
        try:
            read_sound(bytes(data), "a", options())
            assert sum(map(len, waveform(bytes(data)))) < 16_000 * 60
        except InputError as error:
            assert "\n" not in str(error)


def test_real_recordings_are_taken(shared_data: Path) -> None:
    for path in sorted((shared_data / "video_audio_docling" / "sources").glob("sample_10s*")):
        if path.suffix in (".flac", ".mp3", ".wav", ".m4a", ".ogg"):
            assert read(path.read_bytes(), path.name, options()).kind == "speech", path.name
