"""Speech for a network of Whisper's shape: voices, recordings of digits and letters, what is not to be known, noise.

It knows files and who is held out, no features and no tokens.
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from mmagent.errors import NotFound
from mmagent.media.sound import RATE, waveform
from mmagent.train.sample import Share
from mmagent.train.speech import room, words
from mmagent.train.speech.spoken import Line, Sound, Spoken, Take, Tell, resampled, trimmed
from mmagent.train.speech.voices import pick, say

if TYPE_CHECKING:
    from mmagent.train.speech.spoken import Samples

HELD_OUT = "jackson"
"""Of the free spoken digits, who is never trained."""
HELD_OUT_TAKE = 0
"""Of the spoken letters and digits, the take of each that is never trained."""
LONGEST = 9.6
"""Seconds of a sample."""
_GAP = 0.3, 1.4
"""Seconds between two that follow each other."""
_WORDS = dict(zip(words.ONES[:10], "0123456789", strict=True))


Kind: TypeAlias = Literal["phrase", "sentence", "order", "single", "short", "alone"]


def voices(pairs: Share = 0.25, kinds: Sequence[Kind] = (), disguises: Share = 0.0) -> Tell:
    """Customers' sentences and numbers in the voices of espeak-ng that are trained.

    Args:
        pairs: Share of the samples in which two or more are said, one after the other.
        kinds: What may be said, see `mmagent.train.speech.words`; none is everything.
        disguises: Share of what is said that is made to sound like another speaker.
    """
    said: Sequence[str] = kinds or tuple(words.KINDS)

    def tell(rng: random.Random) -> Spoken:
        takes: list[Take] = []
        left = LONGEST - 1.5
        while not takes or (len(takes) < 5 and rng.random() < (pairs if len(takes) == 1 else 0.6)):
            take = _uttered(rng, said)
            if rng.random() < disguises:
                take = _disguised(take, rng)
            left -= len(take.samples) / RATE + (_GAP[1] if takes else 0)
            if takes and left < 0:
                break
            takes.append(take)
        return _scene(takes, rng)

    return tell


def clips(
    digits: str = "../shared/data/speech_fsdd/recordings",
    characters: str = "../shared/data/speech_moonshine/alphanumeric",
    strings: Share = 0.6,
    disguises: Share = 0.0,
) -> Tell:
    """Digits and letters that people said, alone and as numbers; one speaker and one take of each are held out.

    Args:
        digits: The recordings of the free spoken digit dataset.
        characters: Folders of letters and digits, named by what is said in their files.
        strings: Share of the samples in which one speaker says several.
        disguises: Share of the samples in which the speaker is made to sound like another one.

    Raises:
        NotFound: A folder is not there.
    """
    speakers = _by_speaker([*_fsdd(digits), *_alphanumeric(characters)])
    names = sorted(speakers)
    weights = [len(speakers[name]) ** 0.5 * sum(map(len, speakers[name].values())) ** 0.25 for name in names]

    def tell(rng: random.Random) -> Spoken:
        takes = speakers[rng.choices(names, weights)[0]]
        known = sorted(takes)
        characters = rng.choice(known)
        if rng.random() < strings:
            characters = _string(known, rng)
        factor, gap = rng.uniform(0.8, 1.25), rng.choice((0.0, 0.08, 0.2, 0.4))
        parts: list[Samples] = []
        for character in characters:
            parts += [resampled(_clip(rng.choice(takes[character])), factor), _pause(rng.uniform(0, gap))]
        take = Take(_joined(parts[:-1]), words.spelled(characters, rng).written)
        return _scene([_disguised(take, rng) if rng.random() < disguises else take], rng)

    return tell


def unknown(
    texts: str = "../shared/data/intents_banking77/train.csv", recordings: Sequence[str] = (), share: Share = 0.4
) -> Tell:
    """Speech that is beyond the network: other sentences in trained voices, and pieces of recordings.

    Args:
        texts: A table with a column ``text``.
        recordings: Files in which people talk; they are never transcribed.
        share: Of the samples that come from recordings.

    Raises:
        NotFound: A file is not there.
    """
    path = _there(texts)
    with path.open(encoding="utf-8", newline="") as file:
        lines = sorted({row["text"].strip() for row in csv.DictReader(file)})
    talks = [str(_there(each)) for each in recordings]

    def tell(rng: random.Random) -> Spoken:
        if talks and rng.random() < share:
            talk = _clip(rng.choice(talks))
            size = round(rng.uniform(1.0, 7.0) * RATE)
            begin = rng.randrange(max(1, len(talk) - size))
            return _scene([Take(talk[begin : begin + size], "").slower(rng.uniform(0.85, 1.15))], rng)
        samples, sounds = say(rng.choice(lines), pick(rng))
        most = LONGEST - 2
        heard = tuple(sound for sound in sounds if sound.t1 <= most)
        return _scene([Take(samples[: round(most * RATE)], "", heard)], rng)

    return tell


def noises(most: Annotated[float, Field(gt=0.5, le=LONGEST)] = 6.0) -> Tell:
    """Nobody speaks: hiss, hum, rumble, knocks.

    Args:
        most: Seconds.
    """

    def tell(rng: random.Random) -> Spoken:
        size = round(rng.uniform(0.3, most) * RATE)
        made = room.noise(size, rng) * 0.2
        if rng.random() < 0.4:
            made = made * rng.choice((0.0, 0.1, 1.0)) + room.clicks(size, rng)
        return Spoken(room.heard(made, rng, most=0.5))

    return tell


def _scene(takes: Sequence[Take], rng: random.Random) -> Spoken:
    """What is said, in a room, with silence around it."""
    import numpy as np

    clean = rng.random() < 0.15
    begin = rng.choice((room.PADDING, rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.9)))
    parts, lines, sounds, at = [_pause(begin)], list[Line](), list[Sound](), begin
    for take in takes:
        if lines:
            gap = rng.uniform(*_GAP)
            parts.append(_pause(gap))
            at += gap
        parts.append(take.samples / max(float(np.abs(take.samples).max()), 1e-6) * rng.uniform(0.6, 1.0))
        lines.append(Line(at, at + len(take.samples) / RATE, take.text))
        sounds += [sound.moved(at) for sound in take.sounds or ()]
        at += len(take.samples) / RATE
    parts.append(_pause(rng.choice((room.PADDING, rng.uniform(0.0, 0.6)))))
    made = room.heard(_joined(parts)[: round(LONGEST * RATE)], rng, most=0.0 if clean else 1.0)
    if rng.random() < 0.5:  # as the pipeline cuts it: nothing is left where nobody speaks
        kept = np.zeros_like(made)
        for line in lines:
            a, b = (round(t * RATE) for t in (max(0.0, line.t0 - room.PADDING), line.t1 + room.PADDING))
            kept[a:b] = made[a:b]
        made = kept
    known = all(take.sounds is not None for take in takes)
    return Spoken(made, tuple(lines), tuple(sounds) if known else None)


def _disguised(take: Take, rng: random.Random) -> Take:
    """The same by another speaker, who has another throat and another pace."""
    room_for = (LONGEST - 2.0) * RATE / max(1, len(take.samples))
    return take.disguised(rng.uniform(0.85, 1.2), min(2.0 ** rng.uniform(-0.4, 0.4), max(1.0, room_for)))


def _uttered(rng: random.Random, kinds: Sequence[str]) -> Take:
    """Something that a customer says, short enough for a window."""
    while True:
        said = words.draw(rng, kinds)
        samples, sounds = say(said.spoken, pick(rng))
        if len(samples) < (LONGEST - 2.5) * RATE:
            return Take(samples, said.written, sounds).slower(rng.uniform(0.88, 1.14))


@lru_cache(maxsize=4000)
def _clip(file: str) -> Samples:
    """A recording, silence at its ends taken away."""
    return trimmed(_joined(list(waveform(Path(file)))))


def _fsdd(folder: str) -> list[tuple[str, str, str]]:
    """Speaker, character and file of each recording that is trained."""
    files = sorted(_there(folder).glob("[0-9]_*_*.wav"))
    named = [(path.stem.split("_"), str(path)) for path in files]
    return [(speaker, digit, path) for (digit, speaker, _), path in named if speaker != HELD_OUT]


def _alphanumeric(folder: str) -> list[tuple[str, str, str]]:
    found = []
    for path in sorted(_there(folder).glob("*/*_nohash_*.wav")):
        speaker, _, take = path.stem.partition("_nohash_")
        if int(take) != HELD_OUT_TAKE:
            found.append((speaker, character_of(path.parent.name), str(path)))
    return found


def character_of(word: str) -> str:
    """The letter or digit that a word names."""
    return _WORDS.get(word) or word.upper()


def _by_speaker(takes: Sequence[tuple[str, str, str]]) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for speaker, character, path in takes:
        found[speaker][character].append(path)
    return {speaker: dict(takes) for speaker, takes in found.items()}


def _string(known: Sequence[str], rng: random.Random) -> str:
    """Something to spell of the characters that a speaker has."""
    makers = (words.order_number, words.code) if len(known) > 10 else ()
    if makers and rng.random() < 0.7:
        made = rng.choice(makers)(rng)
        return "".join(character if character in known else rng.choice(known) for character in made)
    digits = [each for each in known if each.isdigit()] or known
    return "".join(rng.choices(digits, k=rng.randint(2, 8)))


def _pause(seconds: float) -> Samples:
    import numpy as np

    return np.zeros(round(seconds * RATE), np.float32)


def _joined(parts: Sequence[Samples]) -> Samples:
    import numpy as np

    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _there(path: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        raise NotFound(f"there is no {found}; give another path in the recipe, or leave the source out")
    return found


__all__ = ["character_of", "clips", "noises", "unknown", "voices"]
