"""The sound of a recording or video as samples, piece by piece: 16 kHz, mono. It knows no speech and keeps nothing.

Headers may lie, so limits hold while samples come: on seconds, and on the bytes that were decoded for them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterator
from contextlib import closing
from os import PathLike
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from mmagent.errors import LimitError, MediaError
from mmagent.media.limits import check_bytes, refusal
from mmagent.media.sniff import CONTAINERS, RECORDINGS, SNIFF_BYTES, VIDEOS, sniff
from mmagent.settings import settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Sound: TypeAlias = "bytes | str | PathLike[str] | IO[bytes] | NDArray[Any]"
"""Where samples come from: a file's bytes, its path, the open file, or samples ``[N]`` or ``[N, channels]``."""

RATE = 16_000
"""Samples in a second."""

DEMUXERS = {
    "audio/wav": "wav",
    "audio/aiff": "aiff",
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

_DECODED = 48_000 * 2 * 4 * 7 // 6
"""Bytes a second that decoders may give on average over the longest recording: 48 kHz, stereo, 32 bits, and some."""
_SLACK = 0.1
"""Seconds that encoders may add to a recording that is just as long as allowed."""
_SEEK_FROM = 10.0
"""Seconds into the sound from which it is quicker to jump than to decode what comes before."""
_RATES, _MOST_CHANNELS = range(1_000, 768_001), 64
_FULL_SCALE = {"int8": 2.0**7, "uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
"""What a sample of an array is divided by; those of ``uint8`` are silent at 128."""

_log = logging.getLogger(__name__)


def waveform(
    source: Sound,
    name: str | None = None,
    *,
    rate: int | None = None,
    t0: float = 0.0,
    t1: float = math.inf,
    channel: int | None = None,
    max_seconds: float | None = None,
) -> Iterator[NDArray[np.float32]]:
    """The samples from ``t0`` to ``t1``, each piece ``[N]`` float32 from -1 to 1; none where a video has no sound.

    A file that is damaged somewhere gives what comes before; memory is held for one piece only.

    Args:
        source: The file, or samples: floats from -1 to 1, or integers of 8, 16 or 32 bits.
        name: What to call it in error messages; None: the name of the file.
        rate: Of samples that are given, in Hz; None: `RATE`. Files have their own.
        t0: Where to begin, in seconds.
        t1: Where to end, in seconds (exclusive).
        channel: Which one to take, from 0; None: the mean of all.
        max_seconds: How much may be decoded; None: the setting ``max_index_seconds``.

    Raises:
        NotFound: There is no such file.
        MediaError: It is no recording or video, nothing of it can be decoded, or it has no such channel.
        LimitError: It is larger than ``max_audio_bytes`` (``max_video_bytes``), longer than allowed, or there is far
            more in it than so many seconds take.
    """
    begin, end, at, decoded = round(t0 * RATE), math.inf if math.isinf(t1) else round(t1 * RATE), 0, 0
    most = settings().max_index_seconds if max_seconds is None else max_seconds
    given = hasattr(source, "__array__")
    mixer = _Mixer(name or "the recording", None if given else channel, most)
    pieces = _given(source, rate, channel, mixer) if given else _read(source, name, mixer, t0)
    with closing(pieces):
        for start, samples in pieces:
            at = start if start is not None else at
            piece = samples[max(0, begin - at) : int(max(0, min(end - at, len(samples))))]
            at, decoded = at + len(samples), decoded + len(samples)
            if decoded > (most + _SLACK) * RATE and at < end:
                raise _too_long(mixer.name, most, max_seconds)
            if len(piece):
                yield piece
            if at >= end:
                return


class _Mixer:
    """Decoded frames of any form to pieces of 16 kHz, one channel of them or the mean of all.

    The mean never clips, as the mix of FFmpeg does. Samples stay packed: PyAV reads beyond the planes of a frame that
    has one for each of 8 channels or more.
    """

    def __init__(self, name: str, channel: int | None, most: float) -> None:
        self.name, self._channel = name, channel
        self._left = math.inf if math.isinf(most) else math.ceil(most + 1) * _DECODED
        self._resampler: Any = None
        self._form: tuple[str, str, int] | None = None

    def feed(self, frame: Any) -> Iterator[NDArray[np.float32]]:
        """What a frame adds. Recordings may change their form on the way."""
        import av

        channels = frame.layout.nb_channels
        self._left -= frame.samples * channels * frame.format.bytes
        if self._left < 0:
            raise LimitError(
                f"{self.name} has far more samples than a recording of that length; save it in stereo at 48,000 Hz"
            )
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            yield from self.flush()
            check_form(frame.sample_rate, channels, self.name, self._channel)
            self._resampler, self._form = av.AudioResampler(format="flt", rate=RATE), form
        frame.pts = None  # gaps and jumps in the times are no sound
        yield from self._mixed(self._resampler.resample(frame))

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """What is still inside."""
        if self._resampler is not None:
            yield from self._mixed(self._resampler.resample(None))
            self._resampler = self._form = None

    def _mixed(self, frames: list[Any]) -> Iterator[NDArray[np.float32]]:
        import numpy as np

        for frame in frames:
            packed = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)  # [N, channels]
            yield _mono(np.nan_to_num(packed, posinf=1.0, neginf=-1.0).clip(-1, 1), self._channel)


def check_form(rate: int, channels: int, name: str, channel: int | None = None) -> None:
    """Refuse numbers in a header that no recording has, before anything is allocated by them.

    Raises:
        MediaError: Nobody records so, or there is no such channel.
    """
    if rate not in _RATES or not 0 < channels <= _MOST_CHANNELS:
        raise MediaError(f"{name} has {channels} channels at {rate:,} Hz; save it in stereo at 44,100 Hz")
    if channel is not None and not 0 <= channel < channels:
        raise MediaError(f"{name} has no channel {channel}: it has {channels}, counted from 0; leave the channel out")


def as_wav(data: bytes, name: str) -> bytes:
    """A recording as `wav` has it.

    Raises:
        MediaError: It cannot be decoded, or (`LimitError`) is longer than ``max_audio_seconds``.
    """
    import numpy as np

    pieces = list(waveform(data, name, max_seconds=settings().max_audio_seconds))
    return wav(np.concatenate(pieces) if pieces else np.zeros(0, np.float32))


def wav(samples: NDArray[np.float32]) -> bytes:
    """A WAV file of samples ``[N]`` at `RATE`: mono, 16 bits."""
    import io
    import wave

    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(RATE)
        made.writeframes((samples.clip(-1, 1) * 32_767).round().astype("<i2").tobytes())
    return file.getvalue()


def _mono(samples: NDArray[np.float32], channel: int | None) -> NDArray[np.float32]:
    mono: NDArray[np.float32] = samples.mean(axis=1) if channel is None else samples[:, channel]  # [N, channels] -> [N]
    return mono


def _given(
    source: Any, rate: int | None, channel: int | None, mixer: _Mixer
) -> Generator[tuple[int | None, NDArray[np.float32]], None, None]:
    """Samples of an array."""
    import av
    import numpy as np

    samples, rate = np.asarray(source), RATE if rate is None else rate
    kind = samples.dtype.name
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 0 < samples.shape[1] <= _MOST_CHANNELS):
        raise MediaError(f"an array of shape {samples.shape} is no recording; give [samples] or [samples, channels]")
    if samples.dtype.kind != "f" and kind not in _FULL_SCALE:
        raise MediaError(f"an array of {kind} is no recording; give int16, or floats from -1 to 1")
    samples = samples[:, None] if samples.ndim == 1 else samples
    check_form(rate, samples.shape[1], mixer.name, channel)
    for at in range(0, len(samples), rate):
        second = samples[at : at + rate].astype(np.float32)  # [rate, channels]
        second = (second - 128 * (kind == "uint8")) / np.float32(_FULL_SCALE.get(kind, 1.0))
        frame: Any = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(_mono(np.nan_to_num(second, posinf=1.0, neginf=-1.0).clip(-1, 1), channel)[None]),
            format="flt",
            layout="mono",
        )
        frame.sample_rate = rate
        yield from ((None, piece) for piece in mixer.feed(frame))
    yield from ((None, piece) for piece in mixer.flush())


def _read(
    source: Any, name: str | None, mixer: _Mixer, t0: float
) -> Generator[tuple[int | None, NDArray[np.float32]], None, None]:
    """Samples of a file, the first ones with their place in the whole where the decoder was sent to a time."""
    from mmagent.media.source import open_file

    limits = settings()
    called, file = open_file(source, limits, "recording")
    mixer.name = name or called
    with file:
        head = file.read(SNIFF_BYTES)
        mime_type = sniff(head) or ""
        if not head:
            raise MediaError(f"{mixer.name} is empty; give a {RECORDINGS} recording or a {VIDEOS} video")
        if mime_type not in DEMUXERS:
            raise MediaError(
                f"{mixer.name} has no sound that can be read; give a {RECORDINGS} recording or a {VIDEOS} video"
            )
        size = file.seek(0, 2)
        check_bytes(size, mixer.name, limits, "video" if mime_type in CONTAINERS else "recording")
        file.seek(0)
        yield from _decoded(file, mime_type, mixer, t0 if t0 > _SEEK_FROM else 0.0)


def _decoded(
    file: IO[bytes], mime_type: str, mixer: _Mixer, seek: float
) -> Generator[tuple[int | None, NDArray[np.float32]], None, None]:
    import av

    heard = False
    try:
        with av.open(file, format=DEMUXERS[mime_type]) as opened:
            container: Any = opened
            if not container.streams.audio:
                if container.streams.video:
                    return
                raise MediaError(f"{mixer.name} has no sound in it; give a {RECORDINGS} recording")
            stream = container.streams.audio[0]
            check_form(stream.codec_context.sample_rate, stream.codec_context.channels, mixer.name)
            if seek:
                container.seek(int(seek * av.time_base))
            start = None
            for frame in container.decode(stream):
                if seek and not heard:
                    start = round(float(frame.time or 0.0) * RATE)
                for piece in mixer.feed(frame):
                    heard = True
                    yield start, piece
                    start = None
            yield from ((None, piece) for piece in mixer.flush())
    except (MediaError, GeneratorExit):
        raise
    except Exception as error:  # FFmpeg's errors, and whatever hostile files lead to
        if not heard:
            raise MediaError(
                f"{mixer.name} is a damaged or unsupported recording; save it again or take another one"
            ) from error
        _log.debug("%s is damaged; what was heard so far is kept", mixer.name, exc_info=True)


def _too_long(name: str, most: float, given: float | None) -> LimitError:
    if given is None:
        return refusal(name, f"longer than {most:,.0f} s", int(most), "max_index_seconds", "recording")
    return LimitError(f"{name} is longer than {given:,.0f} s, which is the limit here; give a shorter recording")
