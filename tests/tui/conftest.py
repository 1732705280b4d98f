"""What tests of the terminal app share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmagent.agent import tool


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own to be in; nothing of the terminal that the tests are run from counts."""
    monkeypatch.chdir(tmp_path)
    for name in ("SSH_CONNECTION", "TMUX", "STY", "TERM_PROGRAM", "LC_TERMINAL", "VISUAL", "EDITOR", "MMAGENT_PLAIN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@tool(effect="read")
def lookup(order_id: str) -> dict[str, object]:
    """Look an order up.

    Args:
        order_id: Which.
    """
    return {"id": order_id, "price": 3}


@pytest.fixture
def lookup_tool() -> object:
    """A tool that reads."""
    return lookup
