"""What is beyond a small model, and what it says then. It knows questions by kind and the answers, no pictures.

Every answer says that the question is beyond it and names what to use instead.
"""

from __future__ import annotations

import random
import re

from mmagent.train.shop.phrases import expand, is_held_out, read_words

LARGER = "--model Qwen/Qwen3-VL-4B-Instruct"
"""How a larger model is chosen; the hub's name of one that runs on many machines."""
BEYOND: dict[str, str] = {
    "knowledge": "That is beyond me: I am a small model for shops, documents and simple pictures. "
    f"Choose a larger model, e.g. {LARGER}",
    "photo": f"This picture is beyond me: I know documents and simple pictures. Choose a larger model, e.g. {LARGER}",
    "code": f"Code is beyond me: I am a small model. Choose a larger model, e.g. {LARGER}",
    "language": f"Writing and translating are beyond me: I am a small model. Choose a larger model, e.g. {LARGER}",
    "health": "Questions of health are beyond me. Please ask a doctor.",
}
"""What is said, by kind of question."""
INSTEAD: dict[str, str] = {kind: "ask a doctor" if kind == "health" else LARGER for kind in BEYOND}
"""What is named to be used instead, by kind of question."""
_WORDS = read_words("beyond.toml")
_FILLERS: dict[str, str] = _WORDS["words"]
_ASKED: dict[str, str] = {kind: entry["asked"] for kind, entry in _WORDS["kinds"].items()}
TEXT_KINDS: tuple[str, ...] = tuple(kind for kind in _ASKED if kind != "photo")
_SLOT = re.compile(r"<(\w+)>")


def question(rng: random.Random, kind: str, *, held_out: bool = False) -> str:
    """A question of a kind, on the wanted side of the split."""
    for _ in range(400):
        text = _SLOT.sub(lambda slot: expand(rng, _FILLERS[slot.group(1)]), expand(rng, _ASKED[kind]))
        text = _SLOT.sub(lambda slot: expand(rng, _FILLERS[slot.group(1)]), text)  # fillers have slots, too
        if is_held_out(text) == held_out:
            break
    return text


def is_beyond(answer: str, kind: str | None = None) -> bool:
    """Whether an answer says that something is beyond the model and names what to use instead.

    Args:
        answer: What was said.
        kind: Of question, which decides what is to be used; None for any.
    """
    named = set(INSTEAD.values()) if kind is None else {INSTEAD[kind]}
    return "beyond me" in answer and any(instead in answer for instead in named)
