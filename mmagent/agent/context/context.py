"""What the model is shown: the request of each step, with room made in time. It knows sessions and models, no loop.

Room is made in steps that are journaled and told: pictures of earlier turns become smaller, then captions, then
references; then the oldest turns become a short exchange; at last, pictures of the current turn are reduced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mmagent.agent.context.budget import Budget
from mmagent.agent.context.compaction import Compaction, Make, Short, shorten
from mmagent.agent.context.ladder import Ladder
from mmagent.agent.context.prompt import begins_turn
from mmagent.agent.context.shown import Shown, place
from mmagent.chat.protocol import ChatModel, ModelRequest, Sampling, ToolSpec
from mmagent.content import Message
from mmagent.errors import ContextOverflow
from mmagent.events import Event, HistoryCompacted, PictureReduced, Usage
from mmagent.media import BlobStore
from mmagent.session.journal import Draft
from mmagent.session.replay import COMPACTION, PICTURE

if TYPE_CHECKING:
    from mmagent.session import Session

KEPT = 0.5
"""The share of the room that turns which stay as they are may take, the current one aside."""
WORTH = 0.05
"""The share of the room that older turns must take for shortening them to be worth it."""

Tools = tuple[ToolSpec, ...]


@dataclass
class _Memory:
    """What outlives a turn: a session as a model is shown it, and what is known of its length."""

    model: ChatModel
    blobs: BlobStore
    shown: Shown
    budget: Budget
    ladder: Ladder
    bound: int = 0
    """No fewer tokens than the shown messages take."""
    known: tuple[Any, float, int] | None = None
    """What else was in a request, its exact tokens, and `bound` at that time."""


_MODELS = 4
"""How many models of a session are remembered; a model that was forgotten is shown the conversation anew."""
_MEMORIES: WeakKeyDictionary[Session, dict[Any, _Memory]] = WeakKeyDictionary()


class Context:
    """Makes the requests of a conversation with one model.

    Args:
        session: The conversation.
        model: Who is asked.
        blobs: Where media are.
        system: The message that every request begins with.
        sampling: How tokens are chosen.
        emit: Is told what happens.
        readable: Whether the model has `read_text`.
        compaction: When and how room is made; None: as `Compaction` has it.
    """

    def __init__(
        self,
        *,
        session: Session,
        model: ChatModel,
        blobs: BlobStore,
        system: Message,
        sampling: Sampling,
        emit: Callable[[Event], None],
        readable: bool,
        compaction: Compaction | None = None,
    ) -> None:
        self.session, self.model, self.blobs, self.system = session, model, blobs, system
        self.sampling, self.emit, self.compaction = sampling, emit, compaction or Compaction()
        self.spent = Usage()
        """Tokens that summaries took."""
        key = (id(model), id(blobs), readable, sampling, self.compaction)
        memories = _MEMORIES.setdefault(session, {})
        if key not in memories:
            if len(memories) == _MODELS:
                del memories[next(iter(memories))]
            shown = Shown(model.capabilities, blobs, readable=readable)
            budget = Budget(model, blobs, sampling, self.compaction.at)
            memories[key] = _Memory(model, blobs, shown, budget, Ladder(shown, budget))
        self._memory = memories[key]
        self._shown, self._budget = memories[key].shown, memories[key].budget
        self._make: Make | None = None
        self._asked: ModelRequest | None = None
        self._history: tuple[Message, ...] | None = ()

    @property
    def history(self) -> tuple[Message, ...]:
        """The messages of the last request, without the system message."""
        if self._history is None:
            assert self._asked is not None
            self._history = self._asked.messages[1:]
        return self._history

    @property
    def wants_recall(self) -> bool:
        """Whether the model should have `recall_media`: it sees, and is no longer shown every picture in full."""
        state = self.session.state
        if not self._shown.recall or not state.media:
            return False
        return state.compacted_turns > 0 or any(picture.level != "full" for picture in state.pictures.values())

    async def request(
        self,
        tools: Tools | Callable[[], Tools],
        *,
        output: dict[str, Any] | None = None,
        require_call: bool | str = False,
    ) -> ModelRequest:
        """What the model is asked next. Makes room first, where the conversation has outgrown the model's context.

        Args:
            tools: What the model is told of; a function is asked again once room was made.
            output: JSON Schema of the answer.
            require_call: As `ModelRequest` has it.
        """

        def make(messages: Sequence[Message]) -> ModelRequest:
            return ModelRequest(
                messages=(self.system, *messages),
                blobs=self.blobs,
                tools=tools() if callable(tools) else tools,
                output=output,
                require_call=require_call,
                sampling=self.sampling,
            )

        self._make = make
        await self._catch_up()
        request = make(self._shown.messages)
        if self._at_most(request) > self._budget.full:
            tokens = await self._count(request)
            if tokens > self._budget.full and await self._make_room(make, tokens):
                request = make(self._shown.messages)
        self._asked, self._history = request, None
        return request

    async def overflowed(self, error: ContextOverflow) -> None:
        """Make more room, since the model refused the last request.

        Raises:
            ContextOverflow: There is nothing left to leave out.
        """
        assert self._make is not None, "no request was made yet"
        tokens = await self._count(self._make(self._shown.messages))
        if math.isfinite(tokens):  # it takes less than it says; not all at once, since it may be wrong about why
            limit = self._budget.limit
            self._budget.limit = max(limit // 2, min(limit, int(tokens) - 1), 1)
        if not await self._make_room(self._make, tokens):
            raise error

    def used(self, usage: Usage) -> None:
        """Learn what the last request really took."""
        if usage.prompt_tokens and self._asked is not None:
            self._memory.known = (self._beside(self._asked), usage.prompt_tokens, self._memory.bound)

    async def _catch_up(self) -> None:
        memory = self._memory
        added, anew = await self._shown.catch_up(self.session.state, self.emit)
        if anew:
            memory.bound, memory.known = 0, None
        if added:
            memory.bound += await self._budget.bound(added)

    def _beside(self, request: ModelRequest) -> Any:
        return (request.messages[0], request.tools, request.output)

    def _at_most(self, request: ModelRequest) -> float:
        """No fewer tokens than a request has."""
        memory = self._memory
        if memory.known and memory.known[0] == self._beside(request):
            return memory.known[1] + memory.bound - memory.known[2]
        system = sum(len(block["text"].encode()) for block in self.system.content if block["type"] == "text")
        return memory.bound + system + self._budget.bound_of_tools(request.tools, request.output)

    async def _count(self, request: ModelRequest) -> float:
        tokens = await self._budget.count(request)
        if math.isfinite(tokens):
            self._memory.known = (self._beside(request), tokens, self._memory.bound)
        return tokens

    async def _recount(self, make: Make) -> float:
        await self._catch_up()
        return await self._count(make(self._shown.messages))

    async def _make_room(self, make: Make, tokens: float) -> bool:
        """Whether anything could be done."""
        budget, version = self._budget, self.session.state.version
        sees = self.model.capabilities.images
        if sees and math.isfinite(tokens):
            tokens = await self._reduce(make, tokens, current=False)
        if tokens > budget.full:
            tokens = await self._compact(make, tokens)
        if sees and tokens > budget.limit:
            await self._reduce(make, tokens, current=True)
        return self.session.state.version != version

    async def _reduce(self, make: Make, tokens: float, *, current: bool) -> float:
        """Take pictures down the ladder."""
        target, ladder = self._budget.target, self._memory.ladder
        if not current and tokens - await ladder.reducible() > target:  # it is the text that is long
            return tokens
        while tokens > target and (steps := await ladder.steps(tokens - target, current=current)):
            await self.session.record(
                *(
                    Draft(PICTURE, {"file_id": place(step.block, step.number), "level": step.level, "note": step.note})
                    for step in steps
                )
            )
            for step in steps:
                self.emit(PictureReduced(file_id=step.block["file_id"], level=step.level))
            tokens = await self._recount(make)
        return tokens

    async def _compact(self, make: Make, tokens: float) -> float:
        """Put a short exchange in the place of the oldest turns, where that helps."""
        budget, state, shown = self._budget, self.session.state, self._shown
        window = list(state.messages)
        starts = [index for index, message in enumerate(window) if begins_turn(message)]
        if not starts:
            return tokens
        most = min(self.compaction.keep_turns, max(len(starts) - 1, 1))
        best: tuple[int, Short] | None = None
        for keep in range(most, 0, -1):
            old, kept = window[: starts[-keep]], window[starts[-keep] :]
            rest = await budget.count(make(shown.present(kept)))
            if not old or math.isinf(rest) or (keep > 1 and rest > KEPT * budget.limit):
                continue
            if tokens - rest <= WORTH * budget.limit and tokens <= budget.limit:
                continue
            turns, taken = len(state.questions) - keep, min(tokens - rest, budget.limit)
            sums_up = self.compaction.sums_up(self.model)
            short = await shorten(old, kept, turns, taken, make, self._memory.ladder, sums_up)
            self.spent += short.usage
            best = turns, short
            if short.tokens <= budget.full:
                break
        if best is None or best[1].tokens >= tokens:
            return tokens
        turns, short = best
        data = {
            "through": state.questions[turns] - 1,
            "messages": [message.model_dump(mode="json", exclude_defaults=True) for message in short.messages],
            "turns": turns,
            "pictures": short.pictures,
        }
        await self.session.record(Draft(COMPACTION, data))
        before = int(tokens) if math.isfinite(tokens) else self.model.capabilities.context_length
        self.emit(HistoryCompacted(turns=turns, tokens_before=before, tokens_after=int(min(short.tokens, before))))
        return await self._recount(make)
