"""Conversations that are kept: found, gone on with, renamed, copied, taken back, written out, deleted, shared."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from textual.pilot import Pilot

from mmagent.errors import StoreLocked
from mmagent.session import Session
from mmagent.session.session import open_journal
from mmagent.testing import ScriptedModel
from mmagent.tui import sessions as module
from mmagent.tui.app import ChatApp
from mmagent.tui.items import Answer, Question
from mmagent.tui.sessions import SessionPicker, new_name, rows, when
from tests.tui.driving import answers, asked, idle, maker, notes, running, screen_text, send, shown, until


async def talk(*questions: str, name: str | None = None) -> str:
    """Have a conversation; gives its name."""
    app = ChatApp(maker(*(f"Answer to {question}" for question in questions)), session=name)
    async with running(app) as pilot:
        for question in questions:
            await asked(app, pilot, question)
        assert app.session is not None
        return app.session.name


async def listed(app: ChatApp, pilot: Pilot[None]) -> SessionPicker:
    await pilot.press("ctrl+l")
    await until(lambda: isinstance(app.screen, SessionPicker))
    await pilot.pause()
    assert isinstance(app.screen, SessionPicker)
    return app.screen


def names(picker: SessionPicker) -> list[str]:
    return [one.id for one in picker._shown]


async def back(app: ChatApp) -> None:
    await until(lambda: len(app.screen_stack) == 1)


async def test_a_conversation_is_called_by_its_first_question() -> None:
    assert await talk("Where is my order A-17?") == "where-is-my-order-a-17"
    assert await talk("Where is my order A-17?") == "where-is-my-order-a-17-2"
    assert Session.names() == ["where-is-my-order-a-17-2", "where-is-my-order-a-17"]


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Où est ma lampe ?", "où-est-ma-lampe"),
        ("你好", "你好"),
        ("../../etc", "etc"),
        ("_x", "x"),
        ("a" * 99, "a" * 40),
    ],
)
def test_names_from_questions_can_always_be_used(question: str, name: str) -> None:
    journal = open_journal()
    made = new_name(question, journal)
    assert made == name
    assert Session(made, journal).name == made
    journal.close()


@pytest.mark.parametrize("question", ["", "?!", "🙂", "\x1b[2J", "-", "...", "\ud800"])
def test_there_is_a_name_for_any_question(question: str) -> None:
    journal = open_journal()
    Session(new_name(question, journal), journal)
    journal.close()


async def test_sessions_are_listed_searched_and_resumed() -> None:
    await talk("the blue lamp", "and the shade?")
    await talk("the red mug")
    app = ChatApp(maker("On again."))
    async with running(app) as pilot:
        picker = await listed(app, pilot)
        assert names(picker) == ["the-red-mug", "the-blue-lamp"]
        await shown(app, "the-blue-lamp", "and the shade?", "today")
        await pilot.press(*"shade")
        await until(lambda: names(picker) == ["the-blue-lamp"])
        await pilot.press("enter")
        await back(app)
        await shown(app, "the blue lamp", "Answer to and the shade?")
        assert [type(one) for one in app.story.items] == [Question, Answer] * 2
        await asked(app, pilot, "what else?")
        assert app.session is not None and app.session.name == "the-blue-lamp"
        assert answers(app)[-1] == "On again." and len(app.session.messages) == 6


async def test_words_and_names_are_found_and_nothing_is_nothing() -> None:
    await talk("the blue lamp")
    assert [one.id for one in rows("blue")] == ["the-blue-lamp"]
    assert [one.id for one in rows("blue-la")] == ["the-blue-lamp"], "by its name"
    assert rows('"(* OR') == [] and rows("green") == []


def test_without_any_conversation_there_is_none() -> None:
    assert rows() == [] and rows("x") == []


async def test_an_empty_list_can_be_left_and_its_keys_do_nothing() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await listed(app, pilot)
        await pilot.press("f2", "f8", "enter", "up", "down")
        assert isinstance(app.screen, SessionPicker)
        await pilot.press("escape")
        await back(app)


async def test_escape_leaves_the_list_and_changes_nothing() -> None:
    await talk("one")
    app = ChatApp(maker())
    async with running(app) as pilot:
        await listed(app, pilot)
        await pilot.press("escape")
        await back(app)
        assert app.session is None and not app.story.items


async def test_renaming_in_the_list_and_by_command() -> None:
    await talk("one")
    app = ChatApp(maker())
    async with running(app) as pilot:
        await listed(app, pilot)
        await pilot.press("f2")
        await shown(app, "another name for one")
        await pilot.press("ctrl+u", *"lamp", "enter")
        await until(lambda: isinstance(app.screen, SessionPicker))
        await until(lambda: Session.names() == ["lamp"])
        await pilot.press("escape")
        await back(app)
        await asked(app, pilot, "two")
        await send(app, pilot, "/rename the mug")
        await until(lambda: "the-mug" in Session.names())
        await send(app, pilot, "/rename mug")
        await until(lambda: "mug" in Session.names())
        await shown(app, "scripted · mug")
        await send(app, pilot, "/rename no/such")
        await shown(app, "a session cannot be called 'no/such'")
        await asked(app, pilot, "three")
        assert len(Session.open("mug").messages) == 4
        assert Session.open("lamp").messages[0].text == "one"


async def test_a_copy_goes_its_own_way() -> None:
    app = ChatApp(maker("A.", "B.", "C."))
    async with running(app) as pilot:
        await asked(app, pilot, "one")
        app.do("fork", "other")
        await shown(app, "this is a copy of one, which stays as it is", "other")
        await asked(app, pilot, "two")
        assert app.session is not None and app.session.name == "other"
    assert len(Session.open("one").messages) == 2 and len(Session.open("other").messages) == 4


async def test_the_last_turn_is_taken_back_and_its_question_edited(tmp_path: Path) -> None:
    picture = tmp_path / "lamp.png"
    Image.new("RGB", (8, 8), "blue").save(picture)
    model = ScriptedModel(["A.", "B.", "C."])
    app = ChatApp(maker(model=model))
    async with running(app) as pilot:
        await asked(app, pilot, "one")
        app.do("attach", str(picture))
        await until(lambda: app.composer.staged)
        await asked(app, pilot, "what is it?")
        await send(app, pilot, "/rewind")
        await until(lambda: app.composer.text == "what is it?")
        await until(lambda: [one.name for one in app.composer.staged] == ["lamp.png"])
        assert [type(one) for one in app.story.items] == [Question, Answer] and answers(app) == ["A."]
        await pilot.press(*" really", "enter")
        await until(lambda: answers(app) == ["A.", "C."] and idle(app))
        assert model.requests[-1].messages[-1].text == "what is it? really"
        model.assert_saw(picture)
        await send(app, pilot, "/rewind 7")
        await shown(app, "has 2 turns; 7 cannot be taken back")
        await send(app, pilot, "/rewind x")
        await shown(app, "/rewind takes a number of turns, not x")


async def test_the_last_question_is_asked_again() -> None:
    model = ScriptedModel(["A.", "B."])
    app = ChatApp(maker(model=model))
    async with running(app) as pilot:
        await asked(app, pilot, "one")
        app.do("retry", "")
        await until(lambda: answers(app) == ["B."] and idle(app))
        assert [message.text for message in model.requests[-1].messages][-1] == "one"
        assert app.composer.text == ""


async def test_taking_back_a_turn_that_is_being_written() -> None:
    app = ChatApp(maker(model=ScriptedModel(["A.", "one two three " * 50], pause=0.05)))
    async with running(app) as pilot:
        await asked(app, pilot, "first")
        await send(app, pilot, "second")
        await until(lambda: len(answers(app)) == 2)
        app.do("rewind", "")
        await until(lambda: app.composer.text == "second" or "error" in str(notes(app)))
        assert app.composer.text == "second" and answers(app) == ["A."], notes(app)


@pytest.mark.parametrize(("place", "begins"), [("out.md", "#"), ("out.html", "<!"), ("out.jsonl", "{"), ("", "#")])
async def test_a_conversation_is_written_to_a_file(place: str, begins: str, tmp_path: Path) -> None:
    app = ChatApp(maker("It is <b>blue</b>."))
    async with running(app) as pilot:
        await asked(app, pilot, "which")
        app.do("export", place)
        await until(lambda: "the conversation is in" in notes(app))
        written = (tmp_path / (place or "which.md")).read_text(encoding="utf-8")
        assert written.startswith(begins) and "which" in written and "blue" in written
        app.do("export", "out.exe")
        await until(lambda: "out.exe has none of the endings .md, .html, .jsonl" in notes(app))
        app.do("export", "nowhere/out.md")
        await until(lambda: "nowhere/out.md cannot be written" in notes(app))


async def test_deleting_asks_first_and_enter_is_no() -> None:
    app = ChatApp(maker("A."))
    async with running(app) as pilot:
        await asked(app, pilot, "one")
        for key in ("enter", "n", "escape"):
            await send(app, pilot, "/delete")
            await shown(app, "delete one?")
            await pilot.press(key)
            await back(app)
        assert Session.names() == ["one"] and app.story.items
        await send(app, pilot, "/delete")
        await shown(app, "delete one?")
        await pilot.press("y")
        await back(app)
        await until(lambda: Session.names() == [] and not app.story.items)
        assert app.session is None


async def test_another_conversation_is_deleted_in_the_list() -> None:
    await talk("one")
    app = ChatApp(maker("A."))
    async with running(app) as pilot:
        await asked(app, pilot, "two")
        picker = await listed(app, pilot)
        await pilot.press("down")
        assert picker.marked is not None and picker.marked.id == "one"
        await pilot.press("f8")
        await shown(app, "delete one?")
        await pilot.press("y")
        await until(lambda: Session.names() == ["two"])
        await until(lambda: isinstance(app.screen, SessionPicker) and names(app.screen) == ["two"])
        await pilot.press("escape")
        await back(app)
        assert answers(app) == ["A."], "the one on the screen stays"


async def test_a_new_conversation_keeps_what_was_written_of_the_old() -> None:
    app = ChatApp(maker(model=ScriptedModel(["one two three " * 50, "B."], pause=0.03)))
    async with running(app) as pilot:
        await send(app, pilot, "count")
        await until(lambda: bool(answers(app)))
        await pilot.press("ctrl+n")
        await until(lambda: not app.story.items)
        await asked(app, pilot, "other")
        assert answers(app) == ["B."]
    kept = Session.open("count").messages
    assert [message.role for message in kept] == ["user", "assistant"] and kept[1].text.startswith("one")
    assert len(Session.open("other").messages) == 2


async def test_two_apps_in_one_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is told that the first is in a turn; later it goes on."""
    from mmagent.session import session as sessions

    monkeypatch.setattr(sessions, "LEASE_SECONDS", 0.1)
    await talk("one", name="shared")
    go = threading.Event()

    async def slow(request: Any) -> str:
        assert await asyncio.to_thread(go.wait, 30)
        return "From the first."

    first, second = ChatApp(maker(slow), session="shared"), ChatApp(maker("From the second."), session="shared")
    async with running(first) as one, running(second) as two:
        await send(first, one, "first asks")
        await until(lambda: first.turns.running)
        await asyncio.sleep(0.2)
        await send(second, two, "second asks")
        await until(lambda: "in the middle of a turn, maybe in another process" in notes(second))
        assert second.is_running and not second.turns.running
        go.set()
        await until(lambda: "From the first." in answers(first))
        await asked(second, two, "second asks again")
        assert answers(second)[-1] == "From the second."
    texts = [message.text for message in Session.open("shared").messages]
    assert texts[-4:] == ["first asks", "From the first.", "second asks again", "From the second."]


async def test_a_store_that_cannot_be_read_is_told_and_the_app_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    await talk("one")
    app = ChatApp(maker())
    async with running(app) as pilot:
        await listed(app, pilot)

        def locked(words: str = "") -> None:
            raise StoreLocked("another process has the sessions; try again")

        monkeypatch.setattr(module, "rows", locked)
        await pilot.press("o")
        await pilot.pause()
        await pilot.press("escape")
        await back(app)
        await pilot.press("ctrl+l")
        await until(lambda: "another process has the sessions; try again" in notes(app))
        assert "Traceback" not in screen_text(app)


def test_times_are_said_as_people_say_them() -> None:
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    assert when(now.isoformat()).startswith("today ")
    assert when((now - timedelta(days=1)).isoformat()).startswith(("yesterday ", "20"))
    assert when("2020-02-03T10:00:00+00:00").startswith("2020-02-0")
    assert when("nonsense") == "nonsense"
