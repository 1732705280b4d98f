"""The options that several commands have: their names, types and help texts, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Question = Annotated[str | None, typer.Argument(metavar="QUESTION", help="The question; - reads it from stdin.")]
Attach = Annotated[
    list[Path] | None, typer.Option("--attach", "-a", metavar="FILE", help="A picture or recording. Repeatable.")
]
Tools = Annotated[
    list[Path] | None,
    typer.Option("--tools", metavar="FILE", help="A Python file with @tool functions; it is run. Repeatable."),
]
KnowledgeDir = Annotated[
    Path | None, typer.Option("--knowledge", metavar="DIR", help="A folder of Markdown or text to answer from.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="auto, nano, a folder, a hub id, or provider:model. [MMAGENT_MODEL]"),
]
SessionName = Annotated[
    str | None, typer.Option("--session", metavar="NAME", help="A conversation to go on with, or to begin.")
]
Instructions = Annotated[
    str | None, typer.Option("--instructions", metavar="TEXT|NAME", help="What to be, or the name of a prompt.")
]
Prompts = Annotated[
    Path | None, typer.Option("--prompts", metavar="DIR", help="A folder whose prompts come before the built-in ones.")
]
MaxSteps = Annotated[
    int | None, typer.Option("--max-steps", metavar="N", min=1, help="Model calls in one turn. [MMAGENT_MAX_STEPS]")
]
Policy = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="Rules: which calls may run, and which are asked about.")
]
Mcp = Annotated[
    list[str] | None,
    typer.Option("--mcp", metavar="URL|COMMAND", help="An MCP server whose tools may be called. Repeatable."),
]
Plan = Annotated[bool, typer.Option("--plan", help="Write a plan first and keep it up to date.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
StreamJson = Annotated[bool, typer.Option("--stream-json", help="Print every event as a line of JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer and its citations only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show calls and results whole.")]
