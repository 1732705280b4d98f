"""What goes wrong with files, told in one line; and that nothing that was written is lost in silence."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from mmagent.errors import MMAgentError, NotFound, StoreError, StoreLocked
from mmagent.session import Draft, SqliteJournal, filelock, sqlite_schema
from mmagent.session.database import Database

NOBODY = 65534


def spoken(text: str) -> Draft:
    return Draft("message", {"message": {"role": "user", "content": [{"type": "text", "text": text}]}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


def written(path: Path, entries: int = 50, size: int = 1000, *, close: bool = True) -> SqliteJournal:
    journal = SqliteJournal(path)
    session = journal.create("a")
    for number in range(entries):
        journal.append(
            session, [spoken(f"number {number} " + "x" * size)], flush=number % 3 == 0 or number == entries - 1
        )
    if close:
        journal.close()
    return journal


def content(path: Path) -> list[object]:
    """All that a journal says, or the error that it raises."""
    journal = SqliteJournal(path)
    try:
        infos = journal.sessions()
        found = journal.find("a")
        said = [] if found is None else [entry.data for entry in journal.read(found.id)]
        return [[(info.name, info.entries) for info in infos], found is not None, said]
    finally:
        journal.close()


def test_the_folder_is_made_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "sessions.sqlite3"
    SqliteJournal(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"these are no rows" * 100)
    with pytest.raises(StoreError, match=r"is damaged .* move it away"):
        SqliteJournal(path)
    assert path.read_bytes() == b"these are no rows" * 100


def test_a_journal_whose_pages_were_overwritten_is_refused(path: Path) -> None:
    written(path)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"):
        content(path)


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="another program"):
        SqliteJournal(path)

    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 7")
    with pytest.raises(StoreError, match="another program"):
        SqliteJournal(path)


def test_a_newer_schema_is_refused_with_what_to_do(path: Path) -> None:
    SqliteJournal(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {sqlite_schema.SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match=r"newer mmagent .* pip install -U mmagent"):
        SqliteJournal(path)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteJournal(tmp_path)


def test_a_lock_that_another_program_keeps_is_told_and_nothing_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filelock, "WAIT_SECONDS", 0.05)
    ours = SqliteJournal(path)
    session = ours.create("a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked, match="another process"):
        ours.append(session, [spoken("hi")])
    other.execute("ROLLBACK")
    other.close()
    assert ours.append(session, [spoken("hi")]) == 1
    ours.close()


def test_our_own_lock_that_another_process_keeps_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelock, "WAIT_SECONDS", 0.05)
    ours, other = SqliteJournal(path), SqliteJournal(path)
    session = ours.create("a")
    with other._database.transaction():
        with pytest.raises(StoreLocked, match="another process"):
            ours.append(session, [spoken("hi")])
        assert list(ours.read(session)) == []
        with pytest.raises(StoreLocked):
            SqliteJournal(path)
    assert ours.append(session, [spoken("hi")]) == 1
    ours.close()
    other.close()


def test_a_flush_waits_for_the_disk_and_others_do_not(path: Path) -> None:
    journal = SqliteJournal(path)
    session = journal.create("a")
    full, normal = 2, 1
    for flush, level in ((True, full), (False, normal), (True, full)):
        journal.append(session, [spoken("hi")], flush=flush)
        assert journal._database.query("PRAGMA synchronous") == [(level,)]
    assert journal._database.query("PRAGMA journal_mode") == [("wal",)]
    journal.close()


def test_the_log_does_not_grow_for_ever(path: Path) -> None:
    journal = SqliteJournal(path)
    session = journal.create("a")
    log = path.with_name(path.name + "-wal")
    sizes = []
    for _ in range(600):
        journal.append(session, [spoken("x" * 2000)], flush=False)
        sizes.append(log.stat().st_size)
    assert max(sizes) < 10_000_000
    assert len(set(sizes[-200:])) < 150  # it is written from its beginning again
    journal.close()
    assert not log.exists() or log.stat().st_size == 0


def test_without_file_locks_there_is_no_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(path)
    monkeypatch.setattr(filelock, "AVAILABLE", False)
    journal = SqliteJournal(path)
    found = journal.find("a")
    assert found is not None
    assert journal.append(found.id, [spoken("hi")], flush=False) == 51
    assert journal._database.query("PRAGMA journal_mode") == [("delete",)]
    assert journal._database.query("PRAGMA synchronous") == [(2,)]
    journal.close()


def test_without_file_locks_two_may_make_the_tables_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelock, "AVAILABLE", False)
    version = sqlite_schema._version

    def another_is_quicker(database: Database) -> int:
        found = version(database)
        monkeypatch.setattr(sqlite_schema, "_version", version)
        SqliteJournal(path).close()
        return found

    monkeypatch.setattr(sqlite_schema, "_version", another_is_quicker)
    journal = SqliteJournal(path)
    assert journal.create("a")
    journal.close()


def test_without_file_locks_there_are_leases(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelock, "AVAILABLE", False)
    monkeypatch.setattr(filelock, "fcntl", None)
    one, other = SqliteJournal(path), SqliteJournal(path)
    session = one.create("a")
    lease = one.lease(session)
    assert lease is not None
    assert other.lease(one.create("b")) is not None
    with lease:
        assert one.lease(session) is None
        assert other.lease(session) is None
    script = (
        "import sys\nfrom pathlib import Path\nfrom mmagent.session import SqliteJournal, filelock\n"
        "filelock.AVAILABLE, filelock.fcntl = False, None\n"
        "lease = SqliteJournal(Path(sys.argv[1])).lease(sys.argv[2])\n"
        "print(lease is not None, flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, path, session], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        assert one.lease(session) is None
        child.kill()
    again = one.lease(session)
    assert again is not None
    with again:
        pass
    assert [file.name for file in path.with_name(path.name + "-turns").iterdir() if file.name == session] == []
    one.close()
    other.close()


def test_a_lease_is_no_path(path: Path) -> None:
    journal = SqliteJournal(path)
    for id in ("../a", "a/b", "", "..", "ä"):
        with pytest.raises(NotFound):
            journal.lease(id)
    session = journal.create("../../etc/passwd")
    lease = journal.lease(session)
    assert lease is not None
    with lease:
        assert [file.name for file in (path.parent / "sessions.sqlite3-turns").iterdir()] == [session]
    assert list((path.parent / "sessions.sqlite3-turns").iterdir()) == []
    journal.close()


def test_what_was_deleted_is_in_no_file(path: Path) -> None:
    journal = SqliteJournal(path)
    for name, word in (("a", "zebrafish"), ("b", "elephant")):
        session = journal.create(name)
        journal.append(session, [spoken(f"{word} {number}") for number in range(200)])
    info = journal.find("a")
    assert info is not None
    journal.delete(info.id)
    files = [file for file in path.parent.iterdir() if file.is_file()]
    assert not any(b"zebrafish" in file.read_bytes() for file in files)
    assert len(journal.search("elephant", limit=1000)) == 200
    assert journal.check() == []
    journal.close()
    assert SqliteJournal(path).search("elephant 199")[0].seq == 200


@pytest.mark.parametrize("meanwhile", ["another deletes", "another thread closes"])
def test_the_receipt_is_written_before_anybody_else_can_do_anything(
    path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    ours, other = SqliteJournal(path), SqliteJournal(path)
    session = ours.create("a")
    ours.append(session, [spoken("hi")])
    doomed = ours.create("b")
    stranger = path.with_name("stranger")
    stranger.write_text("the content of another file, which is not ours")
    files: list[int] = []

    def interfere() -> None:
        if meanwhile == "another deletes":
            other.delete(doomed)
        else:
            ours.close()
        files.append(os.open(stranger, os.O_RDWR))

    thread = Thread(target=interfere)
    kept: Any = filelock.FileLock.receipt

    def written(lock: filelock.FileLock, number: int) -> None:
        monkeypatch.undo()
        thread.start()
        thread.join(0.2)  # it waits until this is done
        kept.fset(lock, number)

    monkeypatch.setattr(filelock.FileLock, "receipt", property(kept.fget, written))
    assert ours.append(doomed, [spoken("bye"), spoken("bye")]) == 2
    thread.join()
    os.close(files[0])
    ours.close()
    other.close()
    assert stranger.read_text() == "the content of another file, which is not ours"
    assert content(path)[1] is True


def test_a_damaged_entry_harms_its_own_session_only(path: Path) -> None:
    journal = SqliteJournal(path)
    damaged, well, again = (journal.create(name) for name in ("damaged", "well", "again"))
    journal.append(damaged, [spoken("a zebrafish"), spoken("an elephant")], flush=False)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE entries SET data = '{broken' WHERE seq = 2")
    for number in range(200):
        journal.append(well, [spoken(f"number {number}")])
    assert [found.seq for found in journal.search("number 199")] == [200]
    assert [found.seq for found in journal.search("zebrafish")] == [1]
    with pytest.raises(StoreError, match="is damaged"):
        journal.read(damaged)
    journal.append(again, [spoken("a giraffe")])
    assert len(journal.search("giraffe")) == 1
    with sqlite3.connect(path) as other:  # one whose words are known to the search index
        other.execute("UPDATE entries SET data = replace(data, 'giraffe', 'gorilla')")
    with pytest.raises(StoreError, match="is damaged"):
        journal.read(again)
    for session in (damaged, again):
        journal.delete(session)
    assert [journal.search(word) for word in ("zebrafish", "elephant", "giraffe", "gorilla")] == [[], [], [], []]
    assert len(journal.search("number", limit=1000)) == 200
    journal.delete(well)
    assert journal.search("number") == []
    assert journal.check() == []
    journal.close()


def test_a_name_that_is_not_there_is_not_looked_for_everywhere(path: Path) -> None:
    journal = SqliteJournal(path)
    steps: dict[int, list[int]] = {10: [], 1000: []}
    for count, done in steps.items():
        for number in range(count):
            journal.create(f"{count}-{number}")
        journal._database.connection.set_progress_handler(partial(done.append, 1), 1)
        assert journal.find("nobody") is None
        journal._database.connection.set_progress_handler(None, 1)
    assert len(steps[1000]) < 2 * len(steps[10])
    journal.close()


def test_a_name_that_a_damaged_index_hides_is_told(path: Path) -> None:
    journal = SqliteJournal(path)
    ids = {name: journal.create(name) for name in [f"talk-{number}" for number in range(30)]}
    journal.close()
    with sqlite3.connect(path) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_sessions_2'")
    start = (page[0] - 1) * 4096
    whole = path.read_bytes()
    dice = random.Random(3)
    header, cells = range(start, start + 68), [at for at in range(start + 68, start + 4096) if whole[at]]
    for at in [*header, *dice.sample(cells, 60)]:
        data = bytearray(whole)
        data[at] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        try:
            journal = SqliteJournal(path)
        except StoreError:
            continue
        for name, id in ids.items():
            try:
                info = journal.find(name)
            except StoreError:
                continue
            assert info is not None and (info.name, info.id) == (name, id), f"flipped at {at - start}"
        journal.close()


class TestDamage:
    """Right data or a typed error, never a crash, never less than was acknowledged without an error."""

    def test_truncated_anywhere(self, path: Path) -> None:
        written(path)
        whole, expected = path.read_bytes(), content(path)
        for length in [*range(0, 4200, 300), *range(4096, len(whole), 4096), len(whole) - 1]:
            path.write_bytes(whole[:length])
            check(path, expected, f"cut at {length}")

    def test_bytes_flipped_anywhere(self, path: Path) -> None:
        written(path, entries=12, size=60)
        whole, expected = path.read_bytes(), content(path)
        dice = random.Random(1)
        for _ in range(int(os.environ.get("TEST_FLIPS", "150"))):
            at = dice.randrange(len(whole))
            data = bytearray(whole)
            data[at] ^= 1 << dice.randrange(8)
            path.write_bytes(data)
            check(path, expected, f"flipped at {at}")

    def test_a_log_that_lost_its_end(self, path: Path, tmp_path: Path) -> None:
        journal = written(path, entries=12, size=60, close=False)
        for file in path.parent.glob("sessions.sqlite3*"):  # as the machine's crash would leave them
            if file.is_file():
                shutil.copy(file, tmp_path / file.name.replace("sessions", "crashed"))
        journal.close()
        expected = content(path)
        crashed = tmp_path / "crashed.sqlite3"
        files = {name: (tmp_path / name).read_bytes() for name in ("crashed.sqlite3", "crashed.sqlite3-wal")}
        receipt = (tmp_path / "crashed.sqlite3-lock").read_bytes()
        assert len(files["crashed.sqlite3-wal"]) > 100_000
        log = files["crashed.sqlite3-wal"]
        dice = random.Random(2)
        for length in [0, 10, *(dice.randrange(len(log)) for _ in range(30)), len(log)]:
            for name, data in files.items():
                (tmp_path / name).write_bytes(data[:length] if name.endswith("-wal") else data)
            (tmp_path / "crashed.sqlite3-shm").unlink(missing_ok=True)
            (tmp_path / "crashed.sqlite3-lock").write_bytes(receipt)
            check(crashed, expected, f"log cut at {length}", fine=length == len(log))

    def test_an_old_copy_is_taken_once_the_receipt_is_deleted(self, path: Path) -> None:
        written(path)
        backup = path.read_bytes()
        journal = SqliteJournal(path)
        found = journal.find("a")
        assert found is not None
        journal.append(found.id, [spoken("after the backup")])
        journal.close()
        path.write_bytes(backup)
        with pytest.raises(
            StoreError, match=r"its last entry is 50, but 51 had been written.* delete sessions.sqlite3-lock"
        ):
            SqliteJournal(path)
        path.with_name(path.name + "-lock").unlink()
        assert content(path)[0] == [("a", 50)]

    def test_a_new_file_in_its_place_is_new(self, path: Path) -> None:
        written(path)
        path.unlink()
        assert content(path) == [[], False, []]

    def test_fewer_entries_after_a_deletion_are_no_loss(self, path: Path) -> None:
        journal = written(path, close=False)
        found = journal.find("a")
        assert found is not None
        journal.delete(found.id)
        journal.close()
        assert content(path) == [[], False, []]


def check(path: Path, expected: list[object], what: str, *, fine: bool | None = None) -> None:
    """Right data or a typed error."""
    try:
        found = content(path)
    except MMAgentError as error:
        assert "\n" not in str(error), what
        assert fine is not True, f"{what}: {error}"
    else:
        assert found == expected, what
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False).returncode:
        pytest.skip("a small disk cannot be made here")
    try:
        journal = SqliteJournal(place / "sessions.sqlite3")
        session = journal.create("a")
        acknowledged = 0
        with pytest.raises(StoreError, match=r"cannot be used .* check that the disk has space"):
            for number in range(1000):
                acknowledged = journal.append(session, [spoken(f"{number} " + "x" * 5000)], flush=number % 2 == 0)
        assert acknowledged > 10
        assert [entry.seq for entry in journal.read(session)] == list(range(1, acknowledged + 1))
        journal.close()
        again = SqliteJournal(place / "sessions.sqlite3")
        assert [entry.seq for entry in again.read(session)] == list(range(1, acknowledged + 1))
        again.close()
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for place in (tmp_path, *tmp_path.rglob("*")):
        place.chmod(0o700)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "with a log"])
def test_a_folder_that_can_only_be_read_is_read(read_only: Path, closed: bool) -> None:
    place = read_only / "place"
    place.mkdir()
    journal = written(place / "sessions.sqlite3", close=False)
    found = journal.find("a")
    assert found is not None
    journal.append(found.id, [spoken("number 50, which nobody has searched yet")], flush=False)
    if closed:
        journal.close()
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from mmagent.errors import StoreError\nfrom mmagent.session import Draft, SqliteJournal\n"
        f"if os.geteuid() == 0: os.setuid({NOBODY})\n"
        "journal = SqliteJournal(Path(sys.argv[1]))\n"
        "info = journal.find('a')\n"
        "print(info.entries, len(journal.read(info.id)), len(journal.search('number', limit=99)))\n"
        "for attempt in (lambda: journal.append(info.id, [Draft('x', {})]), lambda: journal.create('b'),"
        " lambda: journal.delete(info.id), lambda: journal.lease(info.id)):\n"
        "    try: attempt()\n"
        "    except StoreError as error: print(error)\n"
        "    else: print('wrote')\n"
        "journal.close()\n"
    )
    for file in place.iterdir():
        file.chmod(0o444)
    place.chmod(0o555)
    for above in place.parents[:4]:
        if above.owner() == place.owner() and above != Path("/tmp"):
            above.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, place / "sessions.sqlite3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    journal.close()
    lines = done.stdout.splitlines()
    assert lines[:1] == ["51 51 51"], done.stderr
    assert len(lines) == 5
    assert all("you may write" in line for line in lines[1:])
