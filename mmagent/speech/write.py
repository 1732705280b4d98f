"""Transcripts as text, subtitles and JSON, segment by segment as they come. It knows no files and no engines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mmagent.errors import ConfigurationError, InputError
from mmagent.speech import Dropped, Segment, Transcript, Word

if TYPE_CHECKING:
    from mmagent.speech.transcribe import Stream

Format: TypeAlias = Literal["text", "srt", "vtt", "json"]

SUFFIXES: dict[Format, str] = {"text": ".txt", "srt": ".srt", "vtt": ".vtt", "json": ".json"}
"""What the names of files in each format end with."""


def written(heard: Transcript | Stream, form: Format = "text") -> Iterator[str]:
    """A transcript in parts, one for each segment as soon as that is there; joined they are a whole file.

    Args:
        heard: What was said, or what is being heard.
        form: ``text`` has a line for each segment; ``json`` is one line, which `read_json` reads.

    Raises:
        ConfigurationError: There is no such format.
    """
    if form not in SUFFIXES:
        raise ConfigurationError(f"there is no format {form!r}; take one of: {', '.join(SUFFIXES)}")
    segments = iter(heard.segments if isinstance(heard, Transcript) else heard)
    if form == "json":
        yield from _json(segments, heard)
        return
    if form == "vtt":
        yield "WEBVTT\n"
    for number, segment in enumerate(segments, start=1):
        yield _PARTS[form](segment, number)


def read_json(text: str) -> Transcript:
    """The transcript that was written as JSON. Fields that are not known are left out.

    Raises:
        InputError: It is none.
    """
    try:
        made = json.loads(text)
        segments = tuple(
            Segment(**{**_known(one, Segment), "words": tuple(Word(**_known(word, Word)) for word in one["words"])})
            for one in made["segments"]
        )
        dropped = tuple(Dropped(**_known(one, Dropped)) for one in made["dropped"])
        return Transcript(**{**_known(made, Transcript), "segments": segments, "dropped": dropped})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError("the text is no transcript in JSON; give one that mmagent transcribe wrote") from error


def clock(seconds: float, point: str = ".") -> str:
    """A time as ``hh:mm:ss.mmm``."""
    whole, milliseconds = divmod(round(max(0.0, seconds) * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{milliseconds:03}"


def _text(segment: Segment, number: int) -> str:
    return f"{_said(segment)}\n"


def _srt(segment: Segment, number: int) -> str:
    text = _said(segment).replace("-->", "->")
    return f"{number}\n{clock(segment.t0, ',')} --> {clock(_shown_until(segment), ',')}\n{text}\n\n"


def _vtt(segment: Segment, number: int) -> str:
    text = segment.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    voice = re.sub(r"[<>&\s]+", " ", segment.speaker or "").strip()
    text = f"<v {voice}>{_line(text)}" if voice else _line(text)
    return f"\n{clock(segment.t0)} --> {clock(_shown_until(segment))}\n{text}\n"


_PARTS = {"text": _text, "srt": _srt, "vtt": _vtt}


def _json(segments: Iterator[Segment], heard: Transcript | Stream) -> Iterator[str]:
    lead = '{"segments": ['
    for segment in segments:
        yield lead + json.dumps(asdict(segment), ensure_ascii=False)
        lead = ", "
    whole = heard if isinstance(heard, Transcript) else heard.transcript()
    rest = {key: value for key, value in asdict(whole).items() if key != "segments"}
    yield ('{"segments": [], ' if lead.startswith("{") else "], ") + json.dumps(rest, ensure_ascii=False)[1:] + "\n"


def _said(segment: Segment) -> str:
    return _line(f"{segment.speaker}: {segment.text}" if segment.speaker else segment.text)


def _line(text: str) -> str:
    """A blank line would end a subtitle."""
    return " ".join(text.split())


def _shown_until(segment: Segment) -> float:
    """Players leave out what ends when it begins."""
    return max(segment.t1, segment.t0 + 0.001)


def _known(made: dict[str, Any], kind: type) -> dict[str, Any]:
    return {key: value for key, value in made.items() if key in kind.__dataclass_fields__}  # type: ignore[attr-defined]
