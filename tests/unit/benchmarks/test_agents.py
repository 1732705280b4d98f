"""The benchmarks of agents: their arithmetic, and that what they run is what they say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import sessions, storage
from benchmarks.agent_loop import CASES, CONTENDERS, Samples, behind, markdown, rows
from benchmarks.peers.agent_worker import AgentWorker
from benchmarks.peers.agents import ANSWER, SCRIPT, bytes_in, look_up, open_agents
from benchmarks.peers.worker import SystemAbsent


def test_a_script_calls_and_then_answers() -> None:
    SCRIPT.play([1, 2])
    first, both = SCRIPT.next(), SCRIPT.next()
    assert (len(first), len(both), SCRIPT.next()) == (1, 2, [])
    assert len({key for key, _ in [*first, *both]}) == 3
    look_up(3)
    assert SCRIPT.looked_up == 1


@pytest.mark.parametrize("form", [contender.form for contender in CONTENDERS if not contender.peer])
async def test_our_agent_does_what_the_script_says(form: str, tmp_path: Path) -> None:
    agents = open_agents("own_agent", form, tmp_path)
    for name in ("one", "two"):
        SCRIPT.play([1, 3])
        assert await agents.conversation(name).ask("What is on the shelves?") == ANSWER
        assert SCRIPT.looked_up == 4
    assert agents.size() == bytes_in(tmp_path)
    assert (agents.size() > 0) == form.startswith("sqlite")


def test_a_worker_times_and_explains(tmp_path: Path) -> None:
    shown = tmp_path / "picture.png"
    shown.write_bytes(storage.picture(storage.PICTURE_BYTES))
    with AgentWorker(sys.executable, "own_agent") as worker:
        worker.ask("open", form="memory")
        assert len(worker.ask("time", form="memory", steps=[1, 2], turns=3)["seconds"]) == 3
        filled = worker.ask("fill", form="sqlite read", turns=2, calls=1, picture=str(shown))
        assert storage.PICTURE_BYTES < filled["bytes"] < storage.MOST
        with pytest.raises(SystemAbsent, match="KeyError: 'never opened'"):
            worker.ask("time", form="never opened", steps=[1], turns=1)
    with pytest.raises(SystemAbsent, match=r"not installed: No module named 'agno'"):
        AgentWorker(sys.executable, "agno_agent")


def test_figures_of_the_loop() -> None:
    def taken(seconds: float) -> Samples:
        return Samples({case: [seconds * (len(steps) + 1)] for case, steps in CASES.items()}, [0.001])

    figures = rows({"mmagent": taken(0.001), "agno": taken(0.002), "smolagents": taken(0.0005)})
    assert [row["10 tools"] for row in figures] == [1.0, 2.0, 0.5]
    assert behind(figures) == [f"smolagents: {case}" for case in CASES]
    table = markdown(figures, {"pydantic-ai": "not installed"})
    assert "| agno | 2.000 | 2.000 | 2.000 | 22.00 | 1.00 |" in table
    assert "pydantic-ai is absent: not installed." in table


def test_a_picture_has_its_size() -> None:
    import io

    from PIL import Image

    data = storage.picture(storage.PICTURE_BYTES)
    assert len(data) == storage.PICTURE_BYTES
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        assert opened.size == (570, 570)


def test_a_long_session_goes_on_in_a_new_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sessions.fill(tmp_path / "full.sqlite3", 40)
    sessions.resume(str(tmp_path / "full.sqlite3"))
    assert '"messages": 42' in capfd.readouterr().out
    assert sessions.search(tmp_path / "many.sqlite3", 30)["sessions"] == 30
