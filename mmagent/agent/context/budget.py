"""How much room there is for a request, and how much it takes. It knows models, messages and pictures, no session.

Counting a request renders and tokenises the whole of it, so it is done only where an upper bound, which costs next to
nothing, comes within reach of the limit.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any

from mmagent.chat.protocol import ChatModel, ModelRequest, Sampling, ToolSpec
from mmagent.content import Block, MediaBlock, Message, text
from mmagent.errors import ContextOverflow
from mmagent.media import BlobStore

MESSAGE_TOKENS = 64
"""More than any chat template writes around a message, a call or a tool."""
TOOLS_TOKENS = 1024
"""More than any chat template says about tools as such."""
TOOL_BYTES = 4
"""Templates write a tool's JSON with indents, or parts of it twice, and stay below this many times its length."""
PICTURE_TOKENS = 16
"""What may stand around a picture, beyond what stands around one alone."""
CHARS_PER_TOKEN = 4
"""To begin with; what comes of it is counted."""


class Budget:
    """The tokens of a model's context.

    Args:
        model: Whose context it is.
        blobs: Where pictures are.
        sampling: Its ``max_tokens`` are kept for the answer, up to a quarter of the context.
        at: The share of the limit at which room is made.
    """

    def __init__(self, model: ChatModel, blobs: BlobStore, sampling: Sampling, at: float) -> None:
        self.model, self.blobs, self.at = model, blobs, at
        context = model.capabilities.context_length
        self.limit = context - min(sampling.max_tokens, context // 4)
        """Tokens that a prompt may have."""
        self._sizes: dict[Any, int] = {}
        self._of_tools: tuple[Any, Any, int] | None = None

    @property
    def full(self) -> float:
        """Tokens beyond which room is made."""
        return self.limit * self.at

    @property
    def target(self) -> float:
        """Tokens to come down to: far enough that the prompt's beginning moves rarely."""
        return self.limit * self.at * 0.78

    async def count(self, request: ModelRequest) -> float:
        """The exact number of a request's tokens; infinite where the model refuses to look at it."""
        try:
            return await asyncio.to_thread(self.model.count_tokens, request)
        except ContextOverflow:
            return math.inf

    async def picture(self, block: MediaBlock) -> int:
        """The tokens that a picture takes."""
        extras = block.get("extras", {})
        size = (extras.get("width"), extras.get("height"))
        key = size if None not in size else (block["file_id"],)
        if key not in self._sizes:
            self._sizes[key] = await self._beside(block)
        return self._sizes[key]

    async def words(self, value: str) -> int:
        """The tokens that a text takes."""
        if value not in self._sizes:
            self._sizes[value] = await self._beside(text(value))
        return self._sizes[value]

    async def _beside(self, block: Block) -> int:
        """The tokens that a block adds to a message."""
        word = text("picture ")
        bare = await self.count(ModelRequest((Message(role="user", content=(word,)),), self.blobs))
        both = await self.count(ModelRequest((Message(role="user", content=(word, block)),), self.blobs))
        return max(int(both - bare), 0) if math.isfinite(both) else self.limit

    async def bound(self, messages: Sequence[Message]) -> int:
        """No fewer tokens than messages add to a prompt: a token is a byte or more."""
        total = 0
        for message in messages:
            total += MESSAGE_TOKENS
            for block in message.content:
                if block["type"] == "text":
                    total += _bytes(block["text"])
                elif block["type"] == "tool_call":
                    total += MESSAGE_TOKENS + 2 * _bytes(block["name"] + json.dumps(block["args"], ensure_ascii=False))
                elif block["type"] == "image":
                    total += await self.picture(block) + PICTURE_TOKENS
                elif block["type"] != "reasoning":
                    total += self.limit  # nobody can say
        return total

    def bound_of_tools(self, tools: Sequence[ToolSpec], output: dict[str, Any] | None) -> int:
        """No fewer tokens than tools and an output schema add to a prompt."""
        if self._of_tools and self._of_tools[0] is tools and self._of_tools[1] is output:
            return self._of_tools[2]
        written = json.dumps([[tool.name, tool.description, tool.parameters] for tool in tools] + [output])
        bound = TOOLS_TOKENS + MESSAGE_TOKENS * len(tools) + TOOL_BYTES * len(written)
        self._of_tools = (tools, output, bound)
        return bound


def _bytes(value: str) -> int:
    return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
