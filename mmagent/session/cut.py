"""An answer that was interrupted while it was being said: the session keeps what was heard. It knows no sound."""

from __future__ import annotations

from mmagent.content import Message, text
from mmagent.session.journal import Draft
from mmagent.session.replay import ENDED, MESSAGE, REWOUND, draft
from mmagent.session.session import Session


async def cut_answer(session: Session, heard: str) -> None:
    """Let a session say of its last answer what was heard of it, and no more; marked as interrupted.

    The whole answer stays in the journal, and counts no more.

    Raises:
        StoreError: It cannot be written.
    """
    async with session.turn():
        await session.record(*_correction(session, heard), flush=True)


def _correction(session: Session, heard: str) -> list[Draft]:
    question = session.state.questions[-1] if session.state.questions else 0
    entries = session.journal.read(session.id, question) if session.id else ()
    said = [
        one
        for one in entries
        if one.kind == MESSAGE
        and (message := Message.model_validate(one.data["message"])).role == "assistant"
        and not message.tool_calls
    ]
    if not said or Message.model_validate(said[-1].data["message"]).text.strip() == heard.strip():
        return []
    rest = [draft(Message(role="assistant", content=(text(heard.strip()),)), interrupted=True)] if heard.strip() else []
    return [Draft(REWOUND, {"to": said[-1].seq - 1}), *rest, Draft(ENDED, {"how": "cancelled"})]
