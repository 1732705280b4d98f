"""A chat model that plays a script, for tests. It knows the protocol and no network, tool code or disk."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mmagent.chat.protocol import (
    Capabilities,
    ModelDone,
    ModelEvent,
    ModelRequest,
    ModelText,
    ModelToolCall,
    ToolSpec,
)
from mmagent.content import Image, Message, ToolCallBlock
from mmagent.errors import ModelError
from mmagent.events import Usage

if TYPE_CHECKING:
    from mmagent.content import Source


@dataclass(frozen=True)
class ScriptedCall:
    """A tool call in a script; it gets its id when it is played."""

    name: str
    args: dict[str, Any]


def call(name: str, /, **args: Any) -> ScriptedCall:
    """A tool call for a `ScriptedModel`: ``call("lookup_order", order_id="A-17")``."""
    return ScriptedCall(name, args)


Reply: TypeAlias = str | ScriptedCall | Sequence[str | ScriptedCall] | Exception
Step: TypeAlias = Reply | Callable[[ModelRequest], Reply | Awaitable[Reply]]


class ScriptedModel:
    """Answers each request with the next step of a script, and keeps the requests for the test to look at.

    Tokens are words: runs of characters that are not white space. Sampling settings and output schemas are ignored.

    Args:
        steps: One for each request: text, a `call`, a list of these, an exception to raise,
            or a function of the request, sync or async, that returns any of them.
        capabilities: What it claims to take; by default text, tools and pictures.
        chunk: Characters in one piece of streamed text; by default the pieces are words.
        pause: Seconds before each piece, for tests of what happens meanwhile.
        usage: What it says each answer used; None: counted words.
    """

    name = "scripted"

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        capabilities: Capabilities | None = None,
        chunk: int | None = None,
        pause: float = 0,
        usage: Usage | None = None,
    ) -> None:
        self.capabilities = capabilities or Capabilities(context_length=32_768, images=True)
        self.requests: list[ModelRequest] = []
        """Every request so far, oldest first."""
        self._steps = tuple(steps)
        self._pieces = re.compile(rf"(?s).{{1,{chunk}}}" if chunk else r"\S+\s*|\s+")
        self._pause, self._usage = pause, usage
        self._calls = 0
        self._counted: dict[int, tuple[object, int]] = {}
        """Words of messages and tools by their ids; the objects are kept, so that no other gets the id."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Play the next step.

        Raises:
            ModelError: The script is over.
        """
        self.requests.append(request)
        generated, called = 0, False
        for part in await self._next(request):
            if isinstance(part, str):
                generated += _words(part)
                for piece in self._pieces.findall(part):
                    await asyncio.sleep(self._pause)
                    yield ModelText(piece)
            else:
                called = True
                generated += _words(part.name) + _words(json.dumps(part.args))
                await asyncio.sleep(self._pause)
                yield ModelToolCall(self._block(part))
        usage = self._usage or Usage(prompt_tokens=self.count_tokens(request), completion_tokens=generated)
        yield ModelDone(usage, "tool_calls" if called else "end")

    def count_tokens(self, request: ModelRequest) -> int:
        """Words of the messages, of the calls in them and of the tools, and one for each picture."""
        return sum(map(self._count, request.tools)) + sum(map(self._count, request.messages))

    def pictures(self, request: int = -1) -> list[tuple[str, int, int]]:
        """The pictures that a request showed, oldest first: file id, width and height in pixels.

        Args:
            request: Its number in `requests`; -1 is the last one.
        """
        asked = self.requests[request]
        found = []
        for block in (block for message in asked.messages for block in message.media if block["type"] == "image"):
            extras = block.get("extras", {})
            if not (width := extras.get("width")) or not (height := extras.get("height")):
                width, height = asked.blobs.open_image(block["file_id"]).size
            found.append((block["file_id"], width, height))
        return found

    def assert_saw(self, picture: Source | Image, at: tuple[int, int] | None = None, request: int = -1) -> None:
        """Fail the test unless a request showed this picture.

        Args:
            picture: The picture: its file id, its path, its bytes, an `Image` or a ``PIL.Image``.
            at: Its width and height in pixels, as the model was shown it; None: any.
            request: The request's number in `requests`; -1 is the last one.

        Raises:
            AssertionError: It did not; the message lists what it showed.
        """
        wanted, shown = _file_id(picture), self.pictures(request)
        if not any(file_id == wanted and at in (None, (width, height)) for file_id, width, height in shown):
            listed = ", ".join(f"{file_id} at {width} × {height}" for file_id, width, height in shown)
            where = f" at {at[0]} × {at[1]}" if at else ""
            raise AssertionError(f"the model was not shown {wanted}{where}; it was shown {listed or 'no picture'}")

    def _count(self, item: Message | ToolSpec) -> int:
        known = self._counted.get(id(item))
        if known is None or known[0] is not item:
            known = self._counted[id(item)] = (item, _count(item))
        return known[1]

    async def _next(self, request: ModelRequest) -> Sequence[str | ScriptedCall]:
        number = len(self.requests)
        if number > len(self._steps):
            raise ModelError(
                f"the script has {len(self._steps)} steps and this is request {number}; give the model another step"
            )
        step = self._steps[number - 1]
        made = step(request) if callable(step) else step
        reply: Reply = await made if inspect.isawaitable(made) else made
        if isinstance(reply, Exception):
            raise reply
        return (reply,) if isinstance(reply, str | ScriptedCall) else reply

    def _block(self, part: ScriptedCall) -> ToolCallBlock:
        self._calls += 1
        return {"type": "tool_call", "id": f"call_{self._calls}", "name": part.name, "args": dict(part.args)}


def _count(item: Message | ToolSpec) -> int:
    if isinstance(item, ToolSpec):
        return _words(json.dumps([item.name, item.description, item.parameters]))
    calls = sum(_words(block["name"]) + _words(json.dumps(block["args"])) for block in item.tool_calls)
    return _words(item.text) + len(item.media) + calls


def _words(text: str) -> int:
    return len(text.split())


def _file_id(picture: Source | Image) -> str:
    if isinstance(picture, str) and picture.startswith("sha256:"):
        return picture
    from mmagent.media import BlobStore

    with tempfile.TemporaryDirectory() as folder:
        image = picture if isinstance(picture, Image) else Image(picture)
        return BlobStore(Path(folder)).admit(image)["file_id"]
