"""Which language is kept: the first windows decide together, and doubtful ones never change it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmagent.errors import ConfigurationError, InputError
from mmagent.speech.language import Language, check_language, check_task


def sounds(**heard: float) -> tuple[dict[str, float], float]:
    return heard, 10.0


def test_the_first_windows_decide_together() -> None:
    language = Language()
    assert language.hear([sounds(cy=0.4, en=0.35), sounds(en=0.7), sounds(en=0.9)]) == ["en", "en", "en"]
    assert language.code == "en" and 0 < (language.probability or 0) <= 1


def test_one_certain_window_is_enough() -> None:
    language = Language()
    assert language.hear([sounds(de=0.95, en=0.05)]) == ["de"]
    assert language.hear([sounds(en=0.6, de=0.4)]) == ["de"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 0.499), max_size=20))
def test_what_is_less_than_half_sure_never_switches(flips: list[float]) -> None:
    language = Language()
    language.hear([sounds(en=0.99)])
    assert language.hear([sounds(nn=flip, en=flip / 2) for flip in flips]) == ["en"] * len(flips)


def test_it_follows_who_changes_the_language() -> None:
    language = Language()
    assert language.hear([sounds(en=0.99), sounds(en=0.9), sounds(de=0.97), sounds(de=0.9)]) == ["en", "en", "de", "de"]
    assert language.hear([sounds(en=0.6), sounds(de=0.9), sounds(en=0.6)]) == ["de", "de", "de"]
    assert language.hear([sounds(en=0.6)]) == ["en"]


def test_a_short_word_changes_nothing() -> None:
    language = Language()
    language.hear([sounds(en=0.99)])
    assert language.hear([({"ja": 0.99}, 0.7)]) == ["en"]


def test_nothing_heard_is_no_language() -> None:
    assert Language().code is None and Language().probability is None
    assert Language().hear([({}, 3.0)]) == [None]


def test_codes_are_checked() -> None:
    assert check_language(" EN ", ("de", "en")) == "en"
    assert check_language(None, ("de", "en")) is None
    with pytest.raises(InputError, match="no language 'xx'; take one of: de, en"):
        check_language("xx", ("en", "de"))
    assert check_language("en", ()) is None and check_language("", ()) is None
    with pytest.raises(InputError, match="one language only, usually English, and 'de' cannot be asked"):
        check_language("de", ())


def test_tasks_are_checked() -> None:
    check_task("translate", True, "x")
    with pytest.raises(ConfigurationError, match="turbo"):
        check_task("translate", False, "whisper-turbo")
    with pytest.raises(ConfigurationError, match="take transcribe or translate"):
        check_task("summarise", True, "x")
