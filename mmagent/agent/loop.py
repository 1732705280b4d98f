"""The loop: asks a model, runs the tools that it calls, and asks again until there is an answer.

It knows models, tools and sessions by their contracts only, and says what happens by events only.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mmagent.agent.calls import check, failure, perform, shorten
from mmagent.agent.citations import cite
from mmagent.agent.output import Output
from mmagent.agent.prompt import (
    alternating,
    picture_note,
    pictures,
    tool_specs,
    turns,
    without_oldest_turns,
    without_pictures,
)
from mmagent.agent.question import Content, admit
from mmagent.agent.tools import ToolContext, one_line
from mmagent.chat.protocol import ModelDone, ModelEvent, ModelReasoning, ModelRequest, ModelText, ModelToolCall
from mmagent.content import Block, Message, ToolCallBlock, correction, text
from mmagent.errors import ContextOverflow, MMAgentError, ModelError, ToolError, TurnError
from mmagent.events import (
    Event,
    HistoryCut,
    MediaAdmitted,
    MediaSubstituted,
    ReasoningDelta,
    StepStarted,
    TextDelta,
    ToolCalled,
    ToolFinished,
    TurnFailed,
    TurnFinished,
    TurnStarted,
    Usage,
)
from mmagent.settings import Settings, settings

if TYPE_CHECKING:
    from mmagent.agent.agent import Agent
    from mmagent.knowledge import Hit


class Turn:
    """One question, until it is answered.

    Args:
        agent: Who is asked.
        emit: Is told what happens, as it happens.
        output: What the answer must be; None: any text.
    """

    def __init__(self, agent: Agent, emit: Callable[[Event], None], output: Output | None) -> None:
        self.agent, self.session, self.model = agent, agent.session, agent.model
        self.emit, self.output = emit, output
        self.usage = Usage()
        self.hits: list[Hit] = []
        """The passages that tools cited."""
        self.history: tuple[Message, ...] = ()
        """The conversation that the model was asked with last."""
        self.pictures_told = 0
        """Of its pictures, those whose substitution needs no more telling."""

    async def run(self, content: Sequence[Content]) -> None:
        """From the question to the answer. An error that ends it is told by `TurnFailed`, then raised."""
        started = time.monotonic()
        question = await asyncio.to_thread(admit, content, self.agent.blobs)
        async with self.session.turn():
            self.pictures_told = len(pictures(self.session.messages))
            self.session.append(question)  # from here on it cannot be lost
            self._announce(question)
            try:
                answer, steps = await self._answer_in_time()
            except MMAgentError as error:
                self.emit(TurnFailed(error=type(error).__name__, message=str(error)))
                raise
            value = self.output.as_json(self.output.read(answer)) if self.output else None
            self.emit(
                TurnFinished(
                    text=answer,
                    output=value,
                    citations=cite(answer if self.output is None else value, self.hits),
                    usage=self.usage,
                    steps=steps,
                    seconds=time.monotonic() - started,
                )
            )

    async def _answer_in_time(self) -> tuple[str, int]:
        seconds = self.agent.turn_timeout
        try:
            async with asyncio.timeout(seconds):
                return await self._answer()
        except TimeoutError as error:
            raise _limit(f"within {seconds:g} s", "turn_timeout") from error

    async def _answer(self) -> tuple[str, int]:
        """The model's answer, and how many steps it took."""
        corrected = False
        for step in range(1, self.agent.max_steps + 1):
            message = await self._ask(step)
            if message.tool_calls:
                await self._call_tools(step, message.tool_calls)
                continue
            problem = self.output and self.output.problem(message.text, self.history)
            if not problem:
                return message.text, step
            if corrected:
                raise TurnError(f"the answer was wrong twice: {problem}; ask for a simpler type or use a larger model")
            corrected = True
            self.session.append(Message(role="user", content=(text(correction(problem)),)))
        raise _limit(f"after {self.agent.max_steps} steps", "max_steps")

    async def _ask(self, step: int) -> Message:
        """One message of the model, journaled; where it breaks off, so is the part that there was."""
        self.emit(StepStarted(step=step))
        taken = {call["id"] for message in self.session.messages for call in message.tool_calls}
        words: list[str] = []
        thoughts: list[str] = []
        calls: list[ToolCallBlock] = []
        stop = "end"
        try:
            async with _closing(self._stream()) as stream:
                async for event in stream:
                    if isinstance(event, ModelText):
                        words.append(event.text)
                        self.emit(TextDelta(step=step, text=event.text))
                    elif isinstance(event, ModelReasoning):
                        thoughts.append(event.text)
                        self.emit(ReasoningDelta(step=step, text=event.text))
                    elif isinstance(event, ModelToolCall):
                        calls.append(call := _unique(event.call, taken))
                        self.emit(ToolCalled(step=step, id=call["id"], name=call["name"], args=call["args"]))
                    elif isinstance(event, ModelDone):
                        stop, self.usage = event.stop, self.usage + event.usage
            if not calls and stop == "length":
                raise _limit(f"of {self.agent.sampling.max_tokens} tokens", "max_tokens")
            if not calls and not "".join(words).strip():
                raise ModelError(f"the model {self.model.name} gave an empty answer; ask again or use another model")
            message = _said("".join(words), calls, "".join(thoughts).strip())
        except BaseException as error:
            if "".join(words).strip():
                self.session.append(_said("".join(words)), interrupted=True)
            if isinstance(error, MMAgentError) or not isinstance(error, Exception):
                raise
            raise ModelError(
                f"the model {self.model.name} failed: {one_line(error)}; ask again or use another model"
            ) from error
        self.session.append(message)
        return message

    async def _stream(self) -> AsyncIterator[ModelEvent]:
        """The model's answer to the conversation, its oldest turns left out where it has outgrown the context."""
        while True:
            request = self._request()
            try:
                async with _closing(self.model.stream(request)) as stream:
                    async for event in stream:
                        yield event
                return
            except ContextOverflow:  # comes before any token
                if self.agent.turns_left_out + 1 >= turns(self.history):
                    raise
                self.agent.turns_left_out += 1
                self.emit(HistoryCut(turns=self.agent.turns_left_out))

    def _request(self) -> ModelRequest:
        """The conversation, as this model can take it."""
        self.history = self.session.messages
        messages = alternating(without_oldest_turns(self.history, self.agent.turns_left_out))
        if not self.model.capabilities.images:
            readable = "read_text" in self.agent.tools
            for number, picture in enumerate(pictures(messages), start=1):
                if number > self.pictures_told:
                    self.pictures_told = number
                    note = picture_note(number, picture, readable=readable)
                    self.emit(MediaSubstituted(file_id=picture["file_id"], instead=note))
            messages = without_pictures(messages, readable=readable)
        return ModelRequest(
            messages=(self.agent.system, *messages),
            blobs=self.agent.blobs,
            tools=tool_specs(self.agent.tools),
            output=self.output.schema if self.output else None,
            sampling=self.agent.sampling,
        )

    async def _call_tools(self, step: int, calls: Sequence[ToolCallBlock]) -> None:
        """Run a step's calls side by side; the session puts their outcomes in the order of the calls."""
        context = ToolContext(pictures(self.history), self.agent.blobs, self.agent.knowledge, self.hits)
        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._call_tool(step, call, context))
        except ExceptionGroup as errors:  # tools do not get here: the journal does
            raise errors.exceptions[0] from errors

    async def _call_tool(self, step: int, call: ToolCallBlock, context: ToolContext) -> None:
        started = time.monotonic()
        limits = settings()
        try:
            tool, arguments = check(call, self.agent.tools, self.history)
        except ToolError as error:
            outcome = failure(str(error))
        else:
            self.session.intend(call, tool.effect)
            outcome = await perform(tool, arguments, context, self.agent.blobs, tool.timeout or limits.tool_timeout)
        outcome = shorten(outcome, limits.max_tool_output_chars)
        self.session.append(Message(role="tool", content=outcome.content, tool_call_id=call["id"], name=call["name"]))
        self.emit(
            ToolFinished(
                step=step,
                id=call["id"],
                name=call["name"],
                content=outcome.content,
                data=outcome.data,
                error=outcome.error,
                crashed=outcome.crashed,
                seconds=time.monotonic() - started,
            )
        )

    def _announce(self, question: Message) -> None:
        session = self.session.name if self.session.saved else None
        self.emit(TurnStarted(session=session, model=self.model.name))
        for block in question.media:
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


def _said(words: str, calls: Sequence[ToolCallBlock] = (), thoughts: str = "") -> Message:
    thought: tuple[Block, ...] = ({"type": "reasoning", "reasoning": thoughts},) if thoughts else ()
    return Message(role="assistant", content=(*thought, *([text(words)] if words else ()), *calls))


def _unique(call: ToolCallBlock, taken: set[str]) -> ToolCallBlock:
    """The call, under an id that no other call of the conversation has."""
    if not call["id"] or call["id"] in taken:
        call = {**call, "id": f"call_{uuid.uuid4().hex[:12]}"}
    taken.add(call["id"])
    return call


def _limit(reached: str, setting: str) -> TurnError:
    variable = Settings.variable(setting)
    return TurnError(f"there was no answer {reached}; ask for less at once or raise {setting} ({variable})")


@asynccontextmanager
async def _closing(stream: AsyncIterator[ModelEvent]) -> AsyncIterator[AsyncIterator[ModelEvent]]:
    """Close the model's iterator, and so cancel its work, whatever happens."""
    try:
        yield stream
    finally:
        if close := getattr(stream, "aclose", None):
            await close()
