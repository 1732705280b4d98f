from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mmagent.content import Message, ToolCallBlock, text
from mmagent.errors import InputError, StoreError
from mmagent.session import Entry, Session, SqliteJournal, replay


def user(words: str) -> Message:
    return Message(role="user", content=(text(words),))


def asks(*ids: str) -> Message:
    return Message(role="assistant", content=tuple(call(one) for one in ids))


def call(identity: str) -> ToolCallBlock:
    return {"type": "tool_call", "id": identity, "name": "pay", "args": {"cents": 5}}


def result(identity: str, words: str) -> Message:
    return Message(role="tool", content=(text(words),), tool_call_id=identity, name="pay")


def of(*items: Message | tuple[str, str]) -> tuple[Message, ...]:
    """The replay of messages and intents, an intent being (id, effect)."""
    entries = []
    for seq, item in enumerate(items, start=1):
        if isinstance(item, Message):
            kind, data = "message", {"message": item.model_dump(mode="json", exclude_none=True)}
        else:
            kind, data = "tool_intent", {"id": item[0], "name": "pay", "effect": item[1], "args": {}}
        entries.append(Entry(seq, kind, data, ""))
    return replay(entries)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a b", "x" * 65, "a\nb", "a\n"])
def test_names_that_cannot_be_used_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be called"):
        Session(name, SqliteJournal())


@pytest.mark.parametrize("name", ["a", "Kunde-7", "müller.2026_11", "1"])
def test_names_of_letters_digits_and_marks_are_fine(name: str) -> None:
    assert Session(name, SqliteJournal()).messages == ()


def test_a_session_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    first = Session.open("a", path)
    first.append(user("hello"))
    first.close()
    second = Session.open("a", path)
    second.append(user("again"))
    assert [message.text for message in second.messages] == ["hello", "again"]
    assert Session.names(path) == ["a"]


def test_the_sessions_of_a_user_are_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.paths.data_dir", lambda: tmp_path)
    assert Session.names() == []
    assert list(tmp_path.iterdir()) == []
    Session.open("mine").append(user("hello"))
    assert Session.names() == ["mine"]
    assert (tmp_path / "sessions.sqlite3").is_file()


def test_messages_come_back_exactly(tmp_path: Path) -> None:
    picture: Any = {
        "type": "image",
        "file_id": "sha256:" + "0" * 64,
        "mime_type": "image/png",
        "extras": {"width": 3, "height": 4, "name": "é.png"},
    }
    messages = (
        Message(role="user", content=(text("see "), picture)),
        Message(role="assistant", content=(text("wait"), call("1"))),
        result("1", "done\n\u2028 ok"),
    )
    session = Session.open("a", tmp_path / "s.sqlite3")
    for message in messages:
        session.append(message)
    assert Session.open("a", tmp_path / "s.sqlite3").messages == messages


def test_outcomes_stand_in_the_order_of_the_calls() -> None:
    assert of(asks("1", "2"), result("2", "second"), result("1", "first")) == (
        asks("1", "2"),
        result("1", "first"),
        result("2", "second"),
    )


@pytest.mark.parametrize(
    ("effect", "told"),
    [
        (None, "error: interrupted"),
        ("read", "error: interrupted"),
        ("idempotent", "error: interrupted"),
        ("unsafe", "error: interrupted; it is unknown whether pay took effect"),
    ],
)
def test_a_call_that_a_crash_cut_off_has_an_outcome(effect: str | None, told: str) -> None:
    intents = [("1", effect)] if effect else []
    assert of(user("pay"), asks("1"), *intents, user("next")) == (
        user("pay"),
        asks("1"),
        result("1", told),
        user("next"),
    )


def test_only_the_calls_without_outcome_are_repaired() -> None:
    assert of(asks("1", "2"), ("1", "unsafe"), ("2", "unsafe"), result("2", "paid"))[1:] == (
        result("1", "error: interrupted; it is unknown whether pay took effect"),
        result("2", "paid"),
    )


def test_one_id_in_two_turns_keeps_each_outcome_with_its_call() -> None:
    assert of(asks("1"), result("1", "old"), asks("1"), result("1", "new")) == (
        asks("1"),
        result("1", "old"),
        asks("1"),
        result("1", "new"),
    )
    assert of(asks("1"), result("1", "old"), asks("1"))[3].text == "error: interrupted"


def test_two_writers_that_got_mixed_up_leave_a_history_that_models_accept() -> None:
    assert of(user("a"), asks("1"), user("b"), asks("2"), result("2", "two"), result("1", "one")) == (
        user("a"),
        asks("1"),
        result("1", "one"),
        user("b"),
        asks("2"),
        result("2", "two"),
    )


def test_outcomes_of_no_call_and_second_outcomes_are_left_out() -> None:
    assert of(result("9", "orphan"), asks("1"), result("1", "first"), result("1", "again")) == (
        asks("1"),
        result("1", "first"),
    )


def test_kinds_of_later_versions_are_passed_over_but_unknown_messages_are_not() -> None:
    assert replay([Entry(1, "summary", {"x": 1}, "")]) == ()
    with pytest.raises(StoreError, match="entry 1 of the session"):
        replay([Entry(1, "message", {"message": {"role": "prophet", "content": []}}, "")])


def test_two_handles_of_one_session_see_each_others_messages(tmp_path: Path) -> None:
    one, other = (Session.open("a", tmp_path / "s.sqlite3") for _ in range(2))
    one.append(user("first"))
    assert other.messages == (user("first"),)
    other.append(user("second"))
    assert one.messages == (user("first"), user("second"))


async def test_turns_wait_for_each_other_in_the_order_they_came() -> None:
    session = Session.memory()
    order: list[str] = []

    async def turn(name: str) -> None:
        async with session.turn():
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(*(turn(name) for name in "abc"))
    assert order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]


async def test_a_turn_that_gave_up_waiting_is_not_waited_for() -> None:
    session = Session.memory()
    async with session.turn():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), session.turn():
                raise AssertionError("two turns at once")
    async with asyncio.timeout(5), session.turn():
        pass
