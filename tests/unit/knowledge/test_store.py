from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mmagent.errors import InputError, NotFound, StoreError, StoreLocked
from mmagent.knowledge import Knowledge
from mmagent.knowledge.lock import FolderLock
from mmagent.settings import settings


def test_a_folder_becomes_searchable_and_hits_say_where_they_stand(policies: Path, embedder: Any) -> None:
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        hit = knowledge.search("return window for lamps")[0]
        assert (hit.title, hit.uri) == ("Returns > Return window", "returns.md")
        source = (policies / "returns.md").read_bytes().decode()
        assert source[hit.start : hit.end] == hit.text
        assert knowledge.quote(hit, "Lamps have 14 days [1]") == "Lamps and bulbs have 14 days."
        assert knowledge.search("shipping cost")[0].uri == "more/shipping.txt"
        assert knowledge.verify() == []


def test_hits_come_best_first_and_no_more_than_asked_for(policies: Path, embedder: Any) -> None:
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        scores = [hit.score for hit in knowledge.search("days", k=2)]
        assert len(scores) == 2 and scores == sorted(scores, reverse=True)
        assert len(knowledge.search("days", k=100)) == 4
        with pytest.raises(InputError, match="at least 1"):
            knowledge.search("days", k=0)


def test_an_unchanged_folder_is_not_embedded_again(policies: Path, embedder: Any) -> None:
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        ids = {hit.id for hit in knowledge.search("days", k=10)}
    embedder.embedded.clear()
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        assert knowledge.report is not None and knowledge.report.unchanged == 2
        assert embedder.embedded == []
        assert {hit.id for hit in knowledge.search("days", k=10)} == ids


def test_only_what_changed_is_embedded_again(policies: Path, embedder: Any) -> None:
    Knowledge.of_folder(policies, embedder=embedder).close()
    embedder.embedded.clear()
    returns = policies / "returns.md"
    returns.write_text(returns.read_text().replace("happy.", "very happy indeed."))
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        assert knowledge.report is not None and (knowledge.report.updated, knowledge.report.unchanged) == (1, 1)
        assert embedder.embedded == ["Returns\nWe want you to be very happy indeed."]
        for hit in knowledge.search("refunds window happy", k=10):
            assert (policies / hit.uri).read_text()[hit.start : hit.end] == hit.text


def test_a_deleted_document_is_found_no_more(policies: Path, embedder: Any) -> None:
    Knowledge.of_folder(policies, embedder=embedder).close()
    (policies / "more" / "shipping.txt").unlink()
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        assert knowledge.report is not None and knowledge.report.removed == 1
        assert {hit.uri for hit in knowledge.search("shipping", k=10)} == {"returns.md"}
        assert knowledge.verify() == []


def test_what_cannot_be_taken_in_is_listed_with_its_reason(
    policies: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMAGENT_MAX_DOCUMENT_BYTES", "1000")
    settings.cache_clear()
    (policies / "program.exe").write_bytes(b"MZ\x90\0\x03")
    (policies / "latin.txt").write_bytes("Größe".encode("latin-1"))
    (policies / "binary.md").write_bytes(b"a\0b")
    (policies / "empty.txt").write_text(" \n")
    (policies / "headings.md").write_text("# Only\n## Headings\n")
    (policies / "long.txt").write_text("word " * 300)
    (policies / ".hidden.md").write_text("Not looked at.")
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        for _ in range(2):  # the second time, from memory
            report = knowledge.add(policies)
            reasons = dict(report.skipped)
            assert reasons.keys() == {
                "program.exe", "latin.txt", "binary.md", "empty.txt", "headings.md", "long.txt",
            }  # fmt: skip
            assert ".exe" in reasons["program.exe"] and "Markdown" in reasons["program.exe"]
            assert "UTF-8" in reasons["latin.txt"]
            assert all(word in reasons["long.txt"] for word in ("1,500", "1,000", "MMAGENT_MAX_DOCUMENT_BYTES"))
        assert (knowledge.stats().documents, knowledge.stats().refused) == (2, 6)


def test_a_document_that_became_unreadable_is_found_no_more(policies: Path, embedder: Any) -> None:
    Knowledge.of_folder(policies, embedder=embedder).close()
    (policies / "returns.md").write_bytes(b"\xff\xfe broken")
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        assert {hit.uri for hit in knowledge.search("refunds", k=10)} == {"more/shipping.txt"}


def test_folders_that_cannot_be_used(tmp_path: Path, embedder: Any) -> None:
    file, empty, useless = tmp_path / "a.md", tmp_path / "empty", tmp_path / "useless"
    file.write_text("text")
    empty.mkdir()
    useless.mkdir()
    (useless / "a.txt").write_bytes(b"\xff")
    with pytest.raises(NotFound, match="there is no folder"):
        Knowledge.of_folder(tmp_path / "missing", embedder=embedder)
    with pytest.raises(NotFound, match="there is no folder"):
        Knowledge.of_folder("x" * 5000, embedder=embedder)
    with pytest.raises(InputError, match="is a file"):
        Knowledge.of_folder(file, embedder=embedder)
    with pytest.raises(InputError, match="Markdown"):
        Knowledge.of_folder(empty, embedder=embedder)
    with pytest.raises(InputError, match=r"a\.txt: it is not UTF-8"):
        Knowledge.of_folder(useless, embedder=embedder)


def test_stores_are_kept_under_root_and_apart_for_folders_of_one_name(tmp_path: Path, embedder: Any) -> None:
    folders = [tmp_path / name / "docs" for name in ("one", "two")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "a.md").write_text(f"Words of {folder.parent.name}.")
        with Knowledge.of_folder(folder, root=tmp_path / "stores", embedder=embedder) as knowledge:
            assert [hit.text for hit in knowledge.search("words")] == [f"Words of {folder.parent.name}."]
    assert [path.name[:5] for path in (tmp_path / "stores").iterdir()] == ["docs-", "docs-"]


def test_files_can_be_added_one_by_one(tmp_path: Path, policies: Path, embedder: Any) -> None:
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        assert knowledge.search("anything") == []
        assert knowledge.add(policies / "returns.md").added == 1
        assert knowledge.search("refunds")[0].uri == str(policies / "returns.md")
        with pytest.raises(NotFound):
            knowledge.add(policies / "nothing.md")
        report = knowledge.add(policies)
        assert (report.added, report.unchanged) == (1, 1)
        assert knowledge.search("refunds")[0].uri == "returns.md"


def test_another_embedder_embeds_everything_anew(
    tmp_path: Path, policies: Path, make_embedder: Callable[..., Any]
) -> None:
    with Knowledge(tmp_path / "store", embedder=make_embedder("one", 32)) as knowledge:
        knowledge.add(policies)
        knowledge.sync()
    with Knowledge(tmp_path / "store", embedder=make_embedder("two", 48)) as knowledge:
        assert knowledge.search("shipping")[0].uri == "more/shipping.txt"
        knowledge.sync()
        assert knowledge.verify() == []


class Slow:
    """Embeds nothing before it may."""

    def __init__(self, embedder: Any) -> None:
        self._embedder, self.fingerprint = embedder, embedder.fingerprint
        self.begun, self.go_on = threading.Event(), threading.Event()

    def embed(self, texts: Any) -> Any:
        self.begun.set()
        assert self.go_on.wait(30)
        return self._embedder.embed(texts)


def test_while_one_writes_others_search_and_are_told_who_writes(tmp_path: Path, policies: Path, embedder: Any) -> None:
    slow = Slow(embedder)
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        knowledge.add(policies / "returns.md")
    with ThreadPoolExecutor(1) as thread, Knowledge(tmp_path / "store", embedder=embedder) as other:
        with Knowledge(tmp_path / "store", embedder=slow) as writer:
            adding = thread.submit(writer.add, policies)
            assert slow.begun.wait(30)
            assert other.search("refunds")[0].uri == str(policies / "returns.md")
            began = time.monotonic()
            with pytest.raises(StoreLocked, match="written to by this process"):
                other.add(policies)
            assert time.monotonic() - began < 5
            slow.go_on.set()
            assert adding.result(30).added == 1
        assert other.search("shipping cost")[0].uri == "more/shipping.txt"  # the reader sees what was written
        assert other.add(policies).unchanged == 2


def test_a_second_process_is_told_who_writes(tmp_path: Path, policies: Path, embedder: Any) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "store")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin and other.stdout
    assert other.stdout.readline() == "held\n"
    with pytest.raises(StoreLocked, match=f"pid {other.pid}"):
        Knowledge(tmp_path / "store", embedder=embedder).add(policies)
    other.kill()
    other.communicate()
    assert Knowledge(tmp_path / "store", embedder=embedder).add(policies).added == 2


_HOLD = """
import sys
from pathlib import Path
from mmagent.knowledge.lock import FolderLock
Path(sys.argv[1]).mkdir()
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_that_another_process_brings_up_to_date_is_searched_as_it_is(policies: Path, embedder: Any) -> None:
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        (policies / "new.md").write_text("Something new.")
        lock = FolderLock(knowledge.path)
        with Knowledge.of_folder(policies, embedder=embedder) as other:
            assert other.report is None and other.stats().documents == 2
        lock.release()


def test_a_failed_opening_does_not_keep_the_lock(policies: Path, embedder: Any) -> None:
    for file in policies.rglob("*.*"):
        file.write_bytes(b"\xff")
    for _ in range(2):
        with pytest.raises(InputError, match="not UTF-8"):
            Knowledge.of_folder(policies, embedder=embedder)


def test_a_newer_or_damaged_store_says_what_to_do(tmp_path: Path, policies: Path, embedder: Any) -> None:
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        knowledge.add(policies)
    database = tmp_path / "store" / "manifest.sqlite3"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match=r"newer mmagent .*update mmagent"):
        Knowledge(tmp_path / "store", embedder=embedder).search("x")
    database.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="delete that folder"):
        Knowledge(tmp_path / "store", embedder=embedder).search("x")
    with pytest.raises(StoreError, match="cannot be opened"):
        Knowledge(policies / "returns.md", embedder=embedder).search("x")


def test_verify_sees_a_word_index_and_vectors_that_do_not_match(tmp_path: Path, policies: Path, embedder: Any) -> None:
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        knowledge.add(policies)
    with sqlite3.connect(tmp_path / "store" / "manifest.sqlite3") as connection:
        connection.execute("DELETE FROM vectors WHERE unit = 1")
        connection.execute("UPDATE units SET text = 'other words' WHERE number = 2")
    connection.close()
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        problems = "\n".join(knowledge.verify())
    assert "4 units for the text space words, but 3 in vectors" in problems
    assert "word index" in problems
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        knowledge.rebuild()
        knowledge.add(policies)
        assert knowledge.verify() == []
        assert knowledge.search("other words")[0].text == "other words"


@pytest.mark.parametrize(
    "query", ['"', "a AND", "NEAR(", "text:x", "*", "-", "^a", "'; DROP TABLE units", "\0", "\ud800", "_"]
)
def test_no_query_is_invalid(policies: Path, embedder: Any, query: str) -> None:
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        assert len(knowledge.search(query)) == 3


@hypothesis_settings(max_examples=200, deadline=None)
@given(query=st.text())
def test_no_text_at_all_is_an_invalid_lexical_query(query: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    from mmagent.knowledge.manifest import Manifest

    manifest = Manifest(tmp_path_factory.getbasetemp() / "hostile.sqlite3", write=True)
    try:
        assert manifest.lexical(query, 5) == []
    finally:
        manifest.close()


def test_searches_from_many_threads(policies: Path, embedder: Any) -> None:
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge, ThreadPoolExecutor(8) as threads:
        alone = knowledge.search("refunds to the card")
        assert all(hits == alone for hits in threads.map(knowledge.search, ["refunds to the card"] * 40))


def test_small_stores_never_import_chromadb_and_searching_needs_no_network(tmp_path: Path, policies: Path) -> None:
    code = """
import sys
import numpy
from mmagent.knowledge import Knowledge
class Ones:
    fingerprint = "ones"
    def embed(self, texts): return numpy.ones((len(texts), 4), numpy.float32) / 2
with Knowledge.of_folder(sys.argv[1], embedder=Ones()) as knowledge:
    assert knowledge.search("refunds")[0].uri == "returns.md"
assert not {"chromadb", "torch", "transformers", "langchain_core"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code, str(policies)], check=True)
