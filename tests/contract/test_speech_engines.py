"""What every engine of Whisper promises, on one random checkpoint in the files of each; those not installed skip."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from mmagent.errors import InputError, MissingExtra
from mmagent.speech.engines import Ask, Decoded
from mmagent.speech.engines.convert import convert
from mmagent.speech.engines.faster import FasterWhisperEngine
from mmagent.speech.engines.load import load_engine
from mmagent.speech.engines.original import OpenAIWhisperEngine
from mmagent.speech.engines.transformers import TransformersEngine
from mmagent.testing.whisper import LANGUAGES, save_whisper
from tests.unit.speech.engines.checkpoints import ASSETS, jfk, needs_data, noise

pytestmark = [needs_data, pytest.mark.xdist_group("speech-engines")]
ENGINES = ["transformers", "faster-whisper", "openai-whisper"]
KINDS = ["multilingual", "gpt2"]
ASK = {"multilingual": Ask("en", max_tokens=60), "gpt2": Ask(max_tokens=60)}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a kind of checkpoint, made when it is first asked for."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind) / "model"
            made[kind] = save_whisper(folder, ASSETS / f"{kind}.tiktoken", multilingual=kind == "multilingual")
        return made[kind]

    return get


@pytest.fixture(scope="session")
def engines(checkpoints: Callable[[str], Path]) -> Callable[[str, str], Any]:
    """An engine in float32, and the checkpoint in its files; skips where its package is not installed."""
    made: dict[tuple[str, str], Any] = {}

    def make(name: str, kind: str) -> Any:
        source = checkpoints(kind)
        if name == "transformers":
            return TransformersEngine(source, "cpu", "float32")
        if name == "faster-whisper":
            return FasterWhisperEngine(convert(source, source.parent / "fast"), "cpu", "float32")
        file = source.parent / "model.pt"
        return OpenAIWhisperEngine(file if file.exists() else convert(source, file, "openai"), "cpu")

    def get(name: str, kind: str = "multilingual") -> Any:
        if (name, kind) not in made:
            try:
                made[name, kind] = make(name, kind)
            except MissingExtra as error:
                pytest.skip(str(error))
        return made[name, kind]

    return get


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: Callable[..., Any]) -> Any:
    return engines(request.param)


def windows() -> list[Any]:
    return [jfk(), jfk()[:40_000], noise(30.0), noise(0.4, 1)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENGINES[1:])
def test_one_checkpoint_says_the_same_tokens_on_every_engine(engines: Callable[..., Any], name: str, kind: str) -> None:
    ours, other = engines("transformers", kind), engines(name, kind)
    for mine, theirs in zip(ours.decode(windows(), ASK[kind]), other.decode(windows(), ASK[kind]), strict=True):
        assert mine.tokens == theirs.tokens
        assert [(piece.t0, piece.t1, piece.text) for piece in mine.pieces] == [
            (piece.t0, piece.t1, piece.text) for piece in theirs.pieces
        ]
        assert theirs.logprob == pytest.approx(mine.logprob, abs=1e-3)
        assert theirs.no_speech == pytest.approx(mine.no_speech, abs=1e-3)
    assert any(token < ours.tokens.end for token in mine.tokens)


@pytest.mark.parametrize("name", ENGINES[1:])
def test_words_and_their_times_are_the_same_on_every_engine(engines: Callable[..., Any], name: str) -> None:
    ask = Ask("en", words=True, max_tokens=60)
    for mine, theirs in zip(
        engines("transformers").decode(windows(), ask), engines(name).decode(windows(), ask), strict=True
    ):
        for one, other in zip(mine.pieces, theirs.pieces, strict=True):
            assert [word.text for word in one.words] == [word.text for word in other.words]
            for word, same in zip(one.words, other.words, strict=True):
                assert (word.t0, word.t1) == pytest.approx((same.t0, same.t1), abs=0.05)
                assert word.probability == pytest.approx(same.probability, abs=1e-3)


@pytest.mark.parametrize("name", ENGINES[1:])
def test_languages_have_the_same_chances_on_every_engine(engines: Callable[..., Any], name: str) -> None:
    ours, other = engines("transformers"), engines(name)
    for mine, theirs in zip(ours.detect(windows()), other.detect(windows()), strict=True):
        assert mine == pytest.approx(dict(theirs), abs=1e-3)


def test_an_engine_says_what_it_is(engine: Any) -> None:
    assert engine.name in ENGINES
    assert engine.languages == LANGUAGES
    assert engine.translates
    assert engine.seconds == 30.0
    assert engine.fingerprint.startswith(f"{engine.name}-")
    assert load_engine(engine.where, "cpu").name == engine.name


def test_a_prompt_and_a_task_change_what_is_said_and_nothing_else(engine: Any) -> None:
    plain, prompted, translated = (
        engine.decode([jfk()], ask)[0]
        for ask in (ASK["multilingual"], Ask("en", prompt="Order AB-12", max_tokens=60), Ask("de", "translate"))
    )
    assert plain.no_speech != prompted.no_speech or plain.tokens != prompted.tokens
    assert all(check(found) for found in (plain, prompted, translated))


def test_the_longest_prompt_and_answer_fit(engine: Any) -> None:
    (found,) = engine.decode([jfk()], Ask("en", prompt="word " * 500, max_tokens=10_000))
    assert check(found)
    (brief,) = engine.decode([jfk()], Ask("en", max_tokens=5))
    assert len(brief.tokens) <= 5


def test_drawing_keeps_the_rules_and_gives_something_else_than_greed(engine: Any) -> None:
    drawn = engine.decode(windows(), Ask("en", temperature=0.7, max_tokens=60))
    assert all(check(found) for found in drawn)
    greedy = engine.decode(windows(), ASK["multilingual"])
    assert [found.tokens for found in drawn] != [found.tokens for found in greedy]


def test_more_windows_than_a_batch_come_back_in_order(engine: Any) -> None:
    ask, many = Ask("en", max_tokens=4), [noise(0.5 + 0.1 * seed, seed) for seed in range(11)]
    found = engine.decode(many, ask)
    assert [each.tokens for each in found[-2:]] == [engine.decode([window], ask)[0].tokens for window in many[-2:]]
    assert len(found) == 11
    assert engine.decode([], ask) == []


def test_silence_and_a_moment_are_windows_too(engine: Any) -> None:
    for window in (np.zeros(16_000, np.float32), noise(0.01), np.zeros(480_000, np.float32)):
        assert check(engine.decode([window], Ask("en", words=True, max_tokens=8))[0])


def test_an_unknown_language_is_refused_with_the_known_ones(engine: Any) -> None:
    with pytest.raises(InputError, match=r"'klingon' is not known; .*en, zh, de, es"):
        engine.decode([jfk()], Ask("klingon"))
    with pytest.raises(InputError, match="no language is given"):
        engine.decode([jfk()], Ask())


def test_calls_from_several_threads_wait_for_each_other(engine: Any) -> None:
    found: dict[int, Decoded] = {}

    def run(seed: int) -> None:
        found[seed] = engine.decode([noise(1, seed)], Ask("en", max_tokens=4))[0]

    threads = [Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed].tokens for seed in range(4)] == [
        engine.decode([noise(1, seed)], Ask("en", max_tokens=4))[0].tokens for seed in range(4)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_comes_back_from_openai_as_it_was(
    engines: Callable[..., Any], checkpoints: Callable[[str], Path], kind: str
) -> None:
    theirs = engines("openai-whisper", kind)
    back = TransformersEngine(
        convert(theirs.where, checkpoints(kind).parent / "back", "transformers"), "cpu", "float32"
    )
    assert back.languages == theirs.languages
    (found,), (wanted,) = back.decode([jfk()], ASK[kind]), theirs.decode([jfk()], ASK[kind])
    assert found.tokens == wanted.tokens


def check(found: Decoded) -> bool:
    """Pieces and words in order, with chances that are such."""
    words = [word for piece in found.pieces for word in piece.words]
    times = [time for piece in found.pieces for time in (piece.t0, piece.t1)]
    return (
        times == sorted(times)
        and found.logprob <= 0
        and 0 <= found.no_speech <= 1
        and all(one.t0 <= other.t0 for one, other in pairwise(words))
        and all(word.t0 <= word.t1 and 0 <= word.probability <= 1 for word in words)
    )
