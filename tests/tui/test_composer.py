"""The composer: lines and history, pastes and paths, completions, chips, and what is written while an answer comes."""

from __future__ import annotations

import asyncio
import os
import shlex
import threading
from pathlib import Path

import pytest
from PIL import Image
from textual import events

from mmagent.testing import ScriptedModel
from mmagent.tui import clipboard
from mmagent.tui import composer as module
from mmagent.tui.app import ChatApp
from mmagent.tui.composer import LONGEST_PASTE, Submitted
from mmagent.tui.items import Question
from mmagent.tui.paths import pasted_path, paths
from mmagent.tui.preferences import Preferences
from tests.tui.driving import answers, asked, idle, maker, notes, running, screen_text, send, shown, until


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "my receipt.png"
    Image.new("RGB", (8, 6), "red").save(path)
    return path


def scripted(*steps: object, **more: object) -> tuple[ChatApp, ScriptedModel]:
    model = ScriptedModel(steps or ["Yes."] * 9, **more)  # type: ignore[arg-type]
    return ChatApp(maker(model=model)), model


def said(model: ScriptedModel, number: int = -1) -> str:
    return model.requests[number].messages[-1].text


async def test_enter_sends_and_other_keys_make_new_lines() -> None:
    app, model = scripted()
    async with running(app) as pilot:
        await pilot.press(*"one", "ctrl+j", *"two", "shift+enter", *"three\\", "enter", *"four")
        assert app.composer.text == "one\ntwo\nthree\nfour" and not app.story.items
        await pilot.press("enter")
        await until(lambda: answers(app) == ["Yes."] and idle(app))
        assert said(model) == "one\ntwo\nthree\nfour" and app.composer.text == ""


async def test_nothing_is_sent_where_nothing_is_written() -> None:
    app, model = scripted()
    async with running(app) as pilot:
        await pilot.press("enter", "space", "enter")
        await pilot.pause()
        assert not app.story.items and not model.requests


async def test_earlier_messages_come_back_and_so_does_the_draft() -> None:
    app, _ = scripted()
    async with running(app) as pilot:
        await asked(app, pilot, "first")
        await asked(app, pilot, "second\nwith two lines")
        app.composer.write("draft")
        await pilot.press("up")
        assert app.composer.text == "second\nwith two lines"
        await pilot.press("up")
        assert app.composer.text == "second\nwith two lines", "the cursor goes to the first line"
        await pilot.press("up")
        assert app.composer.text == "first"
        await pilot.press("up")
        assert app.composer.text == "first"
        await pilot.press("down", "down", "down")
        assert app.composer.text == "draft"


async def test_history_of_a_conversation_that_is_resumed() -> None:
    first, _ = scripted()
    async with running(first) as pilot:
        await asked(first, pilot, "what was that?")
    assert first.session is not None
    app = ChatApp(maker(), session=first.session.name)
    async with running(app) as pilot:
        await shown(app, "what was that?")
        await pilot.press("up")
        assert app.composer.text == "what was that?"


# pastes


async def paste(app: ChatApp, text: str) -> None:
    app.composer.lines.post_message(events.Paste(text))
    await until(lambda: app.composer.lines.message_queue_size == 0)


async def test_a_pasted_path_becomes_a_chip_and_goes_with_the_message(picture: Path) -> None:
    app, model = scripted()
    async with running(app) as pilot:
        await paste(app, shlex.quote(str(picture)))
        await until(lambda: [one.path for one in app.composer.staged] == [picture])
        await shown(app, "1 my receipt.png ✕")
        assert app.composer.lines.text == ""
        await asked(app, pilot, "what is it?")
        model.assert_saw(picture)
        assert not app.composer.staged and "✕" not in screen_text(app)


@pytest.mark.parametrize(
    "name",
    ["'/tmp/a b.png'", '"/tmp/a b.png"', "/tmp/a\\ b.png", "file:///tmp/a%20b.png", "/tmp/a b.png\n", "  /tmp/a b.png"],
)
def test_paths_as_terminals_write_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: str(path) == "/tmp/a b.png")
    assert pasted_path(name) == Path("/tmp/a b.png")


@pytest.mark.parametrize(
    "text", ["", "hello", "see /tmp/a.png and b", "a\nb", "https://a.org/b.png", "/new", "'", "a.png", "x" * 5000]
)
def test_text_that_is_no_path(text: str) -> None:
    assert pasted_path(text) is None


async def test_a_path_of_another_machine_is_complained_about_with_a_way_out() -> None:
    app, _ = scripted()
    async with running(app):
        await paste(app, "/home/me/Pictures/my lamp.png".replace(" ", "\\ "))
        await shown(app, "there is no file /home/me/Pictures/my lamp.png on this machine", "scp 'my lamp.png'")
        assert not app.composer.staged and "Traceback" not in screen_text(app)


async def test_a_file_that_is_no_picture_is_told_at_once_and_by_the_turn(tmp_path: Path, picture: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    app, model = scripted()
    async with running(app) as pilot:
        await paste(app, str(bad))
        await shown(app, "bad.png is no picture")
        assert not app.composer.staged
        await paste(app, str(picture))
        await until(lambda: app.composer.staged)
        picture.write_bytes(b"no picture any more")
        await send(app, pilot, "what is it?")
        await until(lambda: "my receipt.png" in notes(app) and idle(app))
        assert not model.requests and "Traceback" not in screen_text(app)


@pytest.mark.parametrize(("place", "said"), [("/dev/zero", "is a device"), (".", "is a folder")])
async def test_what_is_no_file_is_not_read(place: str, said: str) -> None:
    app, _ = scripted()
    async with running(app):
        app.do("attach", place)
        await shown(app, said)
        assert not app.composer.staged


async def test_a_picture_too_large_is_told_at_once(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("1", (40_000, 10)).save(large)
    app, _ = scripted()
    async with running(app):
        app.do("attach", str(large))
        await shown(app, "large.png is 40,000 x 10 pixels, a side too long")
        assert not app.composer.staged


async def test_a_short_paste_is_text() -> None:
    app, _ = scripted()
    async with running(app):
        await paste(app, "one\r\ntwo\rthree")
        assert app.composer.lines.text == "one\ntwo\nthree"


async def test_a_long_paste_is_folded_and_sent_in_full() -> None:
    app, model = scripted()
    long = "\n".join(f"line {number}" for number in range(2000))
    async with running(app) as pilot:
        app.composer.write("before ")
        await paste(app, long)
        await pilot.press(*" after")
        assert app.composer.lines.text == "before [pasted text #1, 2,000 lines] after"
        await pilot.press("enter")
        await until(lambda: bool(answers(app)) and idle(app))
        assert said(model) == f"before {long} after"
        await pilot.press("up")
        assert app.composer.text == f"before {long} after"


async def test_a_very_long_message_comes_back_folded() -> None:
    app, model = scripted()
    long = "word " * 10_000
    async with running(app) as pilot:
        app.composer.write("and ")
        await paste(app, long)
        await pilot.press("enter")
        await until(lambda: bool(answers(app)) and idle(app))
        await pilot.press("up")
        assert app.composer.lines.text == "[pasted text #1, 1 lines]"
        app.composer.give_back(Submitted("first", ()))
        assert app.composer.text == "first\nand " + long.strip()
        await pilot.press("enter")
        await until(lambda: len(answers(app)) == 2 and idle(app))
        assert said(model) == "first\nand " + long.strip()


async def test_ten_megabytes_are_refused_and_the_app_goes_on() -> None:
    app, model = scripted()
    async with running(app) as pilot:
        app.composer.write("draft ")
        await paste(app, "0123456789" * 1_000_000)
        await shown(app, "this paste has 10,000,000 characters, over 1,000,000", "attach the file")
        assert app.composer.lines.text == "draft "
        await paste(app, "y" * LONGEST_PASTE)
        assert app.composer.lines.text == "draft [pasted text #1, 1 lines]"
        await asked(app, pilot, "go on")
        assert said(model) == "go on"


async def test_control_sequences_in_a_paste_are_shown_and_not_obeyed() -> None:
    app, _ = scripted()
    async with running(app) as pilot:
        await paste(app, "a\x1b]0;owned\x07b\x1b[2J\u202ec [bold]d[/bold]")
        await pilot.pause()
        await shown(app, "[bold]d[/bold]")
        assert not set(screen_text(app)) & {"\x1b", "\x07", "\u202e"}


# completions


async def test_a_slash_offers_commands_and_tab_takes_one() -> None:
    app, _ = scripted()
    async with running(app) as pilot:
        await pilot.press(*"/ren")
        await shown(app, "/rename NAME  give this conversation a name")
        await pilot.press("tab")
        assert app.composer.text == "/rename " and app.composer.lines.has_focus
        await pilot.press(*"abc", "enter")
        await shown(app, "nothing in it yet")
        assert app.composer.text == ""


async def test_enter_on_a_part_of_a_command_does_the_one_that_is_marked() -> None:
    app, _ = scripted()
    async with running(app) as pilot:
        await pilot.press(*"/sett", "enter")
        await shown(app, "MMAGENT_DATA_DIR")


async def test_arrows_choose_and_escape_closes_the_list() -> None:
    app, _ = scripted()
    async with running(app) as pilot:
        await pilot.press(*"/re")
        await shown(app, "/rename NAME", "/rewind [N]", "/resume", "/retry")
        await pilot.press("down", "down", "up", "tab")
        assert app.composer.text == "/rewind "
        app.composer.write("/re")
        await pilot.press("escape")
        assert not app.composer.query_one("#completions").display and app.composer.text == "/re"


async def test_an_at_sign_offers_files_and_takes_one_as_a_chip(tmp_path: Path, picture: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "scan.jpg").write_bytes(picture.read_bytes())
    app, _ = scripted()
    async with running(app) as pilot:
        await pilot.press(*"what is @rece")
        await shown(app, "my receipt.png")
        await pilot.press("tab")
        await until(lambda: [one.name for one in app.composer.staged] == ["my receipt.png"])
        assert app.composer.text == "what is "
        await pilot.press(*"@pap")
        await shown(app, "papers/")
        await pilot.press("tab")
        await shown(app, "papers/scan.jpg")
        await pilot.press("tab")
        await until(lambda: len(app.composer.staged) == 2)
        assert app.composer.text == "what is "


async def test_names_with_spaces_and_at_signs_are_completed_to_the_end(tmp_path: Path, picture: Path) -> None:
    folder = tmp_path / "my scans"
    folder.mkdir()
    (folder / "me@home.png").write_bytes(picture.read_bytes())
    app, _ = scripted()
    async with running(app) as pilot:
        await pilot.press(*"see @scan")
        await shown(app, "my scans/")
        await pilot.press("tab")
        assert app.composer.text == r"see @my\ scans/"
        await shown(app, "my scans/me@home.png")
        await pilot.press(*"me@ho")
        await shown(app, "my scans/me@home.png")
        await pilot.press("tab")
        await until(lambda: [one.name for one in app.composer.staged] == ["me@home.png"])
        assert app.composer.text == "see "


def test_paths_begin_with_the_name_or_contain_it(tmp_path: Path) -> None:
    for name in ("lamp.png", "old-lamp.png", ".lamp", "Lampshade.png"):
        (tmp_path / name).touch()
    (tmp_path / "lamps").mkdir()
    assert paths("lamp") == ["Lampshade.png", "lamp.png", "lamps/", "old-lamp.png"]
    assert paths(".l") == [".lamp"] and paths("nowhere/x") == []
    assert paths(f"{tmp_path}/old") == [f"{tmp_path}/old-lamp.png"]


def test_names_are_found_in_the_folders_below(tmp_path: Path) -> None:
    for place in (
        "shop/receipt.png",
        "a/b/c/receipt-2.png",
        "a/b/c/d/e/receipt-3.png",
        "node_modules/receipt.js",
        ".x/receipt",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "shop" / "round").symlink_to(tmp_path)
    assert paths("rece")[:2] == ["shop/receipt.png", "a/b/c/receipt-2.png"]
    assert not any("node_modules" in path or ".x" in path or "receipt-3" in path for path in paths("rece"))
    assert paths("a/rece") == ["a/b/c/receipt-2.png", "a/b/c/d/e/receipt-3.png"]


async def test_what_is_typed_beside_the_composer_goes_there(picture: Path) -> None:
    app, model = scripted()
    async with running(app) as pilot:
        await pilot.press("tab")
        assert not app.composer.lines.has_focus
        await pilot.press(*"and")
        assert app.composer.lines.has_focus and app.composer.text == "and"
        app.transcript.focus()
        app.post_message(events.Paste(" pasted"))  # as the driver does
        await until(lambda: app.composer.text == "and pasted")
        await pilot.press("enter")
        await until(lambda: bool(answers(app)) and idle(app))
        assert said(model) == "and pasted"


async def test_files_that_are_found_too_late_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    go, looked = threading.Event(), threading.Event()

    def slow(word: str) -> list[str]:
        looked.set()
        assert go.wait(20)
        return ["a.png"]

    monkeypatch.setattr(module, "paths", slow)
    app, model = scripted()
    async with running(app) as pilot:
        await pilot.press("@", "a")
        await until(looked.is_set)
        app.composer.write("")
        go.set()
        await pilot.pause()
        await pilot.press(*"hi")
        assert not app.composer.query_one("#completions").display
        await pilot.press("enter")
        await until(lambda: bool(answers(app)) and idle(app))
        assert said(model) == "hi"


# chips


async def test_chips_are_taken_away_by_backspace_and_by_a_click(picture: Path) -> None:
    app, _ = scripted()
    async with running(app) as pilot:
        for _ in range(3):
            app.do("attach", str(picture))
        await until(lambda: len(app.composer.staged) == 3)
        await pilot.pause()
        await pilot.press("backspace")
        await until(lambda: len(app.composer.staged) == 2)
        await shown(app, "2 my receipt.png ✕")
        await pilot.click(module.Chip)
        await until(lambda: len(app.composer.staged) == 1)
        await pilot.press("x", "backspace")
        assert len(app.composer.staged) == 1, "a character goes first"


async def test_the_clipboards_picture_is_kept_only_while_the_app_runs(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bytes | str] = [picture.read_bytes(), "some words"]
    monkeypatch.setattr(clipboard, "read", lambda: found.pop(0))
    app, model = scripted()
    async with running(app) as pilot:
        app.do("paste", "")
        await until(lambda: app.composer.staged)
        path = app.composer.staged[0].path
        app.do("paste", "")
        await until(lambda: app.composer.text == "some words")
        await pilot.press("enter")
        await until(lambda: bool(answers(app)) and idle(app))
        model.assert_saw(path)
    assert not path.parent.exists()


async def test_small_pictures_go_with_their_chips(picture: Path) -> None:
    app, _ = scripted()
    async with running(app) as pilot:
        for number in (1, 2):
            app.do("attach", str(picture))
            await until(lambda number=number: screen_text(app).count("▀" * 8) == 3 * number)  # 8 x 6 pixels
        await pilot.click(module.Chip)
        await until(lambda: screen_text(app).count("▀" * 8) == 3)
        await shown(app, "1 my receipt.png ✕")
        await pilot.press(*"what is it?", "enter")
        await until(lambda: bool(answers(app)) and idle(app))
        assert not app.query(module.Chip)


async def test_no_small_pictures_where_none_are_wanted(picture: Path) -> None:
    app = ChatApp(maker(), preferences=Preferences(pictures="none"))
    async with running(app) as pilot:
        app.do("attach", str(picture))
        await shown(app, "1 my receipt.png ✕")
        await pilot.pause(0.2)
        assert "▀" not in screen_text(app)


async def test_files_of_the_command_line_are_chips_from_the_beginning(picture: Path) -> None:
    app = ChatApp(maker(), attach=[picture])
    async with running(app):
        await until(lambda: [one.path for one in app.composer.staged] == [picture])


async def test_a_file_alone_is_a_message(picture: Path) -> None:
    app, model = scripted()
    async with running(app) as pilot:
        app.do("attach", str(picture))
        await until(lambda: app.composer.staged)
        await pilot.press("enter")
        await until(lambda: bool(answers(app)) and idle(app))
        model.assert_saw(picture)
        assert app.session is not None and app.session.name == "my-receipt-png"


async def test_names_of_files_are_not_markup(tmp_path: Path, picture: Path) -> None:
    odd = picture.rename(tmp_path / "[bold red]x \x1b[2J.png")
    app, _ = scripted()
    async with running(app) as pilot:
        app.do("attach", str(odd))
        await until(lambda: app.composer.staged)
        await shown(app, r"[bold red]x \x1b[2J.png ✕")
        await asked(app, pilot, "what is it?")
        await shown(app, "[bold red]x \ufffd[2J.png")
        assert "\x1b" not in screen_text(app)


# while an answer is written


async def test_what_is_sent_meanwhile_is_asked_after_that() -> None:
    go = threading.Event()

    async def first(request: object) -> str:
        assert await asyncio.to_thread(go.wait, 20)
        return "A."

    app, model = scripted(first, "B.", "C.")
    async with running(app) as pilot:
        await send(app, pilot, "a?")
        await until(lambda: app.turns.running)
        await send(app, pilot, "b?")
        await send(app, pilot, "c?")
        await shown(app, "2 queued")
        go.set()
        await until(lambda: answers(app) == ["A.", "B.", "C."] and idle(app))
        assert [one.text for one in app.story.items if isinstance(one, Question)] == ["a?", "b?", "c?"]
        assert [said(model, number) for number in range(3)] == ["a?", "b?", "c?"]
        assert "queued" not in screen_text(app)


async def test_what_waited_comes_back_when_the_answer_is_stopped(picture: Path) -> None:
    app, model = scripted("one two three " * 50, pause=0.05)
    async with running(app) as pilot:
        await send(app, pilot, "a?")
        await until(lambda: bool(answers(app)))
        app.do("attach", str(picture))
        await until(lambda: app.composer.staged)
        await send(app, pilot, "b?")
        await send(app, pilot, "c?")
        await until(lambda: len(app.queue) == 2)
        await pilot.press("escape")
        await until(lambda: app.composer.text == "b?\nc?")
        assert [one.path for one in app.composer.staged] == [picture]
        assert len(model.requests) == 1 and not app.queue


async def test_messages_before_the_model_is_there_are_asked_once_it_is() -> None:
    go = threading.Event()
    make = maker("A.", "B.")

    def slow(**given: object) -> object:
        assert go.wait(20)
        return make(**given)

    app = ChatApp(slow)  # type: ignore[arg-type]
    async with running(app, loaded=False) as pilot:
        await send(app, pilot, "a?")
        await send(app, pilot, "b?")
        await shown(app, "2 queued", "loading")
        go.set()
        await until(lambda: answers(app) == ["A.", "B."] and idle(app))


async def test_two_messages_at_once_are_two_turns_of_one_conversation() -> None:
    app, _ = scripted("A.", "B.")
    async with running(app):
        for text in ("a?", "b?"):
            app.composer.post_message(module.Submitted(text, ()))
        await until(lambda: len(answers(app)) == 2 and idle(app))
        assert answers(app) == ["A.", "B."]
        assert [one.text for one in app.story.items if isinstance(one, Question)] == ["a?", "b?"]
        assert app.session is not None and len(app.session.messages) == 4


@pytest.mark.parametrize("word", ["~nobody-of-that-name/", "/" + 300 * "x" + "/", "\0/"])
def test_odd_paths_complete_to_nothing(word: str) -> None:
    assert paths(word) == []


@pytest.mark.parametrize("text", ["file://[x", "/" + 300 * "x", "~nobody-of-that-name/x.png"])
def test_odd_pastes_are_text(text: str) -> None:
    assert pasted_path(text) is None


async def test_a_path_of_nobody_is_told() -> None:
    app, _ = scripted("A.")
    async with running(app) as pilot:
        await send(app, pilot, "/attach ~nobody-of-that-name/x.png")
        await shown(app, "cannot be looked for")
        await asked(app, pilot, "still here?")


async def test_control_sequences_of_elsewhere_are_shown_in_the_composer() -> None:
    app, _ = scripted("A.")
    async with running(app) as pilot:
        app.composer.write("a\x1b]0;x\x07b")
        app.composer.remember(["c\x1b[31md"])
        await pilot.pause()
        assert "\x1b" not in screen_text(app)
        await pilot.press("home", "up")
        assert "\x1b" not in app.composer.lines.text and "[31m" in app.composer.lines.text


async def test_what_is_being_written_is_kept_when_what_waited_comes_back() -> None:
    app, _ = scripted("one two three " * 50, pause=0.05)
    async with running(app) as pilot:
        await send(app, pilot, "a?")
        await until(lambda: app.turns.running)
        await send(app, pilot, "b?")
        await shown(app, "1 queued")
        app.composer.write("a draft")
        app.do("stop", "")
        await until(lambda: app.composer.text == "b?\na draft")
