"""The prompt format as one number: what a model of this size was trained on is what it must be given.

It plays a fixed conversation through the real agent and renders it as a local model does. It knows no weights and no
data; whoever trains keeps the number, and whoever evaluates compares.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from mmagent import Image, Quoted, ToolError, tool
from mmagent.agent import Agent
from mmagent.chat.conversation import Conversation, conversation
from mmagent.chat.profiles import Profile
from mmagent.chat.scripted import ScriptedModel, call
from mmagent.engine.grammar.formats import MMAGENT
from mmagent.knowledge import Hit
from mmagent.media import BlobStore
from mmagent.model.tokenizer import SPECIAL_TOKENS, chat_template
from mmagent.prompts import names, render

LENGTH = 16
"""Hexadecimal digits of a fingerprint."""
PROFILE = Profile("mmagent", MMAGENT, takes_tools=True)


def fingerprint() -> str:
    """A hash of what decides how prompts read: template, signatures, packaged prompts, results, passages, errors."""
    return hashlib.sha256("\0".join(parts().values()).encode()).hexdigest()[:LENGTH]


def parts() -> dict[str, str]:
    """What the hash is of, by name: to find out what has changed."""
    return {"tokens": " ".join(SPECIAL_TOKENS), "template": chat_template(), **_prompts(), "conversation": rendered()}


def rendered() -> str:
    """A conversation with plan, calls, results, passages, pictures and errors, as the agent gives it to a model."""
    from mmagent.testing.tiny import byte_tokenizer

    asked = _played()
    words = byte_tokenizer().apply_chat_template(
        asked.messages, tools=asked.tools, tokenize=False, add_generation_prompt=True
    )
    return str(words)


def _prompts() -> dict[str, str]:
    """The packaged prompts that the agent of a small model is given; the user's own are not looked at."""
    with tempfile.TemporaryDirectory() as nothing:
        given = {"agent": {"instructions": "Be brief."}, "shop": {}}
        return {f"prompt {name}": render(name, Path(nothing), **given[name]) for name in names() if name in given}


def _played() -> Conversation:
    """What the model is asked last, in the second turn."""
    script: list[Any] = [
        ["Plan: look, look up, search.", call("look"), call("find_item", code="A-17", count=2)],
        [call("search_knowledge", query="returns"), call("calculate", expression="30 - 12")],
        [call("calculate", expression="1 / 0"), call("find_item", code="B-2"), call("find_item", code="C-3")],
        [call("crash"), call("nothing"), call("no_such_tool")],
        "It is here. [1]",
        "Bye.",
    ]
    model = ScriptedModel(script)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        blobs = BlobStore(place / "blobs")
        given: dict[str, Any] = {"knowledge": _Shelf(), "prompts_dir": place, "blobs": blobs, "max_steps": len(script)}
        with Agent(model, [find_item, crash, nothing], instructions="Be brief.", **given) as agent:
            agent.run("Is this A-17 or B-2?", Image(_picture()))
            agent.run("Thanks.")
        return conversation(model.requests[-1], PROFILE, model.name, sees=True)


@tool
def find_item(code: Quoted, count: int = 1, kind: str = "any") -> dict[str, Any]:
    """Find an item."""
    if code != "A-17":
        raise ToolError(f"there is no item {code}")
    return {"code": code, "name": "café lamp", "count": count, "price": 12.5, "tags": ["new", None, True]}


@tool
def crash() -> str:
    """Fail as nobody foresaw."""
    raise KeyError("data")


@tool
def nothing() -> None:
    """Do something and say nothing."""


class _Shelf:
    """Two passages, whatever is searched."""

    def search(self, query: str, k: int = 3) -> list[Hit]:
        texts = (("Returns > Window", "30 days.\nThen no more."), ("Parcels", "They come by bicycle."))
        return [
            Hit(str(i), text, title, f"{i}.md", 0, len(text), 1.0 / (i + 1)) for i, (title, text) in enumerate(texts)
        ]

    def quote(self, hit: Hit, claim: str) -> str:
        return hit.text

    def picture(self, hit: Hit, *, box: bool = True, crop: bool = False) -> Any:
        raise NotImplementedError

    def sound(self, hit: Hit) -> bytes:
        raise NotImplementedError


def _picture() -> Any:
    from PIL import Image as Pillow

    return Pillow.new("RGB", (64, 48), "white")
