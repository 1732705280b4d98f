"""The words of Whisper: its special tokens, the prompt of a decoding, and text between times. It knows no samples.

What every checkpoint has in common: languages stand between `<|startoftranscript|>` and `<|translate|>`, and the times,
20 ms apart, follow `<|notimestamps|>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmagent.errors import ConfigurationError, InputError
from mmagent.speech.engines import Ask, Decoded, Piece
from mmagent.speech.engines.words import STEP, Aligned, Decode, words_of

FIRST_WITHIN = 50
"""The first time is at most so many steps from the start."""
MULTILINGUAL = 51865
"""Tokens that a vocabulary with languages has; one for English only has fewer."""
_PROMPT = 200

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Tokens:
    """A vocabulary of Whisper."""

    start: int
    end: int
    previous: int
    """Stands before words that came before."""
    no_speech: int | None
    tasks: Mapping[str, int]
    languages: Mapping[str, int]
    """Empty where the network knows only one; then prompts name neither language nor task."""
    no_times: int
    suppressed: tuple[int, ...]
    """Never said: symbols that are not spoken, and every special token but the end and the times."""
    encode: Encode
    decode: Decode
    """Text tokens to text, the space before it included."""

    @property
    def first_time(self) -> int:
        """The token of 0 seconds."""
        return self.no_times + 1

    def check(self, ask: Ask, translates: bool) -> None:
        """Refuse what the network does not know.

        Raises:
            InputError: The message lists what it knows.
        """
        if self.languages and ask.language not in self.languages:
            known = ", ".join(self.languages)
            what = "no language is given" if ask.language is None else f"the language {ask.language!r:.40} is not known"
            raise InputError(f"{what}; detect it, or give one of: {known}")
        if not self.languages and ask.language not in (None, "en"):
            raise InputError(
                f"this speech model knows one language only, so {ask.language!r:.40} cannot be asked of it; "
                "leave the language out, or use a multilingual model"
            )
        if ask.task == "translate" and not translates:
            raise InputError(
                "this speech model cannot translate (neither can turbo, distilled and English-only ones); "
                "ask for a transcript, or use another model"
            )

    def prompt(self, ask: Ask, context: int) -> tuple[list[int], int]:
        """What a decoding begins with, and the place of `<|startoftranscript|>` in it.

        Args:
            ask: How to decode.
            context: Tokens that the network takes, prompt and answer together.
        """
        words = self.encode(" " + " ".join(ask.prompt.split())) if ask.prompt.strip() else []
        words = [token for token in words if token < self.end]  # nothing that a user writes is a special token
        words = words[-min(_PROMPT, context // 2 - 1) :]
        before = [self.previous, *words] if words else []
        return [*before, *self.head(ask)], len(before)

    def head(self, ask: Ask) -> list[int]:
        """The start, and which language and task it is."""
        if not self.languages:
            return [self.start]
        return [self.start, self.languages[ask.language or ""], self.tasks[ask.task]]

    def text(self, tokens: Iterable[int]) -> list[int]:
        """Those that are words."""
        return [token for token in tokens if token < self.no_times]

    def pieces(self, tokens: Sequence[int], seconds: float) -> list[tuple[float, float, list[int]]]:
        """Begin, end and text tokens between times, one after the other and within the window."""
        found: list[tuple[float, float, list[int]]] = []
        begin, words = 0.0, list[int]()
        for token in tokens:
            if token < self.first_time:
                words.append(token)
                continue
            time = min(max((token - self.first_time) * STEP, begin), seconds)
            if words:
                found.append((begin, time, words))
            begin, words = time, []
        if words:
            found.append((begin, seconds, words))
        return found

    def decoded(
        self,
        said: Sequence[int],
        logprob: float,
        no_speech: float,
        seconds: float,
        aligned: Aligned | None = None,
        language: str | None = None,
    ) -> Decoded:
        """The result of a window.

        Args:
            said: Text and times.
            logprob: The mean of all tokens and the end.
            no_speech: From 0 to 1.
            seconds: The window's length.
            aligned: When its text tokens are said, where that was asked for.
            language: Of the words.
        """
        found, done = list[Piece](), 0
        for t0, t1, tokens in self.pieces(said, seconds):
            text, end = " ".join(self.decode(tokens).split()), done + len(tokens)
            words = words_of(tokens, aligned.part(done, end), self.decode, language, seconds) if aligned else ()
            if text:
                found.append(Piece(round(t0, 2), round(t1, 2), text, tuple(tokens), words))
            done = end
        return Decoded(tuple(found), logprob, min(max(no_speech, 0.0), 1.0), tuple(said))


def tokens_of(
    find: Callable[[str], int | None],
    encode: Encode,
    decode: Decode,
    multilingual: bool,
    suppressed: Iterable[int] = (),
    languages: Mapping[str, int] | None = None,
) -> Tokens:
    """Look a vocabulary up.

    Args:
        find: The token of a special text; None where there is none.
        encode: Text to tokens.
        decode: Tokens to text.
        multilingual: Whether prompts name language and task.
        suppressed: Symbols that are never said.
        languages: Codes and tokens; by default those between the start and `<|translate|>`.

    Raises:
        ConfigurationError: A token that Whisper cannot do without is not there.
    """

    def need(name: str) -> int:
        if (token := find(name)) is None:
            raise ConfigurationError(
                f"the vocabulary has no {name}, so it is none of Whisper; take the tokenizer that the model came with"
            )
        return token

    start, end, no_times = need("<|startoftranscript|>"), need("<|endoftext|>"), need("<|notimestamps|>")
    tasks = {name: need(f"<|{name}|>") for name in ("transcribe", "translate")} if multilingual else {}
    no_speech = next((token for name in ("nospeech", "nocaptions") if (token := find(f"<|{name}|>")) is not None), None)
    special = {start, *range(end + 1, no_times + 1)}
    return Tokens(
        start=start,
        end=end,
        previous=need("<|startofprev|>"),
        no_speech=no_speech,
        tasks=tasks,
        languages=dict(languages or {}) if multilingual else {},
        no_times=no_times,
        suppressed=tuple(sorted(special.union(suppressed))),
        encode=encode,
        decode=decode,
    )


def tokens_of_tokenizer(tokenizer: Any, multilingual: bool, suppressed: Iterable[int]) -> Tokens:
    """Of a `tokenizers.Tokenizer`; languages are the tokens between the start and `<|translate|>`."""
    find = tokenizer.token_to_id
    start, translate = find("<|startoftranscript|>"), find("<|translate|>")
    between = range((start or 0) + 1, translate or 0) if multilingual else range(0)
    languages = {tokenizer.id_to_token(token).strip("<|>"): token for token in between}

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True))

    return tokens_of(find, encode, decode, multilingual, suppressed, languages)
