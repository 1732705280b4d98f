"""When a conversation is told in short, and how long that may be. It knows models and what they see, no session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mmagent.agent.context.budget import CHARS_PER_TOKEN, Budget
from mmagent.agent.context.exchange import MIN_CHARS, Note, exchange, record
from mmagent.agent.context.ladder import Ladder
from mmagent.agent.context.prompt import COMPACTED
from mmagent.chat.protocol import ChatModel, ModelDone, ModelRequest, ModelText, Sampling
from mmagent.content import Block, MediaBlock, Message, text
from mmagent.errors import ConfigurationError, MMAgentError, ModelError
from mmagent.events import Usage

logger = logging.getLogger(__name__)

SUMMARIES_FROM = 8192
"""Tokens of context from which on a model sums up what it forgets; of what smaller ones forget, extracts are kept."""
SUMMARY_TOKENS = 1024
SHARES = (0.2, 0.05)
"""The share of the room that the exchange may take, and what it is cut to where that is too much."""
READ = 8
"""Pictures whose text is kept, the last ones."""
READ_CHARS = 160

Make = Callable[[Sequence[Message]], ModelRequest]
"""Makes a request of messages as they are shown."""


@dataclass(frozen=True)
class Compaction:
    """When and how a conversation that outgrows the model's context is shortened."""

    at: float = 0.9
    """The share of the room for prompts at which room is made."""
    keep_turns: int = 2
    """Turns that stay as they are, the current one among them, where they fit into half of the room."""
    summarize: bool | None = None
    """Whether the model sums up what is shortened; None: where its context has 8,192 tokens or more."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.at <= 1 or self.keep_turns < 1:
            raise ConfigurationError("Compaction takes at from 0.1 to 1, and keep_turns of 1 or more")

    def sums_up(self, model: ChatModel) -> bool:
        """Whether this model is asked for summaries."""
        return model.capabilities.context_length >= SUMMARIES_FROM if self.summarize is None else self.summarize


@dataclass(frozen=True)
class Short:
    """An exchange in the place of messages."""

    messages: tuple[Message, Message]
    tokens: float
    """Of the request with it."""
    pictures: list[dict[str, Any]]
    """Those of the messages: ``file_id``, ``number`` and ``note``."""
    usage: Usage
    """What summing up took."""


async def shorten(
    old: Sequence[Message], kept: Sequence[Message], turns: int, taken: float, make: Make, ladder: Ladder, sums_up: bool
) -> Short:
    """An exchange for messages that leaves room for those that follow.

    Args:
        old: The messages.
        kept: Those that follow.
        turns: How many turns of the conversation are in short then.
        taken: Tokens that the old messages take.
        make: Makes the request.
        ladder: Of the conversation.
        sums_up: Whether the model is asked for a summary.
    """
    budget, shown = ladder.budget, ladder.shown
    notes = await _notes(old, ladder)

    def note(block: MediaBlock) -> str:
        return notes.get(id(block)) or shown.note(block)

    summary, usage = "", Usage()
    if sums_up and any(message.name != COMPACTED for message in old):
        try:
            summary, usage = await summary_of(old, budget, note)
        except MMAgentError as error:
            logger.info("%s; the beginnings of what was said are kept", error)
    pictures = [block for message in old for block in message.media if block["type"] == "image"]
    pinned: list[Block] = [shown.numbered(block) for block in pictures if shown.level(block).pinned]
    fixed = await budget.bound([Message(role="user", content=tuple(pinned))]) if pinned else 0
    for share in SHARES:
        room = min(share * budget.limit, taken / 2) + fixed
        chars = int(room * CHARS_PER_TOKEN)
        while True:
            pair = await asyncio.to_thread(exchange, old, turns, chars, note, summary, pinned)
            size = await budget.count(ModelRequest(tuple(shown.present(pair)), budget.blobs))
            if size <= room or chars < 2 * MIN_CHARS:
                break
            chars = min(int(chars * room / size * 0.9), chars - MIN_CHARS)
        tokens = await budget.count(make(shown.present([*pair, *kept])))
        if tokens <= budget.full:
            break
    told = [{"file_id": block["file_id"], "number": shown.number(block), "note": note(block)} for block in pictures]
    return Short(pair, tokens, told, usage)


async def _notes(old: Sequence[Message], ladder: Ladder) -> dict[int, str]:
    """What is said of the last pictures of messages, by the identity of their blocks."""
    shown = ladder.shown
    if not shown.capabilities.images:
        return {}
    blocks = [block for message in old for block in message.media if block["type"] == "image"]
    return {
        id(block): shown.caption(block, (await ladder.text_in(block))[:READ_CHARS])
        for block in blocks[-READ:]
        if shown.level(block).level in ("full", "smaller")
    }


async def summary_of(old: Sequence[Message], budget: Budget, note: Note) -> tuple[str, Usage]:
    """A model's own summary of messages, and what it took.

    Args:
        old: The messages.
        budget: The model's.
        note: What is written for media; none is sent.

    Raises:
        ModelError: It could not, or said nothing.
    """
    from mmagent.prompts import render

    model = budget.model
    sampling = Sampling(max_tokens=max(1, min(SUMMARY_TOKENS, budget.limit // 10)))
    system = Message(role="system", content=(text(render("compact", words=max(40, sampling.max_tokens // 2))),))
    chars = CHARS_PER_TOKEN * budget.limit
    while True:
        asked = Message(role="user", content=(text(record(old, chars, note)),))
        request = ModelRequest(messages=(system, asked), blobs=budget.blobs, sampling=sampling)
        if await budget.count(request) <= budget.limit or chars < MIN_CHARS:
            break
        chars = chars * 3 // 4
    said: list[str] = []
    usage = Usage()
    try:
        async with aclosing(model.stream(request)) as stream:  # type: ignore[type-var]
            async for event in stream:
                if isinstance(event, ModelText):
                    said.append(event.text)
                elif isinstance(event, ModelDone):
                    usage = event.usage
    except MMAgentError:
        raise
    except Exception as error:  # other people's models raise anything
        raise ModelError(f"{model.name} could not sum up the conversation: {type(error).__name__}") from error
    if not (summary := "".join(said).strip()):
        raise ModelError(f"{model.name} summed up the conversation in no words")
    return summary, usage
