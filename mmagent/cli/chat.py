"""``mmagent chat``: a conversation, line by line, in any terminal or pipe. It knows lines and turns, no model."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent.cli.assemble import Choices, assemble
from mmagent.cli.outcome import FAILED, INTERRUPTED
from mmagent.cli.printable import complain, printable
from mmagent.cli.turn import attached, play
from mmagent.cli.view import JsonLinesView, TerminalView
from mmagent.errors import InputError, MMAgentError

if TYPE_CHECKING:
    from mmagent.agent import Agent
    from mmagent.cli.view import View
    from mmagent.content import Media

COMMANDS = {
    "/attach FILE": "send a picture with the next message",
    "/resume": "go on with a turn that was interrupted or waits for an approval",
    "/rewind [N]": "take back the last turn, or the last N",
    "/help": "show this",
    "/quit": "end the conversation (so does Ctrl-D)",
}


def chat(attach: list[Path], choices: Choices, view: Callable[[], View]) -> int:
    """Talk until the input ends; gives the exit code, which is 0 in a terminal unless it is interrupted.

    Raises:
        MMAgentError: The conversation cannot begin.
    """
    staged = attached(attach)
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  input() edits lines and keeps a history with it
    with assemble(choices) as agent, asyncio.Runner() as runner:
        return Conversation(agent, runner, view, staged).talk()


class Conversation:
    """Reads lines, and plays each as a turn or carries it out as a command."""

    def __init__(self, agent: Agent, runner: asyncio.Runner, view: Callable[[], View], staged: list[Media]) -> None:
        self._agent, self._runner, self._view, self._staged = agent, runner, view, staged
        self._at_terminal = sys.stdin.isatty()
        self._code = 0
        self._in_turn = False

    def talk(self) -> int:
        """Read and answer until the end of input, ``/quit`` or a second Ctrl-C."""
        interrupted = False
        if self._at_terminal:
            self._say("Ctrl-D ends the conversation; /help shows the commands")
        if self._agent.session.refresh().unfinished:
            self._say("the last turn has no answer yet; /resume goes on with it, a new question gives it up")
        while True:
            try:
                line = self._read()
                if line is None or line == "/quit":
                    return 0 if self._at_terminal else self._code
                interrupted = False
                self._handle(line)
            except KeyboardInterrupt:
                if interrupted or self._in_turn or not self._at_terminal:
                    return INTERRUPTED
                interrupted = True
                self._say("\ncancelled; Ctrl-C again ends the conversation")
            except MMAgentError as error:
                complain(str(error))
                self._code = FAILED

    def _read(self) -> str | None:
        """The next line, stripped; None at the end of input."""
        if not self._at_terminal:
            line = sys.stdin.readline()
            return line.strip() if line else None
        try:
            if sys.stdout.isatty():
                return input("> ").strip()
            print("> ", end="", file=sys.stderr, flush=True)
            return input().strip()
        except EOFError:
            self._say("")
            return None

    def _handle(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if not line:
            return
        if command == "/help":
            self._say("\n".join(f"{name:14}{what}" for name, what in COMMANDS.items()))
        elif command == "/attach":
            self._attach(rest.strip())
        elif command == "/rewind":
            self._rewind(rest.strip())
        elif command == "/resume":
            self._turn([], resume=True)
        elif command.startswith("/") and "/" not in command[1:]:
            raise InputError(f"there is no command {command}; there are: {', '.join(COMMANDS)}")
        else:
            content: list[str | Media] = [line, *self._staged]
            self._staged = []
            self._turn(content)

    def _attach(self, name: str) -> None:
        if not name:
            raise InputError("/attach needs a file: /attach receipt.png")
        self._staged += attached([Path(name.strip("'\"")).expanduser()])
        self._say(f"{len(self._staged)} attached to the next message")

    def _rewind(self, turns: str) -> None:
        if turns and not turns.isdecimal():
            raise InputError(f"/rewind takes a number of turns, not {turns}")
        question = self._agent.session.rewind(int(turns or 1))
        self._say(f"taken back, from: {question.text}")

    def _turn(self, content: list[str | Media], *, resume: bool = False) -> None:
        """One turn; the first Ctrl-C cancels it, and a second one while it is being cancelled ends everything."""

        async def whole() -> int:
            self._in_turn = True
            try:
                return await play(self._agent, content, self._view(), resume=resume)
            finally:
                self._in_turn = False

        if self._runner.run(whole()):
            self._code = FAILED

    def _say(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)


def chat_view(*, stream_json: bool, quiet: bool, verbose: bool) -> Callable[[], View]:
    """Makes a fresh view for every turn."""
    return JsonLinesView if stream_json else lambda: TerminalView(quiet=quiet, verbose=verbose)
