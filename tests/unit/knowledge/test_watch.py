from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmagent.errors import NotFound, StoreLocked
from mmagent.knowledge import IndexReport, Knowledge
from mmagent.knowledge.watch import watch

SECONDS = 30
"""Until a test gives up."""


class Watching:
    """A watch in a thread, and what it reported."""

    def __init__(self, knowledge: Knowledge, *paths: Path) -> None:
        self.knowledge = knowledge
        self.reports: list[IndexReport] = []
        self.waits: list[StoreLocked] = []
        self.stop = threading.Event()
        self.raised: BaseException | None = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(paths,), daemon=True)
        self._thread.start()

    def _run(self, paths: tuple[Path, ...]) -> None:
        try:
            watch(self.knowledge, paths, self._heard, self.stop, on_wait=self.waits.append)
        except BaseException as error:
            self.raised = error

    def _heard(self, report: IndexReport) -> None:
        with self._news:
            self.reports.append(report)
            self._news.notify_all()

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        with self._news:
            while not holds():
                assert self.raised is None, self.raised
                assert time.monotonic() < end, self.reports
                self._news.wait(0.1)

    def has(self, *uris: str) -> bool:
        return {asset.uri for asset in self.knowledge.assets()} == set(uris)

    def close(self) -> None:
        self.stop.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


@pytest.fixture
def watching(tmp_path: Path, embedder: object) -> Iterator[Callable[..., Watching]]:
    started: list[Watching] = []

    def start(*paths: Path, store: Path = tmp_path / "store") -> Watching:
        started.append(Watching(Knowledge(store, embedder=embedder), *paths))  # type: ignore[arg-type]
        started[-1].until(lambda: bool(started[-1].reports) or bool(started[-1].waits))
        return started[-1]

    yield start
    for one in started:
        one.close()
        one.knowledge.close()


def test_what_is_written_renamed_and_deleted_is_followed(watching: Callable[..., Watching], policies: Path) -> None:
    seen = watching(policies)
    assert seen.has("returns.md", "more/shipping.txt")
    assert seen.reports[0].added == 2
    (policies / "new.md").write_text("# New\n\nPandas eat bamboo.\n")
    seen.until(lambda: seen.has("returns.md", "more/shipping.txt", "new.md"))
    assert seen.knowledge.search("bamboo", k=1)[0].uri == "new.md"
    (policies / "new.md").rename(policies / "more" / "old.md")
    seen.until(lambda: seen.has("returns.md", "more/shipping.txt", "more/old.md"))
    (policies / "returns.md").write_text("# Returns\n\nZebras are not taken back.\n")
    seen.until(lambda: seen.knowledge.search("zebras", k=1)[0].uri == "returns.md")
    shutil.rmtree(policies / "more")
    seen.until(lambda: seen.has("returns.md"))
    assert all(report.added or report.updated or report.removed for report in seen.reports)


def test_a_burst_of_changes_takes_few_runs(watching: Callable[..., Watching], policies: Path) -> None:
    seen = watching(policies)
    for number in range(200):
        (policies / f"{number}.txt").write_text(f"Text number {number}.")
    seen.until(lambda: sum(report.added for report in seen.reports) == 202)
    assert len(seen.reports) < 20
    assert len(seen.knowledge.assets()) == 202


def test_a_folder_that_goes_and_comes_back(watching: Callable[..., Watching], policies: Path) -> None:
    seen = watching(policies)
    shutil.rmtree(policies)
    seen.until(lambda: seen.has())
    policies.mkdir()
    (policies / "again.md").write_text("# Again\n\nThe folder is back.\n")
    seen.until(lambda: seen.has("again.md"))
    (policies / "later.md").write_text("# Later\n\nIt is watched as before.\n")
    seen.until(lambda: seen.has("again.md", "later.md"))


def test_a_file_that_editors_replace(watching: Callable[..., Watching], policies: Path, tmp_path: Path) -> None:
    file = policies / "returns.md"
    seen = watching(file)
    for word in ("zebra", "giraffe"):
        (tmp_path / "swap").write_text(f"# Returns\n\nNo {word} is taken back.\n")
        (tmp_path / "swap").replace(file)
        seen.until(lambda word=word: word in seen.knowledge.search(word, k=1)[0].text)  # type: ignore[misc]


def test_a_file_that_is_replaced_again_while_it_is_taken_in(policies: Path, tmp_path: Path, embedder: object) -> None:
    file, stop = policies / "returns.md", threading.Event()
    words = iter(("zebra", "giraffe"))
    reports: list[IndexReport] = []

    def replaced(report: IndexReport) -> None:
        reports.append(report)
        if word := next(words, None):
            (tmp_path / "swap").write_text(f"# Returns\n\nNo {word} is taken back.\n")
            (tmp_path / "swap").replace(file)
        else:
            stop.set()

    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:  # type: ignore[arg-type]
        giving_up = threading.Timer(SECONDS, stop.set)
        giving_up.start()
        watch(knowledge, [file], replaced, stop)
        giving_up.cancel()
        assert [(report.added, report.updated) for report in reports] == [(1, 0), (0, 1), (0, 1)]
        assert "giraffe" in knowledge.search("giraffe", k=1)[0].text


def test_a_link_that_leads_elsewhere(watching: Callable[..., Watching], policies: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "other.md").write_text("# Other\n\nElsewhere.\n")
    link = tmp_path / "current"
    link.symlink_to(policies)
    seen = watching(link)
    (tmp_path / "next").symlink_to(tmp_path / "other")
    (tmp_path / "next").replace(link)
    seen.until(lambda: seen.has("other.md"))
    (tmp_path / "other" / "more.md").write_text("# More\n\nWatched too.\n")
    seen.until(lambda: seen.has("other.md", "more.md"))


def test_a_store_within_the_folder_does_not_wake_itself(watching: Callable[..., Watching], policies: Path) -> None:
    seen = watching(policies, store=policies / "store")
    (policies / "new.md").write_text("# New\n\nOne change.\n")
    seen.until(lambda: len(seen.reports) == 2)
    assert [(report.added, report.removed) for report in seen.reports] == [(2, 0), (1, 0)]


def test_what_is_left_out_is_told_once(watching: Callable[..., Watching], policies: Path) -> None:
    (policies / "broken.md").write_bytes(b"\xff\xfe\x00")
    seen = watching(policies)
    assert [uri for uri, _ in seen.reports[0].skipped] == ["broken.md"]
    (policies / "new.md").write_text("# New\n\nOne change.\n")
    seen.until(lambda: len(seen.reports) == 2)
    assert seen.reports[1].skipped == []


def test_a_store_in_use_is_tried_again(
    watching: Callable[..., Watching], policies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, tries = Knowledge.add, []

    def busy(self: Knowledge, *paths: Path, **options: object) -> IndexReport:
        tries.append(paths)
        if len(tries) < 3:
            raise StoreLocked("the knowledge store is in use; close it there")
        return add(self, *paths, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Knowledge, "add", busy)
    seen = watching(policies)
    seen.until(lambda: bool(seen.reports))
    assert (seen.reports[0].added, len(seen.waits)) == (2, 2)


def test_what_is_not_there_is_refused(tmp_path: Path, embedder: object) -> None:
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge, pytest.raises(NotFound, match="there is no"):  # type: ignore[arg-type]
        watch(knowledge, [tmp_path / "nothing"], lambda report: None)
