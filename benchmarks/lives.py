"""One life of a process that takes turns until it is killed: what `benchmarks.kills` starts, checks and ends.

It knows agents, sessions and what ends a process at a named step.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path

from mmagent import Agent, Capabilities, tool
from mmagent.agent.tools import AnyTool, ToolContext
from mmagent.chat.protocol import ChatModel, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall
from mmagent.content import Message
from mmagent.events import TurnFinished, TurnStarted, Usage
from mmagent.media import BlobStore
from mmagent.session import Session
from mmagent.session.journal import Journal
from mmagent.session.session import open_journal
from mmagent.testing.kill import KillAt

SESSIONS = ("s0", "s1", "s2", "s3")
EFFECTS = "effects"
"""The file: one line for each time that a tool took effect, of its letter, number, call id and key."""
_TOOLS = {"r": "find", "i": "put", "u": "pay", "U": "pay_in_a_thread"}
_DID = {"r": "found", "i": "put", "u": "paid", "U": "paid"}


class Planned:
    """A model that does what the question says: ``name plan``, a step for each ``/``-separated word of letters.

    It answers from the conversation alone, so the next process can go on where the last one died.
    """

    name = "planned"
    capabilities = Capabilities(context_length=1 << 20)

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def count_tokens(self, request: ModelRequest) -> int:
        """None."""
        return 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The next step of the plan, in pieces."""
        messages = request.messages
        last = max(index for index, message in enumerate(messages) if message.role == "user")
        name, plan = messages[last].text.splitlines()[-1].split(" ")
        step = sum(bool(message.tool_calls) for message in messages[last:])
        steps = [] if plan == "-" else plan.split("/")
        calls = steps[step] if step < len(steps) else ""
        for piece in ("One ", "moment. ") if calls else ("done ", name):
            await asyncio.sleep(self._dice.uniform(0, 0.0005))
            yield ModelText(piece)
        for index, letter in enumerate(calls):
            args = {"number": f"{name}.{step}.{index}"}
            yield ModelToolCall({"type": "tool_call", "id": "", "name": _TOOLS[letter], "args": args})
        yield ModelDone(Usage(), "tool_calls" if calls else "end")


def make_tools(effects: Path, dice: random.Random) -> list[AnyTool]:
    """Tools of all three effects, which write down when they took effect."""

    def happen(letter: str, number: str, context: ToolContext) -> str:
        descriptor = os.open(effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{letter} {number} {context.call_id} {context.idempotency_key}\n".encode())
        os.close(descriptor)
        return f"{_DID[letter]} {number}"

    @tool(effect="read")
    async def find(number: str, context: ToolContext) -> str:
        """Find it."""
        await asyncio.sleep(dice.uniform(0, 0.001))
        return happen("r", number, context)

    @tool(effect="idempotent")
    async def put(number: str, context: ToolContext) -> str:
        """Put it there."""
        said = happen("i", number, context)
        await asyncio.sleep(dice.uniform(0, 0.002))
        return said

    @tool
    async def pay(number: str, context: ToolContext) -> str:
        """Pay, which must never happen twice."""
        await asyncio.sleep(dice.uniform(0, 0.001))
        said = happen("u", number, context)
        await asyncio.sleep(dice.uniform(0, 0.001))
        return said

    @tool
    def pay_in_a_thread(number: str, context: ToolContext) -> str:
        """Pay, which must never happen twice."""
        return happen("U", number, context)

    return [find, put, pay, pay_in_a_thread]


def import_everything(folder: Path) -> None:
    """Take a turn that leaves no thread and no file open, so that lives that are forked off need not import."""
    import mmagent.session.sqlite  # noqa: F401 # opened by lives only: connections must not be forked

    async def turn() -> None:
        dice = random.Random(0)
        tools = make_tools(folder / "first", dice)
        agent = Agent(Planned(dice), tools, session=Session.memory(), builtins=False, blobs=BlobStore(folder))
        await agent.arun("first.0.0 r/i/u")

    asyncio.run(turn())
    assert threading.active_count() == 1


class Life:
    """Opens the sessions of a folder, checks them, and takes turns in all of them at once.

    Args:
        folder: Where the effects are, and the journal's file.
        journal: The address of a PostgreSQL database; None: an SQLite file in the folder.
        number: Which life it is.
        asked: The questions of each session that earlier lives acknowledged.
        answered: The questions of each session whose turns they finished.
        writing: The pipe that it tells all this to.
        kill: The step that it dies at; None: it is killed by others.
        last: Whether it takes one turn in each session and ends.
    """

    def __init__(
        self,
        folder: Path,
        journal: str | None,
        number: int,
        asked: Mapping[str, Sequence[str]],
        answered: Mapping[str, Sequence[str]],
        writing: int,
        kill: KillAt | None,
        last: bool,
    ) -> None:
        self._place: str | Path = journal or folder / "sessions.sqlite3"
        self._prefix = f"{folder.name}-" if journal else ""
        self._effects, self._blobs = folder / EFFECTS, BlobStore(folder / "blobs")
        self._number, self._asked, self._answered, self._last = number, asked, answered, last
        self._writing = writing
        self._dice = random.Random(number)
        self._kill = kill

    def tell(self, kind: str, rest: str) -> None:
        """Write a line to the pipe."""
        os.write(self._writing, f"{kind} {rest}\n".encode())

    async def run(self) -> None:
        """Until it is killed, or has taken the last turns."""
        alone = self._dice.random() < 0.5
        shared = self._open()
        agents = {}
        for name in SESSIONS:
            session = Session(self._prefix + name, self._open() if alone else shared)
            self._check(name, session)
            agents[name] = self._agent(session)
        self.tell("ready", "")
        await asyncio.gather(*(self._take_turns(name, agent) for name, agent in agents.items()))
        for name, agent in agents.items():
            self._check(name, agent.session)

    def _open(self) -> Journal:
        journal = open_journal(self._place)
        return self._kill.journal(journal) if self._kill else journal

    def _agent(self, session: Session) -> Agent:
        model: ChatModel = Planned(self._dice)
        tools = make_tools(self._effects, self._dice)
        if self._kill:
            model, tools = self._kill.model(model), [self._kill.tool(tool) for tool in tools]
        return Agent(model, tools, session=session, builtins=False, blobs=self._blobs)

    async def _take_turns(self, name: str, agent: Agent) -> None:
        if agent.session.refresh().unfinished and (self._last or self._dice.random() < 0.6):
            self.tell("resumed", name)
            question = [message.text for message in agent.session.messages if message.role == "user"][-1]
            await self._turn(name, agent, question, resume=True)
        turn = 0
        while turn == 0 or not self._last:
            await self._turn(name, agent, f"{name}.{self._number}.{turn} {self._plan()}", resume=False)
            turn += 1

    async def _turn(self, name: str, agent: Agent, question: str, *, resume: bool) -> None:
        stream = agent.stream(resume=True) if resume else agent.stream(question)
        async for event in stream:
            if isinstance(event, TurnStarted) and not resume:
                self.tell("asked", f"{name} {question}")
            elif isinstance(event, TurnFinished):
                self.tell("answered", f"{name} {question}")

    def _plan(self) -> str:
        """No to three calls, in a row or side by side."""
        letters = self._dice.choices("riuU", k=self._dice.randrange(4))
        return self._dice.choice(("", "/")).join(letters) or "-"

    def _check(self, name: str, session: Session) -> None:
        lines = self._effects.read_text().splitlines() if self._effects.exists() else []
        effects = [line.split(" ") for line in lines if line.split(" ")[1].startswith(f"{name}.")]
        for problem in check_session(session.messages, effects, self._asked[name], self._answered[name]):
            self.tell("violation", f"life {self._number}, {name}: {problem}")


def check_session(
    messages: Sequence[Message],
    effects: Sequence[Sequence[str]],
    asked: Sequence[str],
    answered: Sequence[str],
) -> Iterator[str]:
    """What is wrong with a session.

    Args:
        messages: Its conversation.
        effects: The lines of the file that are about it, in words.
        asked: The questions that were acknowledged, in order.
        answered: The questions whose turns were finished.
    """
    if problem := invalid(messages):
        yield problem
    questions = [message.text for message in messages if message.role == "user"]
    if len(set(questions)) != len(questions):
        yield "a question stands there twice"
    known = set(asked)
    if [question for question in questions if question in known] != list(asked):
        yield f"acknowledged {list(asked)[-3:]}, but there is {questions[-3:]}"
    answers = dict(_answers(messages))
    for question in answered:
        if answers.get(question) != f"done {question.split(' ')[0]}":
            yield f"{question} was answered, but there is {answers.get(question)!r}"
    yield from _effects_told(messages, effects)


def invalid(messages: Sequence[Message]) -> str:
    """Why a model could refuse a history; empty where every call has one outcome, at its place."""
    position = 0
    while position < len(messages):
        message = messages[position]
        calls = [call["id"] for call in message.tool_calls]
        outcomes = messages[position + 1 : position + 1 + len(calls)]
        if message.role == "tool" or [outcome.tool_call_id for outcome in outcomes] != calls:
            return f"message {position} ({message.role}) has calls {calls} and is followed by {outcomes}"
        position += 1 + len(calls)
    ids = [call["id"] for message in messages for call in message.tool_calls]
    return "" if len(set(ids)) == len(ids) else "two calls have one id"


def _answers(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    question = ""
    for message in messages:
        if message.role == "user":
            question = message.text
        elif message.role == "assistant" and not message.tool_calls:
            yield question, message.text


def _effects_told(messages: Sequence[Message], effects: Sequence[Sequence[str]]) -> Iterator[str]:
    calls = {call["args"]["number"]: call for message in messages for call in message.tool_calls}
    told = {message.tool_call_id: message.text for message in messages if message.role == "tool"}
    times = Counter(number for _, number, *_ in effects)
    keys: dict[str, set[str]] = {}
    for letter, number, call_id, key in effects:
        call = calls.get(number)
        if call is None or call["id"] != call_id:
            yield f"{number} took effect as {call_id}, but its call in the journal is {call}"
            continue
        keys.setdefault(number, set()).add(key)
        outcome = told.get(call_id, "")
        if letter in "uU":
            if times[number] > 1:
                yield f"the unsafe {number} happened {times[number]} times"
            if outcome != f"paid {number}" and "it is unknown whether" not in outcome:
                yield f"the unsafe {number} happened, but {outcome!r} is told"
    for number, call in calls.items():
        outcome = told.get(call["id"], "")
        if outcome in {f"{did} {number}" for did in _DID.values()} and not times[number]:
            yield f"{outcome!r} is told, but it did not happen"
    if any(len(of_one) != 1 for of_one in keys.values()):
        yield f"calls had more than one key: {[of_one for of_one in keys.values() if len(of_one) != 1]}"
    if len(set().union(*keys.values())) != len(keys):
        yield "two calls had the same key"
