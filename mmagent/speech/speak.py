"""Voices: a sentence in, samples out. It knows espeak-ng, Piper and Kokoro, and neither loudspeakers nor Markdown.

Nothing is downloaded: Piper and Kokoro take files that are there.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.errors import ConfigurationError, LimitError, ModelError, NotFound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_CHARACTERS = 2000
"""Of a text that is said in one go."""
WORDS_A_MINUTE = 165

_TIMEOUT = 20.0
_ESPEAK_RATE = 22_050
_INT16 = 32_768.0
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9+_-]{1,63}")


class Voice(Protocol):
    """Says a text. Calls take as long as the voice does: make them in a thread."""

    name: str
    rate: int
    """Samples in a second."""

    def say(self, text: str) -> Iterator[NDArray[np.float32]]:
        """The sound of a text, piece by piece ``[N]``, from -1 to 1; nothing of an empty one.

        Raises:
            LimitError: The text has more than 2,000 characters.
            ModelError: The voice failed.
        """


class Espeak:
    """The voices of espeak-ng, a program that is installed beside: small, quick, of a hundred languages.

    Args:
        voice: A language, e.g. ``en``, ``en-gb`` or ``de``, or with a variant, ``en+f3``.
        speed: Words in a minute, from 80 to 450.

    Raises:
        ConfigurationError: espeak-ng is not installed, or has no such voice.
    """

    rate = _ESPEAK_RATE

    def __init__(self, voice: str = "en", speed: int = WORDS_A_MINUTE) -> None:
        if not 80 <= speed <= 450:
            raise ConfigurationError(f"a voice says 80 to 450 words in a minute, not {speed}")
        known = espeak_voices()
        if not _NAME.fullmatch(voice) or voice.partition("+")[0].casefold() not in known:
            raise ConfigurationError(f"espeak-ng has no voice {voice!r}; there are: {', '.join(known)}")
        self.name = f"espeak:{voice}"
        self._options = ("-v", voice, "-s", str(speed), "-b", "1")

    def say(self, text: str) -> Iterator[NDArray[np.float32]]:
        """See `Voice.say`."""
        if text := _checked(text):
            yield _samples(_espeak(*self._options, "--stdin", "--stdout", text=text))


class Piper:
    """A voice of Piper, from its ``.onnx`` file with the ``.onnx.json`` beside it.

    Args:
        file: The file.

    Raises:
        NotFound: There is no such file.
        ConfigurationError: The package piper-tts is not installed.
        ModelError: The voice cannot be loaded.
    """

    def __init__(self, file: str | Path) -> None:
        path = Path(file).expanduser()
        _there(path, path.with_name(f"{path.name}.json"))
        try:
            package = import_module("piper")
        except ImportError as error:
            raise _missing("Piper", "piper-tts") from error
        self.name = f"piper:{path}"
        try:
            self._voice: Any = package.PiperVoice.load(path)
        except Exception as error:  # whatever ONNX Runtime says of a file that is no voice
            raise ModelError(f"{path} cannot be loaded; is it a voice of Piper, and whole?") from error
        self.rate = int(self._voice.config.sample_rate)

    def say(self, text: str) -> Iterator[NDArray[np.float32]]:
        """See `Voice.say`."""
        import numpy as np

        if text := _checked(text):
            try:
                for chunk in self._voice.synthesize(text):
                    yield np.frombuffer(chunk.audio_int16_bytes, "<i2").astype(np.float32) / _INT16
            except Exception as error:
                raise ModelError(f"the voice {self.name} failed; take another one") from error


class Kokoro:
    """A voice of Kokoro, from a folder with its ``.onnx`` file and its ``voices*.bin``.

    Args:
        folder: The folder.
        voice: Its name there.
        language: As espeak-ng calls it.

    Raises:
        NotFound: Something is not there.
        ConfigurationError: The package kokoro-onnx is not installed, or the folder has no such voice.
        ModelError: The voice cannot be loaded.
    """

    rate = 24_000

    def __init__(self, folder: str | Path, voice: str = "af_heart", language: str = "en-us") -> None:
        place = Path(folder).expanduser()
        weights, voices = (next(iter(sorted(place.glob(form))), place / form) for form in ("*.onnx", "voices*.bin"))
        _there(weights, voices)
        try:
            package = import_module("kokoro_onnx")
        except ImportError as error:
            raise _missing("Kokoro", "kokoro-onnx") from error
        try:
            self._model: Any = package.Kokoro(str(weights), str(voices))
            self.voices: tuple[str, ...] = tuple(self._model.get_voices())
        except Exception as error:
            raise ModelError(f"the files in {place} cannot be loaded; are they Kokoro's, and whole?") from error
        if voice not in self.voices:
            raise ConfigurationError(f"{place} has no voice {voice!r}; there are: {', '.join(self.voices)}")
        self.name, self._voice, self._language = f"kokoro:{place}:{voice}", voice, language

    def say(self, text: str) -> Iterator[NDArray[np.float32]]:
        """See `Voice.say`."""
        import numpy as np

        if text := _checked(text):
            try:
                samples, rate = self._model.create(text, voice=self._voice, speed=1.0, lang=self._language)
            except Exception as error:
                raise ModelError(f"the voice {self.name} failed; take another one") from error
            if rate != self.rate:
                raise ModelError(f"the voice {self.name} has {rate:,} samples in a second, not {self.rate:,}")
            yield np.asarray(samples, np.float32)


class Silent:
    """A voice that says nothing, for answers that are only read."""

    name = "none"
    rate = _ESPEAK_RATE

    def say(self, text: str) -> Iterator[NDArray[np.float32]]:
        """See `Voice.say`."""
        return iter(())


def load_voice(which: str | None = None, language: str | None = None) -> Voice:
    """The voice of a name.

    Args:
        which: ``espeak``, ``espeak:de+f2``, ``piper:FILE.onnx``, ``kokoro:FOLDER`` or ``kokoro:FOLDER:VOICE``, or
            ``none``; None: espeak-ng.
        language: What the answers are in, as ISO 639-1 code, where the name does not say; None: English.

    Raises:
        ConfigurationError: There is no such voice, or its program or package is not installed.
        NotFound: A file is not there.
        ModelError: It cannot be loaded.
    """
    kind, _, rest = (which or "espeak").partition(":")
    match kind:
        case "none":
            return Silent()
        case "espeak":
            return Espeak(rest or language or "en")
        case "piper" if rest:
            return Piper(rest)
        case "kokoro" if rest:
            place, colon, name = rest.rpartition(":")
            return Kokoro(place, name) if colon else Kokoro(rest)
    raise ConfigurationError(
        f"there is no voice {which!r}; give espeak, espeak:LANGUAGE, piper:FILE.onnx, kokoro:FOLDER:VOICE or none"
    )


@lru_cache(maxsize=1)
def espeak_voices() -> tuple[str, ...]:
    """The languages that espeak-ng speaks, sorted.

    Raises:
        ConfigurationError: It is not installed.
        ModelError: It does not answer.
    """
    table = _espeak("--voices").decode("utf-8", "replace").splitlines()[1:]
    own = [line for line in table if " mb/" not in line]  # MBROLA's voices need files of their own
    names = {name for line in own for name in (*line.split()[1:2], *re.findall(r"\((\S+) \d+\)", line))}
    return tuple(sorted(map(str.casefold, names)))


def _espeak(*options: str, text: str = "") -> bytes:
    """What espeak-ng writes. The text goes in by stdin, so that nothing in it is an option or a file."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise ConfigurationError(
            "answers cannot be said: espeak-ng is not installed; install it with: apt-get install -y espeak-ng"
            " (macOS: brew install espeak-ng), or take another voice (--voice)"
        )
    try:
        done = subprocess.run([program, *options], input=text.encode(), capture_output=True, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"espeak-ng did not end within {_TIMEOUT:g} s; say less at once") from error
    except OSError as error:
        raise ModelError(f"espeak-ng at {program} cannot be run; install it again") from error
    if done.returncode:
        raise ModelError(f"espeak-ng failed (exit code {done.returncode}); install it again or take another voice")
    return done.stdout


def _samples(data: bytes) -> NDArray[np.float32]:
    """The samples of a WAV file in a pipe, whose header does not know how long it is."""
    import numpy as np

    at = data.find(b"data", 12, 200)
    if data[:4] != b"RIFF" or at < 0 or struct.unpack_from("<HI", data, 22) != (1, _ESPEAK_RATE):
        raise ModelError(f"espeak-ng gave no sound of {_ESPEAK_RATE:,} samples in a second; take another voice")
    body = data[at + 8 :]
    return np.frombuffer(body[: len(body) // 2 * 2], "<i2").astype(np.float32) / _INT16


def _checked(text: str) -> str:
    """The text without what steers a voice: control characters, and the brackets of phonemes and markup."""
    if len(text) > MOST_CHARACTERS:
        raise LimitError(f"the text has {len(text):,} characters, a voice says {MOST_CHARACTERS:,} at once; say less")
    plain = "".join(" " if unicodedata.category(one)[0] == "C" else one for one in text)
    plain = " ".join(re.sub(r"\[\[|\]\]|[<>]", " ", plain).split())
    return plain if any(map(str.isalnum, plain)) else ""


def _there(*files: Path) -> None:
    for file in files:
        if not file.is_file():
            raise NotFound(f"there is no file {file}; a voice needs it, and nothing is downloaded")


def _missing(name: str, package: str) -> ConfigurationError:
    return ConfigurationError(f"voices of {name} need a package; install it with: pip install {package}")
