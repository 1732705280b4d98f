"""What each command does: `do_NAME` for every name in `commands`, gathered here. It knows the app's parts.

A function that returns a coroutine takes its time; what goes wrong in it is told in the conversation.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from textual.app import SystemCommand

from mmagent.cli.printable import printable
from mmagent.errors import InputError, NotFound
from mmagent.tui import clipboard, commands
from mmagent.tui.composer import Staged
from mmagent.tui.conversation import (
    ask,
    do_delete,
    do_export,
    do_fork,
    do_new,
    do_rename,
    do_resume,
    do_retry,
    do_rewind,
    do_sessions,
    give_back,
    load,
    stop_turn,
)
from mmagent.tui.items import Answer
from mmagent.tui.panels import (
    do_help,
    do_knowledge,
    do_model,
    do_settings,
    do_theme,
    do_tools,
    open_citation,
    show_picture,
)

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from textual.events import Key, Paste

    from mmagent.content import Media
    from mmagent.tui.app import ChatApp

Act: TypeAlias = "Coroutine[Any, Any, None] | None"

__all__ = ["ask", "do_delete", "do_export", "do_fork", "do_help", "do_knowledge", "do_model", "do_new", "do_rename",
           "do_resume", "do_retry", "do_rewind", "do_sessions", "do_settings", "do_theme", "do_tools", "load",
           "open_citation", "show_picture", "stage"]  # fmt: skip


async def stage(app: ChatApp, path: Path) -> None:
    """Add a file to the next message, once it is known to be there and of a kind that can be sent.

    Raises:
        NotFound: It is not on this machine.
        InputError: It is a folder.
        MediaError: It is no picture, recording or video.
        LimitError: It is too large.
    """
    from mmagent.cli.turn import attached
    from mmagent.content import Image
    from mmagent.media.images import check_image, decode_image
    from mmagent.media.source import read_source
    from mmagent.settings import settings
    from mmagent.tui.pictures import Picture

    try:
        path = path.expanduser()
        there = await asyncio.to_thread(path.exists)
    except (OSError, RuntimeError) as error:
        raise NotFound(f"{path} cannot be looked for ({error}); give another path") from error
    if not there:
        raise NotFound(
            f"there is no file {path} on this machine; if it is on the machine that you sit at, copy it here first: "
            f"scp {shlex.quote(path.name)} {os.uname().nodename}:"
        )

    def picture() -> PILImage:
        name, data = read_source(path, settings())
        return decode_image(data, name)

    def looked_at() -> Media:
        (media,) = attached([path])
        if isinstance(media, Image):  # what is none is told before it is sent
            name, data = read_source(path, settings())
            check_image(data, name)
        return media

    media = await app.background.call(looked_at)
    thumbnail = None
    if isinstance(media, Image):
        thumbnail = Picture(app.background, picture, "", 4, app.preferences.pictures)
    app.composer.stage(Staged(path, path.name), thumbnail)
    app.composer.lines.focus()


def do_stop(app: ChatApp, argument: str) -> Act:
    """Deny what is asked, or end the recording, or stop the answer; what is there stays."""
    if app.approval.asking:
        app.approval.deny()
    elif app.status.figures.recording:
        app.recording_cancelled = True
        app.dictation.release()
    else:
        stop_turn(app)
        give_back(app)  # without a model there is no turn, and something may wait
    return None


def do_attach(app: ChatApp, argument: str) -> Act:
    """Add a file to the next message."""
    if not argument:
        return app.tell("/attach needs a file: /attach receipt.png, or type @ and a part of its name", "error")
    return stage(app, Path(argument.strip("'\"")))


async def do_paste(app: ChatApp, argument: str) -> None:
    """Attach the picture of the clipboard, or write its text."""
    try:
        found = await app.background.call(clipboard.read)
    except InputError:
        if not app.clipboard:
            raise
        found = app.clipboard  # what was copied in the app itself
    if isinstance(found, str):
        app.composer.paste(found)
        return
    app.scratch = app.scratch or tempfile.TemporaryDirectory(prefix="mmagent-")
    with tempfile.NamedTemporaryFile(dir=app.scratch.name, prefix="clipboard-", suffix=".png", delete=False) as file:
        file.write(found)
    await stage(app, Path(file.name))


async def do_record(app: ChatApp, argument: str) -> None:
    """Begin or end speaking; what is heard goes into the composer."""
    figures = app.status.figures
    if figures.recording:
        app.dictation.release()
        return
    app.aloud.hush()
    before = app.composer.lines.text
    glue = " " if before and not before.endswith((" ", "\n")) else ""
    app.recording_cancelled = False

    written = before

    def write(text: str) -> None:
        nonlocal written
        if app.composer.lines.text != written:  # somebody has typed or sent it: that stays
            app.dictation.release()
            return
        app.composer.write(f"{before}{glue}{text}" if text else before)
        written = app.composer.lines.text

    app.dictation.hold()
    figures.recording, figures.working = True, "listening"
    meter = app.set_interval(0.1, lambda: _meter(app))
    try:
        text = await app.background.run(app.dictation.listen(lambda text: app.in_loop(lambda: write(text))))
        write("" if app.recording_cancelled else text)
        if not text and not app.recording_cancelled:
            await app.tell("nothing was understood; speak nearer to the microphone, or type")
    finally:
        meter.stop()
        figures.recording, figures.working, figures.level = False, "", 0.0
        app.status.show()
        app.composer.lines.focus()


def interrupt(app: ChatApp) -> None:
    """Ctrl-C: copy what is marked, else close what is open, stop, clear, and at the second time leave."""
    marked = app.screen.get_selected_text() or app.composer.lines.selected_text
    if marked:
        app.copy_to_clipboard(marked)
    elif len(app.screen_stack) > 1:
        app.screen.dismiss(None)
    elif app.turns.running or app.status.figures.recording:
        app.do("stop", "")
    elif app.composer.lines.text:
        app.composer.clear()
    elif app.interrupted:
        app.exit()
    else:
        app.interrupted = True
        app.set_timer(2.0, lambda: setattr(app, "interrupted", False))
        app.notify("Ctrl-C again leaves; the conversation is kept", timeout=2)


def typed_aside(app: ChatApp, event: Key) -> None:
    """What is typed beside the composer was meant for it."""
    if event.is_printable and event.character and _aside(app):
        event.stop()
        app.composer.lines.focus()
        app.composer.lines.insert(event.character)


def pasted_aside(app: ChatApp, event: Paste) -> None:
    """And so was what is pasted there."""
    if _aside(app):
        app.composer.lines.focus()
        app.composer.paste(event.text)


def _aside(app: ChatApp) -> bool:
    return len(app.screen_stack) == 1 and not (app.approval.has_focus or app.composer.lines.has_focus)


def palette(app: ChatApp) -> Iterator[SystemCommand]:
    """All commands; those that need a word are begun in the composer."""
    for one in commands.COMMANDS:
        needs = one.argument and not one.argument.startswith("[")
        run = partial(app.composer.write, f"/{one.name} ") if needs else partial(app.do, one.name, "")
        yield SystemCommand(one.name, one.help, run)


def open_link(app: ChatApp, address: str) -> None:
    """Web addresses are opened in a browser; anything else is only shown."""
    if address.startswith(("https://", "http://")):
        app.open_url(address)
    app.notify(printable(address), title="link", markup=False)


def do_aloud(app: ChatApp, argument: str) -> Act:
    """Read answers aloud, or no longer."""
    on = app.preferences.aloud = app.status.figures.aloud = not app.preferences.aloud
    app.keep_preferences()
    app.status.show()
    last = next((one for one in reversed(app.story.items) if isinstance(one, Answer)), None)
    if on and last is not None:
        app.aloud.begin(app.background, last.text, app.say)
    elif not on:
        app.aloud.hush()
    return None


async def do_expand(app: ChatApp, argument: str) -> None:
    """Open or fold all tool results."""
    await app.transcript.set_results("never" if app.transcript.results == "always" else "always")


async def do_thinking(app: ChatApp, argument: str) -> None:
    """Open or fold all thoughts."""
    await app.transcript.set_thoughts(not app.transcript.thoughts)


async def do_copy(app: ChatApp, argument: str) -> None:
    """Copy the last answer."""
    last = next((one for one in reversed(app.story.items) if isinstance(one, Answer)), None)
    if last is None:
        raise InputError("there is no answer to copy yet")
    app.copy_to_clipboard(last.text)
    await app.background.call(clipboard.write, last.text)
    app.notify("the last answer is copied", timeout=2)


async def do_edit(app: ChatApp, argument: str) -> None:
    """Write the message in another editor."""
    from textual.app import SuspendNotSupported

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="mmagent-") as folder:
        file = Path(folder) / "message.md"
        file.write_text(app.composer.text, encoding="utf-8")
        try:
            with app.suspend():
                subprocess.run([*shlex.split(editor), str(file)], check=False)
            text = file.read_text(encoding="utf-8", errors="replace")
        except SuspendNotSupported as error:
            raise InputError("no editor can be opened here; write the message in the line below") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{editor} cannot be used ({error}); set EDITOR to a program that is there") from error
    app.composer.write(text.rstrip("\n"))


async def do_follow(app: ChatApp, argument: str) -> None:
    """Go to the end."""
    await app.transcript.follow()


def do_palette(app: ChatApp, argument: str) -> Act:
    """Search all commands."""
    app.action_command_palette()
    return None


def do_quit(app: ChatApp, argument: str) -> Act:
    """Leave."""
    app.exit()
    return None


def _meter(app: ChatApp) -> None:
    app.status.figures.level = app.dictation.level
    app.status.show()
