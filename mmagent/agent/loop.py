"""The loop: asks a model, runs the tools that it calls, and asks again until there is an answer.

It knows models, tools, policies and sessions by their contracts only, and says what happens by events only. How a call
of a tool goes is in `steps`.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from mmagent import telemetry
from mmagent.agent.citations import cite, hits_of
from mmagent.agent.context import Context
from mmagent.agent.hearing import written_down
from mmagent.agent.limits import Budget, Clock, limit
from mmagent.agent.output import Output
from mmagent.agent.plan import plan_call
from mmagent.agent.question import Content, admitted
from mmagent.agent.steps import Calls
from mmagent.agent.tools import AnyTool, one_line
from mmagent.chat.protocol import (
    ModelDone,
    ModelEvent,
    ModelReasoning,
    ModelRequest,
    ModelText,
    ModelToolCall,
    ToolSpec,
)
from mmagent.content import Block, Message, ToolCallBlock, correction, text
from mmagent.errors import (
    ConfigurationError,
    ContextOverflow,
    InputError,
    MMAgentError,
    ModelError,
    StoreError,
    TurnError,
)
from mmagent.events import (
    ApprovalRequested,
    Event,
    MediaAdmitted,
    ReasoningDelta,
    StepStarted,
    TextDelta,
    ToolCalled,
    TurnFailed,
    TurnFinished,
    TurnPaused,
    TurnStarted,
    Usage,
)
from mmagent.redact import redact
from mmagent.session.journal import Draft
from mmagent.session.replay import ENDED, State, draft

if TYPE_CHECKING:
    from mmagent.agent.agent import Agent, Approve
    from mmagent.agent.policy import Policy
    from mmagent.knowledge import Hit
    from mmagent.media import BlobStore
    from mmagent.session import Session

_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
"""Ids of calls are shown to people, who paste them."""


class Turn:
    """One question, until it is answered.

    Args:
        agent: Who is asked.
        session: Where the conversation is.
        blobs: Where its media are.
        emit: Is told what happens, as it happens.
        output: What the answer must be; None: any text.
        parent: The turn whose agent asks; it shares its budget, its policies and whoever approves.
    """

    def __init__(
        self,
        agent: Agent,
        session: Session,
        blobs: BlobStore,
        emit: Callable[[Event], None],
        output: Output | None = None,
        parent: Turn | None = None,
    ) -> None:
        self.first, self.session, self.blobs, self.emit, self.output = agent, session, blobs, emit, output
        self.parent = parent
        self.budget: Budget = parent.budget if parent else Budget(agent.max_steps)
        self.approve: Approve | None = parent.approve if parent else agent.approve
        self.clock: Clock = parent.clock if parent else Clock()
        self.cancelled = threading.Event()
        """Set when the turn is over, for tools in threads that go on."""
        self.usage = Usage()
        self.context_tokens = 0
        """Of the last prompt and the answer to it."""
        self.steps = 0
        self.hits: list[Hit] = []
        """The passages that tools gave numbers to, in this turn and before; number 1 comes first."""
        self.cited = 0
        """Of these, how many are journaled."""
        self.labels: Counter[str] = Counter()
        """How many media each tool has given."""
        self.tools: dict[str, AnyTool] = {}
        """Those that the model is told of."""
        self.calls = Calls(self)
        self._take_over(agent)

    async def run(self, content: Sequence[Content] | Message, *, resume: bool = False) -> TurnFinished | TurnPaused:
        """From the question to the answer, or to a pause. An error that ends it is told by `TurnFailed`, then raised.

        Args:
            content: The question; a message is one that has been admitted.
            resume: Go on with the turn that has no end yet, instead of asking something.
        """
        started = time.monotonic()
        question = None if resume else await self._admitted(content)
        if resume:
            self._check_unfinished(self.session.refresh())
        async with self.session.turn() as state:
            if resume:
                self._check_unfinished(state)
            if state.agent:
                self._take_over(self.first.team.get(state.agent, self.first))
            with telemetry.turn_span(self.agent.name, self.model.name, self._kept_as()) as span:
                try:
                    answer = await self._play_in_time(question)
                    if isinstance(answer, tuple):
                        end: TurnFinished | TurnPaused = TurnPaused(pending=answer, usage=self.usage, steps=self.steps)
                    else:
                        end = self._finished(answer, time.monotonic() - started)
                        await self.session.record(_ended(end), flush=True)
                except BaseException as error:
                    await self._break_off(error)
                    raise
                finally:
                    self.cancelled.set()
                span.finished(self.usage, self.steps)
        self.emit(end)
        return end

    async def _admitted(self, content: Sequence[Content] | Message) -> Message:
        """The question, with what is said in recordings that whoever answers cannot hear."""
        question = await admitted(content, self.blobs)
        if not question.media:
            return question
        agent = self.first.team.get(self.session.refresh().agent or "", self.first)
        return await written_down(question, agent.model, self.blobs, self.first.transcriber)

    async def _play_in_time(self, question: Message | None) -> str | tuple[ApprovalRequested, ...]:
        if self.parent:  # whose clock it is
            return await self._play(question)
        seconds = self.first.turn_timeout
        try:
            async with asyncio.timeout(seconds) as clock:
                self.clock.timeout = clock
                return await self._play(question)
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise limit(f"within {seconds:g} s", "turn_timeout") from error

    async def _play(self, question: Message | None) -> str | tuple[ApprovalRequested, ...]:
        """The answer, or the approvals that it waits for."""
        message = None
        self.hits = hits_of(self.state.cited)
        self.cited = len(self.hits)
        if question is not None:
            lost = [draft(self.state.lost(one)) for one in self.state.open.values() if one.outcome is None]
            await self.session.record(*lost, draft(question), flush=True)  # from here on it cannot be lost
        self._announce(question)
        if question is None:
            self._choose_tools()
            if self.state.open:
                if pending := await self.calls.run(()):
                    return pending
                self._hand_over()
            elif self.state.messages[-1].role == "assistant" and not self.state.partial:
                message = self.state.messages[-1]  # its process died right after it was written
        return await self._answer(message)

    async def _answer(self, message: Message | None) -> str | tuple[ApprovalRequested, ...]:
        corrected = False
        while True:
            if message is None:
                message = await self._ask()
            if message.tool_calls:
                if pending := await self.calls.run(message.tool_calls, draft(self.calls.without_secrets(message))):
                    return pending
                self._hand_over()
                message = None
                continue
            problem = self.output and self.output.problem(message.text, self.context.history)
            if not problem:
                return message.text
            if corrected:
                raise TurnError(f"the answer was wrong twice: {problem}; ask for a simpler type or use a larger model")
            corrected, message = True, None
            await self.session.record(draft(correction(problem)))

    async def _ask(self) -> Message:
        """One message of the model. It is journaled, unless it has calls, which are journaled with it."""
        if self.budget.steps == self.budget.limit:
            raise limit(f"after {self.budget.limit} steps", "max_steps")
        self.budget.steps += 1
        self.steps += 1
        step = self.steps
        self.emit(StepStarted(step=step))
        words: list[str] = []
        thoughts: list[str] = []
        calls: list[ToolCallBlock] = []
        stop = "end"
        try:
            request = await self._request()
            with telemetry.chat_span(self.model, request) as span:
                async with aclosing(self._stream(request)) as stream:
                    async for event in stream:
                        if isinstance(event, ModelText):
                            span.chunk()
                            words.append(event.text)
                            self.emit(TextDelta(step=step, text=event.text))
                        elif isinstance(event, ModelReasoning):
                            span.chunk()
                            thoughts.append(event.text)
                            self.emit(ReasoningDelta(step=step, text=event.text))
                        elif isinstance(event, ModelToolCall):
                            span.chunk()
                            calls.append(call := self._unique(event.call, calls))
                            self.emit(
                                ToolCalled(
                                    step=step, id=call["id"], name=call["name"], args=self.calls.kept(call)["args"]
                                )
                            )
                        elif isinstance(event, ModelDone):
                            stop, self.usage = event.stop, self.usage + event.usage
                            self.context_tokens = event.usage.prompt_tokens + event.usage.completion_tokens
                            self.context.used(event.usage)
                            span.finished(event.usage, event.stop, "".join(words), map(self.calls.kept, calls))
            if not calls and stop == "length":
                raise limit(f"of {self.agent.sampling.max_tokens} tokens", "max_tokens")
            if not calls and not "".join(words).strip():
                raise ModelError(f"the model {self.model.name} gave an empty answer; ask again or use another model")
        except BaseException as error:
            if "".join(words).strip():
                await self.session.record(draft(_said("".join(words)), interrupted=True))
            if isinstance(error, MMAgentError) or not isinstance(error, Exception):
                raise
            raise ModelError(
                f"the model {self.model.name} failed: {redact(one_line(error))}; ask again or use another model"
            ) from error
        message = _said("".join(words), calls, "".join(thoughts).strip())
        if not calls:
            await self.session.record(draft(message))
        return message

    async def _stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The model's answer, asked with less of the past where the conversation has outgrown its context."""
        while True:
            stream = self.model.stream(request)
            try:
                async for event in stream:
                    yield event
                return
            except ContextOverflow as error:  # comes before any token
                await self.context.overflowed(error)
                request = await self._request()
            finally:  # also where nobody wants more: closing it cancels the work behind it
                if close := getattr(stream, "aclose", None):
                    await close()

    async def _request(self) -> ModelRequest:
        require = plan_call(self.state, self.model.capabilities) if self.agent.planning else False
        output = self.output.schema if self.output else None
        request = await self.context.request(self._choose_tools, output=output, require_call=require)
        if self.context.spent.prompt_tokens:
            self.usage, self.context.spent = self.usage + self.context.spent, Usage()
        return request

    @property
    def state(self) -> State:
        """What the session has come to."""
        return self.session.state

    def own_words(self) -> Sequence[str]:
        """What people said themselves. The question of an agent that asks is not among it: a model wrote it."""
        if self.parent:
            return self.parent.own_words()
        return (self.first.instructions, *self.state.own_words)

    def _choose_tools(self) -> tuple[ToolSpec, ...]:
        self.tools, specs = self.agent.tools_for(self.state, recall=self.context.wants_recall)
        return specs

    def _take_over(self, agent: Agent) -> None:
        self.agent, self.model = agent, agent.model
        inherited_deps = self.parent.deps if self.parent else self.first.deps
        self.deps: Any = inherited_deps if agent.deps is None else agent.deps
        inherited = self.parent.policies if self.parent else ()
        self.policies: tuple[Policy, ...] = (*inherited, *dict.fromkeys((self.first.policy, agent.policy)))
        self.context = Context(
            session=self.session,
            model=agent.model,
            blobs=self.blobs,
            system=agent.system,
            sampling=agent.sampling,
            emit=self.emit,
            readable="read_text" in agent.tools,
            compaction=agent.compaction,
        )

    def _hand_over(self) -> None:
        """Let another agent go on, where one was called for."""
        name = self.state.agent
        if name and (agent := self.first.team.get(name, self.agent)) is not self.agent:
            self._take_over(agent)

    def _finished(self, answer: str, seconds: float) -> TurnFinished:
        value = self.output.as_json(self.output.read(answer)) if self.output else None
        return TurnFinished(
            text=answer,
            output=value,
            citations=cite(answer if self.output is None else value, self.hits),
            usage=self.usage,
            context_tokens=self.context_tokens,
            steps=self.steps,
            seconds=seconds,
        )

    async def _break_off(self, error: BaseException) -> None:
        """Write down how the turn ended, an outcome for every call, and tell it."""
        failed = isinstance(error, Exception)
        lost = [draft(self.state.lost(one)) for one in self.state.open.values() if one.outcome is None]
        ended = Draft(ENDED, {"how": "failed", "error": redact(str(error))} if failed else {"how": "cancelled"})
        try:
            await self.session.record(*lost, ended, flush=True)
        except StoreError as second:
            if not isinstance(error, StoreError):
                error.add_note(f"the session could not be written either: {second}")
        if isinstance(error, MMAgentError):
            self.emit(TurnFailed(error=type(error).__name__, message=str(error)))

    def _check_unfinished(self, state: State) -> None:
        if not state.unfinished:
            raise InputError(f"there is nothing to go on with in the session {self.session.name}; ask a question")
        tools = self.first.team.get(state.agent or "", self.first).tools
        for call, one in state.open.items():
            begun = one.intent is not None and one.intent.get("effect") != "unsafe"
            if (
                (begun or call in state.pending or call in state.decided)
                and one.outcome is None
                and one.call["name"] not in tools
            ):
                raise ConfigurationError(
                    f"the turn waits for a call of {one.call['name']}, which this agent lacks; give it that tool"
                )

    def _unique(self, call: ToolCallBlock, others: Sequence[ToolCallBlock]) -> ToolCallBlock:
        """The call, under an id that no other call of the conversation has, nor of an agent that it asks."""
        taken = call["id"] in self.state.call_ids or any(call["id"] == one["id"] for one in others)
        if taken or self.parent or not _ID.fullmatch(call["id"]):
            return {**call, "id": f"call_{uuid.uuid4().hex[:12]}"}
        return call

    def _kept_as(self) -> str | None:
        return self.session.name if self.session.saved else None

    def _announce(self, question: Message | None) -> None:
        self.emit(TurnStarted(session=self._kept_as(), model=self.model.name))
        for block in question.media if question else ():
            extras = block.get("extras", {})
            self.emit(
                MediaAdmitted(
                    file_id=block["file_id"],
                    mime_type=block.get("mime_type", ""),
                    name=extras.get("name", ""),
                    width=extras.get("width"),
                    height=extras.get("height"),
                )
            )


def _ended(end: TurnFinished) -> Draft:
    citations = [one.model_dump(mode="json") for one in end.citations]
    return Draft(ENDED, {"how": "finished", "usage": end.usage.model_dump(), "citations": citations})


def _said(words: str, calls: Sequence[ToolCallBlock] = (), thoughts: str = "") -> Message:
    thought: tuple[Block, ...] = ({"type": "reasoning", "reasoning": thoughts},) if thoughts else ()
    return Message(role="assistant", content=(*thought, *([text(words)] if words else ()), *calls))
