"""The app as a whole: stopping, errors, what is resumed, a model that cannot be had, pictures, sources, preferences."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from mmagent.agent import tool
from mmagent.errors import ConfigurationError, ModelError, ToolError
from mmagent.events import Citation
from mmagent.knowledge import Hit
from mmagent.session import Session
from mmagent.testing import FailingModel, ScriptedModel, call
from mmagent.tui import acts, pictures
from mmagent.tui.app import ChatApp
from mmagent.tui.items import Answer, Call, Question
from mmagent.tui.pickers import Choice, Picker
from mmagent.tui.preferences import Preferences, read
from mmagent.tui.turns import Over
from mmagent.tui.views import CitationView
from tests.blocking import no_blocking  # noqa: F401 # a fixture
from tests.tui.driving import answers, asked, happen, idle, maker, notes, running, screen_text, send, shown, until

STOPS = 0.2
"""Seconds in which an answer stops; tests allow ten times as much, for machines that are busy."""


# a turn


async def test_a_turn_from_the_question_to_the_answer(lookup_tool: object) -> None:
    model = ScriptedModel([["Let me look. ", call("lookup", order_id="A-1")], "It costs **3**."])
    app = ChatApp(maker(model=model, tools=[lookup_tool]))
    async with running(app) as pilot:
        await asked(app, pilot, "what does A-1 cost?")
        await shown(app, "what does A-1 cost?", "Let me look.", '✓ lookup(order_id="A-1")', "It costs 3.")
        await shown(app, "scripted · what-does-a-1-cost · ", "% of context")
        assert [type(one) for one in app.story.items] == [Question, Answer, Call, Answer]
        assert [message.role for message in model.requests[-1].messages][-3:] == ["user", "assistant", "tool"]


async def test_the_status_tells_the_last_prompt_and_the_models_own_time() -> None:
    @tool
    def slow() -> str:
        """Take some time."""
        time.sleep(0.5)
        return "long " * 200

    model = ScriptedModel([[call("slow")], "It is done."])
    app = ChatApp(maker(model=model, tools=[slow]))
    async with running(app) as pilot:
        await asked(app, pilot, "go")
        figures = app.status.figures
        last = model.count_tokens(model.requests[-1])
        assert last < figures.used < last + 10, "the prompt and the answer of the last step"
        assert figures.speed is not None and figures.speed > 20, "tools take no time of the model's"


async def test_results_open_and_fold(lookup_tool: object) -> None:
    app = ChatApp(maker([call("lookup", order_id="A-1")], "Three.", tools=[lookup_tool]))
    async with running(app) as pilot:
        await asked(app, pilot, "what?")
        assert '"price": 3' not in screen_text(app)
        await pilot.press("ctrl+o")
        await shown(app, '"price": 3', "▾ ✓ lookup")
        await pilot.press("ctrl+o")
        await until(lambda: '"price": 3' not in screen_text(app))
        await pilot.click(".call > .line")
        await shown(app, '"price": 3')


async def test_a_call_that_failed_is_open_and_the_turn_goes_on() -> None:
    @tool(effect="read")
    def look(x: int) -> str:
        """Look.

        Args:
            x: At what.
        """
        raise ToolError("there is nothing; ask for another")

    app = ChatApp(maker(call("look", x=1), "Nothing there.", tools=[look]))
    async with running(app) as pilot:
        await asked(app, pilot, "look")
        await shown(app, "▾ ✗ look(x=1)", "there is nothing; ask for another", "Nothing there.")


async def test_escape_stops_at_once_and_keeps_what_there_is() -> None:
    model = ScriptedModel(["one two three " * 200, "Again."], pause=0.02)
    app = ChatApp(maker(model=model))
    async with running(app) as pilot:
        await send(app, pilot, "count")
        await until(lambda: bool(answers(app)))
        began = time.monotonic()
        app.action_do("stop")
        await until(lambda: not app.turns.running and app.story.items[-1].stopped)  # type: ignore[union-attr]
        assert time.monotonic() - began < 10 * STOPS
        part = answers(app)[-1]
        await shown(app, "stopped")
        assert part.startswith("one") and not app.status.figures.working
        await asked(app, pilot, "again")
        assert answers(app) == [part, "Again."], "nothing of the first answer comes after its end"
        assert app.session is not None
        kept = app.session.messages[1].text
    assert kept.startswith("one") and len(kept) < 2000


async def test_escape_is_a_key_that_stops() -> None:
    app = ChatApp(maker(model=ScriptedModel(["one two three " * 200], pause=0.02)))
    async with running(app) as pilot:
        await send(app, pilot, "count")
        await until(lambda: bool(answers(app)))
        await pilot.press("escape")
        await until(lambda: not app.turns.running)
        await shown(app, "stopped")


async def test_stopping_a_call_shows_that_nobody_knows_what_came_of_it() -> None:
    go = threading.Event()

    @tool(effect="unsafe")
    def wait() -> str:
        """Wait."""
        go.wait(30)
        return "done"

    app = ChatApp(maker(call("wait"), "Done.", tools=[wait]))
    async with running(app) as pilot:
        await send(app, pilot, "wait")
        await shown(app, "… wait()")
        app.do("stop", "")
        await shown(app, "· wait()", "stopped")
        assert "… wait" not in screen_text(app)
        go.set()


async def test_ctrl_c_stops_then_clears_then_leaves() -> None:
    app = ChatApp(maker(model=ScriptedModel(["one two three " * 200], pause=0.02)))
    async with running(app) as pilot:
        await send(app, pilot, "count")
        await until(lambda: bool(answers(app)))
        app.composer.write("draft")
        await pilot.press("ctrl+c")
        await until(lambda: not app.turns.running)
        assert app.composer.text == "draft"
        await pilot.press("ctrl+c")
        assert app.composer.text == ""
        await pilot.press("ctrl+c")
        await shown(app, "Ctrl-C again leaves; the conversation is kept")
        await pilot.press("ctrl+c")
        await until(lambda: not app.is_running)


async def test_leaving_in_the_middle_of_an_answer_keeps_it() -> None:
    app = ChatApp(maker(model=ScriptedModel(["one two three " * 200], pause=0.02)))
    async with running(app) as pilot:
        await send(app, pilot, "count")
        await until(lambda: len(answers(app)) == 1 and len(answers(app)[0]) > 10)
        await pilot.press("ctrl+q")
        await until(lambda: not app.is_running)
    kept = Session.open("count").messages
    assert [one.role for one in kept] == ["user", "assistant"] and kept[1].text.startswith("one two")


# what goes wrong


async def test_an_error_is_told_with_what_to_do_and_without_a_traceback() -> None:
    app = ChatApp(maker(ModelError("the server is gone; start it again"), "Yes."))
    async with running(app) as pilot:
        await asked(app, pilot, "hello")
        await shown(app, "the server is gone; start it again")
        assert notes(app).count("the server is gone") == 1 and "Traceback" not in screen_text(app)
        await asked(app, pilot, "hello again")
        assert answers(app) == ["Yes."]


async def test_a_connection_that_breaks_keeps_the_part_that_there_was() -> None:
    app = ChatApp(maker(model=FailingModel(ScriptedModel(["one two three four", "Yes."]), after_tokens=2)))
    async with running(app) as pilot:
        await asked(app, pilot, "count")
        await shown(app, "one two", "the connection to the model was lost; try again")


async def test_a_bug_is_one_line_and_tells_no_secrets() -> None:
    def bug(request: Any) -> str:
        raise RuntimeError("api_key=sk-0123456789abcdef0123456789abcdef")

    app = ChatApp(maker(bug, "Yes."))
    async with running(app) as pilot:
        await asked(app, pilot, "hello")
        assert "the conversation is kept, ask again" in notes(app) or "RuntimeError" in notes(app)
        assert "0123456789abcdef" not in screen_text(app) and "Traceback" not in screen_text(app)
        await asked(app, pilot, "hello")
        assert answers(app) == ["Yes."]


async def test_a_model_that_cannot_be_loaded_leaves_an_app_in_which_another_can_be_chosen() -> None:
    make = maker("Yes.")

    def made(**given: Any) -> Any:
        if given.pop("model", "") != "good":
            raise ModelError("there is no model nano; mmagent models pull one")
        return make(**given)

    app = ChatApp(made)
    async with running(app, loaded=False) as pilot:
        await shown(app, "there is no model nano; mmagent models pull one", "no model")
        await send(app, pilot, "hello")
        await shown(app, "1 queued")
        await pilot.press("f1")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        app.do("model", "bad")
        await until(lambda: notes(app).count("there is no model nano") == 2)
        app.do("model", "good")
        await until(lambda: answers(app) == ["Yes."] and idle(app))
        assert app.changes == {"model": "good"}
        await shown(app, "scripted answers from now on")


async def test_the_conversation_that_was_wanted_is_opened_by_the_model_that_could_be_had() -> None:
    first = ChatApp(maker("A."))
    async with running(first) as pilot:
        await asked(first, pilot, "one")
    make = maker("B.")

    def made(**given: Any) -> Any:
        if given.pop("model", "") != "good":
            raise ModelError("there is no model nano")
        return make(**given)

    app = ChatApp(made, session="one")
    async with running(app, loaded=False) as pilot:
        await shown(app, "there is no model nano")
        app.do("model", "good")
        await until(lambda: app.agent is not None)
        await until(lambda: answers(app) == ["A."])
        await asked(app, pilot, "two")
    assert len(Session.open("one").messages) == 4


async def test_another_model_goes_on_with_the_conversation() -> None:
    second = ScriptedModel(["B."])
    app = ChatApp(maker("A."))
    async with running(app) as pilot:
        await asked(app, pilot, "one")
        await acts.load(app, model=second)
        await asked(app, pilot, "two")
        assert answers(app) == ["A.", "B."]
        assert [one.text for one in second.requests[0].messages if one.role != "system"] == ["one", "A.", "two"]


async def test_a_picker_chooses_what_is_typed() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        chosen: list[str | None] = []
        app.push_screen(Picker("models", [Choice("nano", "nano"), Choice("org/big", "org/big", "70B")]), chosen.append)
        await shown(app, "org/big  70B")
        await pilot.press(*"70b", "enter")
        await until(lambda: chosen == ["org/big"])


async def test_typing_fast_in_a_list_that_previews_does_no_harm() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        before = app.theme
        app.do("theme", "")
        await until(lambda: isinstance(app.screen, Picker))
        await pilot.pause()
        from textual.widgets import Input

        field = app.screen.query_one(Input)
        for words in ("l", "zzzz", "d", "qqqq"):
            field.value = words
        await pilot.pause()
        await pilot.press("down", "enter", "escape")
        await until(lambda: len(app.screen_stack) == 1)
        assert app.theme == before


# what is gone on with


async def test_an_unfinished_turn_is_told_of_and_resumed() -> None:
    app = ChatApp(maker(ModelError("the server is gone; start it again")))
    async with running(app) as pilot:
        await asked(app, pilot, "hello there")
    model = ScriptedModel(["Here I am."])
    app = ChatApp(maker(model=model), session="hello-there")
    async with running(app) as pilot:
        await shown(app, "the last turn has no answer yet; /resume goes on with it")
        await send(app, pilot, "/resume")
        await until(lambda: answers(app) == ["Here I am."] and idle(app))
        assert [one.text for one in app.story.items if isinstance(one, Question)] == ["hello there"]
        assert model.requests[0].messages[-1].text == "hello there"


async def test_what_is_wanted_before_the_model_is_there_waits_for_it() -> None:
    app = ChatApp(maker(ModelError("the server is gone; start it again")))
    async with running(app) as pilot:
        await asked(app, pilot, "hello there")
    go, make = threading.Event(), maker("Here I am.")

    def slow(*, say: Any, **given: Any) -> Any:
        assert go.wait(20)
        say("it was slow")
        return make(say=say, **given)

    app = ChatApp(slow, session="hello-there")
    async with running(app, loaded=False) as pilot:
        await send(app, pilot, "/resume")
        await pilot.pause()
        go.set()
        await until(lambda: answers(app) == ["Here I am."] and idle(app))
        await shown(app, "it was slow")


async def test_with_nothing_to_go_on_with_that_is_told() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await send(app, pilot, "/resume")
        await until(lambda: bool(notes(app)) and idle(app))
        assert "Traceback" not in screen_text(app)
        await asked(app, pilot, "hello")
        assert answers(app) == ["Yes."]


# pictures and sources


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "lamp.png"
    Image.new("RGB", (80, 60), (250, 10, 10)).save(path)
    return path


async def test_pictures_are_blocks_with_a_caption(picture: Path) -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        app.do("attach", str(picture))
        await until(lambda: app.composer.staged)
        await asked(app, pilot, "what is it?")
        await shown(app, "lamp.png 80×60", "▀▀▀▀▀▀▀▀")


async def test_without_pictures_there_is_the_caption_alone(picture: Path) -> None:
    app = ChatApp(maker(), preferences=Preferences(pictures="none"))
    async with running(app) as pilot:
        app.do("attach", str(picture))
        await until(lambda: app.composer.staged)
        await asked(app, pilot, "what is it?")
        await shown(app, "lamp.png 80×60")
        body = app.transcript.query(".picture").first()
        assert "▀" not in str(body.render())


@pytest.mark.parametrize("size", [(1, 1), (4000, 10), (10, 4000), (640, 480), (3, 2)])
def test_blocks_take_no_more_than_their_place(size: tuple[int, int]) -> None:
    drawn = pictures.blocks(Image.new("RGB", size, (1, 2, 3)), columns=20, rows=8)
    lines = drawn.plain.split("\n")
    assert 1 <= len(lines) <= 8 and {len(line) for line in lines} == {len(lines[0])} and 1 <= len(lines[0]) <= 20
    assert set(drawn.plain) <= {"▀", "\n"} and "#010203 on #010203" in str(drawn.spans)


def test_pictures_of_every_kind_become_blocks() -> None:
    for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16"):
        assert "▀" in pictures.blocks(Image.new(mode, (8, 8))).plain


TEXT = "Lamps can be returned\nwithin 30 days of delivery. Bulbs cannot."
CITED = Citation(number=1, title="Returns", uri="returns.md", quote="within 30 days of delivery")


class Library:
    """Knowledge of two passages."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get(self, uri: str) -> list[Hit]:
        self.asked.append(uri)
        return [
            Hit("1", TEXT, "Returns", uri, 0, len(TEXT), 1.0),
            Hit("2", "More [b]of[/b] it.", "More", uri, 0, 9, 1.0),
        ]


async def test_a_citation_opens_its_source_with_the_quote_marked() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        library = Library()
        app.agent = SimpleNamespace(**{**vars(app.agent), "knowledge": library, "close": lambda: None})  # type: ignore[assignment]
        app.story.asked("how long?")
        answer = Answer("30 days [1].", (CITED,), open=False)
        app.story.items.append(answer)
        await app.transcript.update([answer])
        await shown(app, "[1] Returns", '"within 30 days of delivery"')
        app.query_one(CitationView).focus()
        await pilot.press("enter")
        await shown(app, "Returns   returns.md", "Lamps can be returned", "Bulbs cannot.", "More [b]of[/b] it.")
        assert library.asked == ["returns.md"]
        from mmagent.tui.panels import _marked

        (span,) = _marked(TEXT, "returned within 30  days").spans
        assert TEXT[span.start : span.end] == "returned\nwithin 30 days"
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        await pilot.click(CitationView)
        await shown(app, "Bulbs cannot.")


async def test_a_citation_without_knowledge_shows_its_quote() -> None:
    app = ChatApp(maker())
    async with running(app):
        await acts.open_citation(app, CITED)
        await shown(app, "Returns   returns.md", "within 30 days of delivery")


# preferences


async def test_a_theme_is_kept_and_taken_up_again(tmp_path: Path) -> None:
    app = ChatApp(maker(), folder=tmp_path / "config")
    async with running(app) as pilot:
        await send(app, pilot, "/theme textual-light")
        await until(lambda: app.theme == "textual-light")
        app.do("aloud", "")
        await send(app, pilot, "/theme no-such")
        await until(lambda: "there is no theme no-such; there are " in notes(app))
        assert app.theme == "textual-light"
    kept = json.loads((tmp_path / "config" / "terminal.json").read_text())
    assert kept == {"theme": "textual-light", "aloud": True}
    app = ChatApp(maker(), preferences=read(tmp_path / "config"))
    async with running(app):
        assert app.theme == "textual-light" and app.status.figures.aloud


async def test_colours_are_seen_before_they_are_chosen_and_escape_leaves_them() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        before = app.theme
        await send(app, pilot, "/theme")
        await shown(app, "colours", "dracula")
        await pilot.press(*"dracula")
        await until(lambda: app.theme == "dracula")
        await pilot.press("escape")
        await until(lambda: app.theme == before)


async def test_keys_can_be_bound_anew(tmp_path: Path) -> None:
    (tmp_path / "terminal.json").write_text('{"keys": {"help": "f5", "sessions": "ctrl+s"}}')
    app = ChatApp(maker(), preferences=read(tmp_path))
    async with running(app) as pilot:
        await pilot.press("f1")
        await pilot.pause()
        assert len(app.screen_stack) == 1
        await pilot.press("f5")
        await until(lambda: len(app.screen_stack) == 2)
        await shown(app, "Keys")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "correct or remove it"),
        ("[]", "correct or remove it"),
        ('{"colour": "red"}', "colour"),
        ('{"expand": "sometimes"}', "expand"),
        ('{"keys": {"fly": "f5"}}', "there is no command fly to give a key; there are "),
        ('{"keys": {"help": 5}}', "keys.help"),
        ("\x00", "correct or remove it"),
    ],
)
def test_preferences_that_cannot_be_used_are_refused_with_the_place(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "terminal.json").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path)
    assert why in str(refused.value) and str(tmp_path / "terminal.json") in str(refused.value)


def test_preferences_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "terminal.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigurationError, match=r"terminal\.json"):
        read(tmp_path)


def test_without_a_file_there_are_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path) == Preferences()


async def test_a_folder_that_cannot_be_written_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    app = ChatApp(maker(), folder=tmp_path / "file")
    async with running(app) as pilot:
        await send(app, pilot, "/theme dracula")
        await until(lambda: app.theme == "dracula")


# what it takes


async def test_events_do_not_keep_the_keyboard_waiting(no_blocking: list[str]) -> None:  # noqa: F811
    app = ChatApp(maker(*[" ".join(f"w{number}" for number in range(300))] * 2))
    async with running(app) as pilot:
        await pilot.pause()
        no_blocking.clear()  # what Textual does to come up
        await asked(app, pilot, "say much")
        assert answers(app)[0].endswith("w299")
        while_asked = list(no_blocking)
    no_blocking.clear()  # what Textual does to end
    assert not while_asked


def test_it_paints_before_anything_heavy_is_loaded() -> None:
    code = """
import asyncio, sys
from mmagent.tui.app import ChatApp
import mmagent.cli.tui
made = []
def make(**given):
    made.append(True)
    raise SystemError("no agent in this test")
async def main():
    app = ChatApp(make)
    app.work = lambda act: act.close()  # the loading, which comes after the first picture
    async with app.run_test() as pilot:
        await pilot.pause()
        heavy = {"torch", "transformers", "chromadb", "langchain", "langchain_core", "numpy", "PIL", "tokenizers",
                 "sqlite3", "mcp", "onnxruntime"}
        print(sorted(heavy & set(sys.modules)))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.replace("'", '"')))
    assert not loaded & {"torch", "transformers", "chromadb", "langchain", "langchain_core", "tokenizers", "mcp"}


async def test_the_screen_is_there_while_the_model_is_loaded() -> None:
    go = threading.Event()
    make = maker()

    def slow(**given: Any) -> Any:
        assert go.wait(20)
        return make(**given)

    app = ChatApp(slow)
    async with running(app, loaded=False) as pilot:
        await shown(app, "loading …", "Ask something")
        await pilot.press(*"hi")
        assert app.composer.text == "hi"
        await send(app, pilot, "/fork")
        await shown(app, "nothing in it yet")
        go.set()
        await until(lambda: app.agent is not None)
        await until(lambda: "loading" not in screen_text(app))


async def test_narrow_and_low_screens_do_no_harm(lookup_tool: object) -> None:
    for size in ((20, 6), (10, 3)):
        app = ChatApp(maker([call("lookup", order_id="A-1")], "Three.", tools=[lookup_tool]))
        async with running(app, size) as pilot:
            await asked(app, pilot, "what?")
            await pilot.press("ctrl+o")
            assert answers(app) == ["Three."]


async def test_a_bell_rings_only_for_those_who_look_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rings: list[int] = []
    app = ChatApp(maker())
    monkeypatch.setattr(app, "bell", lambda: rings.append(1))
    async with running(app) as pilot:
        await asked(app, pilot, "one")
        assert not rings
        app.app_focus = False
        await happen(app, [Over()])
        assert rings == [1]
        await asyncio.sleep(0)
        app.app_focus = True


async def test_a_command_that_has_no_key_can_be_given_one() -> None:
    app = ChatApp(maker(), preferences=Preferences(keys={"tools": "f6"}))
    async with running(app) as pilot:
        await pilot.press("f6")
        await until(lambda: len(app.screen_stack) == 2)


async def test_a_question_that_comes_while_the_model_changes_is_in_the_conversation() -> None:
    going = threading.Event()
    make = maker("First.", "Second.")

    def made(**given: Any) -> Any:
        if given.pop("model", ""):
            assert going.wait(20)
        return make(**given)

    app = ChatApp(made)
    async with running(app) as pilot:
        app.do("model", "other")
        await until(app.changing.locked)
        await send(app, pilot, "are you there?")
        await shown(app, "1 queued")
        going.set()
        await until(lambda: answers(app) == ["First."] and idle(app))
        assert app.session is not None and app.agent is not None and app.agent.session is app.session
        assert [message.text for message in app.session.messages] == ["are you there?", "First."]
