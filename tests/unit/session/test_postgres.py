"""What goes wrong with a server, told in one line without secrets; and what survives it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from threading import Barrier, Thread
from typing import Any

import psycopg
import pytest

from mmagent.errors import ConfigurationError, MissingExtra, StoreError, StoreLocked
from mmagent.session import Draft, PostgresJournal, postgres_server
from mmagent.session import postgres as module
from tests.postgres import Server, postgres

__all__ = ["postgres"]


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.database()


@pytest.fixture
def journal(url: str) -> Iterator[PostgresJournal]:
    opened = PostgresJournal(url)
    yield opened
    opened.close()


def note(value: Any = None) -> Draft:
    return Draft("note", {"value": value})


def test_a_connection_that_broke_between_calls_is_replaced(journal: PostgresJournal, url: str) -> None:
    session = journal.create("a")
    journal.append(session, [note(1)])
    throw_out(url)
    assert journal.append(session, [note(2)]) == 2
    throw_out(url)
    assert [entry.data["value"] for entry in journal.read(session)] == [1, 2]


def test_a_restarted_server_is_found_again(postgres: Server, journal: PostgresJournal) -> None:
    session = journal.create("a")
    journal.append(session, [note(1)], flush=True)
    lease = journal.lease(session)
    assert lease is not None
    postgres.stop()
    try:
        with pytest.raises(StoreError, match="check that it runs"):
            journal.append(session, [note(2)])
        with pytest.raises(StoreError):
            journal.read(session)
    finally:
        postgres.start()
    assert journal.append(session, [note(3)]) == 2
    with lease:
        assert journal.lease(session) is None
    assert journal.lease(session) is not None


def test_leases_are_taken_again_when_their_connection_broke(journal: PostgresJournal, url: str) -> None:
    one, two = journal.create("a"), journal.create("b")
    first = journal.lease(one)
    assert first is not None
    throw_out(url)
    assert journal.lease(two) is not None
    other = PostgresJournal(url)
    assert other.lease(one) is None
    with first:
        pass
    assert other.lease(one) is not None
    other.close()


def test_a_lease_that_another_process_has_taken_meanwhile_is_lost(journal: PostgresJournal, url: str) -> None:
    session, quiet = journal.create("a"), journal.create("b")
    lease, kept = journal.lease(session), journal.lease(quiet)
    assert lease is not None and kept is not None
    other = PostgresJournal(url)
    assert journal.append(session, [note(1)]) == 1
    throw_out(url)
    taken = other.lease(session)
    assert taken is not None
    with lease, kept:
        for _ in range(2):
            with pytest.raises(StoreLocked, match="another process has begun a turn"):
                journal.append(session, [note("of the turn that lost it")])
        assert journal.lease(session) is None
        assert journal.append(quiet, [note(1)]) == 1  # taken again: nobody else wanted it
        assert other.lease(quiet) is None
        with taken:
            assert other.append(session, [note(2)]) == 2
    again = journal.lease(session)
    assert again is not None
    with again:
        assert journal.append(session, [note(3)]) == 3
        assert other.lease(session) is None
    assert [entry.data["value"] for entry in other.read(session)] == [1, 2, 3]
    other.close()


def test_what_takes_for_ever_ends(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_server, "_STATEMENT_SECONDS", 1)
    journal = PostgresJournal(url)
    with pytest.raises(StoreError, match="statement timeout"):
        journal._server.work(lambda connection: connection.execute("SELECT pg_sleep(30)"))
    journal.close()


def test_a_network_that_is_gone_is_noticed_and_the_address_may_say_when(url: str) -> None:
    for address, seconds in ((url, "10000"), (f"{url}&tcp_user_timeout=77", "77")):
        journal = PostgresJournal(address)
        said = journal._server.work(lambda connection: connection.info.get_parameters())
        assert (said["tcp_user_timeout"], said["keepalives_idle"], said["connect_timeout"]) == (seconds, "5", "5")
        journal.close()


def test_a_broken_end_of_a_transaction_is_told_and_not_tried_again(
    journal: PostgresJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = journal.create("a")
    execute = psycopg.Connection.execute

    def breaking(connection: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        result = execute(connection, query, *arguments, **named)
        if query == "COMMIT":
            raise psycopg.OperationalError("the connection is lost")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "execute", breaking)
        with pytest.raises(StoreError, match="nobody knows whether it was written: read the session again"):
            journal.append(session, [note(1)])
    assert [entry.data["value"] for entry in journal.read(session)] == [1]


def test_a_row_that_somebody_keeps_locked_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_server, "WAIT_SECONDS", 1)
    journal = PostgresJournal(url)
    session = journal.create("a")
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM mmagent_sessions FOR UPDATE")
        with pytest.raises(StoreLocked, match="another process has kept"):
            journal.append(session, [note()])
    assert journal.append(session, [note()]) == 1
    journal.close()


def test_flush_is_what_the_server_flushes(journal: PostgresJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    session = journal.create("a")
    seen = []
    insert = module._insert

    def watched(connection: Any, *arguments: Any) -> None:
        seen.append(connection.execute("SHOW synchronous_commit").fetchone()[0])
        insert(connection, *arguments)

    monkeypatch.setattr(module, "_insert", watched)
    for flush in (True, False, True):
        journal.append(session, [note()], flush=flush)
    assert seen == ["on", "off", "on"]


def test_many_threads_share_few_connections(journal: PostgresJournal, url: str) -> None:
    sessions = [journal.create(f"s{number}") for number in range(24)]
    start = Barrier(len(sessions))

    def work(session: str) -> None:
        start.wait()
        for number in range(5):
            journal.append(session, [note(number)])

    threads = [Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(journal.read(session)) == 5 for session in sessions)
    with psycopg.connect(url) as other:
        (count,) = other.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchone()
    assert count <= 9


def test_two_may_make_the_tables_at_once(url: str) -> None:
    made: list[PostgresJournal] = []
    threads = [Thread(target=lambda: made.append(PostgresJournal(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    for journal in made:
        journal.close()


def test_a_newer_schema_is_refused_with_what_to_do(url: str) -> None:
    PostgresJournal(url).close()
    with psycopg.connect(url) as other:
        other.execute("UPDATE mmagent_version SET version = 99")
    with pytest.raises(StoreError, match=r"newer mmagent .* pip install -U mmagent"):
        PostgresJournal(url)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("postgresql://anna:s3cret@127.0.0.1:1/nothing", StoreError),
        ("postgresql://anna:s3cret@127.0.0.1:notaport/x", StoreError),
        ("postgresql://anna:s3cret@[broken/x", ConfigurationError),
        ("postgresql://anna@127.0.0.1:1/x?password=s3cret&unheard=of", ConfigurationError),
        ("postgres//anna:s3cret", ConfigurationError),
    ],
)
def test_the_password_is_in_no_message(address: str, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        PostgresJournal(address)
    cause: BaseException | None = raised.value
    while cause is not None:
        assert "s3cret" not in str(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    assert "\n" not in str(raised.value)


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mmagent\[postgres\]'"):
        PostgresJournal("postgresql://localhost/x")


def throw_out(url: str) -> None:
    """End all connections to the database but this one, and wait until they, and the locks they held, are gone."""
    with psycopg.connect(url) as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    assert all(gone for (gone,) in ended)
