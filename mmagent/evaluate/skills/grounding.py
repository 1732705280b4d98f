"""Whether what answers state stands in what the model was given. It knows texts, no questions and no right answers.

Numbers, dates, codes and names of an answer are looked up in the instructions, questions and results of its turn. Of
questions on passages the whole answer must stand in one. Answers that state nothing are counted apart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmagent.chat.local import LocalModel
from mmagent.errors import ConfigurationError, NotFound
from mmagent.evaluate.ask import Asker, replied
from mmagent.evaluate.shop import Said
from mmagent.evaluate.skills import Score, Told
from mmagent.evaluate.skills.shop import SHOWN, play
from mmagent.train.sample import Message, Sample
from mmagent.train.shop.beyond import BEYOND, LARGER
from mmagent.train.sources import make_source
from mmagent.train.sources.toolsets import NO_TOOL
from mmagent.train.sources.xquad import NOT_SAID

BAR = 0.98
COUNT = 300
OTHERS: tuple[tuple[str, dict[str, Any]], ...] = (("toolsets", {"held_out": True}), ("xquad", {"held_out": True}))
"""Sources of answers beside the shop's, each a third of the cases; one that is not there is left out."""
QUOTED = ("xquad",)
"""Sources whose answers are words of a passage, or a refusal."""
REFUSALS = frozenset((NOT_SAID, NO_TOOL, *BEYOND.values()))
OPENERS = frozenset((
    "A", "An", "And", "Are", "At", "But", "By", "Can", "Choose", "Could", "Did", "Do", "Does", "Done", "Each",
    "For", "From", "Goodbye", "Has", "Have", "He", "Hello", "Here", "How", "I", "If", "In", "Is", "It", "Its",
    "My", "No", "Not", "Of", "On", "Or", "Our", "Please", "She", "Sorry", "Thanks", "That", "The", "There",
    "These", "They", "This", "Those", "To", "Today", "Was", "We", "Were", "What", "When", "Where", "Which",
    "Who", "Will", "With", "Yes", "You", "Your",
))  # fmt: skip
"""Capitalised words that state nothing."""
_MARK = re.compile(r"\s*\[\d+\]")
_CODE = re.compile(r"[A-Za-z]*[-\d.,:/@#_]*\d[\w.,:/@#-]*")
"""Whatever has a digit in it: numbers, dates, codes."""
_WORD = re.compile(r"(?<![\w-])[^\W\d_][\w'’-]*")
_SMALL = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBERS: dict[str, int] = {
    **{word: number for number, word in enumerate(_SMALL, 1)},
    **{word: 10 * number for number, word in enumerate(_TENS, 2)},
    **{f"{tens}-{unit}": 10 * n + m for n, tens in enumerate(_TENS, 2) for m, unit in enumerate(_SMALL[:9], 1)},
    "hundred": 100,
    "thousand": 1000,
}
"""Numbers that are spelled out; ``one`` alone is more often a pronoun and is not looked for."""


@dataclass(frozen=True)
class Judged:
    """An answer, and what came of looking it up."""

    answer: str
    stated: bool
    """Whether it states anything."""
    missing: list[str]
    """What it states and nobody gave."""


def grounding(
    model: LocalModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None
) -> list[Score]:
    """Answers of shop cases, of tool calls and of questions on passages.

    Raises:
        NotFound: The example shop is not beside the package.
    """
    count = COUNT if count is None else count
    third = max(1, count // (1 + len(OTHERS)))
    shop = [said for outcome in play(model, third, seed + 1_000_000, told) for said in outcome.said]
    runs = {"shop": [judged(said) for said in shop]}
    with Asker(model) as ask:
        for name, options in OTHERS:
            quoted, run = name in QUOTED, []
            for sample in answers_wanted(name, options, third, seed):
                sources = passages_of(sample) if quoted else texts_of(sample)
                run.append(judged(Said(replied(ask, sample).text, sources), quoted=quoted))
            runs[name] = run
            told(f"grounding: {len(run)} answers of {name}")
    return scores_of(runs)


def scores_of(runs: dict[str, list[Judged]]) -> list[Score]:
    """The share of grounded answers, with the bar; of those that state nothing; and of each run."""
    every = [one for run in runs.values() for one in run]
    silent = sum(not one.stated for one in every)
    scores = [score_of("grounding", every, BAR), Score("grounding: answers that state nothing", silent, len(every))]
    return scores + [score_of(f"grounding: {name}", run) for name, run in runs.items() if run]


def score_of(name: str, run: Sequence[Judged], bar: float | None = None) -> Score:
    """The share, of answers that state something, of those that state nothing which was not given."""
    stated = [one for one in run if one.stated]
    if not stated:
        return Score(name, 0, max(1, len(run)), bar, wrong=("no answer states anything",))
    wrong = [one for one in stated if one.missing]
    lines = tuple(f"{one.answer!r}: {', '.join(one.missing)} stands nowhere" for one in wrong)[:SHOWN]
    return Score(name, len(stated) - len(wrong), len(stated), bar, wrong=lines)


def judged(said: Said, *, quoted: bool = False) -> Judged:
    """What an answer states, looked up; ``quoted`` ones as a whole in the passages."""
    if not quoted:
        return Judged(said.answer, bool(facts(said.answer)), ungrounded(said.answer, said.sources))
    text = " ".join(_MARK.sub("", said.answer).split()).rstrip(" .,;")
    if not text or said.answer in REFUSALS:
        return Judged(said.answer, False, [])
    known = f" {' '.join(said.sources.lower().split())} "
    return Judged(said.answer, True, [] if _stands(text.lower(), known) else [text])


def ungrounded(answer: str, sources: str) -> list[str]:
    """The numbers, dates, codes and names of an answer that do not stand in its sources."""
    known = f" {sources.lower()} "
    return [
        fact
        for fact in facts(answer)
        if not _stands(fact.lower(), known)
        and not (fact.lower() in NUMBERS and _stands(str(NUMBERS[fact.lower()]), known))
    ]


def facts(answer: str) -> list[str]:
    """The numbers, dates, codes and names that an answer states, each once; marks of passages are none."""
    if answer in REFUSALS:
        return []
    answer = _MARK.sub("", answer.replace(LARGER, ""))
    codes = [match.group().rstrip(".,:") for match in _CODE.finditer(answer)]
    words = [match.group().removesuffix("'s").rstrip("'’-") for match in _WORD.finditer(answer)]
    words = [word for word in words if not any(sign.isdigit() for sign in word)]
    named = [word for word in words if word[0].isupper() and word not in OPENERS and word.split("'")[0] not in OPENERS]
    spelled = [word for word in words if word.lower() in NUMBERS and word.lower() != "one"]
    return list(dict.fromkeys([*codes, *named, *spelled]))


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
        calls = [str(call["function"]["arguments"]) for call in said.get("tool_calls") or ()]
        texts += [*_blocks(said), *calls]
    return "\n".join(texts)


def passages_of(sample: Sample) -> str:
    """What the tools of a conversation returned."""
    return "\n".join(text for said in sample.messages if said["role"] == "tool" for text in _blocks(said))


def _blocks(said: Message) -> list[str]:
    content = said["content"]
    return [content] if isinstance(content, str) else [block.get("text", "") for block in content]
