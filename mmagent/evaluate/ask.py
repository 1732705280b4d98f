"""One question to a model, as a training sample has it: what it says and calls. It knows samples, no agent."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmagent.chat.protocol import ChatModel, ModelRequest, ModelText, ModelToolCall, Sampling, ToolSpec
from mmagent.content import Image, Message
from mmagent.errors import MMAgentError
from mmagent.media import BlobStore
from mmagent.train.sample import Sample, Shown


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Name and arguments of each."""
    error: str = ""
    """Why there is no answer."""

    @property
    def empty(self) -> bool:
        """Whether nothing was answered; that is right nowhere."""
        return bool(self.error) or not (self.text or self.calls)

    @property
    def shown(self) -> str:
        """The calls, the words or the error, for lists of what went wrong."""
        return str(self.calls or self.text or self.error)


class Asker:
    """Puts samples to a model; the pictures' files lie in a folder of its own until it is closed.

    Args:
        model: The model under test. Grammar, prompt and decoding are those of a real turn.
    """

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._folder = tempfile.TemporaryDirectory()
        self._blobs = BlobStore(Path(self._folder.name))

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def __call__(self, sample: Sample, *, max_tokens: int = 256) -> Reply:
        """The model's next message after a sample's messages, which end with the user's or a tool's."""
        return asyncio.run(self._reply(self.request(sample, max_tokens)))

    def request(self, sample: Sample, max_tokens: int = 256) -> ModelRequest:
        """What the model is asked."""
        pictures = iter(sample.pictures)
        messages: list[Message] = []
        waiting: list[str] = []  # ids of calls whose results follow
        for said in sample.messages:
            blocks = [self._block(block, pictures) for block in _as_blocks(said["content"])]
            for call in said.get("tool_calls") or ():
                function = call["function"]
                waiting.append(f"call_{len(messages)}_{len(waiting)}")
                made = {"type": "tool_call", "id": waiting[-1], "name": function["name"]}
                blocks.append(made | {"args": function["arguments"]})
            answered = {"tool_call_id": waiting.pop(0), "name": said["name"]} if said["role"] == "tool" else {}
            messages.append(Message.model_validate({"role": said["role"], "content": blocks, **answered}))
        functions = [tool["function"] for tool in sample.tools]
        tools = tuple(ToolSpec(f["name"], f.get("description", ""), f["parameters"]) for f in functions)
        return ModelRequest(tuple(messages), self._blobs, tools, sampling=Sampling(max_tokens=max_tokens))

    async def _reply(self, request: ModelRequest) -> Reply:
        text, calls = "", []
        async for event in self._model.stream(request):
            if isinstance(event, ModelText):
                text += event.text
            elif isinstance(event, ModelToolCall):
                calls.append((event.call["name"], event.call["args"]))
        return Reply(text.strip(), tuple(calls))

    def _block(self, block: dict[str, Any], pictures: Iterator[Shown]) -> dict[str, Any]:
        if block["type"] != "image":
            return block
        file = io.BytesIO()
        next(pictures).image.save(file, "PNG")
        return dict(self._blobs.admit(Image(file.getvalue())))


def replied(ask: Asker, sample: Sample, *, max_tokens: int = 256) -> Reply:
    """What the model answers, or why it could not."""
    try:
        return ask(sample, max_tokens=max_tokens)
    except MMAgentError as error:
        return Reply("", error=f"{type(error).__name__}: {error}")


def _as_blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)
