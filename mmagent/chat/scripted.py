"""A chat model that plays a script, for tests. It knows the protocol and no network, tool code or disk."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from mmagent.chat.protocol import (
    Capabilities,
    ModelDone,
    ModelEvent,
    ModelRequest,
    ModelText,
    ModelToolCall,
)
from mmagent.content import ToolCallBlock
from mmagent.errors import ModelError
from mmagent.events import Usage


@dataclass(frozen=True)
class ScriptedCall:
    """A tool call in a script; it gets its id when it is played."""

    name: str
    args: dict[str, Any]


def call(name: str, /, **args: Any) -> ScriptedCall:
    """A tool call for a `ScriptedModel`: ``call("lookup_order", order_id="A-17")``."""
    return ScriptedCall(name, args)


Reply: TypeAlias = str | ScriptedCall | Sequence[str | ScriptedCall] | Exception
Step: TypeAlias = Reply | Callable[[ModelRequest], Reply]


class ScriptedModel:
    """Answers each request with the next step of a script, and keeps the requests for the test to look at.

    Tokens are words: runs of characters that are not white space. Sampling settings and output schemas are ignored.

    Args:
        steps: One for each request: text, a `call`, a list of these, an exception to raise,
            or a function of the request that returns any of them.
        capabilities: What it claims to take; by default text, tools and pictures.
        chunk: Characters in one piece of streamed text; by default the pieces are words.
    """

    name = "scripted"

    def __init__(
        self, steps: Sequence[Step], *, capabilities: Capabilities | None = None, chunk: int | None = None
    ) -> None:
        self.capabilities = capabilities or Capabilities(context_length=32_768, images=True)
        self.requests: list[ModelRequest] = []
        """Every request so far, oldest first."""
        self._steps = tuple(steps)
        self._pieces = re.compile(rf"(?s).{{1,{chunk}}}" if chunk else r"\S+\s*|\s+")
        self._calls = 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Play the next step.

        Raises:
            ModelError: The script is over.
        """
        self.requests.append(request)
        generated, called = 0, False
        for part in self._next(request):
            if isinstance(part, str):
                generated += _words(part)
                for piece in self._pieces.findall(part):
                    await asyncio.sleep(0)
                    yield ModelText(piece)
            else:
                called = True
                generated += _words(part.name) + _words(json.dumps(part.args))
                await asyncio.sleep(0)
                yield ModelToolCall(self._block(part))
        usage = Usage(prompt_tokens=self.count_tokens(request), completion_tokens=generated)
        yield ModelDone(usage, "tool_calls" if called else "end")

    def count_tokens(self, request: ModelRequest) -> int:
        """Words of the messages, of the calls in them and of the tools, and one for each picture."""
        total = sum(_words(json.dumps([tool.name, tool.description, tool.parameters])) for tool in request.tools)
        for message in request.messages:
            total += _words(message.text) + len(message.media)
            total += sum(_words(block["name"]) + _words(json.dumps(block["args"])) for block in message.tool_calls)
        return total

    def _next(self, request: ModelRequest) -> Sequence[str | ScriptedCall]:
        number = len(self.requests)
        if number > len(self._steps):
            raise ModelError(
                f"the script has {len(self._steps)} steps and this is request {number}; give the model another step"
            )
        step = self._steps[number - 1]
        reply: Reply = step(request) if callable(step) else step
        if isinstance(reply, Exception):
            raise reply
        return (reply,) if isinstance(reply, str | ScriptedCall) else reply

    def _block(self, part: ScriptedCall) -> ToolCallBlock:
        self._calls += 1
        return {"type": "tool_call", "id": f"call_{self._calls}", "name": part.name, "args": dict(part.args)}


def _words(text: str) -> int:
    return len(text.split())
