"""Starts the terminal app, and says how to come back to it. It knows options and terminals, no widgets."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.cli.printable import printable, tell
from mmagent.errors import MissingExtra

if TYPE_CHECKING:
    from mmagent.agent import Agent
    from mmagent.agent.agent import Approve
    from mmagent.cli.assemble import Choices
    from mmagent.session import Session
    from mmagent.tui.app import ChatApp


def wanted(*, plain: bool) -> bool:
    """Whether the app is to be started: somebody sits at a terminal that can draw, and wants no plain lines."""
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    in_browser = "TEXTUAL_DRIVER" in os.environ  # set by textual-serve, whose pipes are no terminal
    return (at_terminal or in_browser) and not plain and os.environ.get("MMAGENT_PLAIN", "") in ("", "0")


def launch(attach: list[Path], choices: Choices) -> int:
    """Run the app until it is left; gives the exit code.

    Raises:
        ConfigurationError: The preferences cannot be used.
    """
    gc.disable()  # until it has painted: what is imported stays anyway
    app = build(attach, choices)
    app.run()
    if app.session is not None and app.story.turns:
        print(f"go on with: mmagent chat --session {printable(app.session.name)}", file=sys.stderr)
    code = app.return_code or 0
    if app.background.busy:  # a model that is loading, an index: Python would wait for its thread
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def build(attach: list[Path], choices: Choices) -> ChatApp:
    """The app as these options want it."""
    from mmagent.paths import config_dir
    from mmagent.tui.app import ChatApp
    from mmagent.tui.pictures import prepare
    from mmagent.tui.preferences import read

    preferences = read(config_dir())
    prepare(preferences.pictures)

    def make(*, session: Session | None, approve: Approve, say: Callable[[str], None], **changes: Any) -> Agent:
        from mmagent.cli.assemble import assemble

        return assemble(replace(choices, session=None, **changes), session=session, approve=approve, say=say)

    return ChatApp(make, session=choices.session, attach=attach, preferences=preferences, folder=config_dir())


def serve(port: int, arguments: list[str]) -> None:
    """Serve the app to browsers on this machine, a process for each.

    Raises:
        MissingExtra: textual-serve is not installed.
    """
    import shlex

    try:
        from mmagent.cli.web import Local
    except ImportError as error:
        raise MissingExtra("the app in a browser", "web") from error
    tell(f"open http://127.0.0.1:{port} on this machine; whoever can use it can use the assistant as you")
    command = shlex.join([sys.executable, "-m", "mmagent", "chat", *arguments])
    Local(command, host="127.0.0.1", port=port, title="mmagent").serve()
