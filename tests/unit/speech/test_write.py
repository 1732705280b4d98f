"""Transcripts as files: subtitles that players take, and JSON that comes back as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagent.errors import ConfigurationError, InputError
from mmagent.speech import Dropped, Segment, Transcriber, Transcript, Word
from mmagent.speech.write import SUFFIXES, Format, clock, read_json, written
from mmagent.testing import LoudVad, ScriptedEngine

HARD = Segment(1.5, 3.25, "a --> b\n\n<i>R&D</i>", (Word(1.5, 2.0, "a"),), 0.9, "en", "left")
TALK = Transcript((Segment(0.0, 1.0, "Hello."), HARD), 4.0, 2.75, "en", 0.98, (Dropped(3.5, 4.0, "silence"),))


def whole(heard: Transcript, form: Format) -> str:
    return "".join(written(heard, form))


def test_text_has_a_line_for_each_segment() -> None:
    assert whole(TALK, "text") == "Hello.\nleft: a --> b <i>R&D</i>\n"


def test_srt() -> None:
    assert whole(TALK, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,000\nHello.\n\n2\n00:00:01,500 --> 00:00:03,250\nleft: a -> b <i>R&D</i>\n\n"
    )


def test_vtt_is_escaped() -> None:
    assert whole(TALK, "vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nHello.\n\n00:00:01.500 --> 00:00:03.250\n"
        "<v left>a --&gt; b &lt;i&gt;R&amp;D&lt;/i&gt;\n"
    )


def test_nothing_said_is_a_whole_file_too() -> None:
    nobody = Transcript((), 5.0, 0.0)
    assert [whole(nobody, form) for form in ("text", "srt", "vtt")] == ["", "", "WEBVTT\n"]
    assert read_json(whole(nobody, "json")) == nobody


times = st.floats(0, 30_000).map(lambda value: round(value, 3))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
words = st.builds(Word, times, times, texts, st.floats(0, 1))
segments = st.builds(
    Segment, times, times, texts, st.lists(words, max_size=2).map(tuple), st.floats(0, 1), st.none() | texts,
    st.none() | texts,
)  # fmt: skip
transcripts = st.builds(
    Transcript, st.lists(segments, max_size=3).map(tuple), times, times, st.none() | texts,
    st.none() | st.floats(0, 1), st.lists(st.builds(Dropped, times, times, texts), max_size=2).map(tuple),
)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(transcripts)
def test_json_comes_back_as_it_was(transcript: Transcript) -> None:
    line = whole(transcript, "json")
    assert line.count("\n") == 1 and line.endswith("\n")
    assert read_json(line) == transcript


@settings(deadline=None, max_examples=50)
@given(transcripts)
def test_subtitles_never_break_apart(transcript: Transcript) -> None:
    for form in ("srt", "vtt"):
        blocks = re.findall(
            r"^(\d{2,}:\d\d:\d\d[.,]\d{3}) --> (\d{2,}:\d\d:\d\d[.,]\d{3})$", whole(transcript, form), re.M
        )
        assert len(blocks) == len(transcript.segments)
        assert whole(transcript, form).count("-->") == len(blocks)


def test_segments_are_written_as_they_come() -> None:
    said = (0.2 * np.sin(np.arange(3 * 16_000) / 10)).astype(np.float32)
    sound = np.concatenate([said, np.zeros(5 * 16_000, np.float32)] * 3)
    for form in SUFFIXES:
        engine = ScriptedEngine("one", "two", "three")
        stream = Transcriber(engine, vad=LoudVad, batch=1).stream(sound)
        parts: Iterator[str] = written(stream, form)
        while "one" not in next(parts):
            pass
        assert len(engine.heard) == 1
        assert "three" in "".join(parts)


def test_clock() -> None:
    assert [clock(0), clock(3725.9996), clock(360_000.5)] == ["00:00:00.000", "01:02:06.000", "100:00:00.500"]


def test_what_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="take one of: text, srt, vtt, json"):
        list(written(TALK, "doc"))  # type: ignore[arg-type]
    for text in ("", "[]", "{}", '{"segments": [{"t0": 1}], "dropped": []}', '{"segments": 3}'):
        with pytest.raises(InputError, match="no transcript in JSON"):
            read_json(text)
