"""Sound as it comes in: from a microphone, or from samples that are there. It knows blocks and devices, no speech."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.errors import ConfigurationError, MediaError, MissingExtra
from mmagent.media.sound import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 512
"""Samples in a block: 32 ms, what a voice detector looks at."""
QUIETEST_DECIBELS = 60.0
"""How far below the loudest sound a meter begins."""

_RING = 10 * RATE
_POLL_SECONDS = 0.01

_log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Where sound comes from."""

    level: float
    """How loud the last block was, for a meter: 0 is -60 dB or less, 1 is as loud as can be."""
    live: bool
    """Whether the sound goes on while nobody reads."""

    def blocks(self) -> AsyncGenerator[NDArray[np.float32], None]:
        """Blocks ``[512]`` of samples from -1 to 1, at 16 kHz; close it to stop recording.

        Raises:
            MissingExtra: ``sounddevice`` is not installed.
            ConfigurationError: There is no microphone, or it cannot be used.
            MediaError: The microphone was lost on the way; what came before was given.
        """


class Recording:
    """Samples that are there already, as fast as they are read; the last block is filled up with silence.

    Args:
        pieces: Samples at 16 kHz, mono; e.g. `mmagent.media.sound.waveform`, which is then read in threads.
    """

    live = False

    def __init__(self, pieces: Iterable[NDArray[np.float32]]) -> None:
        self.level = 0.0
        self._pieces = iter(pieces)

    async def blocks(self) -> AsyncGenerator[NDArray[np.float32], None]:
        """See `Recorder.blocks`."""
        import numpy as np

        cut = _Blocks()
        while (piece := await asyncio.to_thread(next, self._pieces, None)) is not None:
            for block in cut.feed(piece):
                self.level = loudness(block)
                yield block
        for block in cut.feed(np.zeros(-cut.over % BLOCK, np.float32)):
            yield block


class Microphone:
    """A microphone of this machine, by PortAudio (extra ``mic``).

    The driver's callback only copies into a ring of ten seconds; whoever reads later than that loses the oldest sound,
    and the log says how much.

    Args:
        device: Its number or a part of its name; None: the system's default.
        patience: Seconds without any sound after which it counts as lost.
    """

    live = True

    def __init__(self, device: int | str | None = None, *, patience: float = 2.0) -> None:
        self.level = 0.0
        self._device, self._patience = device, patience

    async def blocks(self) -> AsyncGenerator[NDArray[np.float32], None]:
        """See `Recorder.blocks`."""
        ring = _Ring(_RING)
        stream = await opened(lambda: _open(self._device, ring))
        rate = int(stream.samplerate)
        try:
            cut, resample, clock = _Blocks(), _resampler(rate), asyncio.get_running_loop().time
            last = clock()
            while True:
                samples, lost = ring.read()
                if lost:
                    _log.warning("%.1f s of sound were lost: they were not read in time", lost / rate)
                if len(samples):
                    last = clock()
                    for block in cut.feed(resample(samples)):
                        self.level = loudness(block)
                        yield block
                elif not stream.active or clock() - last > self._patience:
                    raise MediaError("the microphone was lost; plug it in again and start again: what was said is kept")
                else:
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            self.level = 0.0
            await asyncio.to_thread(close, stream)


def loudness(block: NDArray[np.float32]) -> float:
    """How loud a block is, from 0 (-60 dB of the loudest there can be, or less) to 1."""
    import numpy as np

    power = float(np.mean(np.square(block, dtype=np.float64))) if len(block) else 0.0
    return float(np.clip(1 + 10 * np.log10(max(power, 1e-12)) / QUIETEST_DECIBELS, 0, 1))


def sounddevice(what: str) -> Any:
    """The package that speaks to microphones and loudspeakers.

    Args:
        what: What needs it, for the error.

    Raises:
        MissingExtra: It is not installed.
        ConfigurationError: It is, but PortAudio is not.
    """
    try:
        return import_module("sounddevice")
    except ImportError as error:
        raise MissingExtra(what, "mic") from error
    except OSError as error:  # what the package says where the library is missing
        raise ConfigurationError(
            f"{what} needs PortAudio, which is not on this machine; install it with: apt-get install -y libportaudio2"
        ) from error


async def opened(open_stream: Callable[[], Any]) -> Any:
    """A stream that a thread opens; where nobody waits for it any more, it is closed again."""
    opening = asyncio.ensure_future(asyncio.to_thread(open_stream))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait({opening})
        if not opening.exception():
            await asyncio.to_thread(close, opening.result())
        raise


def close(stream: Any) -> None:
    """Stop a stream at once, whatever is still in the device's buffer."""
    stream.abort(ignore_errors=True)
    stream.close(ignore_errors=True)


class _Blocks:
    """Cuts samples into blocks; what is over waits for more."""

    def __init__(self) -> None:
        import numpy as np

        self._rest = np.zeros(0, np.float32)

    @property
    def over(self) -> int:
        return len(self._rest)

    def feed(self, samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        import numpy as np

        joined = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(joined) // BLOCK * BLOCK
        self._rest = joined[whole:]
        return iter(joined[:whole].reshape(-1, BLOCK))


class _Ring:
    """The last samples, written by one thread and read by another. No lock: the writer must never wait."""

    def __init__(self, capacity: int) -> None:
        import numpy as np

        self._samples = np.zeros(capacity, np.float32)
        self._safe = capacity - capacity // 8
        """What is read of it; the writer may be at work in the rest."""
        self._written = self._read = 0

    def write(self, samples: NDArray[np.float32]) -> None:
        size = len(self._samples)
        at, count = self._written % size, len(samples)
        first = min(count, size - at)
        self._samples[at : at + first] = samples[:first]
        self._samples[: count - first] = samples[first:]
        self._written += count

    def read(self) -> tuple[NDArray[np.float32], int]:
        """What came since the last time, and how many samples before it were lost."""
        import numpy as np

        written, size = self._written, len(self._samples)
        start = max(self._read, written - self._safe)
        lost, self._read = start - self._read, written
        return self._samples[np.arange(start, written) % size], lost


def _open(device: int | str | None, ring: _Ring) -> Any:
    """The running stream of a microphone, with as many samples in a second as we want, or else its own number."""
    package = sounddevice("the microphone")

    def heard(data: Any, frames: int, time: Any, status: Any) -> None:
        ring.write(data[:, 0])

    try:
        own = package.query_devices(device, "input")
        form = {"device": device, "channels": 1, "dtype": "float32"}
        rate = RATE
        try:
            package.check_input_settings(samplerate=rate, **form)
        except package.PortAudioError:
            rate = int(own["default_samplerate"])
        stream = package.InputStream(samplerate=rate, callback=heard, **form)
        stream.start()
    except (package.PortAudioError, ValueError) as error:
        raise ConfigurationError(_no_microphone(package, device)) from error
    return stream


def _no_microphone(package: Any, device: int | str | None) -> str:
    try:
        names = [one["name"] for one in package.query_devices() if one["max_input_channels"] > 0]
    except package.PortAudioError:
        names = []
    if not names:
        return "there is no microphone on this machine; plug one in, or give a recording: mmagent voice --file FILE"
    which = "default microphone" if device is None else f"microphone {device!r}"
    return f"the {which} cannot be used; is another program using it? There are: {', '.join(names)}"


def _resampler(rate: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Makes 16 kHz of another rate, piece by piece."""
    if rate == RATE:
        return lambda samples: samples
    import av
    import numpy as np

    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)

    def resample(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = rate
        made = [one.to_ndarray()[0] for one in resampler.resample(frame)]
        return np.concatenate(made).astype(np.float32) if made else np.zeros(0, np.float32)

    return resample
