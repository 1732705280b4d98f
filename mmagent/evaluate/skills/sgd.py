"""Service calls in real dialogues, of services that training saw and of others. It knows the dialogues, not the model.

Each call of the Schema-Guided Dialogue set's ``dev`` part is asked for with everything said and called before it as it
was. A call is right where service, tool and every argument are; text is compared without case.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from mmagent.chat.protocol import ChatModel
from mmagent.evaluate.ask import Asker, Reply, replied
from mmagent.evaluate.skills import Score, Told
from mmagent.train.sample import Sample
from mmagent.train.sources._names import Words
from mmagent.train.sources.sgd import (
    Naming,
    Row,
    as_tool,
    calls_of,
    conversation,
    plain_names,
    read_dialogues,
    read_tools,
)

FOLDER = Path("../shared/data/dialogues_sgd")
CALLS = 300
"""How many calls of each part are asked for."""
TOKENS = 200
"""Of a reply, at most."""
BARS = {"seen": 0.60, "unseen": 0.35}


def sgd(model: ChatModel, *, count: int | None, seed: int, told: Told) -> list[Score]:
    """The share of right calls, for services in training's tools and for others."""
    if not FOLDER.is_dir():
        told(f"skipped: there is no folder {FOLDER}")
        return []
    trained = {service for service, _ in read_tools(str(FOLDER / "train_tools.json"))}
    questions = draw_questions(trained, CALLS if count is None else count, seed)
    scores = []
    with Asker(model) as ask:
        for part, asked in questions.items():
            right, wrong = 0, []
            for number, (sample, name, arguments) in enumerate(asked, 1):
                reply = replied(ask, sample, max_tokens=TOKENS)
                if is_right(reply, name, arguments):
                    right += 1
                else:
                    wanted = f"{name} {json.dumps(arguments, ensure_ascii=False)}"
                    wrong.append(f"{sample.messages[-1]['content'][0]['text']} | {reply.shown} | {wanted}")
                if number % 50 == 0:
                    told(f"SGD, {part} services: {right} of {number}")
            scores.append(Score(f"SGD calls: {part} services", right, len(asked), BARS[part], wrong=tuple(wrong[:8])))
    return scores


def draw_questions(trained: set[str], count: int, seed: int) -> dict[str, list[tuple[Sample, str, dict[str, Any]]]]:
    """Conversations that end before a call, with the call that is wanted: ``count`` of each part at most.

    Args:
        trained: The services that training saw.
        count: Of each part.
        seed: Which of them.
    """
    rows = read_tools(str(FOLDER / "dev_tools.json"))
    found: dict[str, list[tuple[dict[str, Any], int]]] = {part: [] for part in BARS}
    for _, dialogue in read_dialogues(str(FOLDER / "dev.jsonl.gz"), rows):
        for turn, call in calls_of(dialogue):
            found["seen" if call["service"] in trained else "unseen"].append((dialogue, turn))
    rng = random.Random(seed)
    return {
        part: [question(dialogue, turn, rows) for dialogue, turn in rng.sample(there, min(count, len(there)))]
        for part, there in found.items()
    }


def question(
    dialogue: dict[str, Any], turn: int, rows: dict[tuple[str, str], Row]
) -> tuple[Sample, str, dict[str, Any]]:
    """A dialogue up to a turn's call, all tools of its services, and the call."""
    words = Words()
    names = {key: words.tool(name) for key, name in plain_names(dialogue["services"], rows).items()}
    naming = Naming(words, names, rows)
    tools = [as_tool(rows[key], names[key], words) for key in names]
    *before, wanted = conversation(dialogue, naming, turn, tools, answered=False)
    function = wanted["tool_calls"][0]["function"]
    return Sample(before, tools), function["name"], function["arguments"]


def is_right(reply: Reply, name: str, arguments: dict[str, Any]) -> bool:
    """Whether a reply is that one call."""
    if reply.error or len(reply.calls) != 1:
        return False
    called, given = reply.calls[0]
    return called == name and _plain(given) == _plain(arguments)


def _plain(arguments: dict[str, Any]) -> dict[str, str]:
    return {key: " ".join(str(value).lower().split()) for key, value in arguments.items()}
