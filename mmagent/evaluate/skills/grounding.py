"""Whether what answers state stands in what the model was given. It knows texts, no questions and no right answers.

Numbers, dates, codes and names of an answer are looked up in the instructions, questions and results of its turn.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

from mmagent.chat.local import LocalModel
from mmagent.errors import ConfigurationError, NotFound
from mmagent.evaluate.ask import Asker
from mmagent.evaluate.shop import Said
from mmagent.evaluate.skills import Score, Told
from mmagent.evaluate.skills.shop import SHOWN, play
from mmagent.train.sample import Sample
from mmagent.train.shop.beyond import LARGER
from mmagent.train.sources import make_source

BAR = 0.98
COUNT = 300
OTHERS: tuple[tuple[str, dict[str, Any]], ...] = (("toolsets", {"held_out": True}), ("xquad", {"held_out": True}))
"""Sources of answers beside the shop's, each a third of the cases; one that is not there is left out."""
_CODE = re.compile(r"\[\d+\]|[A-Za-z]*[-\d.,:/@#_]*\d[\w.,:/@#-]*")
"""Whatever has a digit in it: numbers, dates, codes, marks."""
_NAME = re.compile(r"(?<![.!?:\]\"'-] )(?<!^)\b[A-Z][\w'-]*[a-z][\w'-]*")
"""A capitalised word that does not begin a sentence."""
_COMMON = frozenset(("I", "Qwen"))


def grounding(
    model: LocalModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None
) -> list[Score]:
    """Answers of shop cases, of tool calls and of questions on passages.

    Raises:
        NotFound: The example shop is not beside the package.
    """
    count = COUNT if count is None else count
    third = max(1, count // (1 + len(OTHERS)))
    runs = {"shop": [said for outcome in play(model, third, seed + 1_000_000, told) for said in outcome.said]}
    with Asker(model) as ask:
        for name, options in OTHERS:
            samples = answers_wanted(name, options, third, seed)
            runs[name] = [Said(ask(sample).text, texts_of(sample)) for sample in samples]
            told(f"grounding: {len(runs[name])} answers of {name}")
    every = [score_of("grounding", [said for run in runs.values() for said in run], BAR)]
    return every + [score_of(f"grounding: {name}", run) for name, run in runs.items() if run]


def score_of(name: str, run: list[Said], bar: float | None = None) -> Score:
    """The share of answers that state nothing which was not given."""
    wrong = [(said, missing) for said in run if (missing := ungrounded(said.answer, said.sources))]
    lines = tuple(f"{said.answer!r}: {', '.join(missing)} stands nowhere" for said, missing in wrong)[:SHOWN]
    return Score(name, len(run) - len(wrong), len(run), bar, wrong=lines)


def ungrounded(answer: str, sources: str) -> list[str]:
    """The numbers, dates, codes and names of an answer that do not stand in its sources."""
    answer = answer.replace(LARGER, "")
    known = f" {sources.lower()} "
    return [fact for fact in facts(answer) if not _stands(fact.lower(), known)]


def facts(answer: str) -> list[str]:
    """The numbers, dates, codes and names that an answer states, each once."""
    codes = [match.group().rstrip(".,:") for match in _CODE.finditer(answer)]
    names = [match.group().removesuffix("'s") for match in _NAME.finditer(answer)]
    return list(dict.fromkeys([*codes, *(name for name in names if name not in _COMMON)]))


def _stands(fact: str, known: str) -> bool:
    """Whether it stands there as a whole: 12 does not stand in 120, nor in 12.5."""
    return re.search(rf"(?<![\w])(?<!\d[.,]){re.escape(fact)}(?![\w])(?![.,]\d)", known) is not None


def answers_wanted(name: str, options: dict[str, Any], count: int, seed: int) -> Iterator[Sample]:
    """Conversations up to the last answer in words that follows a tool's result; none where the source is not there."""
    try:
        draw = make_source(name, options)
    except (NotFound, ConfigurationError, ImportError):
        return
    rng = random.Random(f"grounding {name} {seed}")
    found = 0
    for _ in range(20 * count):
        sample = draw(rng)
        at = [
            index
            for index, said in enumerate(sample.messages)
            if said["role"] == "assistant"
            and not said.get("tool_calls")
            and sample.messages[index - 1]["role"] == "tool"
        ]
        if at:
            yield Sample(sample.messages[: at[-1]], sample.tools, sample.pictures)
            found += 1
        if found == count:
            return


def texts_of(sample: Sample) -> str:
    """All that a conversation says, the names of its tools included."""
    texts = [tool["function"]["name"] for tool in sample.tools]
    for said in sample.messages:
        content = said["content"]
        blocks = [content] if isinstance(content, str) else [block.get("text", "") for block in content]
        texts += blocks + [str(call["function"]["arguments"]) for call in said.get("tool_calls") or ()]
    return "\n".join(texts)
