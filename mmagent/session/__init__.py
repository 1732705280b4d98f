"""Sessions: conversations that are never lost. A session is what its journal says, and nothing else."""

from __future__ import annotations

from mmagent.session.journal import Entry, Journal, SqliteJournal
from mmagent.session.replay import replay
from mmagent.session.session import Session

__all__ = ["Entry", "Journal", "Session", "SqliteJournal", "replay"]
