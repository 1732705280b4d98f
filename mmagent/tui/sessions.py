"""The conversations that are kept: the list of them, and what can be done with each. It knows the journal, no agent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType

from mmagent.cli.sessions import last_question, written
from mmagent.errors import InputError, MMAgentError, NotFound
from mmagent.session import Journal, Session
from mmagent.session.session import journal_exists, open_journal
from mmagent.tui.background import Background
from mmagent.tui.pickers import Choice, Picker

_LONGEST_NAME = 40
_FORMATS = {".md": "md", ".html": "html", ".jsonl": "jsonl"}


def rows(words: str = "") -> list[Choice]:
    """The conversations, the one used last first; of words, those in which they were said.

    Raises:
        StoreError: The journal cannot be read.
    """
    if not journal_exists():
        return []
    journal = open_journal()
    try:
        if not words.strip():
            return [_row(journal, info.name, info.updated, info.id, info.entries) for info in journal.sessions()[:500]]
        infos = {info.id: info for info in journal.sessions()}
        found: dict[str, Choice] = {}
        for one in journal.search(words, 50):
            info = infos.get(one.session.parent or one.session.id)
            if info is not None and info.id not in found:
                found[info.id] = Choice(info.name, info.name, f"{when(info.updated)}  {one.excerpt}")
        named = [info for info in infos.values() if words.lower() in info.name.lower() and info.id not in found]
        return [*(_row(journal, one.name, one.updated, one.id, one.entries) for one in named), *found.values()]
    finally:
        journal.close()


def new_name(question: str, journal: Journal) -> str:
    """What a conversation is called that begins with a question: its first words, with a number where that is taken."""
    words = re.findall(r"\w+", question.lower())
    stem = "-".join(words)[:_LONGEST_NAME].strip("-_") or f"{datetime.now():%Y-%m-%d}"
    stem = stem if re.match(r"\w", stem) else f"chat-{stem}"
    name, number = stem, 1
    while journal.find(name) is not None:
        number += 1
        name = f"{stem}-{number}"
    return name


def export(session: Session, place: str) -> Path:
    """Write a conversation to a file; its ending says how.

    Raises:
        InputError: The ending is none of those, or the file cannot be written.
        StoreError: The journal cannot be read.
    """
    path = Path(place or f"{session.name}.md").expanduser()
    if path.exists():
        raise InputError(f"{path} is there already; give another name: /export FILE")
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise InputError(f"{path.name} has none of the endings {', '.join(_FORMATS)}; give one of them")
    written(session, form, path)  # type: ignore[arg-type]
    return path.absolute()


def existing(name: str) -> Session:
    """The session of that name.

    Raises:
        NotFound: There is none.
        StoreError: The journal cannot be read.
    """
    journal = open_journal()
    if journal.find(name) is None:
        journal.close()
        raise NotFound(f"there is no conversation called {name}")
    return Session(name, journal)


def when(updated: str) -> str:
    """A time in UTC as people say it here and now: today's by the hour, others by the day."""
    try:
        at = datetime.fromisoformat(updated)
    except ValueError:
        return updated[:16]
    at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone()
    days = (datetime.now().astimezone().date() - at.date()).days
    if days <= 0:
        return f"today {at:%H:%M}"
    return f"yesterday {at:%H:%M}" if days == 1 else f"{at:%Y-%m-%d}"


def _row(journal: Journal, name: str, updated: str, id: str, entries: int) -> Choice:
    return Choice(name, name, f"{when(updated)}  {last_question(journal.read(id, after=entries - 24))}")


class SessionPicker(Picker):
    """Find a conversation by what was said in it; keys do more with the one that is marked.

    It is dismissed with ``resume NAME``, ``rename NAME``, ``fork NAME``, ``export NAME`` or ``delete NAME``.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("f2", "say('rename')", "Rename"),
        Binding("f3", "say('fork')", "Fork"),
        Binding("f4", "say('export')", "Export"),
        Binding("f8,delete", "say('delete')", "Delete"),
    ]

    def __init__(self, found: Iterable[Choice], background: Background) -> None:
        super().__init__(
            "conversations   Enter goes on · F2 renames · F3 forks · F4 exports · F8 deletes",
            list(found),
            hint="search in everything that was said",
        )
        self._background = background
        self._searching = False

    def typed(self, words: str) -> None:
        """Show those in which it was said."""
        self._searching = True
        self.run_worker(self._search(words), exclusive=True, group="search")

    def choose(self) -> None:
        """Go on with it."""
        self.action_say("resume")

    def action_say(self, what: str) -> None:
        """What is to be done with the one that is marked; not while another list is on its way."""
        if self.marked is not None and not self._searching:
            self.dismiss(f"{what} {self.marked.id}")

    def _narrow(self, typed: str) -> None:
        super()._narrow("")

    async def _search(self, words: str) -> None:
        try:
            self.show(await self._background.call(rows, words))
        except MMAgentError as error:
            self.notify(str(error), severity="error", markup=False)
        self._searching = False
