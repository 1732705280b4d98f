"""Where sound goes: to loudspeakers, a file, or nowhere. It knows samples, neither text nor voices."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from mmagent.errors import ConfigurationError, MediaError
from mmagent.speech.record import close, opened, sounddevice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_POLL_SECONDS = 0.01


class Player(Protocol):
    """Plays one piece of sound after the other."""

    heard: float
    """Seconds of the piece that is being played, or was the last one, that have sounded."""

    async def play(self, samples: NDArray[np.float32], rate: int) -> None:
        """Play a piece to its end; cancelling stops it at once.

        Args:
            samples: ``[N]`` from -1 to 1.
            rate: Samples in a second.

        Raises:
            MissingExtra: ``sounddevice`` is not installed.
            ConfigurationError: There is no loudspeaker, or it cannot be used.
            MediaError: The file cannot be written.
        """


class NullPlayer:
    """Plays nothing, in no time: everything counts as heard."""

    heard = 0.0

    async def play(self, samples: NDArray[np.float32], rate: int) -> None:
        """See `Player.play`."""
        self.heard = len(samples) / rate


class WavPlayer:
    """Writes what it plays into one WAV file, as soon as it is there; close it at the end.

    Args:
        file: Written anew.
    """

    def __init__(self, file: str | Path) -> None:
        self.heard = 0.0
        self._path = Path(file)
        self._file: Any = None

    async def play(self, samples: NDArray[np.float32], rate: int) -> None:
        """See `Player.play`."""
        await asyncio.to_thread(self._write, samples, rate)
        self.heard = len(samples) / rate

    def close(self) -> None:
        """Finish the file; one in which nothing was said is empty sound."""
        import numpy as np

        if self._file is None:
            self._write(np.zeros(0, np.float32), 22_050)
        self._file.close()

    def _write(self, samples: NDArray[np.float32], rate: int) -> None:
        import soundfile  # type: ignore[import-untyped]

        try:
            if self._file is None:
                self._file = soundfile.SoundFile(self._path, "w", rate, 1, "PCM_16", format="WAV")
            self._file.write(samples)
        except (OSError, RuntimeError) as error:
            raise MediaError(f"{self._path} cannot be written; is there such a folder, and space?") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Loudspeaker:
    """The loudspeakers of this machine, by PortAudio (extra ``mic``).

    Args:
        device: Number or a part of the name; None: the system's default.
    """

    def __init__(self, device: int | str | None = None) -> None:
        self.heard = 0.0
        self._device = device

    async def play(self, samples: NDArray[np.float32], rate: int) -> None:
        """See `Player.play`."""
        self.heard = 0.0
        tape = _Tape(samples)
        stream = await opened(lambda: self._open(tape, rate))
        try:
            while stream.active:
                await asyncio.sleep(_POLL_SECONDS)
                self.heard = min(tape.position, len(samples)) / rate
        finally:
            await asyncio.to_thread(close, stream)

    def _open(self, tape: _Tape, rate: int) -> Any:
        package = sounddevice("the loudspeaker")

        def fill(data: Any, frames: int, time: Any, status: Any) -> None:
            if not tape.fill(data[:, 0]):
                raise package.CallbackStop  # after what is in the buffer

        try:
            stream = package.OutputStream(
                samplerate=rate, device=self._device, channels=1, dtype="float32", latency="low", callback=fill
            )
            stream.start()
        except (package.PortAudioError, ValueError) as error:
            raise ConfigurationError(
                "the loudspeaker cannot be used; plug one in, or write the answer to a file: mmagent voice --out FILE"
            ) from error
        return stream


class _Tape:
    """Samples with a place up to which they have been taken."""

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self.position = 0
        self._samples = samples

    def fill(self, block: NDArray[np.float32]) -> bool:
        """Put the next samples into a block; False once there are no more."""
        piece = self._samples[self.position : self.position + len(block)]
        block[: len(piece)] = piece
        block[len(piece) :] = 0
        self.position += len(piece)
        return self.position < len(self._samples)
