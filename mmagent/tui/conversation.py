"""The conversation on the screen: its agent, its questions, and what can be done with it and the others.

It knows the app's parts; what takes time runs in the background.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from mmagent.errors import InputError
from mmagent.tui.composer import Staged, Submitted
from mmagent.tui.items import Note, Question
from mmagent.tui.pickers import Question as YesNo
from mmagent.tui.pickers import Word

if TYPE_CHECKING:
    from mmagent.agent import Agent
    from mmagent.agent.agent import Approve
    from mmagent.content import Media
    from mmagent.session import Session
    from mmagent.tui.acts import Act
    from mmagent.tui.app import ChatApp
    from mmagent.tui.story import Story


class Maker(Protocol):
    """Makes the agent."""

    def __call__(
        self, *, session: Session | None, approve: Approve, say: Callable[[str], None], **changes: Any
    ) -> Agent:
        """An agent for a session, with other choices than at the beginning; it may take its time."""


async def load(app: ChatApp, **changes: Any) -> None:
    """Make the agent anew, in the background, and show the conversation that is wanted, else the one that there is.

    Args:
        app: The app.
        changes: Choices that are other than before.
    """
    async with app.changing:
        await _load(app, changes)
    app.next()


async def _load(app: ChatApp, changes: dict[str, Any]) -> None:
    figures, name = app.status.figures, app.wanted
    figures.working = "loading …"
    app.status.show()

    def make() -> tuple[Any, Session | None]:
        from mmagent.session import Session

        opened = Session.open(name) if name is not None else None
        session = opened or app.session
        try:
            agent = app.make(session=session, approve=app.turns.approve, say=app.say, **app.changes, **changes)
            if hasattr(agent.model, "load"):
                agent.model.load()
        except BaseException:
            if opened is not None:
                opened.close()
            raise
        return agent, session

    try:
        agent, session = await app.background.call(make)
    finally:
        figures.working = ""
        if app.agent is None:
            figures.model = "no model"
        app.status.show()
    before, app.agent = app.agent, agent
    if before is not None:
        before.close()
    app.changes |= changes
    figures.model, figures.context = agent.model.name, agent.model.capabilities.context_length
    figures.approvals = "asks" if agent.policy.rules else ""
    figures.device = await app.background.call(_device, agent.model)
    if name is not None:
        app.wanted = None
        said = [item for item in app.story.items if isinstance(item, Note)]  # while it was loading
        await _switch(app, session)
        for note in said:
            await app.tell(note.text, note.kind)
    app.status.show()


async def switch(app: ChatApp, session: Session | None) -> None:
    """Show another conversation; None is a new one, which gets its name with its first question."""
    async with app.changing:
        await _switch(app, session)
    app.next()


async def _switch(app: ChatApp, session: Session | None) -> None:
    from mmagent.session import Session
    from mmagent.tui.story import Story

    stop_turn(app)
    await app.turns.stopped()
    before, app.session = app.session, session
    agent = app.need_agent()
    agent.session = session or Session.memory()
    story = Story()
    unfinished = False
    if session is not None:

        def read() -> tuple[Story, bool]:
            assert session is not None
            entries = session.journal.read(session.id) if session.id else ()
            return Story.told(entries), session.refresh().unfinished

        story, unfinished = await app.background.call(read)
    if before is not None and before is not session:
        before.close()
    await app.transcript.open(story)
    app.composer.remember([one.text for one in story.items if isinstance(one, Question)])
    app.status.figures.session = session.name if session else "new"
    app.status.figures.used, app.status.figures.first, app.status.figures.speed = 0, None, None
    app.status.show()
    if unfinished:
        await app.tell(
            "the last turn has no answer yet; /resume goes on with it, a new question gives it up", "warning"
        )


async def ask(app: ChatApp, message: Submitted) -> None:
    """Ask a question; the first one gives the conversation its name."""
    app.asking = True
    try:
        async with app.changing:
            await _ask(app, message)
    except BaseException:
        app.composer.give_back(message)  # it can be corrected and sent again
        raise
    finally:
        app.asking = False


async def _ask(app: ChatApp, message: Submitted) -> None:
    from mmagent.cli.turn import attached
    from mmagent.session.session import Session, open_journal
    from mmagent.tui.sessions import new_name

    agent = app.need_agent()
    if app.session is None:

        def opened() -> Session:
            journal = open_journal()
            return Session(new_name(message.text or message.staged[0].name, journal), journal)

        app.session = agent.session = await app.background.call(opened)
        app.status.figures.session = app.session.name
    media = await app.background.call(attached, [one.path for one in message.staged])
    content: list[str | Media] = [*([message.text] if message.text else []), *media]
    app.begin(content, message.text)


def stop_turn(app: ChatApp) -> None:
    """Stop the answer; what is there stays, and what waited comes back into the composer."""
    app.aloud.hush()
    if app.turns.running:
        app.turns.stop()
        app.approval.forget()
        app.status.figures.working = ""
        app.work(app.transcript.update(app.story.stop()))
        give_back(app)


def give_back(app: ChatApp) -> None:
    """Put what waited into the composer."""
    while app.queue:
        app.composer.give_back(app.queue.pop())
    app.status.figures.queued = 0
    app.status.show()


def do_new(app: ChatApp, argument: str) -> Act:
    """Another conversation."""
    return switch(app, None)


async def do_resume(app: ChatApp, argument: str) -> None:
    """Go on with the last turn, once it is there."""
    async with app.changing:
        if app.turns.running or app.asking:
            raise InputError("an answer is being written; Esc stops it")
        app.need_agent()
        app.begin([], None)


async def do_sessions(app: ChatApp, argument: str) -> None:
    """The list of conversations; what is chosen there is done."""
    from mmagent.tui.sessions import SessionPicker, existing, rows

    found = await app.background.call(rows)
    said = await app.push_screen_wait(SessionPicker(found, app.background))
    if said is None:
        return
    what, _, name = said.partition(" ")
    current = app.session is not None and app.session.name == name
    if what == "resume":
        app.need_agent()
        await switch(app, await app.background.call(existing, name))
    elif current:
        await _THIS[what](app, "")
    else:
        session = await app.background.call(existing, name)
        try:
            await _to_another(app, what, session)
        finally:
            session.close()
        await do_sessions(app, "")


async def _to_another(app: ChatApp, what: str, session: Session) -> None:
    """Rename, fork, export or delete a conversation that is not on the screen."""
    from mmagent.tui import sessions

    if what == "rename":
        if name := await app.push_screen_wait(Word(f"another name for {session.name}", session.name)):
            await app.background.call(session.rename, _joined(name))
    elif what == "fork":
        copy = await app.background.call(session.fork)
        app.notify(f"{copy.name} is a copy of {session.name}", markup=False)
    elif what == "export":
        path = await app.background.call(sessions.export, session, "")
        app.notify(f"it is in {path}", markup=False)
    elif await app.push_screen_wait(
        YesNo(f"delete {session.name}? What was said in it and its pictures are gone then.")
    ):
        await app.background.call(_forget, session)


async def do_rename(app: ChatApp, argument: str) -> None:
    """Give this conversation a name."""
    session = _named(app)
    name = argument or await app.push_screen_wait(Word("a name for this conversation", session.name))
    if name:
        await app.background.call(session.rename, _joined(name))
        app.status.figures.session = session.name
        app.status.show()


async def do_fork(app: ChatApp, argument: str) -> None:
    """Go on in a copy."""
    session = _named(app)
    copy = await app.background.call(session.fork, _joined(argument) or None)
    name = session.name
    from mmagent.tui.sessions import existing

    await switch(app, await app.background.call(existing, copy.name))
    await app.tell(f"this is a copy of {name}, which stays as it is")


async def do_export(app: ChatApp, argument: str) -> None:
    """Write this conversation to a file."""
    from mmagent.tui import sessions

    path = await app.background.call(sessions.export, _named(app), argument)
    await app.tell(f"the conversation is in {path}")


async def do_delete(app: ChatApp, argument: str) -> None:
    """Delete this conversation."""
    session = _named(app)
    if await app.push_screen_wait(YesNo(f"delete {session.name}? What was said in it and its pictures are gone then.")):
        stop_turn(app)
        await app.turns.stopped()
        await app.background.call(_forget, session)
        await switch(app, None)


async def do_rewind(app: ChatApp, argument: str) -> None:
    """Take back the last turns; their first question comes back into the composer, to be edited."""
    app.composer.give_back(await _taken_back(app, argument))


async def do_retry(app: ChatApp, argument: str) -> None:
    """Take the last turn back and ask it again."""
    await ask(app, await _taken_back(app, ""))


async def _taken_back(app: ChatApp, turns: str) -> Submitted:
    """The question of the first of the last turns, which are gone then."""
    from mmagent.tui.sessions import existing

    session = _named(app)
    if turns and not turns.isdecimal():
        raise InputError(f"/rewind takes a number of turns, not {turns}")
    async with app.changing:
        stop_turn(app)
        await app.turns.stopped()
        question = await app.background.call(session.rewind, int(turns or 1))
        await _switch(app, await app.background.call(existing, session.name))
    staged = []
    for block in question.media:
        path = app.need_agent().blobs.path(block["file_id"])
        staged.append(Staged(path, str(block.get("extras", {}).get("name", path.name[:12]))))
    return Submitted(question.text, tuple(staged))


def _joined(name: str) -> str:
    """A name as people write it, in one word."""
    return "-".join(name.split())


def _named(app: ChatApp) -> Session:
    if app.session is None:
        raise InputError("this conversation has nothing in it yet; ask something first")
    return app.session


def _forget(session: Session) -> None:
    from mmagent.cli.sessions import forget
    from mmagent.paths import sessions_path
    from mmagent.session.session import journal_exists, open_journal

    usual = open_journal(sessions_path()) if journal_exists(sessions_path()) else None
    try:
        forget([session], [session.journal, *([usual] if usual else [])])
    finally:
        if usual is not None:
            usual.close()


def _device(model: Any) -> str:
    return str(model.engine().loaded.device) if hasattr(model, "engine") else ""


_THIS = {"rename": do_rename, "fork": do_fork, "export": do_export, "delete": do_delete}
