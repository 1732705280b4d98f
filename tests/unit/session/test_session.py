from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mmagent.content import Message, ToolCallBlock, text
from mmagent.errors import InputError, NotFound, StoreError, StoreLocked
from mmagent.session import Draft, Entry, MemoryJournal, Session, replay


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
            kind, data = "intent", {"id": item[0], "name": "pay", "effect": item[1], "key": "", "digest": ""}
        entries.append(Entry(seq, kind, data))
    return replay(entries).all_messages()


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a b", "x" * 65, "a\nb", "a\n"])
def test_names_that_cannot_be_used_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be called"):
        Session(name, MemoryJournal())


@pytest.mark.parametrize("name", ["a", "Kunde-7", "müller.2026_11", "1"])
def test_names_of_letters_digits_and_marks_are_fine(name: str) -> None:
    assert Session(name, MemoryJournal()).messages == ()


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
        ("idempotent", "error: interrupted; it is unknown whether pay took effect"),
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
    assert replay([Entry(1, "summary", {"x": 1}, "")]).all_messages() == ()
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


def test_a_turn_is_never_beside_one_of_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.session.session.LEASE_SECONDS", 0.05)
    one, other = (Session.open("a", tmp_path / "s.sqlite3") for _ in range(2))

    async def both() -> None:
        async with one.turn():
            with pytest.raises(StoreLocked, match="in the middle of a turn"):
                async with other.turn():
                    raise AssertionError("two turns at once")
        async with other.turn():
            pass

    asyncio.run(both())


def spoken(journal: MemoryJournal | None = None, turns: int = 3) -> Session:
    session = Session("a", journal or MemoryJournal())
    for number in range(1, turns + 1):
        session.append(user(f"question {number}"))
        session.append(Message(role="assistant", content=(text(f"answer {number}"),)))
        session.write(Draft("ended", {"how": "finished"}))
    return session


def texts(session: Session) -> list[str]:
    return [message.text for message in session.messages]


def test_rewinding_takes_turns_back_and_gives_the_question() -> None:
    session = spoken()
    assert session.rewind(2).text == "question 2"
    assert texts(session) == ["question 1", "answer 1"]
    session.append(user("instead"))
    assert texts(session) == ["question 1", "answer 1", "instead"]
    assert [message.text for message in session.state.messages] == texts(session)
    assert session.rewind(2).text == "question 1"
    assert texts(session) == []
    with pytest.raises(InputError, match="has 0 turns; 1 cannot be taken back"):
        session.rewind()


def test_another_handle_sees_that_turns_were_taken_back(tmp_path: Path) -> None:
    one, other = (Session.open("a", tmp_path / "s.sqlite3") for _ in range(2))
    one.append(user("first"))
    one.append(user("second"))
    assert len(other.refresh().messages) == 2
    version = other.state.version
    one.rewind()
    assert [message.text for message in other.refresh().messages] == ["first"]
    assert other.state.version > version


def test_a_fork_goes_its_own_way() -> None:
    session = spoken()
    whole, part = session.fork(), session.fork("other", turns=1)
    assert (whole.name, texts(whole)) == ("a-2", texts(session))
    assert texts(part) == ["question 1", "answer 1"]
    part.append(user("elsewhere"))
    assert len(session.messages) == 6
    assert session.fork().name == "a-3"
    with pytest.raises(InputError, match="other"):
        session.fork("other")
    with pytest.raises(NotFound, match="nothing to copy"):
        Session("new", MemoryJournal()).fork()


def test_a_renamed_session_goes_on_under_its_new_name_only() -> None:
    journal = MemoryJournal()
    session = spoken(journal)
    session.rename("b")
    assert texts(Session("b", journal)) == texts(session)
    assert Session("a", journal).messages == ()
    with pytest.raises(InputError, match="cannot be called"):
        session.rename("../c")


def test_a_deleted_session_is_gone_and_may_begin_again() -> None:
    journal = MemoryJournal()
    session = spoken(journal)
    session.delete()
    assert session.messages == () and journal.sessions() == []
    session.append(user("anew"))
    assert texts(session) == ["anew"]


async def test_what_is_in_a_turn_cannot_be_changed_from_outside() -> None:
    session = spoken()
    async with session.turn():
        for change in (session.rewind, session.delete, lambda: session.rename("b")):
            with pytest.raises(StoreLocked):
                change()


def test_the_window_begins_at_the_last_compaction_and_the_conversation_does_not() -> None:
    session = spoken()
    short = Message(role="user", content=(text("in short"),), labels=("untrusted",))
    data = {"through": 6, "turns": 2, "messages": [short.model_dump(mode="json", exclude_defaults=True)]}
    session.write(Draft("compaction", data))
    assert [message.text for message in session.state.messages] == ["in short", "question 3", "answer 3"]
    assert session.state.labels == {"untrusted"}
    assert texts(session)[0] == "question 1" and len(session.messages) == 6
    again = Session("a", session.journal)
    assert again.refresh().messages == session.state.messages
    session.rewind()  # behind the compaction
    assert (
        [message.text for message in session.state.messages]
        == texts(session)
        == ["question 1", "answer 1", "question 2", "answer 2"]
    )


def test_a_state_is_the_same_read_at_once_or_entry_by_entry(tmp_path: Path) -> None:
    session = Session.open("a", tmp_path / "s.sqlite3")
    session.append(user("pay"))
    session.append(asks("1", "2"))
    session.write(
        Draft("intent", {"id": "1", "name": "pay", "effect": "unsafe", "key": "", "digest": ""}),
        Draft("asked", {"id": "2", "name": "pay", "args": {}, "digest": "d", "why": "w"}),
        Draft("plan", {"steps": [{"text": "pay", "status": "active"}]}),
        Draft("opened", {"groups": ["billing"]}),
        Draft("handoff", {"agent": "other", "reason": ""}),
        Draft("picture", {"file_id": "sha256:0", "level": "caption", "note": "n"}),
        Draft("picture", {"file_id": "sha256:0", "pinned": True}),
    )
    session.append(result("1", "paid"))
    state = session.state
    assert list(state.pending) == ["2"] and state.digests == {"2": "d"} and state.agent is None
    assert state.opened == {"billing"} and state.plan[0].text == "pay" and state.unfinished
    assert (state.pictures["sha256:0"].level, state.pictures["sha256:0"].pinned) == ("caption", True)
    other = Session.open("a", tmp_path / "s.sqlite3").refresh()
    assert {**vars(other), "version": 0} == {**vars(state), "version": 0}
    session.write(Draft("decided", {"id": "2", "digest": "d", "allowed": True, "reason": ""}))
    assert not state.pending and state.decided["2"]["allowed"]
    session.write(Draft("intent", {"id": "2", "name": "pay", "effect": "unsafe", "key": "", "digest": "d"}))
    assert not state.decided
    session.append(result("2", "paid"))
    assert state.agent == "other"  # only now, since all calls were the first one's


def test_what_was_imported_is_nobodys_own_words_and_approvals_stay_behind() -> None:
    session = spoken()
    session.append(user("pay"))
    session.append(asks("1"))
    session.write(Draft("asked", {"id": "1", "name": "pay", "args": {}, "digest": "d", "why": "w"}))
    fork = session.fork()
    assert fork.refresh().pending == {} and fork.state.own_words and fork.state.unfinished
    fork.write(Draft("copied", {"imported": True}))
    assert fork.state.labels == {"untrusted"} and fork.state.own_words == []


def test_ids_of_calls_that_were_taken_back_do_not_come_back() -> None:
    session = spoken(turns=1)
    session.append(user("pay"))
    session.append(asks("1"))
    session.rewind()
    assert session.state.call_ids == {"1"}
