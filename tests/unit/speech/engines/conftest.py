"""One small random Whisper for all tests of engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmagent.testing.whisper import save_whisper


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network of some 100,000 random weights, whose words are bytes; it knows English and German."""
    return save_whisper(tmp_path_factory.mktemp("small") / "model")
