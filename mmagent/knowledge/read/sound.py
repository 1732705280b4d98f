"""Reads recordings: the header here, the words from a transcriber. It knows no model that hears."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract, Mark
from mmagent.knowledge.read import refused
from mmagent.knowledge.read.compose import MAX_CHARS, MAX_TITLE, one_line
from mmagent.media.audio import StreamInfo, check_stream
from mmagent.media.sound import DEMUXERS
from mmagent.speech import Segment

if TYPE_CHECKING:
    from mmagent.knowledge.read import Options

LONGEST, SHORTEST = 30.0, 15.0
"""Seconds of a passage: it is never longer, unless one segment is, and not shorter where the words go on."""
PAUSE = 2.0
"""Seconds without words after which a passage may end early."""

_NO_LIMIT = {"max_audio_seconds": 10**9, "max_video_seconds": 10**9}


def read_sound(data: bytes, name: str, options: Options) -> Extract:
    """Checks a recording. Its text is empty: `spoken` makes the extract once somebody has listened.

    Raises:
        InputError: It is damaged, or longer than ``max_index_seconds``; the message is the reason.
    """
    info = checked(data, options, "recording")
    return Extract("", info.mime_type, title_of(data, info.mime_type), kind="speech")


def checked(data: bytes, options: Options, kind: str) -> StreamInfo:
    """What the header of a recording or video says.

    Raises:
        InputError: It is damaged, or longer than ``max_index_seconds``; the message is the reason.
    """
    info = check_stream(data, "it", options.limits.model_copy(update=_NO_LIMIT), kind)
    if info.seconds is not None and info.seconds > options.max_index_seconds:
        raise refused(f"{info.seconds:,.0f} seconds", "max_index_seconds", options.max_index_seconds)
    return info


def title_of(data: bytes, mime_type: str) -> str:
    """The title in the tags of a recording or video; empty where there is none."""
    import av

    try:
        with av.open(BytesIO(data), format=DEMUXERS.get(mime_type, "matroska")) as opened:
            container: Any = opened
            return one_line(str(container.metadata.get("title", "")))[:MAX_TITLE]
    except Exception:  # tags that cannot be read are none
        return ""


def spoken(segments: Sequence[Segment], mime_type: str, title: str = "") -> Extract:
    """What was said in a recording, a line for each segment and a mark for each passage of at most `LONGEST` seconds.

    Args:
        segments: In order of time.
        mime_type: Of the recording.
        title: From its tags.

    Raises:
        InputError: Nothing was said, or far too much.
    """
    said = [segment for segment in segments if segment.text.strip()]
    if not said:
        raise InputError("no speech was heard in it")
    lines: list[str] = []
    marks: list[Mark] = []
    position = 0
    for passage in _passages(said):
        text = "\n".join(one_line(segment.text) for segment in passage)
        end = position + len(text)
        marks.append(Mark(position, end, t0=passage[0].t0, t1=max(segment.t1 for segment in passage)))
        lines.append(text)
        position = end + 1
        if position > MAX_CHARS:
            raise InputError(f"it has more than {MAX_CHARS:,} characters of speech; split it")
    return Extract("\n".join(lines), mime_type, title, marks=marks, kind="speech")


def _passages(segments: Sequence[Segment]) -> list[list[Segment]]:
    found: list[list[Segment]] = []
    passage: list[Segment] = []
    for segment in segments:
        while passage and segment.t1 - passage[0].t0 > LONGEST:
            cut = _longest_pause([*passage, segment])
            found.append(passage[:cut])
            passage = passage[cut:]
        if passage and segment.t0 - passage[-1].t1 >= PAUSE and passage[-1].t1 - passage[0].t0 >= SHORTEST:
            found.append(passage)
            passage = []
        passage.append(segment)
    return [*found, passage]


def _longest_pause(passage: Sequence[Segment]) -> int:
    """Before which segment to cut: the one after the longest pause, among those late enough, if there are any."""
    late = [at for at in range(1, len(passage)) if passage[at - 1].t1 - passage[0].t0 >= SHORTEST]
    places = late or [len(passage) - 1]
    return max(places, key=lambda at: (passage[at].t0 - passage[at - 1].t1, at))
