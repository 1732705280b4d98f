"""The calls of one step: checked, judged, journaled, run side by side, and journaled again. It knows the turn it is in,
tools, policies and the session; it knows no model.

Before a tool runs its intent is in the journal; after it, its outcome. So whatever happens between, the next process
knows: what reads is run again, what is idempotent is repeated with its key, what is unsafe is told to be unknown.
"""

from __future__ import annotations

import asyncio
import inspect
import operator
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmagent import telemetry
from mmagent.agent.hearing import at_hand
from mmagent.agent.plan import UPDATE_PLAN, plan_of
from mmagent.agent.policy import Case, Verdict, digest, jsonable, strictest
from mmagent.agent.team import AgentTool, HandoffTool, question_of
from mmagent.agent.tools import AnyTool, Progress, ToolContext
from mmagent.agent.tools.calls import Outcome, check, failure, perform, shorten
from mmagent.agent.tools.groups import OPEN_TOOLS
from mmagent.content import Label, Message, ToolCallBlock, text
from mmagent.errors import MMAgentError, ToolError
from mmagent.events import (
    ApprovalDecided,
    ApprovalRequested,
    Event,
    HandedOff,
    PlanUpdated,
    SubagentEvent,
    ToolFinished,
    ToolProgress,
    TurnPaused,
)
from mmagent.redact import lost_secrets, without_secrets
from mmagent.session.journal import Draft
from mmagent.session.replay import ASKED, CITED, DECIDED, HANDOFF, INTENT, OPENED, PLAN, OpenCall, draft
from mmagent.settings import settings

if TYPE_CHECKING:
    from mmagent.agent.loop import Turn

Pending = tuple[ApprovalRequested, ...]


@dataclass
class Job:
    """A call on its way."""

    call: ToolCallBlock
    tool: AnyTool | None = None
    arguments: dict[str, Any] | None = None
    digest: str = ""
    """What an approval of it is bound to."""
    asks: str = ""
    """Why somebody must allow it first; empty where nobody has to."""
    intended: bool = False
    """Whether its intent is in the journal."""
    outcome: Outcome | None = None
    """What became of it, where it is not to run."""
    labels: tuple[Label, ...] = ()
    """Of what it brought."""

    @property
    def unsafe(self) -> bool:
        """Whether it must not happen twice."""
        return self.tool is not None and self.tool.effect == "unsafe"


class Calls:
    """Runs the calls that a turn's model makes."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn

    async def run(self, calls: Sequence[ToolCallBlock], *before: Draft) -> Pending:
        """Run calls side by side, or those that an earlier process left open where none are given.

        Args:
            calls: New ones.
            before: What is journaled with their intents: the message that made them.

        Returns:
            The approvals that are waited for; while there are any, these calls have no outcome.
        """
        turn = self.turn
        opened = [OpenCall(call) for call in calls] or [one for one in turn.state.open.values() if not one.outcome]
        jobs = [self._prepare(one) for one in opened]
        drafts = list(before)
        for job in jobs:
            if job.asks and not turn.approve:
                if turn.state.digests.get(job.call["id"]) != job.digest or job.call["id"] not in turn.state.pending:
                    drafts.append(self._asked(job))
            elif not job.asks and not job.outcome and not job.intended:
                drafts.append(self._intent(job))
        runnable = [job for job in jobs if turn.approve or not job.asks]
        await turn.session.record(*drafts, flush=any(job.unsafe or job.asks for job in jobs))
        for job in jobs:
            if job.asks:
                turn.emit(self._request_of(job))
        if len(runnable) == 1:
            inner = [await self._run(runnable[0])]
        else:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._run(job)) for job in runnable]
            except ExceptionGroup as errors:  # tools do not get here: the journal does
                raise errors.exceptions[0] from errors
            inner = [task.result() for task in tasks]
        waiting = [self._request_of(job) for job in jobs if job not in runnable]
        return (*waiting, *(one for pending in inner for one in pending))

    def _prepare(self, opened: OpenCall) -> Job:
        """Check a call and ask the policies."""
        turn, call, intent = self.turn, opened.call, opened.intent
        job = Job(call)
        ours = intent is not None and intent.get("key") == self._key(call)  # else it was meant in another session
        effect = intent.get("effect", "unsafe") if intent is not None else "read"
        if effect == "unsafe" or (effect != "read" and not ours):
            job.outcome = self._lost(opened)
            return job
        tools = {**turn.agent.tools, **turn.tools} if call["id"] in turn.state.open else turn.tools
        try:
            job.tool, job.arguments = check(call, tools, turn.context.history or turn.state.messages)
        except ToolError as error:
            job.outcome = failure(str(error))
            return job
        if job.tool.has_secrets and lost_secrets(call["args"], job.tool.parameters):
            job.outcome = failure(f"{call['name']} did not run: secrets are not kept, so its are gone; give them again")
        elif ours:  # a process that is gone was allowed to run it
            job.intended = True
            job.outcome = self._lost(opened) if job.unsafe else None
        else:
            self._permit(job, job.tool, job.arguments)
        return job

    def _permit(self, job: Job, tool: AnyTool, arguments: dict[str, Any]) -> None:
        """See to it that the job runs only if the policies, or people where they are asked, allow it."""
        state, call = self.turn.state, job.call
        verdict = self._judge(tool, arguments)
        telemetry.policy_event(call["name"], call["id"], verdict.action, verdict.why)
        decided, pending = state.decided.get(call["id"]), state.pending.get(call["id"])
        if verdict.action == "ask" or decided or pending:
            job.digest = digest(str(self.turn.session.id), call["id"], call["name"], call["args"])
        if decided and decided["digest"] != job.digest:
            decided = None
        if verdict.action == "deny":
            job.outcome = self._denied(job, verdict.why)
        elif decided and not decided["allowed"]:
            job.outcome = self._denied(job, str(decided.get("reason", "")))
        elif not decided and (verdict.action == "ask" or pending):
            job.asks = verdict.why if verdict.action == "ask" or not pending else pending.why

    def _lost(self, opened: OpenCall) -> Outcome:
        return failure(self.turn.state.lost(opened).text.removeprefix("error: "))

    def kept(self, call: ToolCallBlock) -> ToolCallBlock:
        """The call as it is journaled and told: without arguments that are secrets."""
        tool = self.turn.tools.get(call["name"]) or self.turn.agent.tools.get(call["name"])
        if tool is None or not tool.has_secrets:
            return call
        return {**call, "args": without_secrets(call["args"], tool.parameters)}

    def without_secrets(self, message: Message) -> Message:
        """The message, its calls as they are kept."""
        blocks = tuple([self.kept(block) if block["type"] == "tool_call" else block for block in message.content])
        same = all(map(operator.is_, blocks, message.content))
        return message if same else message.model_copy(update={"content": blocks})

    def _judge(self, tool: AnyTool, args: dict[str, Any]) -> Verdict:
        turn = self.turn
        case = Case(tool=tool, args=args, labels=turn.state.labels, own_words=turn.own_words())
        first, *others = (policy.judge(case) for policy in turn.policies)
        return strictest((first, *others)) if others else first

    async def _run(self, job: Job) -> Pending:
        """Take a call to its outcome; where an agent that it asks waits for approvals, there are these instead."""
        turn, call = self.turn, job.call
        if job.asks:
            await self._decide(job)
        started = time.monotonic()
        outcome: Outcome | None = job.outcome
        pending: Pending = ()
        if outcome is None:
            assert job.tool is not None
            with telemetry.tool_span(call["name"], call["id"], job.tool.effect, self.kept(call)["args"]) as span:
                job.labels = _labels_of(job.tool)
                outcome, pending = await self._perform(job)
                if outcome is not None:
                    span.finished(outcome.error, outcome.content)
        if outcome is None:
            return pending
        outcome = shorten(outcome, settings().max_tool_output_chars)
        drafts, event = self._consequence(job, outcome)
        if new := turn.hits[turn.cited :]:
            drafts.append(Draft(CITED, {"hits": [asdict(hit) for hit in new], "first": turn.cited + 1}))
            turn.cited += len(new)
        message = Message(
            role="tool", content=outcome.content, tool_call_id=call["id"], name=call["name"], labels=job.labels
        )
        await turn.session.record(draft(message, artifacts=outcome.artifacts), *drafts)
        if event:
            turn.emit(event)
        turn.emit(
            ToolFinished(
                step=turn.steps,
                id=call["id"],
                name=call["name"],
                content=outcome.content,
                data=outcome.data,
                artifacts=outcome.artifacts,
                error=outcome.error,
                crashed=outcome.crashed,
                seconds=time.monotonic() - started,
            )
        )
        return ()

    async def _decide(self, job: Job) -> None:
        """Ask whoever approves; then the intent is in the journal, or the job has its outcome."""
        turn, request = self.turn, self._request_of(job)
        assert turn.approve is not None
        with turn.clock.standing():
            answer = turn.approve(request)
            if inspect.isawaitable(answer):
                try:
                    answer = await answer
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) and task.cancelling():
                        raise
                    answer = "nobody answered"
        allowed, reason = answer is True, answer if isinstance(answer, str) else ""
        decided = Draft(DECIDED, {"id": request.id, "digest": job.digest, "allowed": allowed, "reason": reason})
        if allowed:
            await turn.session.record(self._asked(job), decided, self._intent(job), flush=True)
        else:
            await turn.session.record(self._asked(job), decided)
            job.outcome = self._denied(job, reason)
        turn.emit(ApprovalDecided(id=request.id, allowed=allowed, reason=reason))

    async def _perform(self, job: Job) -> tuple[Outcome | None, Pending]:
        turn, tool, call = self.turn, job.tool, job.call
        assert tool is not None and job.arguments is not None
        if isinstance(tool, AgentTool):
            return await self._ask_agent(tool, job)
        if isinstance(tool, HandoffTool):
            return Outcome((text(f"{tool.agent.name} goes on"),)), ()
        context = ToolContext(
            pictures=tuple(turn.state.media),
            recordings=tuple(turn.state.recordings),
            transcriber=at_hand(turn.first.transcriber) if turn.state.recordings else None,
            blobs=turn.blobs,
            knowledge=turn.agent.knowledge,
            hits=turn.hits,
            deps=turn.deps,
            call_id=call["id"],
            idempotency_key=self._key(call),
            session=turn.session.name if turn.session.saved else None,
            cancelled=turn.cancelled,
            on_progress=lambda progress: self._progress(call, progress),
            labels=turn.labels,
            sees_pictures=turn.model.capabilities.images,
        )
        timeout = tool.timeout or settings().tool_timeout
        return await perform(tool, job.arguments, context, turn.blobs, timeout), ()

    async def _ask_agent(self, tool: AgentTool, job: Job) -> tuple[Outcome | None, Pending]:
        """The answer of another agent, from a session of its own, which goes on where an earlier process left it."""
        from mmagent.agent.loop import Turn

        turn, call = self.turn, job.call
        session = turn.session.child(call["id"])
        state = session.refresh()

        def emit(event: Event) -> None:
            turn.emit(SubagentEvent(id=call["id"], agent=tool.agent.name, event=event))

        try:
            question = question_of(call, turn.state)
        except ToolError as error:
            return failure(str(error)), ()
        child = Turn(tool.agent, session, turn.blobs, emit, parent=turn)
        try:
            if state.ended == "finished":  # it had answered, and nobody wrote that down
                return Outcome((text(state.messages[-1].text),)), ()
            if state.questions and not state.unfinished:
                return failure(f"{tool.agent.name} gave no answer"), ()
            end = await child.run(question, resume=state.unfinished)
        except MMAgentError as error:
            return failure(f"{tool.agent.name} gave no answer: {error}"), ()
        finally:
            turn.usage += child.usage
            job.labels = tuple(sorted({*job.labels, *session.state.labels}))
        if isinstance(end, TurnPaused):
            return None, end.pending
        return Outcome((text(end.text),)), ()

    def _consequence(self, job: Job, outcome: Outcome) -> tuple[list[Draft], Event | None]:
        """What a call changes in the session itself."""
        if outcome.error is not None or job.tool is None:
            return [], None
        args = job.call["args"]
        if isinstance(job.tool, HandoffTool):
            agent, reason = job.tool.agent.name, str(args["reason"])
            return [Draft(HANDOFF, {"agent": agent, "reason": reason})], HandedOff(agent=agent, reason=reason)
        if job.tool.name == UPDATE_PLAN and self.turn.agent.planning:
            steps = plan_of(args)
            return [Draft(PLAN, {"steps": [step.model_dump() for step in steps]})], PlanUpdated(steps=steps)
        if job.tool.name == OPEN_TOOLS:
            return [Draft(OPENED, {"groups": list(self.turn.agent.toolbox.groups_opened(args))})], None
        return [], None

    def _denied(self, job: Job, why: str) -> Outcome:
        return failure(f"{job.call['name']} was denied" + (f": {why}" if why else ""))

    def _progress(self, call: ToolCallBlock, progress: Progress) -> None:
        self.turn.emit(
            ToolProgress(id=call["id"], name=call["name"], message=progress.message, fraction=progress.fraction)
        )

    def _request_of(self, job: Job) -> ApprovalRequested:
        assert job.tool is not None
        args = jsonable(job.arguments or {})
        if job.tool.has_secrets:
            args = without_secrets(args, job.tool.parameters)
        return ApprovalRequested(id=job.call["id"], name=job.call["name"], args=args, why=job.asks)

    def _asked(self, job: Job) -> Draft:
        request = self._request_of(job)
        data = {"id": request.id, "name": request.name, "args": request.args, "why": request.why}
        return Draft(ASKED, data | {"digest": job.digest})

    def _intent(self, job: Job) -> Draft:
        assert job.tool is not None
        call = job.call
        data = {"id": call["id"], "name": call["name"], "effect": job.tool.effect, "key": self._key(call)}
        return Draft(INTENT, data | {"digest": job.digest})

    def _key(self, call: ToolCallBlock) -> str:
        """The same for the same call, whichever process runs it, and for no other."""
        return f"{self.turn.session.id}-{call['id']}"


def _labels_of(tool: AnyTool) -> tuple[Label, ...]:
    private: tuple[Label, ...] = ("private",) if tool.private else ()
    return (*private, "untrusted") if tool.untrusted else private
