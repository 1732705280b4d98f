"""The ``mmagent`` command: its names, options and help. A command imports its work when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from mmagent.cli.evaluate import eval_app
from mmagent.cli.options import (
    Attach,
    Instructions,
    Json,
    KnowledgeDir,
    MaxSteps,
    Mcp,
    Model,
    Plan,
    Policy,
    Prompts,
    Question,
    Quiet,
    SessionName,
    StreamJson,
    Tools,
    Verbose,
)
from mmagent.cli.outcome import one_line_errors
from mmagent.cli.sessions_commands import sessions_app
from mmagent.cli.store_commands import index, search, store_app
from mmagent.cli.train import train_app
from mmagent.cli.transcribe import transcribe
from mmagent.cli.voice import voice

if TYPE_CHECKING:
    from mmagent.cli.assemble import Choices

app = typer.Typer(
    name="mmagent",
    help="An assistant that sees, reads, remembers and acts, on your own machine.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

models_app = typer.Typer(help="List the models on this machine and whether they fit it.", rich_markup_mode=None)
app.add_typer(models_app, name="models")
app.add_typer(sessions_app, name="sessions")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """An assistant that sees, reads, remembers and acts, on your own machine. Without a command: the terminal app."""
    if version:
        import mmagent

        print(f"mmagent {mmagent.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        from mmagent.cli import tui

        if not tui.wanted(plain=False):
            print(context.get_help())
            raise typer.Exit
        raise typer.Exit(tui.launch([], _choices(None, None, None, None, None, None, None, None, None, False)))


@app.command()
def run(
    question: Question = None,
    attach: Attach = None,
    tools: Tools = None,
    knowledge: KnowledgeDir = None,
    model: Model = None,
    session: SessionName = None,
    instructions: Instructions = None,
    prompts: Prompts = None,
    max_steps: MaxSteps = None,
    policy: Policy = None,
    mcp: Mcp = None,
    plan: Plan = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last turn of the session.")] = False,
    allow: Annotated[list[str] | None, typer.Option("--allow", metavar="ID", help="A call that may run.")] = None,
    deny: Annotated[list[str] | None, typer.Option("--deny", metavar="ID", help="A call that may not.")] = None,
    as_json: Json = False,
    stream_json: StreamJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Ask one question and see every step of the answer."""
    from mmagent.cli.run import Decisions
    from mmagent.cli.run import run as work

    choices = _choices(tools, knowledge, model, session, instructions, prompts, max_steps, policy, mcp, plan)
    raise typer.Exit(
        work(
            question,
            attach or [],
            choices,
            Decisions(resume, tuple(allow or ()), tuple(deny or ())),
            as_json=as_json,
            stream_json=stream_json,
            quiet=quiet,
            verbose=verbose,
        )
    )


@app.command()
def chat(
    attach: Attach = None,
    tools: Tools = None,
    knowledge: KnowledgeDir = None,
    model: Model = None,
    session: SessionName = None,
    instructions: Instructions = None,
    prompts: Prompts = None,
    max_steps: MaxSteps = None,
    policy: Policy = None,
    mcp: Mcp = None,
    plan: Plan = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Line by line, for screen readers and pipes. [MMAGENT_PLAIN]")
    ] = False,
    stream_json: StreamJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Talk: in the terminal app, or line by line with --plain and in a pipe."""
    from mmagent.cli import tui
    from mmagent.cli.chat import chat as work
    from mmagent.cli.chat import chat_view

    choices = _choices(tools, knowledge, model, session, instructions, prompts, max_steps, policy, mcp, plan)
    if tui.wanted(plain=plain or stream_json or quiet or verbose):
        raise typer.Exit(tui.launch(attach or [], choices))
    raise typer.Exit(work(attach or [], choices, chat_view(stream_json=stream_json, quiet=quiet, verbose=verbose)))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def web(
    context: typer.Context,
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=1, max=65535, help="Where to listen.")] = 8000,
) -> None:
    """Serve the terminal app to browsers on this machine; options of chat follow."""
    from mmagent.cli.tui import serve

    serve(port, context.args)


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the models on this machine and whether they fit it."""
    if context.invoked_subcommand is None:
        from mmagent.cli.models import list_models

        list_models(as_json=as_json)


@models_app.command("remove")
def remove_model(
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="A downloaded model.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a downloaded model."""
    from mmagent.cli.models import remove

    remove(name, yes=yes)


@app.command()
def pull(name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="A model of the Hugging Face hub.")]) -> None:
    """Download a model, or go on where an interrupted download stopped."""
    from mmagent.cli.models import pull as work

    work(name)


@app.command("mcp")
def mcp_server(
    knowledge: KnowledgeDir = None,
    tools: Tools = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root", metavar="DIR", help="A folder to read pictures from; the current one if left out. Repeatable."
        ),
    ] = None,
    http: Annotated[
        int | None,
        typer.Option("--http", metavar="PORT", min=0, max=65535, help="HTTP on 127.0.0.1, not stdio; 0 picks a port."),
    ] = None,
) -> None:
    """Serve the tools to other programs, over the Model Context Protocol."""
    from mmagent.cli.mcp import serve

    serve(knowledge=knowledge, tools=tools or (), roots=root or (), port=http)


app.command()(index)
app.command()(search)
app.command()(transcribe)
app.command()(voice)
app.add_typer(store_app, name="store")


app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed, which device and models are used, and whether the stores are healthy."""
    from mmagent.cli.doctor import examine

    raise typer.Exit(examine(as_json=as_json))


def _choices(
    tools: list[Path] | None,
    knowledge: Path | None,
    model: str | None,
    session: str | None,
    instructions: str | None,
    prompts: Path | None,
    max_steps: int | None,
    policy: Path | None,
    mcp: list[str] | None,
    plan: bool,
) -> Choices:
    from mmagent.cli.assemble import Choices

    return Choices(
        tuple(tools or ()),
        knowledge,
        model,
        session,
        instructions,
        prompts,
        max_steps,
        policy,
        tuple(mcp or ()),
        plan,
    )


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line.

    Raises:
        SystemExit: Always; mmagent.cli.outcome lists the exit codes.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if stream is sys.stdin else "backslashreplace")
    with one_line_errors():
        app(arguments)
    raise SystemExit(0)
