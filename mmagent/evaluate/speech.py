"""How well a speech model hears, through the whole pipeline. It knows recordings and scores, no engine.

The recipe nano-speech draws nothing of it: a speaker, the first take of each letter and ten voices are held out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.engine.load import model_name
from mmagent.errors import InputError, NotFound
from mmagent.evaluate.metrics import word_errors
from mmagent.evaluate.nano import Measured, Report, machine, measure, model_hash, versions
from mmagent.evaluate.skills import Score, Told
from mmagent.media.sound import RATE, waveform
from mmagent.train.sources.speech import HELD_OUT, HELD_OUT_TAKE, character_of
from mmagent.train.speech import room, words
from mmagent.train.speech.voices import installed, pick, say

if TYPE_CHECKING:
    from mmagent.speech import Transcriber
    from mmagent.train.speech.spoken import Samples

DATA = Path("../shared/data")
"""Recordings of people, as a clone of the project has them beside it."""
AROUND = 0.5
"""Seconds of silence before and after a recording that is cut close."""
NEAR = 0.3
"""Seconds that a time may be off."""
SHOWN = 12
"""Errors that a report keeps."""
READ = (
    ("speech_jfk/jfk.wav", "And so my fellow Americans ask not what your country can do for you ask what you can do "
     "for your country"),
)  # fmt: skip


def digits(ear: Transcriber, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """Single digits of a speaker who was never trained."""
    files = sorted(_folder("speech_fsdd/recordings").glob(f"[0-9]_{HELD_OUT}_*.wav"))
    chosen = _some(files, count, seed)
    heard = ((path.name[0], ear.transcribe(_around(_read(path))).text) for path in chosen)
    return [_exact("digits of an unknown speaker", heard, len(chosen), 0.95, told)]


def characters(ear: Transcriber, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """Letters and digits in takes that were never trained; their speakers were."""
    folder = _folder("speech_moonshine/alphanumeric")
    chosen = _some(sorted(folder.glob(f"*/*_nohash_{HELD_OUT_TAKE}.wav")), count, seed)
    heard = ((character_of(path.parent.name), ear.transcribe(_around(_read(path))).text) for path in chosen)
    return [_exact("letters and digits", heard, len(chosen), 0.85, told)]


def orders(ear: Transcriber, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """Spelled order numbers in synthetic voices that were never trained, clean and as they come in by telephone."""
    found = []
    for name, noisy, bar in (("clean", False, 0.9), ("noisy", True, None)):
        takes = _said(lambda rng: words.spelled(words.order_number(rng), rng), f"orders {seed}", noisy)
        heard = ((text, ear.transcribe(sound).text) for sound, text in _first(takes, count or 200))
        found.append(_exact(f"order numbers, {name}", heard, count or 200, bar, told))
    return found


def phrases(ear: Transcriber, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """Support phrases, and sentences with numbers and dates, in voices that were never trained: word error rate."""
    total = count or 200
    found = [
        _words("support phrases, words wrong", ear, _said(words.phrase, f"phrases {seed}"), total, 0.1, told),
        _words("support phrases, noisy", ear, _said(words.phrase, f"phrases {seed}", True), total, None, told),
        _words("sentences with numbers", ear, _said(words.sentence, f"sentences {seed}"), total, None, told),
    ]
    return found


def silence(ear: Transcriber, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """Sounds in which nobody speaks: none may become words."""
    import numpy as np

    rng = random.Random(f"silence {seed}")
    sounds: list[tuple[str, Samples]] = [("nothing at all", np.zeros(10 * RATE, np.float32))]
    t = np.arange(10 * RATE) / RATE
    sounds += [(f"hum of {hertz} Hz", (0.2 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)) for hertz in (50, 120)]
    for number in range(count or 40):
        size = round(rng.uniform(2, 30) * RATE)
        sounds.append((f"noise {number}", (0.1 * room.noise(size, rng)).astype(np.float32)))
        sounds.append((f"knocks {number}", 0.5 * room.clicks(size, rng)))
    empty = DATA / "speech_leopard_multilang/audio_samples/empty.wav"
    if empty.is_file():
        sounds.append(("a clip without speech", _read(empty)))
    else:
        told(f"skipped: the clip without speech, as there is no {empty}")
    return [_nothing("words in noise and silence", ear, sounds)]


def beyond(ear: Transcriber, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """Read English, most of it beyond a small model: words that it makes up, and words that it gets right."""
    wanted = made = right = 0
    lines = list(_first(_readings(), count or 1000))
    for path, text in lines:
        said = ear.transcribe(_read(path)).text
        errors, known = word_errors(text, said), len(_tokens(text))
        wanted, made = wanted + known, made + len(_tokens(said))
        right += max(0, known - errors)
        told(f"{path.name}: {said or 'nothing'}")
    return [
        Score("read English: words given that were not said", max(0, made - right), max(1, made), note="none is best"),
        Score("read English: words right", right, max(1, wanted)),
    ]


def long(ear: Transcriber, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """Ten minutes of joined clips: each is covered once, its times are right."""
    import numpy as np

    rng, at = random.Random(f"long {seed}"), 0.0
    parts: list[Samples] = []
    spans: list[tuple[float, float]] = []
    for sound, _ in _first(_said(words.draw, f"long {seed}", around=0.0), count or 170):
        gap = rng.uniform(0.7, 3.0)
        parts += [np.zeros(round(gap * RATE), np.float32), sound]
        spans.append((at + gap, at + gap + len(sound) / RATE))
        at = spans[-1][1]
    transcript = ear.transcribe(np.concatenate([*parts, np.zeros(RATE, np.float32)]))
    covered = [[one for one in transcript.segments if one.t0 < t1 and one.t1 > t0] for t0, t1 in spans]
    close = [
        bool(found) and abs(found[0].t0 - t0) <= NEAR and abs(found[-1].t1 - t1) <= NEAR
        for found, (t0, t1) in zip(covered, spans, strict=True)
    ]
    wrong = [
        f"{t0:.2f} to {t1:.2f}: {found}" for (t0, t1), found, ok in zip(spans, covered, close, strict=True) if not ok
    ]
    note = f"{at / 60:.1f} minutes"
    return [
        Score(
            "long form: clips covered, times within 0.3 s",
            sum(close),
            len(spans),
            0.95,
            wrong=tuple(wrong[:SHOWN]),
            note=note,
        )
    ]


PARTS: dict[str, Callable[..., list[Score]]] = {
    "digits": digits,
    "characters": characters,
    "orders": orders,
    "phrases": phrases,
    "silence": silence,
    "beyond": beyond,
    "long": long,
}
"""What is measured, in the order of the report."""


def evaluate(
    ear: Transcriber,
    folder: Path,
    names: Iterable[str] = (),
    *,
    count: int | None = None,
    seed: int = 0,
    began: Callable[[str, int, int], None] = lambda name, index, total: None,
    told: Told = lambda line: None,
    done: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Measure parts one after the other; arguments are those of `mmagent.evaluate.nano.evaluate`.

    Raises:
        InputError: There is no part of a name.
    """
    asked = set(names)
    if unknown := sorted(asked - PARTS.keys()):
        raise InputError(f"there is no skill {unknown[0]!r}; choose from: {', '.join(PARTS)}")
    chosen = [name for name in PARTS if not asked or name in asked]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    report = Report(model_name(folder), model_hash(folder), "", now, versions(), machine(), seed, count)
    for index, part in enumerate(chosen):
        began(part, index, len(chosen))
        report = replace(report, measured=(*report.measured, _measured(part, ear, count, seed, told)))
        done(report)
    return report


def _measured(part: str, ear: Transcriber, count: int | None, seed: int, told: Told) -> Measured:
    return measure(part, lambda heard: PARTS[part](ear, count=count, seed=seed, told=heard), told)


def _said(
    draw: Callable[[random.Random], Any], seed: str, noisy: bool = False, around: float = AROUND
) -> Iterator[tuple[Samples, str]]:
    """What is said in voices that were never trained, and how it is written, without end."""
    import numpy as np

    if not installed():
        raise NotFound("espeak-ng is not installed, whose voices say what is asked; install it: apt install espeak-ng")
    rng = random.Random(seed)
    while True:
        said = draw(rng)
        sound, _ = say(said.spoken, pick(rng, held_out=True))
        sound = _around(sound / max(float(np.abs(sound).max()), 1e-6) * 0.5, around)
        yield (room.heard(sound, rng) if noisy else sound), said.written


def _first(takes: Iterator[Any], count: int) -> Iterator[Any]:
    return (take for take, _ in zip(takes, range(count), strict=False))


def _exact(name: str, heard: Iterator[tuple[str, str]], total: int, bar: float | None, told: Told) -> Score:
    right, wrong = 0, list[str]()
    for number, (wanted, said) in enumerate(heard, start=1):
        if plain(said) == plain(wanted):
            right += 1
        else:
            wrong.append(f"{wanted}: {said or 'nothing'}")
        if number % 50 == 0:
            told(f"{name}: {right} of {number}")
    return Score(name, right, total, bar, wrong=tuple(wrong[:SHOWN]))


def _words(name: str, ear: Transcriber, takes: Iterator[Any], count: int, bar: float | None, told: Told) -> Score:
    errors = total = 0
    wrong: list[str] = []
    for sound, text in _first(takes, count):
        said = ear.transcribe(sound).text
        if missed := word_errors(text, said):
            wrong.append(f"{text}: {said or 'nothing'}")
        errors, total = errors + missed, total + len(_tokens(text))
    told(f"{name}: {errors} of {total}")
    share = round(100 * errors / max(1, total), 2)
    return Score(f"{name} (WER)", share, 0, None if bar is None else 100 * bar, "%", wrong=tuple(wrong[:SHOWN]))


def _nothing(name: str, ear: Transcriber, sounds: Sequence[tuple[str, Samples]]) -> Score:
    said = {what: text for what, sound in sounds if (text := ear.transcribe(sound).text)}
    wrong = tuple(f"{what}: {text}" for what, text in said.items())
    made = sum(len(_tokens(text)) for text in said.values())
    return Score(name, made, 0, 0.0, "words", wrong=wrong[:SHOWN], note=f"{len(sounds)} sounds")


_NUMBERS = dict(zip(words.ONES[:10], "0123456789", strict=True)) | {"oh": "0"}


def plain(text: str) -> str:
    """Letters and digits alone, digits as such: what two ways to write a number have in common."""
    found = [_NUMBERS.get(word, word) for word in re.findall(r"[a-z0-9]+", text.casefold())]
    joined = "".join(found)
    return "o" if text.strip(" .").casefold() in ("o", "oh") else joined


def _tokens(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.casefold())


def _readings() -> Iterator[tuple[Path, str]]:
    """Read English with its words."""
    for name, text in READ:
        yield _folder(Path(name).parent.as_posix()) / Path(name).name, text
    for path in sorted(_folder("speech_realtimestt").glob("LJ*.wav")):
        yield path, path.with_suffix(".txt").read_text(encoding="utf-8")
    for path in sorted(_folder("speech_librivox_cards/librivox").glob("*.txt")):
        if path.with_suffix(".wav").is_file():
            yield path.with_suffix(".wav"), path.read_text(encoding="utf-8")


def _folder(name: str) -> Path:
    if not (found := DATA / name).is_dir():
        raise NotFound(f"there are no recordings in {found}; run it in a clone that has them beside it")
    return found


def _read(path: Path) -> Samples:
    import numpy as np

    return np.concatenate(list(waveform(path)))


def _around(sound: Samples, seconds: float = AROUND) -> Samples:
    import numpy as np

    return np.pad(sound, round(seconds * RATE))


def _some(files: Sequence[Path], count: int | None, seed: int) -> Sequence[Path]:
    if not files:
        raise NotFound("the recordings are not there")
    return files if count is None or count >= len(files) else random.Random(seed).sample(files, count)
