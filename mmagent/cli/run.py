"""``mmagent run``: one question, one turn. It knows the view, the assembly and stdin."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent.cli.assemble import Choices, assemble
from mmagent.cli.turn import pictures, play, show_failure
from mmagent.cli.view import JsonLinesView, JsonView, TerminalView
from mmagent.errors import InputError, MMAgentError

if TYPE_CHECKING:
    from mmagent.cli.view import View
    from mmagent.content import Media


def run(
    question: str | None,
    attach: list[Path],
    choices: Choices,
    *,
    as_json: bool = False,
    stream_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Ask one question and show the turn; gives the exit code.

    Raises:
        InputError: The ways to show it contradict each other.
    """
    if as_json and stream_json:
        raise InputError("--json and --stream-json exclude each other; give one of them")
    view: View
    if as_json or stream_json:
        view = JsonView() if as_json else JsonLinesView()
    else:
        view = TerminalView(quiet=quiet, verbose=verbose)
    try:
        content: list[str | Media] = [asked(question), *pictures(attach)]
        with assemble(choices) as agent:
            return asyncio.run(play(agent, content, view))
    except MMAgentError as error:
        return show_failure(error, view)


def asked(question: str | None) -> str:
    """The question: the argument, or stdin if it is ``-`` or missing.

    Raises:
        InputError: There is none.
    """
    if question == "-" or (question is None and not sys.stdin.isatty()):
        question = sys.stdin.read()
    if question is None or not question.strip():
        raise InputError('the question is empty; give one: mmagent run "What is in this picture?" -a picture.png')
    return question.strip()
