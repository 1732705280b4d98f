"""The window on a conversation: its length costs nothing, and it follows what is written until somebody scrolls."""

from __future__ import annotations

import time

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Static

from mmagent.content import Message, text
from mmagent.events import Event, StepStarted, TextDelta, ToolCalled, ToolFinished, TurnFinished, Usage
from mmagent.session import Session
from mmagent.session.replay import draft
from mmagent.tui.app import ChatApp
from mmagent.tui.items import Answer, Note, Question
from mmagent.tui.story import Story
from mmagent.tui.transcript import MOST, WINDOW
from mmagent.tui.views import ItemView
from tests.blocking import no_blocking  # noqa: F401 # a fixture
from tests.tui.driving import asked, happen, maker, running, screen_text, shown, until


def long_story(turns: int) -> Story:
    story = Story()
    for number in range(turns):
        story.asked(f"question {number}")
        story.items.append(Answer(f"answer {number}", open=False))
    return story


def mounted(app: ChatApp) -> list[ItemView]:
    return list(app.transcript.query_children(ItemView))


def window(app: ChatApp) -> list[object]:
    """What the window should hold, as it says itself."""
    return list(app.story.items[app.transcript.first : app.transcript.last])


async def to_top(app: ChatApp, pilot: Pilot[None]) -> None:
    """As with the wheel: the edge is reached from below."""
    app.transcript.scroll_to(y=2, animate=False, immediate=True)
    app.transcript.release_anchor()
    await pilot.pause()
    app.transcript.scroll_to(y=0, animate=False, immediate=True, force=True)


async def to_end(app: ChatApp, pilot: Pilot[None]) -> None:
    transcript = app.transcript
    transcript.scroll_to(y=transcript.max_scroll_y - 1, animate=False, immediate=True)
    await pilot.pause()
    transcript.scroll_to(y=transcript.max_scroll_y, animate=False, immediate=True, force=True)


async def settled(app: ChatApp, pilot: Pilot[None]) -> None:
    await until(lambda: not app.transcript._moving)
    await pilot.pause()
    assert [view.item for view in mounted(app)] == window(app), "the views are those of the window, in their order"
    assert len(mounted(app)) <= MOST + 1


async def test_a_session_of_five_thousand_messages_opens_at_its_end(no_blocking: list[str]) -> None:  # noqa: F811
    session = Session.open("long")
    session.write(
        *(
            draft(Message(role=role, content=(text(f"{role} {number}"),)))  # type: ignore[arg-type]
            for number in range(2500)
            for role in ("user", "assistant")
        )
    )
    session.close()
    app = ChatApp(maker(), session="long")
    async with running(app) as pilot:
        no_blocking.clear()  # what Textual does to come up
        await until(lambda: len(app.story.items) >= 5000)
        await shown(app, "assistant 2499")
        assert "4,976 earlier" in str(app.query_one("#earlier", Static).content), "how much there is before"
        assert len(mounted(app)) <= WINDOW + 1 <= MOST
        await settled(app, pilot)
        no_blocking.clear()
        await asked(app, pilot, "and now?")
        await shown(app, "and now?", "Yes.")
        assert [view.item for view in mounted(app)][-2:] == app.story.items[-2:]
        while_asked = list(no_blocking)
    no_blocking.clear()  # what Textual does to end
    assert not while_asked


async def test_opening_takes_the_same_however_long_it_is() -> None:
    app = ChatApp(maker())
    async with running(app):
        took: dict[int, list[float]] = {}
        for turns in (50, 20_000) * 3:
            story = long_story(turns)
            began = time.process_time()
            await app.transcript.open(story)
            took.setdefault(turns, []).append(time.process_time() - began)
        assert min(took[20_000]) < 5 * min(took[50]) + 0.2


async def test_scrolling_up_shows_earlier_and_down_shows_later() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await app.transcript.open(long_story(100))
        await settled(app, pilot)
        assert (app.transcript.first, app.transcript.last) == (200 - WINDOW, 200)
        seen = [app.transcript.first]
        while app.transcript.first:
            await to_top(app, pilot)
            await until(lambda: app.transcript.first < seen[-1])
            await settled(app, pilot)
            await until(lambda: app.transcript.scroll_y > 0, 5)  # what was in sight stays there
            seen.append(app.transcript.first)
        assert app.transcript.last == MOST
        await to_top(app, pilot)
        await shown(app, "question 0")
        while app.transcript.last < len(app.story.items):
            last = app.transcript.last
            await to_end(app, pilot)
            await until(lambda last=last: app.transcript.last > last)
            await settled(app, pilot)
        await to_end(app, pilot)
        await shown(app, "answer 99")


async def test_a_high_screen_is_filled() -> None:
    app = ChatApp(maker())
    async with running(app, (100, 120)) as pilot:
        await app.transcript.open(long_story(100))
        await until(lambda: app.transcript.max_scroll_y > 0)
        await settled(app, pilot)
        assert app.transcript.first < 200 - WINDOW
        await shown(app, "answer 99")


async def test_what_was_in_sight_stays_in_sight_when_earlier_items_come() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await app.transcript.open(long_story(100))
        await settled(app, pilot)
        top = app.story.items[app.transcript.first]
        assert isinstance(top, Question)
        before = app.transcript.first
        await to_top(app, pilot)
        await until(lambda: app.transcript.first < before)
        await settled(app, pilot)
        await shown(app, top.text)


async def test_it_follows_what_is_written_until_somebody_scrolls_up_and_again_at_the_end() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await app.transcript.update([app.story.asked("write")])
        for number in range(40):
            await happen(app, [TextDelta(step=1, text=f"line {number}\n\n")])
        await shown(app, "line 39")
        await pilot.press("pageup", "pageup")
        await until(lambda: "line 39" not in screen_text(app))
        await pilot.wait_for_scheduled_animations()
        at = app.transcript.scroll_y
        await happen(app, [TextDelta(step=1, text=f"line {number}\n\n") for number in range(40, 60)])
        await pilot.pause()
        assert app.transcript.scroll_y == at and "line 59" not in screen_text(app), "nothing moves under the reader"
        await pilot.press("ctrl+end")
        await shown(app, "line 59")
        await happen(app, [TextDelta(step=1, text="the last line\n\n")])
        await shown(app, "the last line")


async def test_a_question_leads_back_to_the_end() -> None:
    app = ChatApp(maker("It is here."))
    async with running(app) as pilot:
        await app.transcript.open(long_story(100))
        await to_top(app, pilot)
        await settled(app, pilot)
        await asked(app, pilot, "where is it?")
        await shown(app, "where is it?", "It is here.")


async def test_what_is_said_while_somebody_reads_above_is_there_later() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await app.transcript.open(long_story(200))
        for _ in range(4):
            first = app.transcript.first
            await to_top(app, pilot)
            await until(lambda first=first: app.transcript.first < first)
            await settled(app, pilot)
        for number in range(5):
            await app.tell(f"note {number}")
        await settled(app, pilot)
        assert app.transcript.last < len(app.story.items)
        await app.transcript.follow()
        await shown(app, "note 4")
        await settled(app, pilot)
        assert isinstance(app.story.items[-1], Note)


def turn(number: int) -> list[Event]:
    return [
        StepStarted(step=1),
        ToolCalled(step=1, id=str(number), name="look", args={"n": number}),
        ToolFinished(step=1, id=str(number), name="look", content=(text("found"),), seconds=0.1),
        TextDelta(step=2, text=f"answer {number}"),
        TurnFinished(text=f"answer {number}", usage=Usage(), steps=2, seconds=0.1),
    ]


async def test_many_items_live_are_no_more_widgets_than_a_few() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        most = 0
        for number in range(20):
            await app.transcript.update([app.story.asked(f"question {number}")])
            await happen(app, turn(number))
            most = max(most, len(mounted(app)))
        assert len(app.story.items) == 60
        for start in range(0, 640, 80):
            await app.transcript.update([app.story.note(f"note {start + number}") for number in range(80)])
            most = max(most, len(mounted(app)))
        assert len(app.story.items) == 700
        await shown(app, "note 639")
        await settled(app, pilot)
        assert most <= MOST + 3
        assert len(list(app.transcript.walk_children(Widget))) < 12 * MOST


async def test_the_welcome_gives_way_to_what_is_said() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await shown(app, "Ask something, and see each step of the answer.")
        await asked(app, pilot, "hello")
        assert "see each step" not in screen_text(app)
        app.do("new", "")
        await shown(app, "Ask something, and see each step of the answer.")


async def test_changes_at_the_same_time_come_one_after_the_other() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await app.transcript.open(long_story(100))
        story = long_story(30)
        app.work(app.transcript.open(story))
        for number in range(20):
            app.work(app.tell(f"note {number}"))
        app.work(app.transcript.follow())
        await until(lambda: isinstance(app.story.items[-1], Note) and len(app.story.items) >= 80)
        await settled(app, pilot)


async def test_what_comes_while_another_is_drawn_is_drawn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        reach, notes = app.transcript._reach, list[Note]()

        async def slow(last: int) -> None:
            await reach(last)
            if not notes:
                notes.append(app.story.note("it came in between", "error"))

        monkeypatch.setattr(app.transcript, "_reach", slow)
        await app.transcript.update([app.story.asked("first")])
        await app.transcript.update(notes)
        await shown(app, "first", "it came in between")
        await settled(app, pilot)
