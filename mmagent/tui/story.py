"""What there is to see of a conversation: events and journals become items. Pure: it knows events and no terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mmagent.content import MediaBlock, Message, is_correction
from mmagent.events import (
    ApprovalDecided,
    ApprovalRequested,
    Citation,
    Event,
    HandedOff,
    HistoryCompacted,
    MediaAdmitted,
    MediaSubstituted,
    PictureReduced,
    PlanStep,
    PlanUpdated,
    ReasoningDelta,
    StepStarted,
    SubagentEvent,
    TextDelta,
    ToolCalled,
    ToolFinished,
    ToolProgress,
    TurnFailed,
    TurnFinished,
    TurnStarted,
)
from mmagent.tui.items import Answer, Call, Item, Note, Plan, Question, Thought

if TYPE_CHECKING:
    from mmagent.session.journal import Entry


@dataclass
class Story:
    """The items of a conversation; events add to them and change the last ones."""

    items: list[Item] = field(default_factory=list)
    turns: int = 0
    _calls: dict[str, Call] = field(default_factory=dict)
    _plan: Plan | None = None

    @classmethod
    def told(cls, entries: Iterable[Entry]) -> Story:
        """The story of a session's journal.

        Raises:
            StoreError: An entry cannot be understood.
        """
        from mmagent.session.replay import ENDED, HANDOFF, MESSAGE, PLAN, counting

        story = cls()
        for entry in counting(entries)[0]:
            if entry.kind == MESSAGE:
                story._message(Message.model_validate(entry.data["message"]), bool(entry.data.get("interrupted")))
            elif entry.kind == ENDED:
                story._ended(entry.data)
            elif entry.kind == PLAN:
                story._planned(tuple(PlanStep.model_validate(step) for step in entry.data["steps"]))
            elif entry.kind == HANDOFF:
                story.note(f"{entry.data['agent']} goes on: {entry.data.get('reason', '')}")
        story.close()
        return story

    def asked(self, text: str, media: tuple[MediaBlock, ...] = ()) -> Question:
        """The user says something: another turn begins."""
        self.turns += 1
        question = Question(text, media, self.turns)
        self.items.append(question)
        self._plan = None
        return question

    def note(self, text: str, kind: Literal["note", "warning", "error"] = "note") -> Note:
        """Something is said beside the conversation."""
        note = Note(text, kind)
        self.items.append(note)
        return note

    def apply(self, event: Event) -> list[Item]:
        """Take in what happened; gives the items that are new or changed."""
        closed: list[Item] = []
        if isinstance(event, StepStarted | ToolCalled | TurnFailed | TurnFinished):
            closed = self.close()
        return [*closed, *self._changed(event)]

    def stop(self) -> list[Item]:
        """The turn was stopped: what there is stays. Gives the items that are new or changed."""
        changed: list[Item] = []
        for call in self._calls.values():
            if call.status in ("running", "waiting"):
                call.status = "unknown"
                changed.append(call)
        last = self.items[-1] if self.items else None
        if isinstance(last, Answer) and last.open:
            last.open, last.stopped = False, True
            return [*changed, last, *self.close()]
        return [*changed, *self.close(), self.note("stopped")]

    def close(self) -> list[Item]:
        """What was being written is whole; gives the items that were not."""
        closed: list[Item] = []
        for item in reversed(self.items):
            if isinstance(item, Question):
                break
            if isinstance(item, Answer) and item.open:
                item.open = False
                closed.append(item)
        return closed

    def _changed(self, event: Event, within: str = "") -> list[Item]:
        """What an event changes; ``within`` are the calls by which its agent was asked, as ids count for each anew."""
        item: Item | None = None
        match event:
            case ReasoningDelta():
                item = self._grow(Thought, event.text)
            case TextDelta():
                item = self._grow(Answer, event.text)
            case MediaAdmitted():
                item = self._admitted(event)
            case ToolCalled():
                item = self._called(event, within)
            case ToolProgress() | ToolFinished() | ApprovalRequested() | ApprovalDecided():
                item = self._went_on(event, within)
            case PlanUpdated():
                item = self._planned(event.steps)
            case SubagentEvent():
                return self._of_another(event, within)
            case TurnFinished():
                item = self._finished(event)
            case TurnFailed():
                item = self.note(event.message, "error")
            case _ if line := _beside(event):
                warns = isinstance(event, PictureReduced | HistoryCompacted)
                item = self.note(line, "warning" if warns else "note")
        return [item] if item is not None else []

    def _went_on(
        self, event: ToolProgress | ToolFinished | ApprovalRequested | ApprovalDecided, within: str
    ) -> Call | None:
        """A call that was made before."""
        call = self._calls.get(within + event.id)
        if call is None:
            return None
        match event:
            case ToolProgress():
                share = f"{event.fraction:.0%} " if event.fraction is not None else ""
                call.progress = f"{share}{event.message}"
            case ToolFinished():
                call.content, call.data, call.artifacts = event.content, event.data, event.artifacts
                call.error, call.seconds, call.progress = event.error, event.seconds, ""
                if call.status != "denied":
                    call.status = "done" if event.error is None else "failed"
            case ApprovalRequested():
                call.status = "waiting"
            case ApprovalDecided():
                call.status = "running" if event.allowed else "denied"
        return call

    def _admitted(self, event: MediaAdmitted) -> Question | None:
        """A file of the last question is in the store."""
        question = self._question()
        if question is not None:
            block: MediaBlock = {
                "type": kind_of(event.mime_type),
                "file_id": event.file_id,
                "mime_type": event.mime_type,
                "extras": {"name": event.name, "width": event.width, "height": event.height},
            }
            question.media = (*question.media, block)
        return question

    def _question(self) -> Question | None:
        return next((one for one in reversed(self.items) if isinstance(one, Question)), None)

    def _grow(self, kind: type[Thought] | type[Answer], text: str) -> Item | None:
        last = self.items[-1] if self.items else None
        if not isinstance(last, kind) or (isinstance(last, Answer) and not last.open):
            text = text.lstrip()
            if not text:
                return None
            last = kind()
            self.items.append(last)
        last.text += text
        return last

    def _called(self, event: ToolCalled, within: str, by: str = "") -> Call:
        call = Call(event.id, event.name, dict(event.args), by=by)
        self._calls[within + event.id] = call
        self.items.append(call)
        return call

    def _planned(self, steps: tuple[PlanStep, ...]) -> Plan:
        if self._plan is None:
            self._plan = Plan()
            self.items.append(self._plan)
        self._plan.steps = steps
        return self._plan

    def _of_another(self, event: SubagentEvent, within: str) -> list[Item]:
        within = f"{within}{event.id}/"
        if isinstance(event.event, ToolCalled):
            return [self._called(event.event, within, event.agent)]
        if isinstance(event.event, TextDelta | ReasoningDelta | TurnStarted | StepStarted | TurnFinished):
            return []  # its answer is the result of the call
        return self._changed(event.event, within)

    def _finished(self, event: TurnFinished) -> Item | None:
        last = self.items[-1] if self.items else None
        if not isinstance(last, Answer):
            if not event.text.strip():
                return None
            last = Answer()
            self.items.append(last)
        last.text, last.citations, last.open = event.text.strip(), event.citations, False
        return last

    def _message(self, message: Message, interrupted: bool) -> None:
        if message.role == "user":
            if not is_correction(message):
                self.asked(message.text, message.media)
        elif message.role == "tool":
            if call := self._calls.get(message.tool_call_id or ""):
                text = message.text
                call.content = message.content
                call.status = "done"
                if text.startswith("error: "):
                    call.status, call.error = "failed", text.removeprefix("error: ")
        elif message.role == "assistant":
            self._said(message, interrupted)

    def _said(self, message: Message, interrupted: bool) -> None:
        for block in message.content:
            if block["type"] == "reasoning":
                self.items.append(Thought(block["reasoning"].strip()))
            elif block["type"] == "text" and block["text"].strip():
                self.items.append(Answer(block["text"].strip(), open=False, stopped=interrupted))
            elif block["type"] == "tool_call":
                call = Call(block["id"], block["name"], dict(block["args"]), "unknown")
                self._calls[call.id] = call
                self.items.append(call)

    def _ended(self, data: Any) -> None:
        last = self.items[-1] if self.items else None
        if isinstance(last, Answer) and data.get("citations"):
            last.citations = tuple(Citation.model_validate(one) for one in data["citations"])
        if data.get("how") == "failed" and data.get("error"):
            self.note(str(data["error"]), "error")


def kind_of(mime_type: str) -> Literal["image", "audio", "video", "file"]:
    """The kind of block for a file."""
    kind = mime_type.partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "file"  # type: ignore[return-value]


def _beside(event: Event) -> str:
    """One line about what happened to the conversation itself; empty where there is nothing to say."""
    match event:
        case MediaSubstituted():
            return f"the model cannot take this file; it was given {event.instead}"
        case PictureReduced():
            shown = "smaller" if event.level == "smaller" else f"as a {event.level}"
            return f"the model's context is full; a picture is shown to it {shown}"
        case HistoryCompacted():
            turns = "1 turn is" if event.turns == 1 else f"{event.turns:,} turns are"
            return (
                f"the model's context is full; {turns} now in short "
                f"({event.tokens_before:,} tokens became {event.tokens_after:,})"
            )
        case HandedOff():
            return f"{event.agent} goes on: {event.reason}"
    return ""
