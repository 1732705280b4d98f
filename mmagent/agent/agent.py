"""The agent as its users see it: what it is made of, and three ways to ask it. The loop itself is in `loop`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from mmagent.agent.context.compaction import Compaction
from mmagent.agent.context.prompt import system_message, tool_specs
from mmagent.agent.hearing import at_hand, wants_words
from mmagent.agent.loop import Turn
from mmagent.agent.output import Output
from mmagent.agent.plan import planning_tool
from mmagent.agent.policy import Policy
from mmagent.agent.question import Content
from mmagent.agent.team import AgentTool, agent_tool, handoff_tools, team_of
from mmagent.agent.tools import AnyTool
from mmagent.agent.tools.toolbox import Toolbox, ToolLike, check_deps, with_media_tools
from mmagent.chat.protocol import ChatModel, Sampling, ToolSpec
from mmagent.content import Message
from mmagent.errors import ConfigurationError, InputError
from mmagent.events import ApprovalRequested, Citation, Event, ToolFinished, TurnFinished, TurnPaused, Usage
from mmagent.media import BlobStore
from mmagent.session import Session, State
from mmagent.session.journal import Draft
from mmagent.session.replay import DECIDED, PICTURE
from mmagent.settings import settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from mmagent.agent.tools.context import Hears, Searchable
    from mmagent.knowledge import Hit
    from mmagent.knowledge.cite import Unsupported

Approve: TypeAlias = Callable[[ApprovalRequested], bool | str | Awaitable[bool | str]]
"""Says whether a call may run: True, False, or in words why not."""


@dataclass(frozen=True)
class Result:
    """What a turn came to."""

    text: str
    """The answer; empty where the turn waits for approvals."""
    output: Any
    """The instance of the type that was asked for, or None."""
    citations: tuple[Citation, ...]
    """The passages that the answer points at."""
    pending: tuple[ApprovalRequested, ...]
    """What the turn waits for: decide each with `Agent.decide`, then ask with ``resume=True``."""
    usage: Usage
    """Tokens of all steps."""
    steps: int
    """How often the model was asked."""
    events: tuple[Event, ...]
    """Everything that happened, in order."""
    session: Session
    """The conversation; its `messages` are all there are."""
    hits: tuple[Hit, ...] = ()
    """The passages that tools gave numbers to, in this turn and before; number 1 comes first."""

    @property
    def unsupported(self) -> list[Unsupported]:
        """The sentences of the answer that nothing supports: no passage that was found, and no result of another tool.

        Empty where no documents were searched. See `mmagent.knowledge.unsupported` for what it can and cannot find out.
        """
        finished = [event for event in self.events if isinstance(event, ToolFinished) and event.error is None]
        others = [event for event in finished if event.name != "search_knowledge"]
        if not self.hits and len(others) == len(finished):
            return []
        from mmagent.knowledge import unsupported

        told = ("".join(block["text"] for block in event.content if block["type"] == "text") for event in others)
        return unsupported(self.text, self.hits, also=told)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, read from the session."""
        return self.session.messages


class Agent:
    """A model with tools, knowledge and a conversation.

    Args:
        model: A `ChatModel`, a LangChain chat model, or the name of one; ``"auto"`` is the configured one, else the
            best on this machine that fits, else the one that ships.
        tools: Tools, functions to make tools of, groups of them, files of tools, names of built-in ones, MCP servers,
            LangChain tools; added to the built-in ones.
        name: What other agents and traces know it by.
        description: What other agents are told about it.
        instructions: What the model is told about its task.
        knowledge: What it can look things up in: a `Knowledge`, a scoped one, or the path of a folder of documents.
        session: The conversation; a name is one that is kept between processes, None one that is not.
        builtins: Whether it has the built-in tools that apply.
        prompts_dir: The user's own prompt templates; None: ``prompts`` in the user's configuration folder.
        max_steps: Model calls in one turn, those of the agents that it asks included; None: the setting.
        turn_timeout: Seconds of one turn; None: the setting.
        sampling: How tokens are chosen; None: greedily, up to the setting ``max_tokens``.
        blobs: Where media are kept; None: the user's store.
        deps: What tools find in `ToolContext.deps`.
        policy: Which calls may run, which are asked about first, and which are denied.
        approve: Asked about those; without it the turn pauses instead.
        planning: Whether it writes a plan and keeps it up to date.
        handoffs: The agents that it may give the conversation to.
        compaction: When and how a conversation that outgrows the model's context is shortened.
        transcriber: What writes down recordings for a model that cannot hear; None: the speech model of the settings,
            else nano.
        max_tool_specs: How many tools the model is told of at once, chosen for each question; None: all.

    Raises:
        ConfigurationError: A tool, prompt or limit cannot be used.
        InputError: A file, folder, model or session of that name cannot be had.
        ModelError: The model cannot be loaded.
        StoreError: A session or knowledge store cannot be opened.
    """

    def __init__(
        self,
        model: str | ChatModel | BaseChatModel = "auto",
        tools: Iterable[ToolLike] | None = None,
        *,
        name: str = "agent",
        description: str = "",
        instructions: str | None = None,
        knowledge: Searchable | str | Path | None = None,
        session: Session | str | None = None,
        builtins: bool = True,
        prompts_dir: Path | None = None,
        max_steps: int | None = None,
        turn_timeout: float | None = None,
        sampling: Sampling | None = None,
        blobs: BlobStore | None = None,
        deps: Any = None,
        policy: Policy | None = None,
        approve: Approve | None = None,
        planning: bool = False,
        handoffs: Iterable[Agent] = (),
        compaction: Compaction | None = None,
        max_tool_specs: int | None = None,
        transcriber: Hears | None = None,
    ) -> None:
        from mmagent.chat import load_model
        from mmagent.paths import blobs_dir
        from mmagent.prompts import render

        limits = settings()
        self.max_steps = limits.max_steps if max_steps is None else max_steps
        self.turn_timeout = limits.turn_timeout if turn_timeout is None else turn_timeout
        if self.max_steps < 1 or self.turn_timeout <= 0:
            raise ConfigurationError("max_steps must be at least 1, and turn_timeout more than 0 seconds")
        self.name, self.description, self.deps = name, description, deps
        self.policy, self.approve, self.compaction = policy or Policy(), approve, compaction
        self.sampling = sampling or Sampling(max_tokens=limits.max_tokens)
        self.instructions = instructions or ""
        self.planning, self.transcriber = planning, transcriber
        prompt = render("agent", prompts_dir, instructions=self.instructions)
        self.system = system_message(prompt + ("\n" + render("plan", prompts_dir) if planning else ""))
        self.model = model if isinstance(model, ChatModel) else load_model(model)
        self.handoffs = tuple(handoffs)
        steering: list[AnyTool] = [*([planning_tool()] if planning else ()), *handoff_tools(self.handoffs)]
        own = [*(tools or ()), *steering]
        if own and not self.model.capabilities.tools:
            raise ConfigurationError(f"the model {self.model.name} cannot call tools; choose another, or give none")
        self.toolbox = Toolbox(
            own,
            builtins=builtins and self.model.capabilities.tools,
            images=self.model.capabilities.images,
            knowledge=knowledge is not None,
            limit=max_tool_specs,
            always=[one.name for one in steering],
        )
        team_of(self)  # which names must differ in
        check_deps(self.tools.values(), deps)
        self._told: tuple[Any, dict[str, AnyTool], tuple[ToolSpec, ...]] | None = None
        self.blobs = blobs or BlobStore(blobs_dir())
        self._close: list[Callable[[], None]] = []
        self.session = self._session(session)
        try:
            self.knowledge = self._knowledge(knowledge)
        except BaseException:
            self.close()
            raise

    @property
    def tools(self) -> dict[str, AnyTool]:
        """All its tools by name, those of closed groups too."""
        return self.toolbox.all

    @property
    def team(self) -> dict[str, Agent]:
        """Everybody who may go on with its conversations, by name."""
        return team_of(self)

    async def stream(self, *content: Content, output: Any = None, resume: bool = False) -> AsyncGenerator[Event, None]:
        """Ask, and see what happens as it happens. Closing the iterator stops the model and the tools.

        Turns of one `Session` wait for each other. What the model had said when a turn was stopped stays.

        Args:
            content: The question: text and media, in any order.
            output: A type that the answer must have: a pydantic model, a dataclass ...
            resume: Ask nothing, go on with the turn that waits for approvals or whose process died: tools that only
                read run again, idempotent ones with the same key, and of an unsafe one that had begun the model is
                told that nobody knows whether it took effect.

        Yields:
            Events; the last one is `TurnFinished` or `TurnPaused`, or `TurnFailed` just before an error is raised.

        Raises:
            InputError: The question was refused, or there is nothing to go on with; nothing has happened.
            ModelError: The model could not go on.
            TurnError: A limit was reached.
            StoreError: The session cannot be written; `StoreLocked` where another process is in a turn of it.
            ConfigurationError: ``output`` has no JSON Schema.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        turn = self._turn(events.put_nowait, content, output, resume)

        async def work() -> None:
            try:
                await turn.run(content, resume=resume)
            finally:
                events.put_nowait(None)

        task = asyncio.create_task(work())
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # whoever reads to the end has got it above

    async def arun(self, *content: Content, output: Any = None, resume: bool = False) -> Result:
        """Ask and wait for the answer. Arguments and errors as `stream`."""
        events: list[Event] = []
        turn = self._turn(events.append, content, output, resume)
        end = await turn.run(content, resume=resume)
        finished = end if isinstance(end, TurnFinished) else None
        return Result(
            text=finished.text if finished else "",
            output=Output(output).read(finished.text) if finished and output is not None else None,
            citations=finished.citations if finished else (),
            pending=end.pending if isinstance(end, TurnPaused) else (),
            usage=end.usage,
            steps=end.steps,
            events=tuple(events),
            session=self.session,
            hits=tuple(turn.hits),
        )

    def run(self, *content: Content, output: Any = None, resume: bool = False) -> Result:
        """`arun` for programs without an event loop.

        Raises:
            ConfigurationError: There is a running event loop.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise ConfigurationError("run() was called inside a running event loop; write: await agent.arun(...)")
        return asyncio.run(self.arun(*content, output=output, resume=resume))

    @property
    def pending(self) -> tuple[ApprovalRequested, ...]:
        """The calls of its conversation, and of the agents that it asked, that wait for an approval.

        Raises:
            StoreError: The session cannot be read.
        """
        return tuple(request for session in self._sessions() for request in session.state.pending.values())

    def decide(self, call_id: str, allow: bool | str, reason: str = "") -> None:
        """Allow or deny a call that waits for it, durably. It holds for exactly these arguments, and once.

        Deciding the same again changes nothing.

        Args:
            call_id: `ApprovalRequested.id`.
            allow: Whether it may run; words are a denial and its reason.
            reason: What the model is told of a denial.

        Raises:
            InputError: No such call waits, or the decision is none.
            StoreError: It cannot be written.
        """
        if not isinstance(allow, bool | str):
            raise InputError(f"a decision is True, False or why not, and no {type(allow).__name__}")
        allowed, reason = (False, allow) if isinstance(allow, str) else (allow, reason)
        waiting: list[str] = []
        for session in self._sessions():
            waiting += session.state.pending
            if session.state.decided.get(call_id, {}).get("allowed") is allowed:
                return
            if call_id in session.state.pending:
                digest = session.state.digests[call_id]
                session.write(
                    Draft(DECIDED, {"id": call_id, "digest": digest, "allowed": allowed, "reason": reason}), flush=True
                )
                return
        raise InputError(f"no call {call_id} waits for an approval; there are: {', '.join(waiting) or 'none'}")

    def pin(self, number: int) -> None:
        """Keep a picture of the conversation as it is, however little room there is.

        Args:
            number: 1 is the first picture of the conversation.

        Raises:
            InputError: There is no such picture.
            StoreError: It cannot be written.
        """
        media = self.session.refresh().media
        if not 1 <= number <= len(media):
            raise InputError(f"there is no picture {number}; the conversation has {len(media)}")
        self.session.write(Draft(PICTURE, {"file_id": media[number - 1]["file_id"], "pinned": True}))

    def as_tool(self, name: str | None = None, description: str | None = None) -> AgentTool:
        """This agent as a tool of another, with a session of its own for each call.

        It shares the other's steps, time, policy, approvals, media and journal. After a crash it goes on where it was.

        Args:
            name: What models know it by; None: ``ask_`` and its name.
            description: What they are told; None: its own.

        Raises:
            ConfigurationError: The name cannot be used.
        """
        return agent_tool(self, name, description)

    def tools_for(self, state: State, *, recall: bool) -> tuple[dict[str, AnyTool], tuple[ToolSpec, ...]]:
        """The tools that the model is told of, and what it is told.

        Args:
            state: Of the conversation.
            recall: Whether pictures of it are shown in less than full, so that it may want to see them again.
        """
        question = state.own_words[-1] if self.toolbox.limit and state.own_words else ""
        transcribes = wants_words(state) and self.model.capabilities.tools and bool(at_hand(self.transcriber))
        key = (state.opened, recall, transcribes, question)
        told = self._told
        if told is None or told[0] != key:
            tools = with_media_tools(self.toolbox.visible(state.opened, question), recall=recall, words=transcribes)
            self._told = told = (key, tools, tool_specs(tools))
        return told[1], told[2]

    def close(self) -> None:
        """Close the session and the knowledge that the agent opened itself."""
        while self._close:
            self._close.pop()()

    def __enter__(self) -> Self:
        """The agent itself; `close` follows."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _turn(self, emit: Callable[[Event], None], content: tuple[Content, ...], output: Any, resume: bool) -> Turn:
        if resume and content:
            raise InputError("resume=True goes on with the last turn and asks nothing; ask again after it")
        return Turn(self, self.session, self.blobs, emit, None if output is None else Output(output))

    def _sessions(self) -> list[Session]:
        """Its session and those of the agents whose answers it waits for, read."""
        sessions = [self.session]
        for session in sessions:
            sessions += [session.child(call) for call, one in session.refresh().open.items() if one.intent]
        return sessions

    def _knowledge(self, knowledge: Searchable | str | Path | None) -> Searchable | None:
        if not isinstance(knowledge, str | Path):
            return knowledge
        from mmagent.knowledge import Knowledge

        opened = Knowledge.of_folder(knowledge)
        self._close.append(opened.close)
        return opened

    def _session(self, session: Session | str | None) -> Session:
        if isinstance(session, Session):
            return session
        opened = Session.memory() if session is None else Session.open(session)
        self._close.append(opened.close)
        return opened
