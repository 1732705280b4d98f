"""What every engine does around its network: checks, batches, memory of what was heard. It knows no library."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from mmagent.errors import InputError
from mmagent.media.sound import RATE
from mmagent.speech.engines import Ask, Decoded
from mmagent.speech.engines.folder import running
from mmagent.speech.engines.tokens import Tokens
from mmagent.speech.engines.words import STEP, Aligned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a decoding begins with and how it goes on, the same for all windows."""

    tokens: list[int]
    start: int
    """The place of `<|startoftranscript|>` in them."""
    most: int
    """Tokens of an answer."""
    ask: Ask


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network says to a window."""

    tokens: Sequence[int]
    """Text and times, without the end."""
    logprob: float
    """The mean of a token, the end included."""
    no_speech: float


class WhisperEngine(ABC):
    """An engine of `mmagent.speech.engines.Engine`, but for its network.

    Args:
        where: The model, for error messages.
    """

    name: str
    rows = 8
    """Windows in a batch."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self._lock = Lock()
        self._heard: OrderedDict[bytes, Any] = OrderedDict()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Differs where the same window may get other words."""

    @property
    @abstractmethod
    def tokens(self) -> Tokens:
        """Its vocabulary."""

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """Those of its network."""

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The codes it knows; empty where it knows only one language."""
        return tuple(self.tokens.languages)

    @cached_property
    def translates(self) -> bool:
        """Whether it can translate to English; decoders that were cut (turbo, distilled) have unlearned it."""
        return bool(self.languages) and 2 * self.sizes.decoder_layers > self.sizes.encoder_layers

    @property
    def seconds(self) -> float:
        """The longest window it hears."""
        return round(self.sizes.sounds * STEP, 2)

    def detect(self, windows: Sequence[NDArray[np.float32]]) -> list[Mapping[str, float]]:
        """The probability of each language, for each window ``[N]`` (16 kHz, at most `seconds`).

        Raises:
            InputError: It knows only one language.
            ModelError: It failed.
        """
        if not self.languages:
            raise InputError(
                f"the speech model {self.where} knows one language only, so none can be detected; "
                "use a multilingual model"
            )
        found: list[Mapping[str, float]] = []
        with self._lock, running(self.where):
            for part in self._parts(windows):
                found += self._detect(self._hear(part))
        return found

    def decode(self, windows: Sequence[NDArray[np.float32]], ask: Ask) -> list[Decoded]:
        """What is said in each window, some windows in one batch.

        Raises:
            InputError: It does not know the language, or cannot translate.
            ModelError: It failed.
        """
        self.tokens.check(ask, self.translates)
        tokens, start = self.tokens.prompt(ask, self.sizes.context)
        prompt = Prompt(tokens, start, min(ask.max_tokens, self.sizes.context - len(tokens)), ask)
        found: list[Decoded] = []
        with self._lock, running(self.where):
            for part in self._parts(windows):
                heard = self._hear(part)
                for window, sound, answer in zip(part, heard, self._answer(heard, prompt), strict=True):
                    found.append(self._decoded(window, sound, answer, ask))
        return found

    @abstractmethod
    def _encode(self, windows: Sequence[NDArray[np.float32]]) -> Iterable[Any]:
        """What the encoder makes of each window ``[places, width]``."""

    @abstractmethod
    def _detect(self, heard: Sequence[Any]) -> list[Mapping[str, float]]:
        """The probability of each language."""

    @abstractmethod
    def _answer(self, heard: Sequence[Any], prompt: Prompt) -> list[Answer]:
        """Decode, all in one batch."""

    @abstractmethod
    def _align(self, sound: Any, head: list[int], text: list[int], frames: int) -> Aligned:
        """When text tokens are said.

        Args:
            sound: What the encoder made of the window.
            head: Start, language and task.
            text: The tokens, at least one.
            frames: Places of the sound that are not silence at its end.
        """

    def _decoded(self, window: NDArray[np.float32], sound: Any, answer: Answer, ask: Ask) -> Decoded:
        seconds, text, aligned = len(window) / RATE, self.tokens.text(answer.tokens), None
        if ask.words and text:
            frames = min(max(1, round(seconds / STEP)), self.sizes.sounds)
            aligned = self._align(sound, self.tokens.head(ask), text, frames)
        return self.tokens.decoded(answer.tokens, answer.logprob, answer.no_speech, seconds, aligned, ask.language)

    def _hear(self, windows: Sequence[NDArray[np.float32]]) -> list[Any]:
        """Encoded windows; the last ones are remembered, as a language is found and then words, of the same window."""
        keys = [hashlib.blake2b(window.tobytes(), digest_size=16).digest() for window in windows]
        new = {key: window for key, window in zip(keys, windows, strict=True) if key not in self._heard}
        if new:
            self._heard.update(zip(new, self._encode(list(new.values())), strict=True))
        found = [self._heard[key] for key in keys]
        while len(self._heard) > self.rows:
            self._heard.popitem(last=False)
        return found

    def _parts(self, windows: Sequence[NDArray[np.float32]]) -> Iterator[Sequence[NDArray[np.float32]]]:
        return (windows[begin : begin + self.rows] for begin in range(0, len(windows), self.rows))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a network."""

    encoder_layers: int
    decoder_layers: int
    sounds: int
    """Places of a window, 20 ms each."""
    context: int
    """Tokens, prompt and answer together."""
    mels: int
