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

from mmagent.agent import Agent
from mmagent.chat.protocol import ChatModel
from mmagent.content import Image
from mmagent.errors import MMAgentError
from mmagent.events import Event, StepStarted, ToolCalled, ToolFinished, TurnFinished
from mmagent.knowledge import Knowledge
from mmagent.media import BlobStore
from mmagent.train.data import render
from mmagent.train.shop.cases import draw_case
from mmagent.train.shop.world import Call, Case, Hits, Picture, Section, Step, Turn, section_on, solve

_MARK = re.compile(r"\[\d+\]")


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    seed: str
    kind: str
    """The first turn's intent and picture, e.g. ``return receipt``."""
    wrong: str = ""
    """What was wrong, in words; empty when all was right."""


def cases(count: int, seed: int) -> Iterator[tuple[str, Case]]:
    """Cases in wordings that training never saw, each with the seed that draws it again."""
    for index in range(count):
        name = f"shop evaluation {seed} {index}"
        yield name, draw_case(random.Random(name), held_out=True)


def evaluate(
    model: ChatModel, tools_file: Path, *, count: int, seed: int, progress: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run ``count`` cases.

    Args:
        model: The model under test.
        tools_file: The shop's tools; they read ``shop.json`` beside them.
        progress: Is told each outcome as it comes.
    """
    outcomes = []
    for name, case in cases(count, seed):
        wrong = run_case(model, tools_file, case, random.Random(f"{name} pixels"))
        outcomes.append(Outcome(name, kind_of(case), wrong))
        progress(outcomes[-1])
    return outcomes


def kind_of(case: Case) -> str:
    """The first turn's intent and what came with it."""
    turn = case.turns[0]
    given = turn.picture.kind if turn.picture else "number" if turn.order or turn.tracking else "text"
    return f"{turn.intent} {given}"


def run_case(model: ChatModel, tools_file: Path, case: Case, rng: random.Random) -> str:
    """Play a case; returns what was wrong with it, or an empty string."""
    with tempfile.TemporaryDirectory() as folder:
        shop = build_shop(Path(folder), tools_file, case)
        with Knowledge(Path(folder) / "store") as knowledge:
            knowledge.add(shop / "policies")
            agent = Agent(model, [shop / "tools.py"], knowledge=knowledge, blobs=BlobStore(Path(folder) / "blobs"))
            for turn in case.turns:
                shown = [Image(png(turn.picture, rng))] if turn.picture else []
                try:
                    result = agent.run(turn.text, *shown)
                except MMAgentError as error:
                    return f"{type(error).__name__}: {error}"
                if wrong := judge(case, turn, result.events):
                    return wrong
    return ""


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
    render(rng, picture).save(buffer, "PNG")
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
    if finish.error is not None or finish.name in ("read_text", "today", "calculate"):
        return text
    if finish.name != "search_knowledge":
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
