"""From a journal's entries to what they come to. Pure: it knows no disk and no clock, and changes nothing stored.

Whatever was lost or interleaved, every tool call in the messages has exactly one outcome, right after the message that
made it and in the order of the calls, so that any model accepts the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from mmagent.content import Label, MediaBlock, Message, ToolCallBlock, is_correction, text
from mmagent.errors import StoreError
from mmagent.events import ApprovalRequested, PlanStep
from mmagent.session.journal import Draft, Entry

MESSAGE = "message"
"""A `Message`: ``{"message", "interrupted", "artifacts"}``; an interrupted one is the part that there was."""
INTENT = "intent"
"""A tool is about to run: ``{"id", "name", "effect", "key", "digest"}``. Its outcome is a ``tool`` message."""
ASKED = "asked"
"""A call needs an approval: ``{"id", "name", "args", "digest", "why"}``."""
DECIDED = "decided"
"""Somebody decided about it: ``{"id", "digest", "allowed", "reason"}``. The intent that follows uses it up."""
PLAN = "plan"
"""The whole plan: ``{"steps": [{"text", "status"}]}``."""
OPENED = "opened"
"""Groups of tools that the model is told of from now on: ``{"groups": […]}``."""
HANDOFF = "handoff"
"""Another agent goes on: ``{"agent", "reason"}``."""
PICTURE = "picture"
"""How much of a picture the model is shown, or that it stays as it is: ``{"file_id", "level", "note", "pinned"}``."""
COMPACTION = "compaction"
"""Messages in place of all entries up to one: ``{"through", "messages", "turns"}``."""
REWOUND = "rewound"
"""What came after an entry counts no more: ``{"to": seq}``."""
CITED = "cited"
"""Passages that a tool gave numbers to, in their order: ``{"hits": […], "first"}``, where ``first`` is the number of
the first of them. Where it is missing, as in journals of earlier versions, numbers began anew in each turn."""
COPIED = "copied"
"""What stands before was said in another session: ``{"imported": …}``; imported words may be anybody's."""
ENDED = "ended"
"""The end of a turn: ``{"how": "finished" | "failed" | "cancelled", "usage", "citations", "error"}``."""


@dataclass(frozen=True)
class Said(Draft):
    """The entry of a message that is not written yet."""

    message: Message
    """It need not be parsed again."""


Level: TypeAlias = Literal["full", "smaller", "caption", "reference"]


@dataclass(frozen=True)
class PictureState:
    """How much of a picture the model is shown."""

    level: Level = "full"
    note: str = ""
    """What stands in its place at the levels ``caption`` and ``reference``; the smaller picture's id at ``smaller``."""
    pinned: bool = False
    """Whether it stays as it is."""


@dataclass
class OpenCall:
    """A call without an outcome yet."""

    call: ToolCallBlock
    intent: Mapping[str, Any] | None = None
    """Its entry, where it was about to run."""
    outcome: Message | None = None


@dataclass
class State:
    """What the entries of a session come to. `apply` takes in one more."""

    messages: list[Message] = field(default_factory=list)
    """The conversation since the last compaction, which stands at its beginning. Open calls are not in it yet."""
    version: int = 0
    """Another number whenever `messages` did not just grow."""
    media: list[MediaBlock] = field(default_factory=list)
    """All pictures of the conversation, oldest first; their numbers count from 1 in this order."""
    recordings: list[MediaBlock] = field(default_factory=list)
    """All recordings and videos of the conversation, oldest first."""
    pictures: dict[str, PictureState] = field(default_factory=dict)
    """By file id; one that is not in it is shown in full."""
    plan: tuple[PlanStep, ...] = ()
    opened: frozenset[str] = frozenset()
    """Groups of tools."""
    agent: str | None = None
    """Who goes on with the conversation, where it was handed off."""
    labels: frozenset[Label] = frozenset()
    """Of everything that the model was shown."""
    own_words: list[str] = field(default_factory=list)
    """What the user wrote, message by message."""
    questions: list[int] = field(default_factory=list)
    """The number of the entry that began each turn."""
    compacted_turns: int = 0
    """Of these, those that the model is shown in short."""
    cited: list[Mapping[str, Any]] = field(default_factory=list)
    """The passages that answers may point at; number 1 comes first."""
    unfinished: bool = False
    """Whether the last turn can go on: it waits for approvals, its process died, or it failed before it answered."""
    ended: str | None = None
    """How the last turn did: ``finished``, ``failed`` or ``cancelled``."""
    partial: bool = False
    """Whether the last message is only the part that there was."""
    planned: bool = False
    """Whether the plan was written in the last turn."""
    last_seq: int = 0
    open: dict[str, OpenCall] = field(default_factory=dict)
    """The calls of the last message, while one of them has no outcome; by id, in order."""
    pending: dict[str, ApprovalRequested] = field(default_factory=dict)
    """Calls that nobody has decided about, by id."""
    digests: dict[str, str] = field(default_factory=dict)
    """What the approval of a call must be bound to, by the call's id."""
    decided: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Decisions that are not used up, by the call's id."""
    call_ids: set[str] = field(default_factory=set)
    whole: bool = False
    """Whether compactions are passed over, so that `messages` is the whole conversation."""
    _next_agent: str | None = None
    """Who goes on once all calls beside the handoff have their outcomes."""
    _citing: bool = False
    """Whether passages were given numbers in the last turn."""
    _opening: tuple[int, Message] | None = None
    _made_up: dict[str, Message] = field(default_factory=dict)
    """Outcomes of calls that had none, by the call's id."""
    _seqs: list[int] = field(default_factory=list)
    """For each message, its entry."""

    def apply(self, entry: Entry, message: Message | None = None) -> None:
        """Take in the next entry.

        Args:
            entry: Of any kind but ``rewound``; one of an unknown kind changes nothing.
            message: The entry's message, where it has been parsed already.

        Raises:
            StoreError: It cannot be understood.
        """
        self.last_seq = entry.seq
        data = entry.data
        try:
            match entry.kind:
                case "message":
                    self.partial = bool(data.get("interrupted"))
                    self._add(message or Message.model_validate(data["message"]), entry.seq)
                case "intent":
                    if data["id"] in self.open:
                        self.open[data["id"]].intent = data
                    self.decided.pop(data["id"], None)
                    self.pending.pop(data["id"], None)
                case "asked":
                    self.digests[data["id"]] = data["digest"]
                    self.pending[data["id"]] = ApprovalRequested(
                        id=data["id"], name=data["name"], args=data["args"], why=data["why"]
                    )
                case "decided":
                    self.pending.pop(data["id"], None)
                    if type(data["allowed"]) is not bool or not isinstance(data["digest"], str):
                        raise TypeError("it decides nothing")
                    self.decided[data["id"]] = data
                case "plan":
                    self.planned = True
                    self.plan = tuple(PlanStep.model_validate(step) for step in data["steps"])
                case "opened":
                    self.opened |= set(data["groups"])
                case "handoff":
                    if self.open:
                        self._next_agent = data["agent"]
                    else:
                        self.agent = data["agent"]
                case "picture":
                    old = self.pictures.get(data["file_id"], PictureState())
                    self.pictures[data["file_id"]] = PictureState(
                        data.get("level", old.level), data.get("note", old.note), data.get("pinned", old.pinned)
                    )
                    self.version += "level" in data
                case "cited":
                    if "first" not in data and not self._citing:
                        self.cited.clear()
                    self._citing = True
                    self.cited.extend(data["hits"])
                case "compaction":
                    if not self.whole:
                        self._compact(data)
                case "copied":
                    self._copied(imported=data["imported"])
                case "ended":
                    self.ended = data["how"]
                    self.unfinished = data["how"] == "failed" and not self.partial
        except (KeyError, TypeError, ValidationError) as error:
            raise StoreError(
                f"entry {entry.seq} of the session is no {entry.kind} that this mmagent knows; upgrade it or take a"
                " new session"
            ) from error

    def all_messages(self) -> tuple[Message, ...]:
        """`messages`, then the last one with its open calls, an outcome for each."""
        return (*self.messages, *self._unfold())

    def lost(self, call: OpenCall) -> Message:
        """The outcome of a call whose own was lost."""
        why = "error: interrupted"
        if call.intent and call.intent.get("effect") != "read":
            why += f"; it is unknown whether {call.call['name']} took effect"
        return Message(role="tool", content=(text(why),), tool_call_id=call.call["id"], name=call.call["name"])

    def _add(self, message: Message, seq: int) -> None:
        if message.labels:
            self.labels |= set(message.labels)
        if media := message.media:
            self.media.extend(block for block in media if block["type"] == "image")
            self.recordings.extend(block for block in media if block["type"] in ("audio", "video"))
        if message.role == "tool":
            self._answer(message, seq)
            return
        if self.open:
            self._close(seq)
        if message.role == "user" and not is_correction(message):
            self.questions.append(seq)
            self.own_words.append(message.text)
            self.unfinished, self.ended, self.planned = True, None, False
            self._citing = False
        calls = message.tool_calls
        if calls:
            self.call_ids |= {call["id"] for call in calls}
            self.open = {call["id"]: OpenCall(call) for call in calls}
            self._opening = (seq, message)
        else:
            self.messages.append(message)
            self._seqs.append(seq)

    def _answer(self, message: Message, seq: int) -> None:
        call = message.tool_call_id or ""
        if (opened := self.open.get(call)) and opened.outcome is None:
            opened.outcome = message
            self.pending.pop(call, None)
            if all(one.outcome for one in self.open.values()):
                self._close(seq)
        elif (made_up := self._made_up.pop(call, None)) is not None:  # it comes late: two processes were at it
            self.messages[self.messages.index(made_up)] = message
            self.version += 1

    def _unfold(self) -> Iterator[Message]:
        if self._opening is not None:
            yield self._opening[1]
            yield from (one.outcome or self.lost(one) for one in self.open.values())

    def _close(self, seq: int) -> None:
        """Move the message with calls to the others."""
        assert self._opening is not None
        before = len(self.messages)
        self.messages.extend(self._unfold())
        self._seqs.extend([self._opening[0]] * (len(self.messages) - before))
        for message, opened in zip(self.messages[before + 1 :], self.open.values(), strict=True):
            self.pending.pop(opened.call["id"], None)
            self.decided.pop(opened.call["id"], None)
            if opened.outcome is None:
                self._made_up[opened.call["id"]] = message
        self.open, self._opening = {}, None
        self.agent, self._next_agent = self._next_agent or self.agent, None

    def _copied(self, *, imported: bool) -> None:
        """Approvals hold in the session where they were given; what anybody may have written is nobody's own words."""
        self.pending, self.digests, self.decided = {}, {}, {}
        if imported:
            self.labels |= {"untrusted"}
            self.own_words.clear()

    def _compact(self, data: Mapping[str, Any]) -> None:
        short = [Message.model_validate(one) for one in data["messages"]]
        kept = sum(seq <= data["through"] for seq in self._seqs)
        self.messages[:kept], self._seqs[:kept] = short, [data["through"]] * len(short)
        self._made_up.clear()
        self.labels |= {label for message in short for label in message.labels}
        self.compacted_turns = data["turns"]
        self.version += 1


def replay(entries: Iterable[Entry], *, whole: bool = False) -> State:
    """What the entries of a session come to.

    Args:
        entries: All of them, in order.
        whole: Whether `State.messages` is to be the whole conversation, compactions passed over.

    Raises:
        StoreError: An entry cannot be understood.
    """
    state = State(whole=whole)
    kept, taken_back = counting(entries)
    for entry in kept:
        state.apply(entry)
    for entry in taken_back:  # ids of calls are keys of effects, so none comes back
        if entry.kind == MESSAGE:
            blocks = entry.data["message"].get("content", ())
            state.call_ids |= {block["id"] for block in blocks if block.get("type") == "tool_call"}
    return state


def draft(message: Message, *, interrupted: bool = False, artifacts: Sequence[MediaBlock] = ()) -> Said:
    """The entry of a message.

    Args:
        message: The message.
        interrupted: Whether it is only the part that there was.
        artifacts: Files that a tool gave to programs.
    """
    data: dict[str, Any] = {"message": message.model_dump(mode="json", exclude_defaults=True)}
    if interrupted:
        data["interrupted"] = True
    if artifacts:
        data["artifacts"] = list(artifacts)
    return Said(MESSAGE, data, message)


def counting(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The entries that count, and those that were taken back."""
    kept: list[Entry] = []
    taken_back: list[Entry] = []
    for entry in entries:
        if entry.kind == REWOUND:
            while kept and kept[-1].seq > entry.data["to"]:
                taken_back.append(kept.pop())
        kept.append(entry)
    return kept, taken_back
