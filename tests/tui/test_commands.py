"""One list of commands: everything that is made of it has all of them, and each does something."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.containers import VerticalScroll

from mmagent.tui import acts, commands
from mmagent.tui.app import ChatApp
from mmagent.tui.commands import COMMANDS, Command, as_markdown, completions
from mmagent.tui.composer import Lines
from tests.tui.driving import maker, notes, running, screen_text, send, shown, until

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("one", COMMANDS, ids=lambda one: one.name)
def test_every_command_does_something(one: Command) -> None:
    act = getattr(acts, f"do_{one.name}")
    assert list(inspect.signature(act).parameters) == ["app", "argument"]
    assert inspect.getdoc(act), "what it does is said"


def test_nothing_else_is_done() -> None:
    done = {name.removeprefix("do_") for name in vars(acts) if name.startswith("do_")}
    assert done == {one.name for one in COMMANDS}


def test_names_are_single_words_and_unique() -> None:
    names = [one.name for one in COMMANDS]
    assert len(set(names)) == len(names) and all(name.isalpha() and name.islower() for name in names)


def test_every_key_is_bound_once() -> None:
    bound = [binding for binding in ChatApp.BINDINGS if isinstance(binding, Binding)]
    keys = [key for binding in bound for key in binding.key.split(",")]
    assert len(set(keys)) == len(keys)
    by_name = {binding.id: binding for binding in bound if binding.id}
    wanted = {one.name: one for one in COMMANDS}
    assert by_name.keys() == wanted.keys()
    for name, one in wanted.items():
        assert by_name[name].key == (one.key or f"no-key-of-{name}") and by_name[name].action == f"do('{name}')"
        assert by_name[name].show == bool(one.shown)


def test_no_key_of_a_command_is_needed_for_writing() -> None:
    """A key of the app goes before those of the text; such as these nobody would want to lose."""
    writing = {"enter", "tab", "backspace", "delete", "left", "right", "up", "down", "home", "end", "ctrl+j",
               "ctrl+a", "ctrl+e", "ctrl+w", "ctrl+k", "ctrl+u", "ctrl+z", "ctrl+x", "ctrl+d"}  # fmt: skip
    writing |= {key for one in Lines.BINDINGS if isinstance(one, Binding) for key in one.key.split(",")}
    assert not writing & {key for one in COMMANDS for key in one.key.split(",") if one.key}


@pytest.mark.parametrize(
    ("typed", "first"), [("/he", "help"), ("/S", "sessions"), ("/res", "resume"), ("/q", "quit"), ("/", "help")]
)
def test_completions_begin_with_what_was_typed(typed: str, first: str) -> None:
    assert next(completions(typed)).name == first


def test_completions_also_find_what_a_command_is_for() -> None:
    assert "fork" in [one.name for one in completions("copy")]
    assert not list(completions("/nothing-like-it"))
    assert [one.name for one in completions("/")] == [one.name for one in COMMANDS]
    for one in COMMANDS:
        assert one in list(completions(f"/{one.name}"))


def test_the_table_has_all_of_them() -> None:
    rows = as_markdown().splitlines()
    assert len(rows) == len(COMMANDS) + 2
    for one, row in zip(COMMANDS, rows[2:], strict=True):
        assert f"/{one.name}" in row and one.help in row and all(key in row for key in one.key.split(","))
        assert row.replace("\\|", "").count("|") == 4, "a cell does not end early"


def test_the_docs_have_the_table() -> None:
    assert as_markdown() in (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")


async def test_the_palette_has_all_of_them_and_nothing_else() -> None:
    app = ChatApp(maker())
    async with running(app):
        found = {one.title: one for one in app.get_system_commands(app.screen)}
        assert found.keys() == {one.name for one in COMMANDS}
        assert all(found[one.name].help == one.help for one in COMMANDS)
        found["rename"].callback()  # needs a word
        assert app.composer.text == "/rename "


async def test_the_palette_opens_and_a_command_is_chosen() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await pilot.press("ctrl+p")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*"settings")
        await shown(app, "see the settings")
        await pilot.press("enter")
        await shown(app, "MMAGENT_DATA_DIR")


async def test_help_shows_keys_and_commands() -> None:
    app = ChatApp(maker())
    async with running(app, (120, 100)) as pilot:
        await pilot.press("f1")
        await shown(app, "Keys", "/help")
        await pilot.press("end")
        await shown(app, "/quit", "terminal.json")
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        assert app.composer.lines.has_focus


async def test_a_command_that_there_is_not_is_answered_with_those_like_it() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await send(app, pilot, "/sess")
        await shown(app, "there is no command /sess", "/sessions")
        await send(app, pilot, "/xyzzy")
        await shown(app, "there is no command /xyzzy; /help shows them")


async def test_commands_of_a_conversation_say_what_is_missing() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        for name in ("rename", "fork", "export", "delete", "rewind", "retry", "copy", "attach"):
            app.do(name, "")
        await until(lambda: len([one for one in notes(app).splitlines() if one]) >= 8)
        assert notes(app).count("this conversation has nothing in it yet; ask something first") == 6
        assert "there is no answer to copy yet" in notes(app) and "/attach needs a file" in notes(app)
        await send(app, pilot, "/rewind all")
        await shown(app, "nothing in it yet")


async def test_commands_wait_while_a_window_is_open() -> None:
    app = ChatApp(maker())
    async with running(app) as pilot:
        await pilot.press("f1")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press("ctrl+l", "ctrl+n", "f1")
        assert len(app.screen_stack) == 2
        await pilot.press("ctrl+q")
        await until(lambda: not app.is_running)


def test_find() -> None:
    assert commands.find("help") is COMMANDS[0] and commands.find("") is None


async def test_tools_and_settings_are_shown(lookup_tool: object) -> None:
    app = ChatApp(maker(tools=[lookup_tool]))
    async with running(app) as pilot:
        app.do("tools", "")
        await shown(app, "lookup  read", "Look an order up.", "none: calls run without a question")
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        app.do("settings", "")
        await shown(app, "terminal.json")
        await until(lambda: isinstance(app.screen.focused, VerticalScroll))
        await pilot.press("end")
        await shown(app, "MMAGENT_")
        assert "Traceback" not in screen_text(app)
