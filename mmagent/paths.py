"""Where mmagent keeps things on this machine. Nothing is created until somebody writes."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def data_dir() -> Path:
    """Sessions, blobs and knowledge stores; ``MMAGENT_DATA_DIR`` overrides it."""
    from mmagent.settings import settings

    return _expanded(settings().data_dir) or Path(platformdirs.user_data_dir("mmagent", appauthor=False))


def config_dir() -> Path:
    """The user's own prompts and settings; ``MMAGENT_CONFIG_DIR`` overrides it."""
    from mmagent.settings import settings

    return _expanded(settings().config_dir) or Path(platformdirs.user_config_dir("mmagent", appauthor=False))


def _expanded(path: Path | None) -> Path | None:
    return path.expanduser() if path else None


def blobs_dir() -> Path:
    """Media by content hash."""
    return data_dir() / "blobs"


def sessions_path() -> Path:
    """The SQLite journal of all sessions."""
    return data_dir() / "sessions.sqlite3"


def knowledge_dir() -> Path:
    """Knowledge stores, one folder each."""
    return data_dir() / "knowledge"
