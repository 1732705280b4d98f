"""Which language is spoken, window after window. It knows probabilities, no sound and no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmagent.errors import ConfigurationError, InputError

SURE, CERTAIN = 0.5, 0.8
"""The probability of a language that is kept, and of another one to which a single window switches."""
FIRST, LEAST = 4, 2.0
"""Windows that are weighed together, unless it is certain sooner, and seconds of speech that count as much as any."""


class Language:
    """Keeps the language of a recording through windows that sound like another one.

    The first windows are weighed together until one language is sure. From then on it changes only where a window of
    some seconds is certain of another, or two in a row are sure of the same other one; less never changes it.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights = 0.0
        self._windows = 0
        self._kept: str | None = None
        self._kept_probability = 0.0
        self._rival: str | None = None

    @property
    def code(self) -> str | None:
        """The language by now; None before the first window."""
        return self._kept or max(self._sums, key=lambda code: self._sums[code], default=None)

    @property
    def probability(self) -> float | None:
        """How sure it is, from 0 to 1."""
        if self._kept:
            return self._kept_probability
        return self._sums[self.code] / self._weights if self.code else None

    def hear(self, windows: Sequence[tuple[Mapping[str, float], float]]) -> list[str | None]:
        """Take in what some windows sound like: each the probability of languages, and its seconds of speech.

        Returns:
            The language of each.
        """
        codes = list[str | None]()
        for heard, seconds in windows:
            unsure = self._kept is None
            codes.append(self._hear(heard, seconds))
            if unsure:
                codes = [codes[-1]] * len(codes)
        return codes

    def _hear(self, heard: Mapping[str, float], seconds: float) -> str | None:
        if not heard:
            return self.code
        if self._kept is None:
            self._weigh(heard, seconds)
            return self.code
        top = max(heard, key=lambda code: heard[code])
        if top == self._kept or heard[top] < SURE or seconds < LEAST:
            self._rival = None if top == self._kept else self._rival
        elif heard[top] >= CERTAIN or self._rival == top:
            self._kept, self._kept_probability, self._rival = top, heard[top], None
        else:
            self._rival = top
        return self._kept

    def _weigh(self, heard: Mapping[str, float], seconds: float) -> None:
        weight = max(0.1, min(seconds, LEAST))
        for code, probability in heard.items():
            self._sums[code] = self._sums.get(code, 0.0) + weight * probability
        self._weights += weight
        self._windows += 1
        mean = self.probability or 0.0
        if (mean >= CERTAIN and self._weights >= LEAST) or (mean >= SURE and self._windows >= FIRST):
            self._kept, self._kept_probability = self.code, mean


def check_language(code: str | None, known: Sequence[str]) -> str | None:
    """A given code as engines write it.

    Args:
        code: ISO 639-1; any case.
        known: The codes of the engine; empty where it knows only one language, which no code stands for.

    Raises:
        InputError: The engine does not know it; the message lists those that it knows.
    """
    code = (code or "").strip().lower()
    if not known and code not in ("", "en"):
        raise InputError(
            f"the speech model knows one language only, usually English, and {code!r} cannot be asked of it; leave the "
            "language out, or take a multilingual model"
        )
    if not known or not code:
        return None
    if code not in known:
        raise InputError(f"the speech model knows no language {code!r}; take one of: {', '.join(sorted(known))}")
    return code


def check_task(task: str, translates: bool, name: str) -> None:
    """Refuse what an engine cannot do.

    Raises:
        ConfigurationError: It is no task, or the engine cannot translate.
    """
    if task not in ("transcribe", "translate"):
        raise ConfigurationError(f"there is no task {task!r}; take transcribe or translate")
    if task == "translate" and not translates:
        raise ConfigurationError(
            f"the speech model ({name}) cannot translate; take a multilingual one that can, such as whisper-small "
            "(turbo and English-only models cannot), or leave translate out"
        )
