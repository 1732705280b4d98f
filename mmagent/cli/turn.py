"""Plays one turn of an agent into a view and says how it ended. It knows events, no model and no store."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent.cli.outcome import FAILED, PAUSED, exit_code
from mmagent.cli.printable import complain, printable
from mmagent.content import Audio, Image, Media, Video
from mmagent.errors import InputError, MediaError, MMAgentError, NotFound
from mmagent.events import ToolFinished, TurnFailed, TurnPaused
from mmagent.settings import settings

if TYPE_CHECKING:
    from mmagent.agent import Agent
    from mmagent.cli.view import View


async def play(agent: Agent, content: Iterable[str | Media], view: View, *, resume: bool = False) -> int:
    """Show a turn as it happens.

    Args:
        agent: Who is asked.
        content: The question.
        view: Where it is shown.
        resume: Go on with the last turn instead.

    Returns:
        0 if there is an answer and no tool crashed, else the exit code that tells why.
    """
    code, failed = 0, False
    try:
        async with aclosing(agent.stream(*content, resume=resume)) as events:
            async for event in events:
                view.show(event)
                if isinstance(event, TurnFailed):
                    code, failed = exit_code(event.error), True
                elif isinstance(event, ToolFinished) and event.crashed:
                    code = FAILED
                elif isinstance(event, TurnPaused):
                    code = PAUSED
                    _say_how_to_go_on(agent, event)
    except MMAgentError as error:
        if not failed:  # else the view has it already
            code = show_failure(error, view)
    return code


def _say_how_to_go_on(agent: Agent, event: TurnPaused) -> None:
    if not agent.session.saved:
        complain("the turn waits for an approval and is not kept; ask in a session (--session NAME) or at a terminal")
        return
    for request in event.pending:
        print(f"{request.name} waits for an approval: {printable(request.why)}", file=sys.stderr)
        print(
            f"go on with the same options and: --session {agent.session.name} --resume --allow {request.id}"
            " (or --deny), and without the question",
            file=sys.stderr,
        )


def show_failure(error: MMAgentError, view: View) -> int:
    """Show an error as the end of a turn; gives its exit code."""
    name = type(error).__name__
    view.show(TurnFailed(error=name, message=str(error)))
    return exit_code(name)


def attached(paths: Iterable[Path]) -> list[Media]:
    """The files as recordings, videos or pictures, by what is in them; anything else is refused later as a picture.

    Raises:
        NotFound: One of them is not there.
        InputError: One of them is a folder.
    """
    paths = list(paths)
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder; attach a file")
        if not path.exists():
            raise NotFound(f"there is no file {path}; give the path of a picture or recording on this machine")
    return [_media(path) for path in paths]


def _media(path: Path) -> Media:
    from mmagent.media.source import recognise

    try:
        found = recognise(path, settings())
    except MediaError:
        return Image(path)
    return found if isinstance(found, Audio | Video) else Image(path)
