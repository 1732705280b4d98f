"""Sessions: conversations that are never lost. A session is what its journal says, and nothing else."""

from __future__ import annotations

from mmagent.session.journal import Draft, Entry, Found, Journal, SessionInfo
from mmagent.session.memory import MemoryJournal
from mmagent.session.postgres import PostgresJournal
from mmagent.session.replay import State, replay
from mmagent.session.session import Session
from mmagent.session.sqlite import SqliteJournal

__all__ = [
    "Draft",
    "Entry",
    "Found",
    "Journal",
    "MemoryJournal",
    "PostgresJournal",
    "Session",
    "SessionInfo",
    "SqliteJournal",
    "State",
    "replay",
]
