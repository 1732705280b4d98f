"""Captions by a chat model, from synchronous code, inside an event loop and outside."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from PIL import Image

from mmagent.chat.protocol import Capabilities
from mmagent.errors import ConfigurationError, ModelError
from mmagent.knowledge import describe
from mmagent.knowledge.describe import captions_by
from mmagent.testing import ScriptedModel

LAMP = Image.new("RGB", (3000, 1500), "green")


def test_a_model_describes_what_it_is_shown() -> None:
    model = ScriptedModel(["A green lamp\n on a desk. "])
    caption = captions_by(model)
    assert caption(LAMP) == "A green lamp on a desk."
    assert [(width, height) for _, width, height in shown(model)] == [(1024, 512)]
    (message,) = model.requests[0].messages
    assert message.role == "user" and "one or two sentences" in message.text
    assert model.requests[0].sampling.temperature == 0
    caption.close()


def shown(model: ScriptedModel) -> list[tuple[str, int, int]]:
    return model.pictures()


def test_it_works_where_an_event_loop_runs_and_in_threads() -> None:
    model = ScriptedModel(["one", "two", "three"])
    caption = captions_by(model)

    async def inside() -> str:
        return caption(LAMP)

    found = [asyncio.run(inside()), caption(LAMP)]
    thread = threading.Thread(target=lambda: found.append(caption(LAMP)))
    thread.start()
    thread.join()
    assert found == ["one", "two", "three"]
    caption.close()


def test_long_captions_are_cut_at_a_word() -> None:
    caption = captions_by(ScriptedModel(["word " * 500]))
    found = caption(LAMP)
    assert len(found) <= describe.MAX_CHARS + 2 and found.endswith("word …")


def test_failures_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    caption = captions_by(ScriptedModel([ModelError("it is out of memory"), "late"], pause=5))
    with pytest.raises(ModelError, match="out of memory"):
        caption(LAMP)
    monkeypatch.setattr(describe, "TIMEOUT", 0.2)
    with pytest.raises(ModelError, match="scripted did not describe a picture within"):
        caption(LAMP)


def test_a_model_that_sees_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="scripted sees no pictures"):
        captions_by(ScriptedModel([], capabilities=Capabilities(context_length=100)))


def test_the_fingerprint_is_of_model_and_prompt(tmp_path: Path) -> None:
    model = ScriptedModel([])
    assert captions_by(model).fingerprint == captions_by(ScriptedModel([])).fingerprint
    (tmp_path / "describe.md").write_text("What is it?")
    assert captions_by(model, tmp_path).fingerprint != captions_by(model).fingerprint
