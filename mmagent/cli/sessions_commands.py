"""``mmagent sessions``: its commands, options and help. A command imports its work when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmagent.cli.options import Json

sessions_app = typer.Typer(help="List the conversations that can be gone on with.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A conversation.")]


@sessions_app.callback(invoke_without_command=True)
def sessions(context: typer.Context, as_json: Json = False) -> None:
    """List the conversations that can be gone on with."""
    if context.invoked_subcommand is None:
        from mmagent.cli.sessions import list_sessions

        list_sessions(as_json=as_json)


@sessions_app.command("show")
def show_session(name: Name) -> None:
    """Print a conversation."""
    from mmagent.cli.sessions import show

    show(name)


@sessions_app.command("search")
def search_sessions(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="Words that one message has.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="Messages at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Find what was said."""
    from mmagent.cli.sessions import search as work

    work(" ".join(words), limit=limit, as_json=as_json)


@sessions_app.command("rename")
def rename_session(name: Name, new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")]) -> None:
    """Give a conversation another name."""
    from mmagent.cli.sessions import rename

    rename(name, new)


@sessions_app.command("fork")
def fork_session(
    name: Name,
    new: Annotated[str | None, typer.Argument(metavar="NEW", help="The copy's name.")] = None,
    turns: Annotated[int | None, typer.Option("--turns", metavar="N", min=0, help="Copy the first N only.")] = None,
) -> None:
    """Copy a conversation; the copy goes its own way."""
    from mmagent.cli.sessions import fork

    fork(name, new, turns=turns)


@sessions_app.command("rewind")
def rewind_session(
    name: Name, turns: Annotated[int, typer.Option("--turns", metavar="N", min=1, help="How many.")] = 1
) -> None:
    """Take back the last turns; what tools did stays done."""
    from mmagent.cli.sessions import rewind

    rewind(name, turns=turns)


@sessions_app.command("export")
def export_session(
    name: Name,
    form: Annotated[Literal["md", "jsonl", "html"], typer.Option("--format", help="jsonl can be imported.")] = "md",
    to: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Instead of stdout.")] = None,
) -> None:
    """Write a conversation to a file."""
    from mmagent.cli.sessions import export

    export(name, form=form, to=to)


@sessions_app.command("import")
def import_session(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export --format jsonl wrote.")],
    name: Annotated[str | None, typer.Option("--name", help="Another name than it had.")] = None,
) -> None:
    """Make a conversation of an exported one."""
    from mmagent.cli.sessions import import_file

    import_file(file, name=name)


@sessions_app.command("delete")
def delete_sessions(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Conversations.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete conversations and their pictures."""
    from mmagent.cli.sessions import delete

    delete(names, yes=yes)


@sessions_app.command("check")
def check_sessions() -> None:
    """Read everything that is kept and say what is wrong with it."""
    from mmagent.cli.sessions import check

    raise typer.Exit(check())
