"""Reads videos: a frame of each scene, and the words in it. It knows no model that sees or hears."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any

from mmagent.errors import InputError, MediaError
from mmagent.knowledge.extract import Extract, Picture
from mmagent.knowledge.read.sound import checked, spoken, title_of
from mmagent.media.audio import has_video
from mmagent.media.limits import check_size
from mmagent.media.sniff import sniff
from mmagent.media.sound import DEMUXERS
from mmagent.speech import Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

    from mmagent.knowledge.read import Options
    from mmagent.settings import Settings

MAX_FRAMES = 120
"""Of one video that are kept."""
EVERY = 1.0
"""Seconds between the frames that are looked at."""
WHOLE = 300.0
"""Seconds of a video up to which all frames are decoded; of a longer one its key frames, which is much quicker."""
CHANGE = 12.0
"""Mean difference of brightness (0 to 255), in a small picture, from which it is another scene."""

_FRAMES_SHARE, _OCR_SHARE = 0.4, 0.7
"""Of the time that reading one document may take, after which no more frames are decoded, or read."""
_SMALL = 32
_COVERS = ("png", "mjpeg")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Frame:
    time: float
    picture: PILImage
    small: NDArray[np.float32]
    """Brightness, ``[32, 32]``."""


def read_video(data: bytes, name: str, options: Options) -> Extract:
    """Reads a video's frames; what is said in it, `with_speech` adds. One that has sound only is a recording.

    Raises:
        InputError: It is damaged, or longer than ``max_index_seconds``; the message is the reason.
    """
    if not has_video(data):
        info = checked(data, options, "recording")
        return Extract("", info.mime_type, title_of(data, info.mime_type), kind="speech")
    info = checked(data, options, "video")
    began, notes = monotonic(), list[str]()
    frames, end = _scenes(data, info.seconds, options, began + _FRAMES_SHARE * options.limits.index_timeout, notes)
    if not frames:
        raise InputError("it is a damaged video: no picture of it can be decoded; save it again or take another one")
    until = began + _OCR_SHARE * options.limits.index_timeout
    texts = _texts(frames, until, notes) if options.ocr else [""] * len(frames)
    ends = [*(frame.time for frame in frames[1:]), max(end, frames[-1].time)]
    pictures = [
        Picture("frame", t0=round(frame.time, 3), t1=round(until, 3), text=text)
        for frame, until, text in zip(frames, ends, texts, strict=True)
    ]
    title = title_of(data, info.mime_type)
    return Extract("", info.mime_type, title, pictures=pictures, kind="speech", notes=notes)


def with_speech(extract: Extract, segments: Sequence[Segment]) -> Extract:
    """A video's extract with what is said in it; the same where nothing is."""
    if not any(segment.text.strip() for segment in segments):
        return extract
    said = spoken(segments, extract.mime_type, extract.title)
    return replace(extract, text=said.text, marks=said.marks, kind="speech")


def frame_at(data: bytes, time: float, limits: Settings) -> PILImage:
    """The frame of a video that is seen at a time in seconds, RGB and upright; the last one after its end.

    Raises:
        MediaError: It cannot be decoded.
    """
    found = None
    for at, frame in _decoded(data, limits, seek=time):
        if found is not None and at > time + 1e-3:
            break
        found = frame
    if found is None:
        raise MediaError("no picture of this video can be decoded there; save it again or take another one")
    return _upright(found)


def _scenes(
    data: bytes, seconds: float | None, options: Options, until: float, notes: list[str]
) -> tuple[list[_Frame], float]:
    """A frame for each scene, and the time of the last frame that was seen."""
    import numpy as np

    whole = seconds is not None and seconds <= WHOLE
    kept: list[_Frame] = []
    every, following, end = EVERY, 0.0, seconds or 0.0
    for time, frame in _decoded(data, options.limits, key_frames=not whole):
        if time > options.max_index_seconds or monotonic() > until:
            reason = "MMAGENT_MAX_INDEX_SECONDS" if time > options.max_index_seconds else "MMAGENT_INDEX_TIMEOUT"
            notes.append(f"pictures after {time:,.0f} seconds were not looked at; {reason} changes it")
            break
        end = max(end, time)
        if time < following:
            continue
        following = time + every
        small = frame.reformat(width=_SMALL, height=_SMALL, format="gray").to_ndarray().astype(np.float32)
        if kept and float(np.abs(small - kept[-1].small).mean()) < CHANGE:
            continue
        kept.append(_Frame(time, _upright(frame, 1280), small))
        if len(kept) > MAX_FRAMES:  # look half as often from now on, and forget every other one
            kept, every = kept[::2], every * 2
    return kept, end


def _decoded(
    data: bytes, limits: Settings, *, key_frames: bool = False, seek: float = 0.0
) -> Iterator[tuple[float, Any]]:
    """Frames with their times in seconds; a damaged video gives what can be had of it.

    Raises:
        InputError: They are larger than a limit.
    """
    import av

    try:
        with av.open(BytesIO(data), format=DEMUXERS.get(sniff(data) or "", "matroska")) as opened:
            container: Any = opened
            streams = [one for one in container.streams.video if one.codec_context.name not in _COVERS]
            if not streams:
                return
            stream = streams[0]
            context = stream.codec_context
            check_size(context.width, context.height, "a frame of it", limits)
            context.options = {"max_pixels": str(limits.max_image_pixels)}  # a later frame may be larger
            if key_frames:
                context.skip_frame = "NONKEY"
            if seek > 0:
                container.seek(int(seek * av.time_base))
            for packet in container.demux(stream):
                for frame in _frames(packet):
                    check_size(frame.width, frame.height, "a frame of it", limits)
                    if frame.time is not None:
                        yield max(0.0, float(frame.time)), frame
    except (InputError, GeneratorExit):
        raise
    except Exception as error:  # FFmpeg's errors, and whatever hostile files lead to
        _log.debug("a video is damaged; what was seen so far is kept (%s)", error)


def _frames(packet: Any) -> list[Any]:
    import av

    try:
        return list(packet.decode())
    except av.error.InvalidDataError:  # a damaged packet; the next one may do
        return []


def _upright(frame: Any, longest: int = 0) -> PILImage:
    """A frame's pixels as they are shown; no side longer than ``longest``, unless that is 0."""
    picture: PILImage = frame.to_image()
    if frame.rotation % 360:
        picture = picture.rotate(frame.rotation, expand=True)
    if longest and max(picture.size) > longest:
        picture.thumbnail((longest, longest))
    return picture


def _texts(frames: Sequence[_Frame], until: float, notes: list[str]) -> list[str]:
    """The words in each frame that did not stand in the one before."""
    from mmagent.media.ocr import read_lines

    texts: list[str] = []
    before: set[str] = set()
    for frame in frames:
        if monotonic() > until:
            notes.append(
                f"words seen after {frame.time:,.0f} seconds were not read; MMAGENT_INDEX_TIMEOUT gives more time"
            )
            break
        try:
            lines = [line.text for line in read_lines(frame.picture)]
        except MediaError:
            lines = []
        texts.append("\n".join(line for line in lines if _plain(line) not in before))
        before = {_plain(line) for line in lines}
    return texts + [""] * (len(frames) - len(texts))


def _plain(line: str) -> str:
    return "".join(char for char in line.casefold() if char.isalnum())
