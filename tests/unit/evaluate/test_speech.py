"""``mmagent eval speech``: how answers are compared, and what each part asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmagent.errors import InputError
from mmagent.evaluate import speech
from mmagent.evaluate.metrics import word_errors
from mmagent.media.sound import RATE, wav
from mmagent.speech import Segment, Transcript
from mmagent.train.speech import voices

needs_voices = pytest.mark.skipif(not voices.installed(), reason="espeak-ng is not installed")


class Ear:
    """Says the same of everything."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.seconds: list[float] = []

    def transcribe(self, source: Any) -> Transcript:
        self.seconds.append(len(source) / RATE)
        said = (Segment(0.5, 1.0, self.text),) if self.text else ()
        return Transcript(said, len(source) / RATE, 0.5 if said else 0.0)


def ask(part: str, ear: Ear, **options: Any) -> list[speech.Score]:
    return speech.PARTS[part](ear, **{"count": None, "seed": 0, "told": lambda line: None, **options})


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("7", "Seven."), ("A-48213", "a 4 8 2 1 3"), ("O", "Oh."), ("0", "oh, zero"[4:]), ("B", "B.")],
)
def test_two_ways_to_write_a_number_are_the_same(wanted: str, said: str) -> None:
    assert speech.plain(wanted) == speech.plain(said)


def test_other_numbers_are_not() -> None:
    assert len({speech.plain(text) for text in ("A-48213", "A-48214", "48213", "O", "0", "")}) == 6


@pytest.mark.parametrize(
    ("wanted", "said", "errors"),
    [
        ("Where is my order?", "where is my order", 0),
        ("Where is my order?", "where is order", 1),
        ("where is my order", "where was my new order", 2),
        ("yes", "", 1),
        ("", "made up", 2),
    ],
)
def test_word_errors(wanted: str, said: str, errors: int) -> None:
    assert word_errors(wanted, said) == errors


def test_only_the_speaker_who_is_held_out_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "speech_fsdd/recordings"
    folder.mkdir(parents=True)
    for name in (f"7_{speech.HELD_OUT}_0.wav", f"3_{speech.HELD_OUT}_1.wav", "7_george_0.wav"):
        (folder / name).write_bytes(wav(np.full(1600, 0.1, np.float32)))
    monkeypatch.setattr(speech, "DATA", tmp_path)
    ear = Ear("Seven.")
    (score,) = ask("digits", ear)
    assert (score.right, score.total, score.met) == (1, 2, False)
    assert score.wrong == ("3: Seven.",)
    assert ear.seconds == [1.1, 1.1]  # half a second of silence around it


def test_words_in_silence_are_counted() -> None:
    (quiet,) = ask("silence", Ear(), count=2)
    assert (quiet.met and quiet.right == 0 and "7 sounds" in quiet.note) or "8 sounds" in quiet.note
    (loud,) = ask("silence", Ear("Thank you."), count=2)
    assert not loud.met and loud.right >= 2 * 7


@needs_voices
def test_numbers_and_phrases_are_asked_in_voices_that_were_never_trained() -> None:
    clean, noisy = ask("orders", Ear("A-1"), count=2)
    assert (clean.right, clean.total, clean.bar, noisy.bar) == (0, 2, 0.9, None)
    wrong, *_ = ask("phrases", Ear(), count=2)
    assert wrong.right == 100 and wrong.unit == "%" and not wrong.met


@needs_voices
def test_clips_that_are_not_covered_are_told() -> None:
    (score,) = ask("long", Ear("Yes."), count=3)
    assert score.right == 0 and score.total == 3 and len(score.wrong) == 3


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no skill 'singing'; choose from: digits, characters"):
        speech.evaluate(Ear(), tmp_path, ["singing"])  # type: ignore[arg-type]


def test_what_cannot_be_asked_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "DATA", tmp_path)
    report = speech.evaluate(Ear(), tmp_path, ["digits"])  # type: ignore[arg-type]
    assert "there are no recordings in" in report.measured[0].skipped[0] and not report.met
