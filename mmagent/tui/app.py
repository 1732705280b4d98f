"""The terminal app: what is on the screen, and what each command does. It knows the agent by what it is given.

It paints first; the agent and its model are made in the background meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer

from mmagent.cli.outcome import BUG
from mmagent.cli.printable import printable
from mmagent.errors import InputError, MMAgentError
from mmagent.tui import acts, commands
from mmagent.tui.approval import ApprovalBar
from mmagent.tui.background import Background
from mmagent.tui.composer import Commanded, Complaint, Composer, Stage, Submitted
from mmagent.tui.items import Answer, Item
from mmagent.tui.preferences import Preferences
from mmagent.tui.preferences import write as keep
from mmagent.tui.status import StatusLine
from mmagent.tui.transcript import Transcript
from mmagent.tui.turns import Decide, Over, Turns, told_of
from mmagent.tui.voice import Aloud, Dictation

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

    from textual.widgets import Markdown
    from textual.worker import Worker

    from mmagent.agent import Agent
    from mmagent.content import Media
    from mmagent.events import ApprovalRequested
    from mmagent.session import Session
    from mmagent.tui.conversation import Maker
    from mmagent.tui.story import Story
    from mmagent.tui.views import OpenCitation, ShowPicture

FLUSH = 0.1
"""Seconds between two looks at what has happened, at least."""
REST = 3.0
"""Times what showing it took that the screen rests for keys before the next look."""


class ChatApp(App[None]):
    """A conversation.

    Args:
        make: Makes the agent.
        session: The name of the conversation to go on with; None: a new one.
        attach: Files for the first message.
        preferences: What the user likes.
        folder: Where preferences are kept; None: nowhere.
        dictation: The microphone; None: that of this machine.
        aloud: What reads answers; None: espeak-ng and the loudspeaker.
    """

    CSS_PATH = "app.tcss"
    TITLE = "mmagent"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(
                one.key or f"no-key-of-{one.name}",  # so that a keymap can give it one
                f"do('{one.name}')",
                one.shown or one.name,
                show=bool(one.shown),
                id=one.name,
                priority=one.key != "escape",
            )
            for one in commands.COMMANDS
        ),
        Binding("ctrl+c", "interrupt", "Stop", show=False, priority=True),
        Binding("pageup", "page(-1)", show=False, priority=True),
        Binding("pagedown", "page(1)", show=False, priority=True),
    ]

    def __init__(
        self,
        make: Maker,
        *,
        session: str | None = None,
        attach: Iterable[Path] = (),
        preferences: Preferences | None = None,
        folder: Path | None = None,
        dictation: Dictation | None = None,
        aloud: Aloud | None = None,
    ) -> None:
        super().__init__()
        self.make, self.preferences, self._folder = make, preferences or Preferences(), folder
        self.wanted, self._files = session, list(attach)
        self.background = Background()
        self.turns = Turns(self.background, self._wake, self._approval)
        self.dictation, self.aloud = dictation or Dictation(), aloud or Aloud()
        self.transcript, self.approval = Transcript(self.preferences.expand), ApprovalBar()
        self.composer, self.status = Composer(), StatusLine()
        self.agent: Agent | None = None
        self.session: Session | None = None
        """The conversation, once it has a name."""
        self.changes: dict[str, Any] = {}
        """What was chosen since the beginning: model, knowledge."""
        self.queue: list[Submitted] = []
        self.changing = asyncio.Lock()
        """Held while the agent or the conversation becomes another; questions wait."""
        self.asking = False
        """Whether a question is on its way to the agent."""
        self.recording_cancelled = False
        self.scratch: TemporaryDirectory[str] | None = None
        """Pictures of the clipboard, until the app ends."""
        self._woken = self.interrupted = False
        self._took = 0.0
        """Seconds from the last look until it was on the screen."""
        self._flushing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def compose(self) -> ComposeResult:
        """The conversation, a question about a call, the composer, the status."""
        yield from (self.transcript, self.approval, self.composer, self.status)
        yield Footer(show_command_palette=False)

    @property
    def story(self) -> Story:
        """The items of the conversation."""
        return self.transcript.story

    async def on_mount(self) -> None:
        """Paint, then load."""
        self._loop = asyncio.get_running_loop()
        self.theme = self.preferences.theme if self.preferences.theme in self.available_themes else "textual-dark"
        self.set_keymap(self.preferences.keys)
        self.status.figures.aloud = self.preferences.aloud
        self.status.show()
        self.composer.lines.focus()
        for path in self._files:
            self.post_message(Stage(path))
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or no main thread
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._loop.add_signal_handler(number, self.exit)  # which restores the terminal
        self.call_after_refresh(self._painted)

    def _painted(self) -> None:
        gc.enable()  # see `mmagent.cli.tui.launch`
        self.work(acts.load(self))

    async def on_unmount(self) -> None:
        """Stop what still runs; what was said is in the journal."""
        self.turns.stop()
        self.aloud.hush()
        await asyncio.to_thread(self.background.close)
        if self.agent is not None:
            self.agent.close()
        if self.session is not None:
            self.session.close()
        if self.scratch is not None:
            self.scratch.cleanup()

    def work(self, act: Coroutine[Any, Any, None]) -> Worker[None]:
        """Do something that may take time or fail; a failure is told, and the app goes on."""

        async def told() -> None:
            try:
                await act
            except MMAgentError as error:
                await self.tell(str(error), "error")
            except Exception as bug:
                if os.environ.get("MMAGENT_DEBUG"):
                    raise
                await self.tell(told_of(bug), "error")

        return self.run_worker(told, exit_on_error=True)

    def _fatal_error(self) -> None:
        """A bug ends the app: Textual restores the terminal, and one line stands in it instead of a traceback."""
        if os.environ.get("MMAGENT_DEBUG") or self._exception is None:
            super()._fatal_error()
            return
        self._return_code = BUG
        self._exit_renderables.append(Text(printable(f"error: {told_of(self._exception)}")))
        self._close_messages_no_wait()

    async def tell(self, text: str, kind: Any = "note") -> None:
        """Say something in the conversation."""
        await self.transcript.update([self.story.note(text, kind)])

    def say(self, text: str) -> None:
        """`tell` for other threads."""
        self.in_loop(lambda: self.work(self.tell(text, "warning")))

    def keep_preferences(self) -> None:
        """Write down what the user likes."""
        if self._folder is not None:
            keep(self._folder, self.preferences)

    # what is typed and pressed

    def action_do(self, name: str) -> None:
        """A command, by its key."""
        self.do(name, "")

    def on_commanded(self, event: Commanded) -> None:
        """A command, by its name."""
        self.do(event.name, event.argument)

    def do(self, name: str, argument: str) -> None:
        """Carry out a command."""
        if commands.find(name) is None:
            near = ", ".join(f"/{one.name}" for one in list(commands.completions(name))[:4])
            self.work(
                self.tell(f"there is no command /{name}; " + (f"maybe {near}" if near else "/help shows them"), "error")
            )
            return
        act = getattr(acts, f"do_{name}")

        async def done() -> None:
            if (more := act(self, argument)) is not None:
                await more

        self.work(done())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Commands wait while a window is open, but for leaving."""
        if action in ("do", "page") and len(self.screen_stack) > 1:
            return parameters == ("quit",)
        return super().check_action(action, parameters)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """All commands, for the palette; those that need a word are begun in the composer."""
        return acts.palette(self)

    action_interrupt = acts.interrupt
    on_key = acts.typed_aside
    on_paste = acts.pasted_aside

    def action_page(self, by: int) -> None:
        """Scroll the call that is asked about, else the conversation, wherever the keyboard is."""
        if self.approval.has_focus:
            self.approval.action_scroll(by * 8)
            return
        (self.transcript.scroll_page_down if by > 0 else self.transcript.scroll_page_up)()

    def on_typed(self) -> None:
        """Questions about calls wait until nobody types."""
        self.approval.typed_at = time.monotonic()

    def on_complaint(self, event: Complaint) -> None:
        """Something could not be taken in."""
        self.work(self.tell(event.text, "error"))

    def on_stage(self, event: Stage) -> None:
        """A file for the next message."""
        self.work(acts.stage(self, event.path))

    def on_submitted(self, event: Submitted) -> None:
        """A message: asked now, or after what is being answered."""
        if not self._free:
            self.queue.append(event)
            self.status.figures.queued = len(self.queue)
            self.status.show()
        else:
            self.asking = True
            self.work(acts.ask(self, event))

    # what happens in a turn

    def begin(self, content: list[str | Media], question: str | None) -> None:
        """Ask the agent; without a question, go on with the last turn."""
        assert self.agent is not None
        self.aloud.hush()
        if question is not None:
            self.work(self.transcript.update([self.story.asked(question)]))
        self.status.figures.working = "thinking"
        self.status.show()
        self.turns.begin(self.agent, content, resume=question is None)
        self.work(self.transcript.follow())

    async def flush(self) -> None:
        """Show what has happened since the last time."""
        async with self._flushing:
            if self.is_running and self.transcript.is_attached:
                await self._collect()

    async def _collect(self) -> None:
        began = time.monotonic()
        changed: list[Item] = []
        for one in self.turns.take():
            if isinstance(one, Over):
                await self._over(one, changed)
            else:
                changed += self.story.apply(one)
                self.status.follow(one)
        await self.transcript.update(changed)
        self.status.show()
        self.call_after_refresh(self._shown, began)

    def _shown(self, began: float) -> None:
        self._took = time.monotonic() - began

    async def _over(self, over: Over, changed: list[Item]) -> None:
        figures = self.status.figures
        figures.working = ""
        self.status.measured(over.first, over.writing)
        self.approval.forget()
        changed += self.story.close()
        if over.error is not None:
            changed.append(self.story.note(over.error, "error"))
        last = self.story.items[-1] if self.story.items else None
        if self.preferences.aloud and isinstance(last, Answer):
            self.aloud.begin(self.background, last.text, self.say)
        if not self.app_focus:
            self.bell()
        self.next()

    @property
    def _free(self) -> bool:
        """Whether a question can be asked now."""
        return not (self.agent is None or self.turns.running or self.asking or self.changing.locked())

    def next(self) -> None:
        """Ask what waits."""
        if self.queue and self._free:
            self.asking = True
            waiting = self.queue.pop(0)
            self.status.figures.queued = len(self.queue)
            self.work(acts.ask(self, waiting))

    def _approval(self, request: ApprovalRequested, decide: Decide) -> None:
        def ask() -> None:
            if not self.turns.running:  # it was stopped meanwhile
                return
            self.approval.ask(request, decide)
            if not self.app_focus:
                self.bell()

        self.in_loop(ask)

    def _wake(self, over: bool) -> None:
        """Called in the background: look into the box, but not more often than the eye can follow."""
        if over:
            self.in_loop(self._look)
        elif not self._woken:
            self._woken = True
            self.in_loop(lambda: self.set_timer(max(FLUSH, min(1.0, REST * self._took)), self._look))

    def _look(self) -> None:
        self._woken = False
        if self.is_running:
            self.run_worker(self.flush(), group="flush", exit_on_error=True)

    def in_loop(self, function: Callable[[], Any]) -> None:
        """Call something in the screen's loop, from any thread."""

        def run() -> None:
            if self.is_running:
                with self._context():
                    function()

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(run)

    # what views want

    def on_show_picture(self, event: ShowPicture) -> None:
        """Draw a stored picture."""
        acts.show_picture(self, event.place, event.block)

    def on_open_citation(self, event: OpenCitation) -> None:
        """Show where an answer has something from."""
        self.work(acts.open_citation(self, event.citation))

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        """Web addresses are opened in a browser; anything else is only shown."""
        acts.open_link(self, event.href)

    def need_agent(self) -> Agent:
        """The agent, once it is there.

        Raises:
            InputError: It is not there yet.
        """
        if self.agent is None:
            raise InputError("there is no model yet; wait a moment, or choose one with /model")
        return self.agent
