"""What the header of a recording or video says: its type, and how long it is. It decodes no samples and no frames.

A header may lie; whoever decodes holds the limits again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from mmagent.errors import MediaError
from mmagent.media.limits import check_seconds
from mmagent.media.sniff import CONTAINERS, RECORDINGS, VIDEOS, sniff
from mmagent.media.sound import DEMUXERS, check_form
from mmagent.settings import Settings

_SOUND = ("audio/wav", "audio/aiff", "audio/flac", "audio/ogg", "audio/mpeg")


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a recording or video before it is decoded."""

    mime_type: str
    seconds: float | None
    """How long it is; None where its header does not say."""


def check_stream(data: bytes, name: str, limits: Settings, kind: str) -> StreamInfo:
    """Read the header of a recording or video.

    Args:
        data: The file.
        name: What to call it in error messages.
        limits: ``max_audio_seconds`` and ``max_video_seconds``.
        kind: ``"recording"`` or ``"video"``.

    Raises:
        MediaError: It is something else, or its header is damaged.
        LimitError: It says that it is longer than the limit.
    """
    formats = RECORDINGS if kind == "recording" else VIDEOS
    mime_type = sniff(data)
    if mime_type is not None and (mime_type in CONTAINERS or (kind == "recording" and mime_type in _SOUND)):
        sound, pictures, seconds = _container(data, name, mime_type, kind)
        if kind == "video" and not pictures:
            raise MediaError(f"{name} is no video: there are no pictures in it; give a {formats} video")
        if kind == "recording" and not sound:
            raise MediaError(f"{name} is no recording: there is no sound in it; give a {formats} recording")
        mime_type = mime_type if pictures else CONTAINERS.get(mime_type, mime_type)
    else:
        found = (mime_type or "of an unknown type") if data else "nothing: it is empty"
        raise MediaError(f"{name} is no {kind}: its content is {found}, whatever its name; give a {formats} {kind}")
    if seconds is not None:
        check_seconds(seconds, name, limits, kind)
    return StreamInfo(mime_type, seconds)


def has_video(data: bytes) -> bool:
    """Whether a container has pictures in it. One that cannot be read has none."""
    try:
        return _container(data, "it", sniff(data) or "", "video")[1]
    except MediaError:
        return False


def _container(data: bytes, name: str, mime_type: str, kind: str) -> tuple[bool, bool, float | None]:
    """Whether there is sound, whether there are moving pictures, and the length."""
    import av

    try:
        with av.open(BytesIO(data), format=DEMUXERS.get(mime_type, "matroska")) as opened:
            container: Any = opened
            streams = container.streams
            pictures = [one for one in streams.video if one.codec_context.name not in ("png", "mjpeg")]  # a cover
            for one in streams.audio[:1]:
                if not one.codec_context.sample_rate or not one.codec_context.channels:
                    raise _damaged(name, mime_type, kind)
                check_form(one.codec_context.sample_rate, one.codec_context.channels, name)
            known = container.duration
            return bool(streams.audio), bool(pictures), _seconds(known / av.time_base) if known else None
    except MediaError:
        raise
    except Exception as error:
        raise _damaged(name, mime_type, kind) from error


def _seconds(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) and value >= 0 else None


def _damaged(name: str, mime_type: str, kind: str) -> MediaError:
    return MediaError(f"{name} is a damaged or unsupported {mime_type} {kind}; save it again or take another one")
