"""Which passage a mark of an answer is a citation of: in one turn, in later ones, in journals of earlier versions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest

from mmagent.agent import Agent, ToolContext
from mmagent.agent.citations import cite, hits_of
from mmagent.content import Message, text
from mmagent.errors import StoreError
from mmagent.events import Citation
from mmagent.knowledge import Hit
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.session.journal import Draft
from mmagent.session.replay import CITED, draft
from mmagent.testing import ScriptedModel, call

LAMPS = Hit("1", "Lamps can be returned within 30 days. Bulbs cannot.", "Returns > Lamps", "returns.md", 0, 51, 1.0)
POST = Hit("2", "Parcels take two days.", "Post", "post.md", 0, 22, 1.0)
CALL = replace(POST, id="3", kind="speech", uri="call.wav", t0=62.0, t1=77.5, text="Your parcel left on Monday.")
DRAWN = replace(POST, id="4", text="", title="Manual", uri="manual.pdf", kind="page", page=3, box=(0.1, 0.2, 0.6, 0.5))


def test_a_citation_says_where_it_stands() -> None:
    said, drawn = cite("The parcel left on Monday [1]. Turn the screws [2].", [CALL, DRAWN])
    assert (said.quote, said.kind, said.t0, said.t1, said.page) == (CALL.text, "speech", 62.0, 77.5, None)
    assert (drawn.quote, drawn.kind, drawn.page, drawn.box) == ("", "page", 3, (0.1, 0.2, 0.6, 0.5))
    assert [one.mark for one in (said, drawn)] == [1, 2]


def test_number_and_passage_always_agree() -> None:
    hits = [POST, LAMPS]
    (wrong,) = cite("Lamps can be returned within 30 days [1].", hits)
    assert (wrong.number, wrong.marked, wrong.mark, wrong.title) == (2, 1, 1, "Returns > Lamps")
    (right,) = cite("Lamps can be returned within 30 days [2].", hits)
    assert (right.number, right.marked, right.mark) == (2, None, 2)
    for one in cite("Parcels [2], lamps [1]: two days, 30 days. [1] [2] [7]", hits):
        assert (one.title, one.uri) == (hits[one.number - 1].title, hits[one.number - 1].uri)
        assert one.quote in hits[one.number - 1].text


def test_a_marked_picture_stays_although_words_would_fit_better() -> None:
    (drawn,) = cite("Lamps can be returned within 30 days [1].", [DRAWN, LAMPS])
    assert (drawn.number, drawn.marked, drawn.title) == (1, None, "Manual")


def test_marks_belong_to_their_sentence_in_other_scripts() -> None:
    chinese = [replace(LAMPS, text="灯具可在三十天内退货。灯泡不能退货。"), replace(POST, text="包裹需要两天。")]
    citations = cite("灯具可在三十天内退货[1]。包裹需要两天。[2]", chinese)
    assert [(one.mark, one.number, one.quote) for one in citations] == [
        (1, 1, "灯具可在三十天内退货。"),
        (2, 2, "包裹需要两天。"),
    ]


def test_citations_of_earlier_versions_load() -> None:
    old: dict[str, Any] = {"number": 1, "title": "Returns", "uri": "returns.md", "quote": "30 days"}
    assert Citation.model_validate(old) == Citation(**old)
    assert Citation.model_validate_json(Citation(**old, box=(0, 0, 1, 0.5)).model_dump_json()).box == (0, 0, 1, 0.5)


# From turn to turn


def searching(*answers: Sequence[Hit]) -> Any:
    """A search tool that finds something else each time."""
    left = list(answers)

    def search(ctx: ToolContext) -> str:
        return " ".join(f"[{ctx.cite(hit)}] {hit.text}" for hit in left.pop(0))

    return search


def agent(folder: Path, session: Session, model: list[Any], tool: Any) -> Agent:
    return Agent(ScriptedModel(model), [tool], builtins=False, session=session, blobs=BlobStore(folder / "blobs"))


async def test_a_number_never_means_another_passage_later(tmp_path: Path) -> None:
    first = Session.open("a", tmp_path / "sessions")
    await agent(tmp_path, first, [call("search"), "30 days [1]."], searching([LAMPS])).arun("lamps?")
    first.close()
    again = Session.open("a", tmp_path / "sessions")  # another process goes on
    model = [call("search"), "Two days [2], as I said: 30 days [1]."]
    result = await agent(tmp_path, again, model, searching([POST, LAMPS])).arun("parcels?")
    assert [message.text for message in result.messages if message.role == "tool"][-1].startswith("[2] Parcels")
    assert [(one.number, one.title) for one in result.citations] == [(2, "Post"), (1, "Returns > Lamps")]
    assert result.hits == (LAMPS, POST)


async def test_what_was_taken_back_gives_its_numbers_back(tmp_path: Path) -> None:
    session = Session.memory()
    await agent(tmp_path, session, [call("search"), "30 days [1]."], searching([LAMPS])).arun("lamps?")
    session.rewind()
    result = await agent(tmp_path, session, [call("search"), "Two days [1]."], searching([POST])).arun("parcels?")
    assert [(one.number, one.title) for one in result.citations] == [(1, "Post")]


async def test_places_come_back_from_the_journal(tmp_path: Path) -> None:
    session, dated = Session.open("a", tmp_path / "sessions"), replace(DRAWN, metadata={"year": 2024})
    await agent(tmp_path, session, [call("search"), "ok"], searching([CALL, dated])).arun("?")
    session.close()
    result = await agent(tmp_path, Session.open("a", tmp_path / "sessions"), ["Look [2]."], searching()).arun("where?")
    assert result.hits == (CALL, dated)
    assert result.citations[0].box == DRAWN.box


def old_turn(number: int, *hits: Hit) -> list[Draft]:
    """A turn as earlier versions wrote it: its passages are numbered from 1."""
    made: Any = {"type": "tool_call", "id": f"c{number}", "name": "search", "args": {}}
    kept = ("id", "text", "title", "uri", "start", "end", "score")
    return [
        draft(Message(role="user", content=(text("?"),))),
        draft(Message(role="assistant", content=(made,))),
        draft(Message(role="tool", content=(text("found"),), tool_call_id=made["id"], name="search")),
        Draft(CITED, {"hits": [{name: asdict(hit)[name] for name in kept} for hit in hits]}),
    ]


async def test_a_turn_of_an_earlier_version_goes_on_with_its_own_numbers(tmp_path: Path) -> None:
    session = Session.memory()
    for entry in (*old_turn(1, LAMPS, CALL), *old_turn(2, POST)):
        session.write(entry)
    result = await agent(tmp_path, session, ["Two days [1]."], searching()).arun(resume=True)
    assert [(one.number, one.title) for one in result.citations] == [(1, "Post")]
    result = await agent(tmp_path, session, [call("search"), "30 days [2]."], searching([LAMPS])).arun("lamps?")
    assert [(one.number, one.title) for one in result.citations] == [(2, "Returns > Lamps")]


def test_passages_of_later_versions_and_what_is_none() -> None:
    assert hits_of([asdict(LAMPS) | {"mood": "good"}]) == [LAMPS]
    assert hits_of([asdict(DRAWN) | {"box": [0.1, 0.2, 0.6, 0.5]}]) == [DRAWN]
    for broken in ({"id": "1"}, asdict(LAMPS) | {"text": 5}):
        with pytest.raises(StoreError, match="cites passages that are none; take a new session"):
            hits_of([broken])


# What nothing supports


async def test_a_result_tells_what_nothing_supports(tmp_path: Path) -> None:
    answer = "Lamps can be returned within 30 days [1]. Bulbs have 90 days. Shall I do it?"
    result = await agent(tmp_path, Session.memory(), [call("search"), answer], searching([LAMPS])).arun("?")
    assert [(one.sentence, one.reason) for one in result.unsupported] == [("Bulbs have 90 days.", "90 in no passage")]


async def test_claims_may_rest_on_other_tools_and_nothing_is_judged_without_a_search(tmp_path: Path) -> None:
    def days_left() -> int:
        return 90

    model = ScriptedModel([[call("search"), call("days_left")], "Lamps: 90 days [1].", "Bulbs have 91 days."])
    asked = Agent(model, [searching([LAMPS]), days_left], builtins=False, blobs=BlobStore(tmp_path))
    assert (await asked.arun("?")).unsupported == []
    assert [one.reason for one in (await asked.arun("?")).unsupported] == ["91 in no passage"]
    alone = Agent(ScriptedModel(["Rome has 91 hills."]), builtins=False, blobs=BlobStore(tmp_path))
    assert (await alone.arun("?")).unsupported == []


class Meeting(list[Hit]):
    """A list to which two threads add at the same moment, if they can."""

    def __init__(self) -> None:
        super().__init__()
        self._barrier = Barrier(2, timeout=0.5)

    def append(self, hit: Hit) -> None:
        self._meet()
        super().append(hit)
        self._meet()

    def _meet(self) -> None:
        with suppress(BrokenBarrierError):  # they cannot
            self._barrier.wait()


@pytest.mark.parametrize(("cited", "numbers"), [([CALL, CALL], {1}), ([CALL, DRAWN], {1, 2})])
def test_calls_at_the_same_time_number_their_passages_apart(cited: list[Hit], numbers: set[int]) -> None:
    hits = Meeting()
    contexts = [ToolContext(hits=hits), ToolContext(hits=hits)]
    with ThreadPoolExecutor(2) as pool:
        given = list(pool.map(lambda context, hit: context.cite(hit), contexts, cited))
    assert set(given) == numbers
    assert [hits[number - 1] for number in given] == cited
    assert len(hits) == len(numbers)
