"""An answer that was spoken over: the session says what was heard of it, and no more."""

from __future__ import annotations

from pathlib import Path

from mmagent.agent import Agent
from mmagent.content import Message, text
from mmagent.session import Session
from mmagent.session.cut import cut_answer
from mmagent.testing import ScriptedModel


async def test_the_session_keeps_what_was_heard(tmp_path: Path) -> None:
    session = Session.open("shop", tmp_path / "s.sqlite3")
    agent = Agent(ScriptedModel(["One. Two. Three.", "Yes."]), session=session, builtins=False)
    await agent.arun("Count.")
    await cut_answer(session, "One. Two. ")
    assert [message.text for message in session.messages] == ["Count.", "One. Two."]
    assert session.state.partial and session.state.ended == "cancelled" and not session.state.unfinished
    assert any("Three" in found.excerpt for found in session.journal.search("three"))  # it was written, and stays
    await agent.arun("Was that all?")
    assert [message.text for message in session.messages][2:] == ["Was that all?", "Yes."]
    session.close()


async def test_of_an_answer_that_nobody_heard_nothing_is_kept() -> None:
    session = Session.memory()
    agent = Agent(ScriptedModel(["One."]), session=session, builtins=False)
    await agent.arun("Count.")
    await cut_answer(session, "")
    assert [message.text for message in session.messages] == ["Count."]
    await cut_answer(session, "")
    assert [message.text for message in session.messages] == ["Count."]


async def test_what_was_heard_whole_stays_as_it_is() -> None:
    session = Session.memory()
    session.append(Message(role="user", content=(text("Count."),)))
    agent = Agent(ScriptedModel(["One."]), session=session, builtins=False)
    await agent.arun("Count.")
    before = session.state.last_seq
    await cut_answer(session, "One. ")
    assert session.state.last_seq == before
