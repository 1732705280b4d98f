"""``mmagent run``: one question, one turn. It knows the view, the assembly and stdin."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent.cli.assemble import Choices, assemble
from mmagent.cli.printable import tell
from mmagent.cli.turn import attached, play, show_failure
from mmagent.cli.view import JsonLinesView, JsonView, TerminalView
from mmagent.content import Audio
from mmagent.errors import InputError, MMAgentError

if TYPE_CHECKING:
    from mmagent.cli.view import View
    from mmagent.content import Media


@dataclass(frozen=True)
class Decisions:
    """How to go on with a turn that waits."""

    resume: bool = False
    allow: tuple[str, ...] = ()
    """Ids of calls that may run."""
    deny: tuple[str, ...] = ()
    """Ids of calls that may not."""


def run(
    question: str | None,
    attach: list[Path],
    choices: Choices,
    decisions: Decisions,
    *,
    as_json: bool = False,
    stream_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> int:
    """Ask one question and show the turn; gives the exit code.

    Raises:
        InputError: Options contradict each other.
    """
    if as_json and stream_json:
        raise InputError("--json and --stream-json exclude each other; give one of them")
    if decisions.resume and not choices.session:
        raise InputError("--resume goes on with a turn of a session; say which: --session NAME")
    if decisions.resume and (question or attach):
        raise InputError("--resume goes on with the last turn and asks nothing; leave out the question")
    if both := set(decisions.allow) & set(decisions.deny):
        raise InputError(f"{', '.join(sorted(both))} cannot be both allowed and denied; give one of --allow and --deny")
    if (decisions.allow or decisions.deny) and not decisions.resume:
        raise InputError("--allow and --deny decide for a turn that waits; add --resume")
    view: View
    if as_json or stream_json:
        view = JsonView() if as_json else JsonLinesView()
    else:
        view = TerminalView(quiet=quiet, verbose=verbose)
    try:
        content: list[str | Media] = [] if decisions.resume else questions(question, attached(attach))
        with assemble(choices) as agent:
            for given_up in () if decisions.resume else agent.pending:
                tell(f"{given_up.name} waited for an approval and is given up for this question")
            for call in decisions.allow:
                agent.decide(call, True)
            for call in decisions.deny:
                agent.decide(call, False, "the user said no")
            return asyncio.run(play(agent, content, view, resume=decisions.resume))
    except MMAgentError as error:
        return show_failure(error, view)


def questions(question: str | None, media: list[Media]) -> list[str | Media]:
    """What is asked, in words and files; a recording asks by itself, so then stdin is only read for ``-``.

    Raises:
        InputError: There is nothing.
    """
    if question is None and any(isinstance(one, Audio) for one in media):
        return list(media)
    return [asked(question), *media]


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
