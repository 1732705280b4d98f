"""Windows that show what the assistant is made of and change it: model, knowledge, tools, settings, colours."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.widget import Widget
from textual.widgets import Static

from mmagent.cli.printable import printable
from mmagent.errors import InputError
from mmagent.tui import commands
from mmagent.tui.conversation import load, stop_turn
from mmagent.tui.pickers import Choice, Picker, Reader
from mmagent.tui.pictures import Picture

if TYPE_CHECKING:
    from mmagent.content import MediaBlock
    from mmagent.events import Citation
    from mmagent.tui.app import ChatApp

_KEYS = """
| key | what it does |
|---|---|
| Enter | send; while an answer is written: send it after that |
| Ctrl-J, Shift-Enter, `\\` Enter | a new line |
| ↑ ↓ | earlier messages, at the first and last line |
| Tab | take the completion of `/command` or `@path` |
| Page up, Page down, wheel | scroll; Ctrl-End follows again |
| y, a, n | allow a call once, always, or deny it |
| Ctrl-C | copy what is marked, stop, clear, and at the second time leave |
"""
_LONGEST = 200_000
"""Characters of a source that are shown."""


def do_help(app: ChatApp, argument: str) -> None:
    """Keys and commands."""
    from textual.widgets import Markdown  # imported once it is wanted

    last = "Keys can be changed in `terminal.json`; see /settings.\n"
    text = f"# Keys\n{_KEYS}\n# Commands\n\n{commands.as_markdown()}\n{last}"
    app.push_screen(Reader("help", [Markdown(text)]))


async def do_model(app: ChatApp, argument: str) -> None:
    """Choose another model; the conversation goes on with it."""
    name: str | None = argument
    if not name:
        from mmagent.engine.catalogue import installed

        entries = await app.background.call(installed)
        choices = [
            Choice(
                one.name,
                one.name,
                f"{', '.join(one.modalities) or '?'} · {_count(one.parameters)} · {one.fit}"
                + (f" · {one.problem}" if one.problem else ""),
            )
            for one in entries
        ]
        name = await app.push_screen_wait(
            Picker("models on this machine   others: /model NAME", choices, app.status.figures.model)
        )
    if name:
        stop_turn(app)
        await load(app, model=name)
        await app.tell(f"{app.need_agent().model.name} answers from now on")


async def do_knowledge(app: ChatApp, argument: str) -> None:
    """What is indexed; with a folder, answer from that."""
    if argument:
        folder = Path(argument.strip("'\"")).expanduser()
        stop_turn(app)
        try:
            await app.background.call(_index, app, folder)
        finally:
            app.status.figures.working = ""
            app.status.show()
        await load(app, knowledge=folder)
        await app.tell(f"answers come from {folder} now, with sources")
        return
    knowledge: Any = app.need_agent().knowledge
    if knowledge is None or not hasattr(knowledge, "stats"):
        await app.tell("nothing is indexed; /knowledge DIR adds a folder of documents, pictures and recordings")
        return
    stats, assets = await app.background.call(lambda: (knowledge.stats(), knowledge.assets()))
    lines = Text(f"{stats.documents:,} documents, {stats.units:,} passages and pictures, {stats.bytes / 1e6:.1f} MB\n")
    lines.append(f"in {knowledge.path}\n\n", "dim")
    for asset in assets[:500]:
        lines.append(printable(f"{asset.uri}\n"))
    if stats.refused:
        lines.append(f"\n{stats.refused} files could not be read; mmagent index --verbose says why", "yellow")
    await app.push_screen(Reader("knowledge   /knowledge DIR answers from another folder", [Static(lines)]))


async def do_tools(app: ChatApp, argument: str) -> None:
    """The tools, and which calls are asked about."""
    agent = app.need_agent()
    text = Text()
    for tool in agent.tools.values():
        text.append(printable(tool.name), "bold").append(f"  {tool.effect}\n", "cyan")
        text.append(f"  {printable(' '.join(tool.description.split()))[:300]}\n", "dim")
    text.append("\nrules\n", "bold")
    for rule in agent.policy.rules:
        text.append(printable(f"{rule}\n"))
    if not agent.policy.rules:
        text.append("none: calls run without a question; mmagent chat --policy FILE sets rules\n", "dim")
    for one in app.turns.always:
        text.append(printable(f"allowed while the app runs: {one}\n"), "green")
    await app.push_screen(Reader("tools", [Static(text)]))


async def do_settings(app: ChatApp, argument: str) -> None:
    """All settings, their values and variables."""
    from mmagent.paths import config_dir
    from mmagent.settings import Settings, settings

    text = Text().append(f"{config_dir() / 'terminal.json'}\n", "bold")
    text.append(printable(json.dumps(asdict(app.preferences), indent=1)) + "\n\n")
    for name in Settings.model_fields:
        text.append(f"{Settings.variable(name):34}", "bold").append(printable(f"{getattr(settings(), name)}\n"))
    await app.push_screen(
        Reader("settings   set the variable and start again; the file is the app's own", [Static(text)])
    )


async def do_theme(app: ChatApp, argument: str) -> None:
    """Choose colours; the list shows each as it is marked."""
    before = app.theme
    name: str | None = argument
    if not name:

        def preview(theme: str) -> None:
            app.theme = theme

        choices = [
            Choice(one, one, "dark" if theme.dark else "light") for one, theme in sorted(app.available_themes.items())
        ]
        name = await app.push_screen_wait(Picker("colours", choices, before, preview))
    if name is not None and name not in app.available_themes:
        raise InputError(f"there is no theme {name}; there are {', '.join(sorted(app.available_themes))}")
    app.theme = name or before
    app.preferences.theme = app.theme
    app.keep_preferences()


def show_picture(app: ChatApp, place: Widget, block: MediaBlock) -> None:
    """Draw a stored picture at the end of a view; of other files, their name."""
    extras = block.get("extras", {})
    size = f" {extras['width']}×{extras['height']}" if extras.get("width") and extras.get("height") else ""
    caption = printable(f"{extras.get('name') or block.get('mime_type') or block['type']}{size}")
    if block["type"] != "image" or app.agent is None:
        place.mount(Static(Text(caption, style="dim")))
        return
    blobs = app.agent.blobs
    place.mount(
        Picture(app.background, lambda: blobs.open_image(block["file_id"]), caption, how=app.preferences.pictures)
    )


async def open_citation(app: ChatApp, citation: Citation) -> None:
    """Show the document that an answer points at, the quote marked."""
    knowledge: Any = app.need_agent().knowledge
    body: list[Widget] = []
    if knowledge is not None and hasattr(knowledge, "get"):
        hits = await app.background.call(knowledge.get, citation.uri)
        shown = [hit for hit in hits if citation.page is None or hit.page == citation.page] or hits
        for hit in [hit for hit in shown if hit.is_picture][:1]:
            load = partial(knowledge.picture, hit)
            body.append(Picture(app.background, load, citation.title, how=app.preferences.pictures))
        body.append(Static(_marked("\n\n".join(hit.text for hit in shown if hit.text)[:_LONGEST], citation.quote)))
    if not body:
        body.append(Static(Text(printable(citation.quote), style="italic")))
    app.push_screen(Reader(f"{citation.title}   {citation.uri}", body))


def _marked(text: str, quote: str) -> Text:
    """A text in which a quote stands out, however its spaces are."""
    import re

    shown = Text(printable(text))
    words = [re.escape(printable(word)) for word in quote.split()]
    if words and (match := re.search(r"\s+".join(words), shown.plain)):
        shown.stylize("reverse", *match.span())
    return shown


def _index(app: ChatApp, folder: Path) -> None:
    """Bring a folder's index up to date, and tell of it."""
    from mmagent.knowledge import Knowledge, Progress

    def told(progress: Progress) -> None:
        def show() -> None:
            app.status.figures.working = f"indexing {progress.done}/{progress.total}"
            app.status.show()

        app.in_loop(show)

    Knowledge.of_folder(folder, progress=told).close()


def _count(parameters: int | None) -> str:
    if not parameters:
        return "?"
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"
