"""What every journal promises. A new one adds its fixture to `journals`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from mmagent.errors import StoreError
from mmagent.session import Journal, SqliteJournal

Open = Callable[[], Journal]


@pytest.fixture(params=["sqlite file", "memory"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    opened = SqliteJournal(tmp_path / "sessions.sqlite3" if request.param == "sqlite file" else None)
    yield opened
    opened.close()


class TestJournal:
    def test_entries_come_back_in_order_and_unchanged(self, journal: Journal) -> None:
        data = {"text": "déjà vu 🙂 \n\t\"'", "number": 1.5, "list": [1, None, True], "empty": {}}
        assert [journal.append("a", "message", data), journal.append("a", "other", {})] == [1, 2]
        entries = journal.read("a")
        assert [(entry.seq, entry.kind, entry.data) for entry in entries] == [(1, "message", data), (2, "other", {})]

    def test_sessions_do_not_see_each_other(self, journal: Journal) -> None:
        journal.append("a", "message", {"of": "a"})
        assert journal.append("ab", "message", {"of": "ab"}) == 1
        assert [entry.data for entry in journal.read("a")] == [{"of": "a"}]
        assert list(journal.read("b")) == []

    def test_reading_can_go_on_where_it_stopped(self, journal: Journal) -> None:
        for number in range(5):
            journal.append("a", "message", {"number": number})
        assert [entry.seq for entry in journal.read("a", after=3)] == [4, 5]
        assert list(journal.read("a", after=5)) == []

    def test_sessions_are_listed_with_the_last_used_first(self, journal: Journal) -> None:
        assert list(journal.sessions()) == []
        for name in ("b", "a", "c", "a"):
            journal.append(name, "message", {})
        assert list(journal.sessions()) == ["a", "c", "b"]

    def test_names_are_data_not_sql(self, journal: Journal) -> None:
        name = "x'; DROP TABLE entries; --"
        journal.append(name, "message", {"kept": True})
        assert [entry.data for entry in journal.read(name)] == [{"kept": True}]

    def test_what_is_no_json_is_refused_and_leaves_no_trace(self, journal: Journal) -> None:
        with pytest.raises(TypeError):
            journal.append("a", "message", {"object": object()})
        assert list(journal.read("a")) == []

    def test_threads_may_write_at_once(self, journal: Journal) -> None:
        def write() -> None:
            for _ in range(20):
                journal.append("a", "message", {})

        threads = [Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [entry.seq for entry in journal.read("a")] == list(range(1, 81))

    def test_a_closed_journal_says_so(self, journal: Journal) -> None:
        journal.close()
        journal.close()
        with pytest.raises(StoreError):
            journal.append("a", "message", {})


class TestDurableJournal:
    """Promises of journals that outlive the process."""

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Open]:
        opened: list[Journal] = []

        def open_again() -> Journal:
            opened.append(SqliteJournal(tmp_path / "sessions.sqlite3"))
            return opened[-1]

        yield open_again
        for journal in opened:
            journal.close()

    def test_entries_survive_closing(self, reopen: Open) -> None:
        first = reopen()
        first.append("a", "message", {"number": 1})
        first.close()
        second = reopen()
        assert second.append("a", "message", {"number": 2}) == 2
        assert [entry.data["number"] for entry in second.read("a")] == [1, 2]

    def test_two_users_see_each_others_entries(self, reopen: Open) -> None:
        one, other = reopen(), reopen()
        assert [one.append("a", "message", {}), other.append("a", "message", {}), one.append("a", "message", {})] == [
            1,
            2,
            3,
        ]
        assert [entry.seq for entry in other.read("a")] == [1, 2, 3]

    def test_two_processes_may_write_at_once(self, reopen: Open, tmp_path: Path) -> None:
        script = (
            "import sys; from pathlib import Path; from mmagent.session import SqliteJournal\n"
            "journal = SqliteJournal(Path(sys.argv[1]))\n"
            "for number in range(30): journal.append('a', 'message', {'from': 'child', 'number': number})\n"
        )
        child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "sessions.sqlite3")])
        journal = reopen()
        for number in range(30):
            journal.append("a", "message", {"from": "parent", "number": number})
        assert child.wait(timeout=60) == 0
        entries = journal.read("a")
        assert [entry.seq for entry in entries] == list(range(1, 61))
        for writer in ("child", "parent"):
            assert [entry.data["number"] for entry in entries if entry.data["from"] == writer] == list(range(30))
