"""A conversation in short: one exchange in the place of its oldest turns. It knows messages, and no model.

What users and tools said stays on the user's side of the exchange, word for word where it was not cut; what a model
wrote, a summary too, stands on the assistant's. So nothing that a model made up becomes a source to quote from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import cast

from mmagent.agent.context.prompt import COMPACTED, begins_turn
from mmagent.content import Block, Label, MediaBlock, Message, quotable_lines, text

MIN_CHARS = 40
"""Of a question, result or answer, as long as it is told at all."""
TOOL_CHARS = 2000
"""Of one tool's result, in what a model sums up."""
_CODE, _DIGIT = re.compile(r"\w[\w:/@+.-]{0,38}\w"), re.compile(r"\d")

Note = Callable[[MediaBlock], str]
"""What stands in the place of a picture or file."""


def exchange(
    old: Sequence[Message], turns: int, chars: int, note: Note, summary: str = "", pinned: Sequence[Block] = ()
) -> tuple[Message, Message]:
    """The exchange that stands for messages.

    Args:
        old: The messages; an earlier exchange may be their beginning.
        turns: How many turns of the conversation are in short now.
        chars: How long it may be, about.
        note: What is written for media.
        summary: A model's own words for them; empty: their beginnings are kept.
        pinned: Pictures that stay.
    """
    asked, answered = _lines(old, chars, note)
    head = f"[Earlier in this conversation, {turns} turn{'s' * (turns != 1)} in short:]"
    words = "\n".join([head, *_latest(asked, chars // 2)])
    answer = summary[: chars // 2].strip() if summary else "\n".join(_latest(answered, chars // 2))
    labels = cast("tuple[Label, ...]", tuple(sorted({label for message in old for label in message.labels})))
    return (
        Message(role="user", content=(text(words), *pinned), name=COMPACTED, labels=labels),
        Message(role="assistant", content=(text(answer or "[no answers yet]"),), name=COMPACTED, labels=labels),
    )


def _lines(old: Sequence[Message], chars: int, note: Note) -> tuple[list[str], list[str]]:
    """What users and tools said, and what the model answered, a line each."""
    sources = set(quotable_lines(old))
    parts = sum(message.name != COMPACTED and message.role != "assistant" for message in old)
    cut = max(MIN_CHARS, chars // 2 // max(parts, 1) - 4)
    asked: list[str] = []
    answered: list[str] = []
    for message in old:
        if message.name == COMPACTED:
            user = message.role == "user"
            (asked if user else answered).extend(message.text.splitlines()[user:])
        elif begins_turn(message):
            asked.append("- " + _shorten(message.text, cut))
        elif message.role == "tool":
            said = next((line.strip() for line in message.text.splitlines() if line.strip() in sources), "")
            asked += [f"  {message.name}: {_shorten(said, cut)}"] if said else []
        elif message.role == "assistant" and message.text.strip():
            answered.append("- " + _shorten(message.text, max(cut, MIN_CHARS * 2)))
        asked += ["  " + note(block) for block in message.media if message.name != COMPACTED]
    return asked, answered


def record(old: Sequence[Message], chars: int, note: Note) -> str:
    """The messages written down, from the newest back, as long as there is room."""
    lines: list[str] = []
    for message in reversed(old):
        words = message.text
        who = message.role if message.role != "tool" else f"tool {message.name}"
        if message.role == "tool":
            words = _shorten(words, TOOL_CHARS)
        words = " ".join([words, *map(note, message.media)]).strip()
        words += "".join(f" [calls {call['name']}: {call['args']}]" for call in message.tool_calls)
        chars -= len(words)
        if chars < 0 and lines:
            lines.append("[what came before is left out]")
            break
        lines.append(f"{who}: {words}" if chars >= 0 else f"{who}: {words[:chars]}…")
    return "\n\n".join(reversed(lines))


def _shorten(value: str, chars: int) -> str:
    """The beginning of a text, on one line, and the codes and numbers in what is cut off."""
    line = " ".join(value.split())
    if len(line) <= chars:
        return line
    kept = _words(line, chars * 2 // 3)
    codes = [code for code in dict.fromkeys(_CODE.findall(line[len(kept) :])) if _DIGIT.search(code)]
    listed = _words(" ".join(code for code in codes if code not in kept), chars // 3)
    return f"{kept} … {listed}" if listed else f"{_words(line, chars - 2)} …"


def _words(line: str, chars: int) -> str:
    """The words at the beginning of a line that there is room for, or the part of the first that there is."""
    if len(line) <= chars:
        return line
    return line[: chars + 1].rsplit(" ", 1)[0] if " " in line[: chars + 1] else line[:chars]


def _latest(lines: Sequence[str], chars: int) -> list[str]:
    """The lines that there is room for: pictures, which can be recalled by their notes, then the last ones."""
    kept: set[int] = set()
    for pictures in (True, False):
        for index in reversed(range(len(lines))):
            if lines[index].startswith("  [picture ") is not pictures:
                continue
            if len(lines[index]) + 1 > chars:
                break
            chars -= len(lines[index]) + 1
            kept.add(index)
    left_out = ["…"] if len(kept) < len(lines) else []
    return left_out + [lines[index] for index in sorted(kept) if lines[index] != "…"]
