"""Everything that can be done in the app: one list, of which slash commands, palette, keys, help and docs are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """Something that can be done."""

    name: str
    """What follows the slash, and what a key is bound to in ``terminal.json``."""
    help: str
    argument: str = ""
    """What may follow it, for people; empty where nothing does."""
    key: str = ""
    """The keys that do it, separated by commas; empty where there is none."""
    shown: str = ""
    """What stands for it at the foot of the screen; empty: nothing does."""


COMMANDS = (
    Command("help", "show keys and commands", key="f1", shown="Help"),
    Command("new", "begin another conversation", key="ctrl+n"),
    Command("sessions", "find, resume, rename, fork, export or delete a conversation", key="ctrl+l", shown="Sessions"),
    Command("rename", "give this conversation a name", "NAME"),
    Command("fork", "go on in a copy; the original stays as it is", "[NAME]"),
    Command("rewind", "take back the last turn, or the last N, and edit its question", "[N]"),
    Command("resume", "go on with a turn that was interrupted or waits for an approval"),
    Command("retry", "ask the last question again"),
    Command("export", "write the conversation to a file: .md, .html or .jsonl", "FILE"),
    Command("delete", "delete this conversation, after a question"),
    Command("attach", "add a picture, recording or video to the next message", "FILE"),
    Command("paste", "attach the picture of the clipboard", key="ctrl+v"),
    Command(
        "record", "begin or end speaking; what is heard can be edited before it is sent", key="ctrl+r", shown="Speak"
    ),
    Command("aloud", "read answers aloud, or no longer"),
    Command("model", "choose another model", "[NAME]"),
    Command("knowledge", "see what is indexed, or add a folder to answer from", "[DIR]"),
    Command("tools", "see the tools and what the policy says of them"),
    Command("settings", "see the settings and how to change them"),
    Command("theme", "choose colours", "[NAME]"),
    Command("expand", "open or fold the tool results", key="ctrl+o", shown="Results"),
    Command("thinking", "open or fold what the model thought", key="ctrl+t"),
    Command("copy", "copy the last answer", key="ctrl+y"),
    Command("edit", "write the message in $EDITOR", key="ctrl+g"),
    Command("follow", "go to the end and follow what is written", key="ctrl+end"),
    Command("stop", "stop the answer; what is there stays", key="escape", shown="Stop"),
    Command("palette", "search all commands", key="ctrl+p", shown="Palette"),
    Command("quit", "leave; the conversation is kept", key="ctrl+q", shown="Quit"),
)


def find(name: str) -> Command | None:
    """The command of that name."""
    return next((one for one in COMMANDS if one.name == name), None)


def completions(typed: str) -> Iterator[Command]:
    """Those that what was typed may become: by their beginning, then by what they contain."""
    word = typed.removeprefix("/").lower()
    first = [one for one in COMMANDS if one.name.startswith(word)]
    yield from first
    yield from (one for one in COMMANDS if one not in first and word and word in f"{one.name} {one.help}")


def as_markdown() -> str:
    """All of them as a table, for the help and the docs."""
    rows = ["| command | key | what it does |", "|---|---|---|"]
    for one in COMMANDS:
        usage = f"/{one.name} {one.argument}".strip().replace("|", "\\|")
        rows.append(f"| `{usage}` | {one.key.replace(',', ', ') or ''} | {one.help} |")
    return "\n".join(rows) + "\n"
