"""The sound of a recording or video as samples, piece by piece: 16 kHz, mono. It knows no speech and keeps nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from mmagent.errors import MediaError
from mmagent.media.sniff import RECORDINGS, VIDEOS, sniff

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 16_000
"""Samples in a second."""

DEMUXERS = {
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mpeg": "mp3",
    "audio/mp4": "mp4",
    "video/mp4": "mp4",
    "video/quicktime": "mp4",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
}
"""FFmpeg's reader of each type; no other is ever tried."""

_SEEK_FROM = 10.0
"""Seconds into the sound from which it is quicker to jump than to decode what comes before."""
_RATES, _MOST_CHANNELS = range(1_000, 768_001), 64

_log = logging.getLogger(__name__)


def waveform(
    data: bytes, name: str = "the recording", t0: float = 0.0, t1: float = math.inf
) -> Iterator[NDArray[np.float32]]:
    """The samples from ``t0`` to ``t1``, each piece ``[N]`` float32 from -1 to 1; none where a video has no sound.

    A file that is damaged somewhere gives what comes before; memory is held for one piece only.

    Args:
        data: The file.
        name: What to call it in error messages.
        t0: Where to begin, in seconds.
        t1: Where to end, in seconds (exclusive).

    Raises:
        MediaError: It is no recording or video, or nothing of it can be decoded.
    """
    begin, end, at = round(t0 * RATE), math.inf if math.isinf(t1) else round(t1 * RATE), 0
    for start, samples in _decoded(data, name, t0 if t0 > _SEEK_FROM else 0.0):
        at = start if start is not None else at
        piece = samples[max(0, begin - at) : int(max(0, min(end - at, len(samples))))]
        at += len(samples)
        if len(piece):
            yield piece
        if at >= end:
            return


def _decoded(data: bytes, name: str, seek: float) -> Iterator[tuple[int | None, NDArray[np.float32]]]:
    """Samples, the first ones with their place in the whole where the decoder was sent to a time."""
    import av
    import numpy as np

    form = DEMUXERS.get(sniff(data) or "")
    if form is None:
        raise MediaError(f"{name} has no sound that can be read; give a {RECORDINGS} recording or a {VIDEOS} video")
    heard = False
    try:
        with av.open(BytesIO(data), format=form) as opened:
            container: Any = opened
            if not container.streams.audio:
                return
            stream = container.streams.audio[0]
            _check(stream, name)
            if seek:
                container.seek(int(seek * av.time_base))
            resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
            start = None
            for frame in container.decode(stream):
                if seek and not heard:
                    start = round(float(frame.time or 0.0) * RATE)
                frame.pts = None  # gaps and jumps in the times are no sound
                for made in resampler.resample(frame):
                    heard = True
                    yield start, np.nan_to_num(made.to_ndarray()[0], posinf=1.0, neginf=-1.0).clip(-1, 1)
                    start = None
            for made in resampler.resample(None):
                yield None, np.nan_to_num(made.to_ndarray()[0], posinf=1.0, neginf=-1.0).clip(-1, 1)
    except (MediaError, GeneratorExit):
        raise
    except Exception as error:  # FFmpeg's errors, and whatever hostile files lead to
        if not heard:
            raise MediaError(
                f"{name} is a damaged or unsupported recording; save it again or take another one"
            ) from error
        _log.debug("%s is damaged; what was heard so far is kept", name, exc_info=True)


def _check(stream: Any, name: str) -> None:
    """Refuse numbers in a header that no recording has, before anything is allocated by them."""
    context = stream.codec_context
    if context.sample_rate not in _RATES or not 0 < context.channels <= _MOST_CHANNELS:
        raise MediaError(
            f"{name} has {context.channels} channels at {context.sample_rate:,} Hz; save it in stereo at 44,100 Hz"
        )
