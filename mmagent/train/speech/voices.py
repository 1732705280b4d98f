"""The voices of espeak-ng, of which some are never trained: a text to samples, and which sound is when. It knows that
library, no rooms.

A voice is an accent, a variant (who speaks), a pace and a pitch. The library keeps one voice for the whole process, so
calls wait for each other; it goes on from what it said before, so the same text lasts some milliseconds more or less.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import random
import re
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from mmagent.errors import ConfigurationError, ModelError
from mmagent.media.sound import RATE
from mmagent.train.speech.spoken import Sound, resampled

if TYPE_CHECKING:
    from mmagent.train.speech.spoken import Samples

ACCENTS = (
    "gmw/en", "gmw/en-US", "gmw/en-GB-scotland", "gmw/en-GB-x-gbclan", "gmw/en-GB-x-rp", "gmw/en-GB-x-gbcwmd",
    "gmw/en-029", "gmw/en-US-nyc",
)  # fmt: skip
VARIANTS = (
    "", "Alex", "Alicia", "Andrea", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee", "Marco",
    "Michael", "Mike", "Nguyen", "Storm", "adam", "anika", "antonio", "aunty", "benjamin", "boris", "caleb", "david",
    "ed", "edward", "edward2", "f1", "f3", "f4", "f5", "grandma", "grandpa", "gustave", "iven", "iven2", "iven3",
    "iven4", "john", "kaukovalta", "klatt", "klatt2", "klatt3", "klatt5", "klatt6", "linda", "m1", "m2", "m4", "m5",
    "m6", "m7", "m8", "marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "rob", "robert",
    "shelby", "steph", "steph2", "steph3", "zac",
)  # fmt: skip
"""Who speaks in training."""
HELD_OUT = ("f2", "m3", "Annie", "Andy", "Mario", "belinda", "klatt4", "quincy", "sandro", "travis")
"""Who is kept for measuring."""
_LOCK = Lock()
_SYNCHRONOUS, _PHONEMES = 2, 1
_RATE, _PITCH = 1, 3
_CHARACTER, _UTF8 = 1, 1
_END, _PHONEME = 0, 7


@dataclass(frozen=True)
class Speaker:
    """Who says something, and how."""

    accent: str
    variant: str
    pace: int
    """Words in a minute."""
    pitch: int
    """From 0 to 99; 50 is the voice's own."""

    @property
    def name(self) -> str:
        """As espeak-ng calls it."""
        return f"{self.accent}+{self.variant}" if self.variant else self.accent


def pick(rng: random.Random, *, held_out: bool = False) -> Speaker:
    """Anybody of those that are trained, or of those that are not."""
    variant = rng.choice(HELD_OUT if held_out else VARIANTS)
    pitch = min(99, max(0, round(rng.gauss(50, 18))))
    return Speaker(rng.choice(ACCENTS), variant, min(260, max(100, round(rng.gauss(165, 28)))), pitch)


def say(text: str, speaker: Speaker) -> tuple[Samples, tuple[Sound, ...]]:
    """A text in a voice, silence at its ends taken away: ``[N]`` at 16 kHz, and its sounds.

    Raises:
        ConfigurationError: espeak-ng is not installed.
        ModelError: It cannot say it.
    """
    import numpy as np

    library, rate, heard = _espeak()
    data = text.encode()
    with _LOCK:
        heard.clear()
        wrong = library.espeak_SetVoiceByName(speaker.name.encode())
        library.espeak_SetParameter(_RATE, speaker.pace, 0)
        library.espeak_SetParameter(_PITCH, speaker.pitch, 0)
        wrong = wrong or library.espeak_Synth(data, len(data) + 1, 0, _CHARACTER, 0, _UTF8, None, None)
        wrong = wrong or library.espeak_Synchronize()
        said = np.concatenate(heard.samples) if heard.samples else np.zeros(0, np.int16)
        events = heard.sounds[:]
    if wrong or not len(said):
        raise ModelError(f"espeak-ng could not say {text!r:.60} in the voice {speaker.name}")
    ends = [*(t for t, _ in events[1:]), len(said) / rate]
    sounds = [Sound(t0, t1, name) for (t0, name), t1 in zip(events, ends, strict=True) if t1 > t0]
    return _trimmed(resampled((said / 32_768).astype(np.float32), RATE / rate), sounds)


def _trimmed(samples: Samples, sounds: list[Sound]) -> tuple[Samples, tuple[Sound, ...]]:
    """Without the silence before the first and after the last sound."""
    spoken = [one for one in sounds if one.name]
    if not spoken:
        return samples, ()
    begin, end = spoken[0].t0, spoken[-1].t1
    kept = tuple(Sound(one.t0 - begin, one.t1 - begin, one.name) for one in spoken)
    return samples[round(begin * RATE) : round(end * RATE)], kept


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Heard:
    """What the library gives while it speaks."""

    def __init__(self) -> None:
        self.samples: list[Any] = []
        self.sounds: list[tuple[float, str]] = []
        self.callback = _Callback(self._take)

    def clear(self) -> None:
        self.samples, self.sounds = [], []

    def _take(self, wave: Any, count: int, events: Any) -> int:
        import numpy as np

        if wave and count > 0:
            self.samples.append(np.ctypeslib.as_array(wave, (count,)).copy())
        place = 0
        while (event := events[place]).type != _END:
            if event.type == _PHONEME:
                self.sounds.append((event.milliseconds / 1000, sound_of(event.id.string.decode("utf-8", "replace"))))
            place += 1
        return 0


def sound_of(phoneme: str) -> str:
    """The sound that a phoneme of espeak-ng stands for, its shades taken together; empty where it is a pause."""
    if phoneme.startswith("_"):
        return ""
    return re.sub(r"(?<=.)[0-9#\[-]+$", "", phoneme)


@lru_cache(maxsize=1)
def _espeak() -> tuple[Any, int, _Heard]:
    """The library, its rate and what it gives.

    Raises:
        ConfigurationError: It is not installed.
    """
    name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise ConfigurationError("the voices need espeak-ng; install it, e.g. with: apt install espeak-ng") from error
    heard = _Heard()
    rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEMES))
    if rate <= 0:
        raise ConfigurationError("espeak-ng is there without its data; install it again")
    library.espeak_SetSynthCallback(heard.callback)
    return library, rate, heard


def installed() -> bool:
    """Whether the voices are there."""
    try:
        _espeak()
    except ConfigurationError:
        return False
    return True
