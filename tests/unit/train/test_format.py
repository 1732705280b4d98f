"""The format that the shipped model was trained on is the format that the agent speaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmagent import nano
from mmagent.paths import config_dir
from mmagent.train import format

RECORD = Path(nano.__file__).parent / "training.json"


@pytest.fixture
def before() -> Iterator[str]:
    yield format.fingerprint()


def test_nano_is_given_the_format_that_it_was_trained_on() -> None:
    trained = json.loads(RECORD.read_text(encoding="utf-8")).get("format") if RECORD.is_file() else None
    if trained is None:
        pytest.skip(f"{RECORD.parent.name} says nothing of the format that it was trained on; newer weights do")
    assert format.fingerprint() == trained, (
        "prompts no longer read as they did in nano's training; undo that, or train nano again. "
        "mmagent.train.format.parts() says what the format is made of"
    )


def test_the_number_is_the_same_each_time(before: str) -> None:
    assert format.fingerprint() == before
    assert len(before) == format.LENGTH


def test_a_users_own_prompts_do_not_count(before: str) -> None:
    own = config_dir() / "prompts"
    own.mkdir(parents=True)
    (own / "agent.md").write_text("Sing.")
    assert format.fingerprint() == before


def test_a_change_of_how_prompts_read_changes_it(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmagent.tools import search_knowledge

    with monkeypatch.context() as patch:
        patch.setattr(search_knowledge, "_passage", lambda number, hit: f"({number}) {hit.title}: {hit.text}")
        assert format.fingerprint() != before
    template = format.chat_template()
    with monkeypatch.context() as patch:
        patch.setattr(format, "chat_template", lambda: template + " ")
        assert format.fingerprint() != before
    with monkeypatch.context() as patch:
        patch.setattr(format, "SPECIAL_TOKENS", format.SPECIAL_TOKENS[:-1])
        assert format.fingerprint() != before


def test_it_covers_what_a_turn_can_show() -> None:
    text = format.rendered()
    for shown in ("<|image|>", "[1] Returns > Window\n", "error: crash failed", "divides by zero", "stands nowhere"):
        assert shown in text
    assert "search_knowledge(query: str)" in text
    assert "there is no item B-2" in text
    assert text.endswith("<|user|>Thanks.<|end|><|assistant|>")
