"""Files that lost their end or had bytes changed: a session is what it was, or there is a typed error. Never half."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from benchmarks.lives import Planned, make_tools
from mmagent.agent import Agent
from mmagent.content import Message
from mmagent.errors import StoreError
from mmagent.media import BlobStore
from mmagent.session import Session

SEEDS = 40


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    dice = random.Random(0)
    session = Session.open("a", folder / "sessions.sqlite3")
    agent = Agent(
        Planned(dice), make_tools(folder / "e", dice), session=session, builtins=False, blobs=BlobStore(folder / "b")
    )
    for turn in range(12):
        agent.run(f"a.{turn} ri/u")
    session.close()
    return folder


def read(folder: Path) -> tuple[Message, ...] | None:
    """The conversation; None where it is refused."""
    try:
        session = Session.open("a", folder / "sessions.sqlite3")
        try:
            return session.messages
        finally:
            session.close()
    except StoreError:
        return None


def copy(kept: Path, folder: Path) -> Path:
    for path in filter(Path.is_file, kept.glob("sessions.sqlite3*")):
        shutil.copyfile(path, folder / path.name)
    return folder / "sessions.sqlite3"


def test_bytes_that_changed(kept: Path, tmp_path: Path) -> None:
    whole = read(kept)
    refused = 0
    for seed in range(SEEDS):
        dice = random.Random(seed)
        (folder := tmp_path / str(seed)).mkdir()
        file = copy(kept, folder)
        data = bytearray(file.read_bytes())
        for _ in range(dice.choice((1, 8, 64))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        file.write_bytes(data)
        messages = read(folder)
        assert messages in (whole, None), f"seed {seed}"
        refused += messages is None
    assert refused


def test_a_file_that_lost_its_end(kept: Path, tmp_path: Path) -> None:
    for seed in range(SEEDS):
        (folder := tmp_path / str(seed)).mkdir()
        file = copy(kept, folder)
        size = random.Random(seed).randrange(1, file.stat().st_size)
        with file.open("r+b") as opened:
            opened.truncate(size)
        assert read(folder) is None, f"seed {seed}: cut to {size} bytes"
