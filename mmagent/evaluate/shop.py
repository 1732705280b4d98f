"""The shop task, end to end: unseen cases through the real agent, with real pictures, OCR, search and tools.

It knows what a right turn is, by `mmagent.train.shop.world.solve`, and nothing of how the model decodes it. A turn is
right when each step calls the right tools with the right arguments, the answer is right word for word, its citations
point at the right sections. What OCR or search get wrong counts as wrong, too.
"""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmagent.agent import Agent, Tool
from mmagent.chat.protocol import ChatModel
from mmagent.content import Image
from mmagent.errors import MMAgentError
from mmagent.events import Event, StepStarted, ToolCalled, ToolFinished, TurnFinished
from mmagent.knowledge import Knowledge
from mmagent.knowledge.embed import embedder_of
from mmagent.media import BlobStore
from mmagent.settings import settings
from mmagent.train.sample import Tool as Signature
from mmagent.train.shop.cases import draw_case
from mmagent.train.shop.episodes import declines
from mmagent.train.shop.pictures import render
from mmagent.train.shop.tools import draw_distractors
from mmagent.train.shop.world import (
    Call,
    Case,
    Hits,
    Intent,
    Picture,
    Section,
    Step,
    Turn,
    lacking,
    section_on,
    solve,
)

_MARK = re.compile(r"\[\d+\]")
GROUPS: dict[Intent, str] = {
    "return": "returns", "status": "delivery status", "policy": "policies", "price": "products", "stock": "products",
    "look": "products", "calculate": "sums and dates", "today": "sums and dates", "elsewhere": "declines",
    "beyond": "declines", "greeting": "small talk", "thanks": "small talk", "goodbye": "small talk",
    "about": "small talk",
}  # fmt: skip
"""What a case is counted under, by its first turn's intent."""
MISSING = "asks for what is missing"
"""What a case is counted under whose first turn lacks what it is about."""


@dataclass(frozen=True)
class Said:
    """An answer, and the texts that it may state things from: instructions, questions and results so far."""

    answer: str
    sources: str


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    seed: str
    kind: str
    """The first turn's intent and picture, e.g. ``return receipt``."""
    wrong: str = ""
    """What was wrong, in words; empty when all was right."""
    group: str = ""
    """What the case is counted under."""
    said: tuple[Said, ...] = ()
    """The turns' answers, up to the first that was wrong."""


def cases(count: int, seed: int) -> Iterator[tuple[str, Case]]:
    """Cases in wordings that training never saw, each with the seed that draws it again."""
    for index in range(count):
        name = f"shop evaluation {seed} {index}"
        yield name, draw_case(random.Random(name), held_out=True)


def evaluate(
    model: ChatModel,
    tools_file: Path,
    *,
    count: int,
    seed: int,
    progress: Callable[[Outcome], None],
    distractors: float = 0.4,
) -> list[Outcome]:
    """Run ``count`` cases.

    Args:
        model: The model under test.
        tools_file: The shop's tools; they read ``shop.json`` beside them.
        count: How many cases.
        seed: Decides the cases.
        progress: Is told each outcome as it comes.
        distractors: The share of cases with one to five tools beside, which nothing needs.
    """
    outcomes, table = [], Table(model, tools_file)
    for name, case in cases(count, seed):
        rng = random.Random(f"{name} pixels")
        beside = draw_distractors(random.Random(f"{name} tools"), distractors, of_trade=declines(case), held_out=True)
        wrong, said = table.play(case, rng, beside)
        outcomes.append(Outcome(name, kind_of(case), wrong, group_of(case), said))
        progress(outcomes[-1])
    return outcomes


def kind_of(case: Case) -> str:
    """The first turn's intent and what came with it."""
    turn = case.turns[0]
    given = turn.picture.kind if turn.picture else "number" if turn.order or turn.tracking else "text"
    return f"{turn.intent} {given}"


def group_of(case: Case) -> str:
    """What the case is counted under."""
    turn = case.turns[0]
    return MISSING if lacking(turn, turn.intent) else GROUPS[turn.intent]


class Table:
    """Where cases are played, one after the other: what is costly to make is made once.

    Args:
        model: The model under test.
        tools_file: The shop's tools.
    """

    def __init__(self, model: ChatModel, tools_file: Path) -> None:
        self._model, self._tools_file, self._embedder = model, tools_file, embedder_of(settings().embedder)

    def play(self, case: Case, rng: random.Random, beside: Sequence[Signature] = ()) -> tuple[str, tuple[Said, ...]]:
        """Play a case; returns what was wrong with it, or an empty string, and what was said."""
        said: list[Said] = []
        with tempfile.TemporaryDirectory() as folder:
            shop = build_shop(Path(folder), self._tools_file, case)
            with Knowledge(Path(folder) / "store", embedder=self._embedder) as knowledge:
                knowledge.add(shop / "policies")
                tools: list[Any] = [shop / "tools.py", *map(idle, beside)]
                blobs = BlobStore(Path(folder) / "blobs")
                agent = Agent(self._model, tools, knowledge=knowledge, blobs=blobs)
                known = agent.system.text
                for turn in case.turns:
                    shown = [Image(png(turn.picture, rng))] if turn.picture else []
                    try:
                        result = agent.run(turn.text, *shown)
                    except MMAgentError as error:
                        return f"{type(error).__name__}: {error}", tuple(said)
                    known = "\n".join([known, turn.text, *results_of(result.events)])
                    said.append(Said(result.text, known))
                    if wrong := judge(case, turn, result.events):
                        return wrong, tuple(said)
        return "", tuple(said)


def idle(signature: Signature) -> Tool[..., Any]:
    """A tool that is offered and does nothing."""
    function = signature["function"]
    return Tool.from_schema(function["name"], "", function["parameters"], lambda **_: "done", effect="read")


def results_of(events: Sequence[Event]) -> list[str]:
    """What the tools returned, as texts."""
    blocks = [block for event in events if isinstance(event, ToolFinished) for block in event.content]
    return [str(block["text"]) for block in blocks if block["type"] == "text"]


def build_shop(folder: Path, tools_file: Path, case: Case) -> Path:
    """The case's shop on disk, as a user's would be: tools, data and policies."""
    (folder / "policies").mkdir(parents=True)
    shutil.copy(tools_file, folder / "tools.py")
    data = {"orders": case.orders, "parcels": case.parcels, "products": case.products}
    (folder / "shop.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    documents: dict[str, list[Section]] = {}
    for section in case.sections:
        documents.setdefault(section.document, []).append(section)
    for document, sections in documents.items():
        text = "".join(f"\n## {section.heading}\n\n{section.text}\n" for section in sections)
        (folder / "policies" / f"{document.lower()}.md").write_text(f"# {document}\n{text}", encoding="utf-8")
    return folder


def png(picture: Picture, rng: random.Random) -> bytes:
    """The picture's file."""
    buffer = io.BytesIO()
    render(rng, picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def judge(case: Case, turn: Turn, events: Sequence[Event]) -> str:
    """What is wrong with a turn, or an empty string."""
    finished = next(event for event in events if isinstance(event, TurnFinished))
    solution = solve(case, turn, turn.intent)
    wanted = next(solution)
    for calls in steps(events):
        if not wanted.calls:
            return f"called {[call.name for call, _ in calls]}, where the answer was {wanted.text!r}"
        if problem := differ(wanted, [call for call, _ in calls]):
            return problem
        results = tuple(parse(case, finish) for _, finish in calls)
        if problem := unlucky(case, turn, results):
            return problem
        wanted = solution.send(results)
    if wanted.calls:
        return f"answered {finished.text!r}, where {[call.name for call in wanted.calls]} was to be called"
    if _MARK.sub("", finished.text) != _MARK.sub("", wanted.text):
        return f"answered {finished.text!r}, right was {wanted.text!r}"
    cited = tuple(citation.title for citation in finished.citations)
    return "" if cited == wanted.cites else f"cited {cited}, right was {wanted.cites}"


def steps(events: Sequence[Event]) -> Iterator[list[tuple[Call, ToolFinished]]]:
    """The calls of each step that made any, with what came of them."""
    finished = {event.id: event for event in events if isinstance(event, ToolFinished)}
    calls: list[tuple[Call, ToolFinished]] = []
    for event in events:
        if isinstance(event, StepStarted) and calls:
            yield calls
            calls = []
        elif isinstance(event, ToolCalled):
            calls.append((Call(event.name, event.args), finished[event.id]))
    if calls:
        yield calls


def differ(wanted: Step, calls: list[Call]) -> str:
    """How a step's calls differ from those wanted; the words of a search are free, and so are blanks around a value."""

    def shape(call: Call) -> tuple[str, dict[str, str]]:
        return call.name, {} if call.name == "search_knowledge" else {k: str(v).strip() for k, v in call.args.items()}

    if [shape(call) for call in calls] == [shape(call) for call in wanted.calls]:
        return ""
    return f"called {[(c.name, c.args) for c in calls]}, right was {[(c.name, c.args) for c in wanted.calls]}"


def parse(case: Case, finish: ToolFinished) -> Any:
    """A tool's outcome as `solve` takes it."""
    text = "".join(block["text"] for block in finish.content if block["type"] == "text")
    return text if finish.error is not None else read(case, finish.name, text)


def read(case: Case, name: str, text: str) -> Any:
    """A tool's result as `solve` takes it, from its words."""
    if text.startswith("error:") or name in ("read_text", "today", "calculate"):
        return text
    if name != "search_knowledge":
        return json.loads(text)
    by_title = {section.title: section for section in case.sections}
    titles = [line.partition("] ") for line in text.splitlines() if line.startswith("[")]
    return Hits(tuple((int(number[1:]), by_title[title]) for number, _, title in titles if title in by_title))


def unlucky(case: Case, turn: Turn, results: tuple[Any, ...]) -> str:
    """What OCR or search missed that the right answer needs."""
    for result in results:
        if isinstance(result, Hits):
            gold = section_on(case, turn.topic)
            if gold is not None and not result.number(gold):
                return f"the search did not find {gold.title!r}"
        elif isinstance(result, str) and "\n" in result and turn.picture and turn.picture.code not in result:
            return f"OCR did not read {turn.picture.code!r}"
    return ""


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Share right, overall and by kind, and the sorts of errors."""
    total = Counter(outcome.kind for outcome in outcomes)
    right = Counter(outcome.kind for outcome in outcomes if not outcome.wrong)
    return {
        "cases": len(outcomes),
        "right": round(sum(right.values()) / len(outcomes), 4),
        "by_kind": {kind: f"{right[kind]}/{count}" for kind, count in sorted(total.items())},
    }
