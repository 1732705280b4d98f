"""What every journal promises. A new one adds its name to `KINDS` and itself to `stores`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmagent.errors import InputError, NotFound, StoreError
from mmagent.session import Draft, Journal, MemoryJournal, PostgresJournal, SqliteJournal
from tests.postgres import postgres

__all__ = ["postgres"]
KINDS = ["memory", "sqlite", "postgres"]
DURABLE = ["sqlite", "postgres"]
CAT = "sha256:" + "c" * 64
DOG = "sha256:" + "d" * 64


@dataclass
class Store:
    """A place for journals, empty at first."""

    open: Callable[[], Journal]
    source: str
    """A Python expression that opens it in another process."""
    opened: list[Journal] = field(default_factory=list)

    def journal(self) -> Journal:
        self.opened.append(self.open())
        return self.opened[-1]


def make_store(kind: str, request: pytest.FixtureRequest, folder: Path) -> Store:
    if kind == "memory":
        return Store(MemoryJournal, "")
    if kind == "sqlite":
        path = folder / "sessions.sqlite3"
        return Store(lambda: SqliteJournal(path), f"SqliteJournal(Path({str(path)!r}))")
    url = request.getfixturevalue("postgres").database()
    return Store(lambda: PostgresJournal(url), f"PostgresJournal({url!r})")


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = make_store(request.param, request, tmp_path)
    yield made
    for journal in made.opened:
        journal.close()


@pytest.fixture
def journal(store: Store) -> Journal:
    return store.journal()


def spoken(text: str, role: str = "user", *media: str) -> Draft:
    blocks = [{"type": "text", "text": text}, *({"type": "image", "file_id": one} for one in media)]
    return Draft("message", {"message": {"role": role, "content": blocks}})


def note(value: Any = None) -> Draft:
    return Draft("note", {"value": value})


def values(journal: Journal, session: str) -> list[Any]:
    return [entry.data["value"] for entry in journal.read(session)]


@pytest.mark.parametrize("store", KINDS, indirect=True)
class TestJournal:
    def test_entries_come_back_in_order_and_unchanged(self, journal: Journal) -> None:
        data = {
            "text": "déjà vu 🙂 \n\t\"'\0 \ud800",
            "number": 1.5,
            "list": [1, None, True],
            "empty": {},
            "发票": 2**60,
        }
        session = journal.create("a")
        assert journal.append(session, [Draft("message", data), Draft("other", {})]) == 2
        assert journal.append(session, [Draft("other", {})], flush=False) == 3
        entries = journal.read(session)
        assert [(entry.seq, entry.kind, entry.data) for entry in entries] == [
            (1, "message", data),
            (2, "other", {}),
            (3, "other", {}),
        ]
        assert all(entry.created.endswith("+00:00") for entry in entries)

    def test_sessions_do_not_see_each_other(self, journal: Journal) -> None:
        one, other = journal.create("a"), journal.create("ab")
        journal.append(one, [note("of a")])
        assert journal.append(other, [note("of ab")]) == 1
        assert (values(journal, one), values(journal, other)) == (["of a"], ["of ab"])

    def test_what_is_read_can_be_limited(self, journal: Journal) -> None:
        session = journal.create("a")
        journal.append(session, [note(number) for number in range(5)])
        assert [entry.seq for entry in journal.read(session, after=3)] == [4, 5]
        assert [entry.seq for entry in journal.read(session, after=1, until=3)] == [2, 3]
        assert [entry.seq for entry in journal.read(session, until=2)] == [1, 2]
        assert list(journal.read(session, after=5)) == []
        assert list(journal.read(session, after=9, until=7)) == []
        assert len(journal.read(session, until=99)) == 5

    def test_nothing_is_read_of_no_session(self, journal: Journal) -> None:
        assert list(journal.read("0" * 20)) == []
        assert journal.latest("0" * 20, "note") is None
        assert journal.find("nobody") is None

    def test_writing_to_no_session_says_so(self, journal: Journal) -> None:
        for attempt in (
            lambda: journal.append("0" * 20, [note()]),
            lambda: journal.rename("0" * 20, "new"),
            lambda: journal.fork("0" * 20, "new"),
            lambda: journal.create("new", parent="0" * 20),
        ):
            with pytest.raises(NotFound, match="there is no session"):
                attempt()
        assert list(journal.sessions()) == []

    def test_the_latest_of_a_kind(self, journal: Journal) -> None:
        session = journal.create("a")
        journal.append(session, [note(1), note(2), Draft("other", {})])
        latest = journal.latest(session, "note")
        assert latest is not None
        assert (latest.seq, latest.data) == (2, {"value": 2})
        assert journal.latest(session, "unheard of") is None

    def test_names_are_unique_and_ids_stay(self, journal: Journal) -> None:
        session, other = journal.create("a"), journal.create("b")
        for attempt in (
            lambda: journal.create("a"),
            lambda: journal.rename(other, "a"),
            lambda: journal.fork(other, "a"),
        ):
            with pytest.raises(InputError, match="there is a session called 'a' already"):
                attempt()
        journal.rename(session, "c")
        journal.rename(session, "c")
        info = journal.find("c")
        assert info is not None
        assert info.id == session
        assert journal.find("a") is None
        assert journal.create("a") not in (session, other)
        assert session.isascii() and session.isalnum()

    @pytest.mark.parametrize("name", ["", "a\0b", "a\ud800"])
    def test_names_that_no_database_keeps_are_refused(self, journal: Journal, name: str) -> None:
        with pytest.raises(InputError, match="cannot be called"):
            journal.create(name)

    @pytest.mark.parametrize("name", ["", "a\0b", "a\ud800"])
    def test_names_that_no_database_keeps_are_not_looked_for(self, journal: Journal, name: str) -> None:
        with pytest.raises(InputError, match="cannot be called"):
            journal.find(name)

    def test_names_are_data_not_sql(self, journal: Journal) -> None:
        name = "x'; DROP TABLE entries; -- %s ? \" 发票"
        session = journal.create(name)
        journal.append(session, [note("kept")])
        assert [info.name for info in journal.sessions()] == [name]
        assert values(journal, session) == ["kept"]

    def test_sessions_are_listed_with_the_last_used_first(self, journal: Journal) -> None:
        assert list(journal.sessions()) == []
        ids = {name: journal.create(name) for name in ("b", "a", "c")}
        assert [info.name for info in journal.sessions()] == ["c", "a", "b"]
        for name in ("b", "a", "c", "a"):
            journal.append(ids[name], [note()])
        listed = journal.sessions()
        assert [(info.name, info.entries) for info in listed] == [("a", 2), ("c", 1), ("b", 1)]
        assert listed[0] == journal.find("a")
        assert listed[0].created <= listed[0].updated

    def test_sessions_of_agents_are_listed_with_their_parent(self, journal: Journal) -> None:
        parent = journal.create("a")
        child = journal.create("a/1", parent=parent)
        assert [info.id for info in journal.sessions()] == [parent]
        assert [(info.id, info.parent) for info in journal.sessions(parent=parent)] == [(child, parent)]

    def test_a_fork_goes_its_own_way(self, journal: Journal) -> None:
        session = journal.create("a")
        journal.create("child", parent=session)
        journal.append(session, [note(1), note(2), spoken("a cat", "user", CAT), spoken("a dog", "user", DOG)])
        whole, part, none = journal.fork(session, "b"), journal.fork(session, "c", 3), journal.fork(session, "d", 0)
        assert [(entry.kind, entry.data) for entry in journal.read(whole)] == [
            (entry.kind, entry.data) for entry in journal.read(session)
        ]
        assert [len(journal.read(one)) for one in (part, none)] == [3, 0]
        assert journal.append(part, [note("new")]) == 4
        assert len(journal.read(session)) == 4
        assert list(journal.sessions(parent=whole)) == []
        journal.delete(session)
        journal.delete(whole)
        assert journal.media() == {CAT}
        assert [found.session.name for found in journal.search("cat")] == ["c"]

    def test_deleting_takes_the_sessions_of_its_agents_along(self, journal: Journal) -> None:
        parent, other = journal.create("a"), journal.create("b")
        child = journal.create("a/1", parent=parent)
        grandchild = journal.create("a/1/1", parent=child)
        for session in (parent, child, grandchild, other):
            journal.append(session, [spoken("a cat", "user", CAT if session != other else DOG)])
        journal.delete(parent)
        journal.delete(parent)
        assert [info.name for info in journal.sessions()] == ["b"]
        assert [list(journal.read(session)) for session in (parent, child, grandchild)] == [[], [], []]
        assert [found.session.id for found in journal.search("cat")] == [other]
        assert journal.media() == {DOG}
        with pytest.raises(NotFound):
            journal.append(child, [note()])
        assert journal.create("a") and journal.create("a/1")

    def test_media_are_what_any_entry_refers_to(self, journal: Journal) -> None:
        assert journal.media() == frozenset()
        session = journal.create("a")
        journal.append(session, [spoken("x", "user", CAT, CAT), Draft("picture", {"note": DOG, "file_id": CAT})])
        journal.append(session, [spoken(f"in words: {'sha256:' + 'e' * 64}")])
        assert journal.media() == {CAT, DOG}

    def test_search_finds_what_was_said(self, journal: Journal) -> None:
        session = journal.create("a")
        journal.append(
            session,
            [
                spoken("Where is order ORD-123? The café is closed."),
                spoken("It arrives\non Monday.", "assistant"),
                spoken("error: no_such_thing", "tool"),
                spoken("be kind to orders", "system"),
                Draft("note", {"text": "order"}),
            ],
        )
        for words, seqs in (
            ("order", [1]),
            ("ORDER where", [1]),
            ("ord", [1]),
            ("ord-12", [1]),
            ("wher order", []),
            ("where ord", [1]),
            ("cafe", [1]),
            ("Café", [1]),
            ("monday arrives", [2]),
            ("monday order", []),
            ("no_such_thing", [3]),
            ("such", []),
            ("kind", []),
        ):
            assert [found.seq for found in journal.search(words)] == seqs, words
        (found,) = journal.search("monday")
        assert (found.session.name, found.excerpt) == ("a", "It arrives on Monday.")

    def test_search_reads_scripts_without_spaces(self, journal: Journal) -> None:
        session = journal.create("a")
        journal.append(
            session,
            [spoken("请问我的发票在哪里?订单号是 A17。"), spoken("ガラスの靴を見ました"), spoken("주문은 어디에")],
        )
        for words, seqs in (
            ("发票", [1]),
            ("票", [1]),
            ("我的发票", [1]),
            ("票发", []),
            ("发票 a17", [1]),
            ("ガラス", [2]),
            ("ｶﾞﾗｽ", [2]),
            ("靴", [2]),
            ("주문", [3]),
        ):
            assert [found.seq for found in journal.search(words)] == seqs, words
        assert "发票" in journal.search("发票")[0].excerpt

    def test_search_brings_the_best_first_and_no_more_than_asked_for(self, journal: Journal) -> None:
        session = journal.create("a")
        journal.append(session, [spoken("a refund, " + "and many other words " * 30)])
        journal.append(session, [spoken("refund refund")])
        journal.append(session, [spoken("much later somebody asked for a refund of the money " * 2)])
        assert [found.seq for found in journal.search("refund")] == [2, 3, 1]
        assert [found.seq for found in journal.search("refund", limit=1)] == [2]
        assert list(journal.search("refund", limit=0)) == []

    @pytest.mark.parametrize(
        "words",
        ["", " ", '"', "a OR b", "NOT", "a AND", "near(x", "*", "said:x", "-", "(", "'", "a:*&!", "\\", "%", "\0",
         "\ud800", "x" * 5000, "w " * 5000, "^a", "{a}", "é" * 300, "🙂", "\u0301", "票" * 500],
    )  # fmt: skip
    def test_any_text_is_a_query(self, journal: Journal, words: str) -> None:
        session = journal.create("a")
        journal.append(session, [spoken("something else entirely")])
        assert list(journal.search(words)) == []
        journal.append(session, [spoken(words)])
        assert len(journal.search(words)) <= 1

    def test_long_and_strange_texts_can_be_said(self, journal: Journal) -> None:
        session = journal.create("a")
        texts = [
            "x" * 300_000,
            " ".join(map(str, range(100_000))),
            "票" * 50_000,
            "\0" * 1000,
            "\ud800",
            "a" * 3000 + "é",
        ]
        assert journal.append(session, [spoken(text) for text in texts]) == len(texts)
        assert [entry.data["message"]["content"][0]["text"] for entry in journal.read(session)] == texts
        assert [found.seq for found in journal.search("x" * 300)] == [1]

    def test_messages_of_no_known_shape_are_kept_too(self, journal: Journal) -> None:
        session = journal.create("a")
        shapes = [{}, {"message": None}, {"message": {"content": 3}}, {"message": {"content": [1, {"type": "text"}]}}]
        journal.append(session, [Draft("message", shape) for shape in shapes])
        assert [entry.data for entry in journal.read(session)] == shapes

    def test_threads_may_write_at_once(self, journal: Journal) -> None:
        session = journal.create("a")
        threads = [
            Thread(target=lambda: [journal.append(session, [note()], flush=False) for _ in range(20)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [entry.seq for entry in journal.read(session)] == list(range(1, 81))

    def test_one_turn_at_a_time(self, journal: Journal) -> None:
        session, other = journal.create("a"), journal.create("b")
        lease = journal.lease(session)
        assert lease is not None
        assert journal.lease(session) is None
        second = journal.lease(other)
        assert second is not None
        with lease, second:
            assert journal.lease(session) is None
        again = journal.lease(session)
        assert again is not None
        with pytest.raises(ZeroDivisionError), again:
            _ = 1 / 0
        assert journal.lease(session) is not None

    def test_a_closed_journal_says_so(self, journal: Journal) -> None:
        session = journal.create("a")
        journal.close()
        journal.close()
        for attempt in (
            lambda: journal.append(session, [note()]),
            lambda: journal.read(session),
            lambda: journal.create("b"),
            lambda: journal.find("a"),
        ):
            with pytest.raises(StoreError, match="is closed"):
                attempt()


@pytest.mark.parametrize("store", DURABLE, indirect=True)
class TestDurableJournal:
    """Promises of journals that outlive the process."""

    def test_entries_survive_closing(self, store: Store) -> None:
        first = store.journal()
        session = first.create("a")
        first.append(session, [note(1)], flush=False)
        first.append(session, [spoken("a cat", "user", CAT)])
        first.close()
        second = store.journal()
        assert second.append(session, [note(3)]) == 3
        assert [entry.kind for entry in second.read(session)] == ["note", "message", "note"]
        assert second.media() == {CAT}
        assert [found.seq for found in second.search("cat")] == [2]

    def test_what_is_no_json_is_refused_and_leaves_no_trace(self, store: Store) -> None:
        journal = store.journal()
        session = journal.create("a")
        with pytest.raises(TypeError):
            journal.append(session, [note(1), note(object())])
        assert list(journal.read(session)) == []

    def test_two_users_see_each_others_entries(self, store: Store) -> None:
        one, other = store.journal(), store.journal()
        session = one.create("a")
        numbers = [journal.append(session, [note()], flush=False) for journal in (one, other, one)]
        assert numbers == [1, 2, 3]
        assert [entry.seq for entry in other.read(session)] == [1, 2, 3]
        one.rename(session, "b")
        assert other.find("a") is None
        other.delete(session)
        assert list(one.sessions()) == []

    def test_two_users_have_one_turn(self, store: Store) -> None:
        one, other = store.journal(), store.journal()
        session = one.create("a")
        lease = one.lease(session)
        assert lease is not None
        with lease:
            assert other.lease(session) is None
        assert other.lease(session) is not None

    def test_two_processes_may_write_at_once(self, store: Store) -> None:
        journal = store.journal()
        session = journal.create("a")
        child = process(
            store,
            f"for number in range(60): journal.append({session!r}, [Draft('note', {{'value': ['child', number]}})],"
            " flush=number % 3 == 0)",
        )
        for number in range(60):
            journal.append(session, [note(["parent", number])], flush=number % 3 == 0)
        assert child.wait(timeout=60) == 0
        written = values(journal, session)
        assert len(written) == 120
        for writer in ("child", "parent"):
            assert [number for name, number in written if name == writer] == list(range(60))

    def test_a_lease_ends_with_its_process(self, store: Store) -> None:
        journal = store.journal()
        session = journal.create("a")
        child = process(store, f"lease = journal.lease({session!r}); print(lease is not None, flush=True); input()")
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        assert journal.lease(session) is None
        child.kill()
        child.wait()
        lease = None
        while lease is None:  # the server needs a moment to notice
            lease = journal.lease(session)
        with lease:
            pass

    def test_what_was_appended_survives_kill_9(self, store: Store) -> None:
        journal = store.journal()
        session = journal.create("a")
        child = process(
            store,
            f"for number in range(10**6): print(journal.append({session!r}, [Draft('note', {{'value': number}})],"
            " flush=number % 5 == 0), flush=True)",
        )
        assert child.stdout is not None
        for _ in range(50):
            child.stdout.readline()
        child.kill()
        acknowledged = 50 + child.stdout.read().count("\n")
        child.wait()
        written = values(store.journal(), session)
        assert written == list(range(len(written)))
        assert acknowledged <= len(written) <= acknowledged + 1


def process(store: Store, script: str) -> subprocess.Popen[str]:
    program = (
        "from pathlib import Path\nfrom mmagent.session import Draft, PostgresJournal, SqliteJournal\n"
        f"journal = {store.source}\n{script}\n"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


TEXTS = st.sampled_from(["a cat", "the dog barks", "猫在哪里", "Cats and dogs", ""])
DRAFTS = st.lists(
    st.one_of(
        st.builds(spoken, TEXTS, st.sampled_from(["user", "tool"]), st.sampled_from([CAT, DOG])),
        st.builds(note, st.integers()),
    ),
    max_size=3,
)
NAMES = st.sampled_from("abcd")
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), NAMES, st.none() | NAMES),
        st.tuples(st.just("append"), NAMES, DRAFTS, st.booleans()),
        st.tuples(st.just("rename"), NAMES, NAMES),
        st.tuples(st.just("fork"), NAMES, NAMES, st.none() | st.integers(0, 5)),
        st.tuples(st.just("delete"), NAMES),
        st.tuples(st.just("reopen")),
    ),
    max_size=25,
)


class Oracle:
    """What a journal should have, in plain lists."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Draft]] = {}
        self.parents: dict[str, str | None] = {}
        self.used: list[str] = []

    def use(self, name: str) -> None:
        self.used = [name, *(other for other in self.used if other != name)]

    def add(self, name: str, parent: str | None, entries: list[Draft]) -> None:
        self.entries[name], self.parents[name] = entries, parent
        self.use(name)

    def rename(self, old: str, new: str) -> None:
        self.entries = {new if name == old else name: value for name, value in self.entries.items()}
        self.parents = {
            new if name == old else name: new if parent == old else parent for name, parent in self.parents.items()
        }
        self.used = [new if name == old else name for name in self.used]

    def delete(self, name: str) -> None:
        for child in [child for child, parent in self.parents.items() if parent == name]:
            self.delete(child)
        del self.entries[name], self.parents[name]
        self.used.remove(name)


def apply(operation: tuple[Any, ...], journal: Journal, oracle: Oracle) -> None:
    action, *arguments = operation
    name, *rest = arguments
    info = journal.find(name)
    assert (info is not None) == (name in oracle.entries)
    if action == "create":
        (parent,) = rest
        if info is None and (parent is None or parent in oracle.entries):
            above = journal.find(parent) if parent else None
            journal.create(name, parent=above.id if above else None)
            oracle.add(name, parent, [])
    elif info is not None:
        if action == "append":
            drafts, flush = rest
            assert journal.append(info.id, drafts, flush=flush) == len(oracle.entries[name]) + len(drafts)
            oracle.entries[name] += drafts
            if drafts:
                oracle.use(name)
        elif action == "delete":
            journal.delete(info.id)
            oracle.delete(name)
        elif rest[0] in oracle.entries and (action == "fork" or rest[0] != name):
            with pytest.raises(InputError):
                journal.rename(info.id, rest[0]) if action == "rename" else journal.fork(info.id, rest[0])
        elif action == "rename":
            journal.rename(info.id, rest[0])
            oracle.rename(name, rest[0])
        else:
            journal.fork(info.id, *rest)
            oracle.add(rest[0], None, oracle.entries[name][: rest[1]])


def compare(journal: Journal, oracle: Oracle) -> None:
    ids = {name: info.id for name in oracle.entries if (info := journal.find(name))}
    assert len(ids) == len(oracle.entries)
    for parent in (None, *oracle.entries):
        listed = journal.sessions(parent=parent and ids[parent])
        expected = [name for name in oracle.used if oracle.parents[name] == parent]
        assert [(info.name, info.entries) for info in listed] == [(one, len(oracle.entries[one])) for one in expected]
    for name, drafts in oracle.entries.items():
        assert [(one.kind, one.data) for one in journal.read(ids[name])] == [(one.kind, one.data) for one in drafts]
    spoken_ones = [
        (name, seq, draft.data["message"]["content"])
        for name, drafts in oracle.entries.items()
        for seq, draft in enumerate(drafts, 1)
        if draft.kind == "message"
    ]
    assert journal.media() == {content[1]["file_id"] for _, _, content in spoken_ones}
    for words, text in (("cat", "cat"), ("dog", "dog"), ("在哪", "在哪")):
        expected_places = {(name, seq) for name, seq, content in spoken_ones if text in content[0]["text"].lower()}
        found = {(place.session.name, place.seq) for place in journal.search(words, limit=1000)}
        assert found == expected_places


@pytest.mark.parametrize("kind", KINDS)
def test_any_sequence_of_operations(kind: str, request: pytest.FixtureRequest) -> None:
    @settings(max_examples=50 if kind != "postgres" else 20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(OPERATIONS)
    def run(operations: list[tuple[Any, ...]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = make_store(kind, request, Path(folder))
            journal, oracle = store.journal(), Oracle()
            for operation in operations:
                if operation == ("reopen",):
                    if kind != "memory":
                        journal.close()
                        journal = store.journal()
                else:
                    apply(operation, journal, oracle)
            with closing(journal):
                compare(journal, oracle)

    run()
