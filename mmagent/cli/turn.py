"""Plays one turn of an agent into a view and says how it ended. It knows events, no model and no store."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent.cli.outcome import FAILED, exit_code
from mmagent.content import Image, Media
from mmagent.errors import InputError, MMAgentError, NotFound
from mmagent.events import ToolFinished, TurnFailed

if TYPE_CHECKING:
    from mmagent.agent import Agent
    from mmagent.cli.view import View


async def play(agent: Agent, content: Iterable[str | Media], view: View) -> int:
    """Show a turn as it happens.

    Returns:
        0 if there is an answer and no tool crashed, else the exit code that tells why.
    """
    code, failed = 0, False
    try:
        async with aclosing(agent.stream(*content)) as events:
            async for event in events:
                view.show(event)
                if isinstance(event, TurnFailed):
                    code, failed = exit_code(event.error), True
                elif isinstance(event, ToolFinished) and event.crashed:
                    code = FAILED
    except MMAgentError as error:
        if not failed:  # else the view has it already
            code = show_failure(error, view)
    return code


def show_failure(error: MMAgentError, view: View) -> int:
    """Show an error as the end of a turn; gives its exit code."""
    name = type(error).__name__
    view.show(TurnFailed(error=name, message=str(error)))
    return exit_code(name)


def pictures(paths: Iterable[Path]) -> list[Media]:
    """The files as pictures, not read yet.

    Raises:
        NotFound: One of them is not there.
        InputError: One of them is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder; attach a file")
        if not path.exists():
            raise NotFound(f"there is no file {path}; give the path of a picture on this machine")
    return [Image(path) for path in paths]
