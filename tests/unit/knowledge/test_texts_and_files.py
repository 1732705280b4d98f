"""What is taken in: texts, archives, links, files that change meanwhile; and what becomes of older stores."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmagent.errors import InputError, ModelError, StoreError
from mmagent.knowledge import Knowledge, Progress, Text
from mmagent.knowledge import find as find_module
from mmagent.settings import settings

V1 = Path(__file__).parents[2] / "data" / "knowledge" / "v1.sqlite3"


@pytest.fixture
def store(tmp_path: Path, embedder: Any) -> Knowledge:
    return Knowledge(tmp_path / "store", embedder=embedder)


def test_texts_are_kept_whole_or_cut_replaced_and_removed(store: Knowledge, embedder: Any) -> None:
    long = "One sentence of many words. " * 100
    report = store.add_texts(
        [Text("whole", long, whole=True, title="Long"), Text("cut", long), Text("short", "Short one.")]
    )
    assert (report.added, report.updated, report.unchanged) == (3, 0, 0)
    assert [hit.text for hit in store.get("whole")] == [long]
    assert len(store.get("cut")) > 2 and "".join(h.text + " " for h in store.get("cut")) == long
    embedder.embedded.clear()
    report = store.add_texts(
        [Text("short", "Short one."), Text("whole", long, whole=True, title="Long", metadata={"a": 1})]
    )
    assert (report.unchanged, report.updated) == (1, 1) and embedder.embedded == []
    assert store.search("many words", 1, where={"a": 1})[0].metadata == {"a": 1}
    assert store.add_texts([Text("short", "Another one.")]).updated == 1
    assert [hit.text for hit in store.get("short")] == ["Another one."]
    assert store.remove("short", "cut", "nothing") == 2 and store.get("short") == []
    assert store.verify() == []


def test_texts_that_cannot_be_kept(store: Knowledge) -> None:
    with pytest.raises(InputError, match="two texts are called 'a'"):
        store.add_texts([Text("a", "x"), Text("a", "y")])
    with pytest.raises(InputError, match="is no uri"):
        store.add_texts([Text("", "x")])
    with pytest.raises(InputError, match="JSON"):
        store.add_texts([Text("a", "x", metadata={"when": object()})])
    assert store.stats().units == 0


def test_metadata_of_files_stays_unless_it_is_given_again(store: Knowledge, policies: Path, embedder: Any) -> None:
    store.add(policies, metadata={"lang": "en"})
    embedder.embedded.clear()
    assert store.add(policies).unchanged == 2
    assert len(store.search("days", 9, where={"lang": "en"})) == 4
    store.add(policies, metadata={"lang": "de"})
    assert store.search("days", 9, where={"lang": "en"}) == []
    assert len(store.search("days", 9, where={"lang": "de"})) == 4
    assert set(embedder.embedded) == {"days"}


def test_unchanged_files_are_not_even_opened(store: Knowledge, policies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in policies.rglob("*.*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))  # long ago: nothing can change at the same instant any more
    store.add(policies)
    monkeypatch.setattr(find_module, "read_bytes", None)
    monkeypatch.setattr("mmagent.knowledge.update.read_bytes", None)
    assert store.add(policies).unchanged == 2


def test_a_file_of_the_same_size_and_time_but_other_content_is_seen(store: Knowledge, policies: Path) -> None:
    file = policies / "more" / "shipping.txt"
    store.add(policies)
    before = file.stat()
    file.write_text(file.read_text().replace("4.90", "5.90"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.add(policies).updated == 1


def test_an_archive_is_a_folder_of_documents(store: Knowledge, tmp_path: Path, embedder: Any) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()

    def pack(**documents: str) -> None:
        with zipfile.ZipFile(folder / "manuals.zip", "w") as archive:
            for name, text in documents.items():
                archive.writestr(f"deep/{name}.md", text)
            archive.writestr("bad.txt", b"\xff\xfe\xff")

    pack(lamp="# Lamp\nIt glows.", table="# Table\nIt stands.")
    report = store.add(folder)
    assert (report.added, [uri for uri, _ in report.skipped]) == (2, ["manuals.zip!/bad.txt"])
    assert store.search("glows", 1)[0].uri == "manuals.zip!/deep/lamp.md"
    report = store.add(folder)
    assert (report.unchanged, [uri for uri, _ in report.skipped]) == (2, ["manuals.zip!/bad.txt"])
    embedder.embedded.clear()
    pack(lamp="# Lamp\nIt glows.", chair="# Chair\nIt rocks.")
    report = store.add(folder)
    assert (report.added, report.unchanged, report.removed) == (1, 1, 1)
    assert embedder.embedded == ["Chair\nIt rocks."]
    assert {hit.uri for hit in store.search("it", 9)} == {"manuals.zip!/deep/lamp.md", "manuals.zip!/deep/chair.md"}
    assert store.stats().documents == 2 and store.verify() == []
    (folder / "manuals.zip").unlink()
    assert store.add(folder).removed == 2 and store.stats().units == 0


def test_a_zip_bomb_is_refused(store: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.txt", b"lamp " * 1000 + b"\n" * 20_000_000)
    (tmp_path / "bomb.zip").write_bytes(packed.getvalue())
    assert len(packed.getvalue()) < 1_000_000
    report = store.add(tmp_path / "bomb.zip")
    assert report.added < 20 and report.skipped
    assert any("MMAGENT_MAX_ARCHIVE_BYTES" in reason for _, reason in report.skipped)


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(store: Knowledge, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("The password is swordfish.")
    (folder / "a.txt").write_text("Inside.")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "in.txt").symlink_to(folder / "a.txt")
    (folder / "gone.txt").symlink_to(folder / "nothing.txt")
    (folder / "loop").symlink_to(folder)
    (folder / "elsewhere").symlink_to(tmp_path)
    report = store.add(folder)
    assert dict(report.skipped) == {
        "out.txt": "it is a link out of the folder; give what it points to itself",
        "elsewhere": "it is a link out of the folder; give what it points to itself",
        "gone.txt": "it is not a file",
    }
    assert report.added == 2 and all(hit.text == "Inside." for hit in store.search("password swordfish", 9))


def test_a_file_that_changes_while_it_is_read_is_left_for_later(
    store: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "growing.txt"
    file.write_text("first half")
    real, changes = os.fstat, iter([True])

    def fstat(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        if next(changes, False):
            with file.open("a") as opened:
                opened.write(", second half")
        return found

    monkeypatch.setattr(os, "fstat", fstat)
    report = store.add(file)
    monkeypatch.undo()
    assert report.skipped == [(str(file), "it is being written to; add it again when that is done")]
    assert store.add(file).added == 1
    assert store.search("half", 1)[0].text == "first half, second half"


def test_what_was_told_as_done_is_there_after_an_interruption(store: Knowledge, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.md").write_text("".join(f"# {n}\nfile {number} part {n}\n" for n in range(40)))
    told: list[Progress] = []

    def progress(now: Progress) -> None:
        told.append(now)
        if len(told) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(folder, progress=progress)
    done = store.stats().documents
    assert 0 < told[0].done <= done < 60 and told[0].total == 60 and store.verify() == []
    report = store.add(folder, progress=told.append)
    assert (report.unchanged, report.added) == (done, 60 - done)
    assert told[-1].done == told[-1].total == 60


def test_neighbours_become_one_hit_and_a_document_has_only_so_many(store: Knowledge) -> None:
    text = " ".join(f"Sentence number {n} of a long story about lamps." for n in range(120))
    store.add_texts([Text("long", text), Text("other", "A lamp.")])
    apart = store.search("lamps story", 10)
    merged = store.search("lamps story", 10, merge=True)
    assert len(merged) < len(apart)
    for hit in merged:
        if hit.uri == "long":
            assert text[hit.start : hit.end] == hit.text
    assert max(hit.end - hit.start for hit in merged) > max(hit.end - hit.start for hit in apart)
    assert [hit.uri for hit in store.search("lamps story", 10, per_asset=1)].count("long") == 1


def test_a_store_of_the_first_version_is_taken_over(tmp_path: Path, make_embedder: Callable[..., Any]) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(V1, folder / "manifest.sqlite3")
    embedder = make_embedder("words", 16)
    with Knowledge(folder, embedder=embedder) as knowledge:
        assert knowledge.search("lamps and bulbs", 1)[0].text == "Lamps and bulbs have 14 days."
        assert embedder.embedded == ["lamps and bulbs"]  # nothing was embedded anew
        assert (knowledge.stats().documents, knowledge.stats().units) == (2, 3)
        assert knowledge.verify() == []


def test_an_interrupted_migration_begins_again(
    tmp_path: Path, make_embedder: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = make_embedder("words", 16)
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(V1, folder / "manifest.sqlite3")
    monkeypatch.setattr("mmagent.knowledge.schema._COPY_V1", ("no SQL",))
    with pytest.raises(StoreError):
        Knowledge(folder, embedder=embedder).search("lamps")
    monkeypatch.undo()
    assert Knowledge(folder, embedder=embedder).search("lamps", 1)[0].uri == "returns.md"


def test_an_embedder_of_another_dimension_under_the_same_name(
    tmp_path: Path, policies: Path, make_embedder: Callable[..., Any]
) -> None:
    with Knowledge(tmp_path / "store", embedder=make_embedder("same", 32)) as knowledge:
        knowledge.add(policies)
    with Knowledge(tmp_path / "store", embedder=make_embedder("same", 48)) as knowledge:
        with pytest.raises(StoreError, match="vectors of 48 numbers, and the store has vectors of 32"):
            knowledge.search("refunds")
        with pytest.raises(StoreError, match="another fingerprint"):
            knowledge.add_texts([Text("x", "y")])
        assert knowledge.stats().documents == 2


def test_an_embedder_that_gives_no_directions_is_told(store: Knowledge) -> None:
    import numpy as np

    class Broken:
        fingerprint = "broken"
        gives: Any = np.zeros((1, 4), np.float32)

        def embed(self, texts: Any) -> Any:
            return self.gives

    with Knowledge(store.path, embedder=Broken()) as knowledge:
        with pytest.raises(ModelError, match="without a direction"):
            knowledge.add_texts([Text("x", "y")])
        Broken.gives = np.ones((3, 4), np.float32)
        with pytest.raises(ModelError, match="shape"):
            knowledge.add_texts([Text("x", "y")])


def test_embedding_anew_goes_on_where_it_was_interrupted(
    tmp_path: Path, make_embedder: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmagent.knowledge.spaces.BATCH", 10)
    path = tmp_path / "store"
    with Knowledge(path, embedder=make_embedder("one")) as knowledge:
        knowledge.add_texts(Text(str(n), f"text {n}") for n in range(50))
    second = make_embedder("two")
    real, calls = second.embed, iter(range(3))

    def embed(texts: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(texts)

    second.embed = embed
    with Knowledge(path, embedder=second) as knowledge, pytest.raises(KeyboardInterrupt):
        knowledge.search("text 7")
    second.embed = real
    second.embedded.clear()
    with Knowledge(path, embedder=second) as knowledge:
        assert knowledge.search("text 7", 1)[0].uri == "7"
        assert len(second.embedded) == 20 + 1
        assert [space.fingerprint for space in knowledge.stats().spaces] == ["two"]
        assert knowledge.verify() == []


def test_a_full_disk_leaves_the_store_as_it_was(store: Knowledge, policies: Path) -> None:
    store.add(policies)
    pages = int(sqlite3.connect(store.path / "manifest.sqlite3").execute("PRAGMA page_count").fetchone()[0])
    real = sqlite3.connect

    def full(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = real(*args, **options)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    sqlite3.connect = full  # type: ignore[assignment]
    try:
        with pytest.raises(StoreError, match="full"):
            store.add_texts(Text(str(n), f"text {n} " * 50) for n in range(500))
    finally:
        sqlite3.connect = real
    assert store.verify() == [] and store.stats().documents == 2
    assert store.search("refunds", 1)[0].uri == "returns.md"


@pytest.mark.parametrize("content", [b"PK\3\4garbage", b"PK\3\4" + bytes(200)])
def test_a_broken_archive_never_stops_the_rest(store: Knowledge, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.zip").write_bytes(content)
    (folder / "b.docx").write_bytes(content)
    (folder / "c.md").write_text("It glows.")
    report = store.add(folder)
    assert report.added == 1 and [uri for uri, _ in report.skipped] == ["a.zip", "b.docx"]
    assert store.search("glows", 1)[0].uri == "c.md" and store.verify() == []


def test_an_archive_of_too_many_files_loses_what_it_had(
    tmp_path: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(number: int) -> None:
        with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
            for name in range(number):
                archive.writestr(f"{name}.txt", f"text {name}")

    monkeypatch.setenv("MMAGENT_MAX_ARCHIVE_FILES", "5")
    settings.cache_clear()
    pack(5)
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        assert knowledge.add(tmp_path / "many.zip").added == 5
        pack(6)
        report = knowledge.add(tmp_path / "many.zip")
        assert any("MMAGENT_MAX_ARCHIVE_FILES" in reason for _, reason in report.skipped)
        assert knowledge.verify() == []


def test_what_was_refused_for_a_limit_is_read_when_the_limit_is_raised(
    tmp_path: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long.txt").write_text("word " * 300)
    for limit, added in (("1000", 0), ("1000", 0), ("10000", 1), ("1000", 0)):
        monkeypatch.setenv("MMAGENT_MAX_DOCUMENT_BYTES", limit)
        settings.cache_clear()
        with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
            report = knowledge.add(tmp_path / "long.txt")
            assert (report.added, bool(report.skipped)) == (added, not added and not report.unchanged)


@pytest.mark.parametrize("name", ["sale!", "a b\nc", "📄 docs", "text:", "x" * 200])
def test_folders_and_files_of_any_name(store: Knowledge, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name[:80]}.md").write_text("It glows.")
    (folder / "gone.md").write_text("It fades.")
    assert store.add(folder).added == 2 and store.add(folder).unchanged == 2
    (folder / "gone.md").unlink()
    assert store.add(folder).removed == 1
    assert [hit.text for hit in store.search("it", 9)] == ["It glows."]
    assert store.remove(folder) == 1 and store.stats().units == 0


def test_texts_with_characters_that_no_database_takes(store: Knowledge) -> None:
    store.add_texts([Text("a", "before \0 after \ud800", title="\udfff")])
    assert "\0" not in store.get("a")[0].text and store.verify() == []
    with pytest.raises(InputError, match="uri"):
        store.add_texts([Text("\ud800", "x")])
    with pytest.raises(InputError, match="JSON"):
        store.add_texts([Text("b", "x", metadata={"a": "\ud800"})])


def test_a_model_that_fails_costs_one_file(tmp_path: Path, embedder: Any) -> None:
    from PIL import Image

    def broken(picture: Any) -> str:
        raise ModelError("the model could not go on")

    folder = tmp_path / "docs"
    folder.mkdir()
    Image.new("RGB", (64, 64), "white").save(folder / "a.png")
    (folder / "b.md").write_text("It glows.")
    with Knowledge(tmp_path / "store", embedder=embedder, captioner=broken) as knowledge:
        report = knowledge.add(folder)
        assert report.added == 2
        assert ("a.png", "it is not described: the model could not go on") in report.notes


def test_kinds_that_there_are_none_of(store: Knowledge) -> None:
    store.add_texts([Text("a", "x")])
    with pytest.raises(InputError, match="there are text, speech, image"):
        store.search("x", kinds=["foo"])


def test_a_name_that_becomes_another_kind_of_document(store: Knowledge, tmp_path: Path) -> None:
    file = tmp_path / "docs"

    def pack() -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("in.txt", "It is packed.")

    for name in ("a.txt", "b.txt"):
        file = tmp_path / name
        file.write_text("It is plain.")
        assert store.add(file).added == 1
        pack()
        store.add(file)
        assert [hit.text for hit in store.search("it", 9)] == ["It is packed."]
        file.write_text("It is plain again.") if name == "a.txt" else file.write_bytes(b"\xff\xfe\xff")
        store.add(file)
        assert [hit.text for hit in store.search("it", 9)] == (["It is plain again."] if name == "a.txt" else [])
        store.remove(file)
    assert store.verify() == []


def test_a_folder_that_cannot_be_looked_into_keeps_its_documents(
    store: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs" / "far").mkdir(parents=True)
    (tmp_path / "docs" / "far" / "a.md").write_text("It glows.")
    store.add(tmp_path / "docs")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("far"):
            raise OSError(5, "Input/output error", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = store.add(tmp_path / "docs")
    assert report.removed == 0 and len(report.skipped) == 1 and store.stats().documents == 1


def test_an_empty_name_removes_nothing(store: Knowledge, policies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(policies)
    monkeypatch.chdir(policies)
    with pytest.raises(InputError, match="empty name"):
        store.remove("")
    assert store.stats().documents == 2 and store.remove(".") == 2


def test_searching_goes_on_while_others_close_and_write(store: Knowledge, policies: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    store.add(policies)
    with ThreadPoolExecutor(4) as threads:
        searches = [threads.submit(store.search, f"refunds {n}") for n in range(200)]
        for n in range(20):
            store.close()
            store.add_texts([Text(f"t{n}", f"text {n}")])
        assert all(len(search.result(60)) == 3 for search in searches)


def test_a_store_that_was_deleted_and_made_again(store: Knowledge, policies: Path, embedder: Any) -> None:
    store.add(policies)
    assert store.search("refunds")
    shutil.rmtree(store.path)
    assert store.search("refunds") == []
    with Knowledge(store.path, embedder=embedder) as other:
        other.add_texts([Text("new", "Something new.")])
    assert [hit.uri for hit in store.search("something")] == ["new"]


def test_of_each_document_one_though_the_first_has_the_best_of_all(store: Knowledge) -> None:
    many = "".join(f"lamp {n} lamp. " * 100 for n in range(30))
    store.add_texts(
        [Text("many", many), *(Text(f"other{n}", f"a lamp {n} among words of other things") for n in range(4))]
    )
    assert len(store.get("many")) > 30
    assert len({hit.uri for hit in store.search("lamp", 5, per_asset=1)}) == 5


def test_one_file_is_the_whole_store(store: Knowledge, policies: Path, tmp_path: Path, embedder: Any) -> None:
    store.add(policies)
    assert store.search("refunds")
    store.close()
    (tmp_path / "copy").mkdir()
    shutil.copy(store.path / "manifest.sqlite3", tmp_path / "copy")
    assert Knowledge(tmp_path / "copy", embedder=embedder).stats().documents == 2
