"""Recorded conversations with a model, played back without it. It knows the protocol and one file of JSON lines.

The file's first line names the model; each other line is a request with the events that answered it, or a count of
tokens. Media are hashes in it, and secrets are masked.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import re
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mmagent.chat.protocol import (
    Capabilities,
    ChatModel,
    ModelDone,
    ModelEvent,
    ModelReasoning,
    ModelRequest,
    ModelText,
    ModelToolCall,
)
from mmagent.content import Message
from mmagent.errors import ContextOverflow, InputError, ModelError, NotFound
from mmagent.events import Usage
from mmagent.redact import MASK, redacted
from mmagent.testing.wrappers import WrappedModel

if TYPE_CHECKING:
    from mmagent.agent import Agent

VERSION = 1
_DIFF_LINES = 60
_WORDS = re.compile(r"\S+\s*|\s+")
_Json: TypeAlias = dict[str, Any]


class RequestDiffers(ModelError, AssertionError):
    """A request is not the one that was recorded; the message shows what differs."""


def record(target: Agent | ChatModel, path: str | Path) -> RecordingModel:
    """Write down what a model is asked and answers.

    Args:
        target: The model; or an agent, whose model is recorded from then on.
        path: The file to write; what was in it is lost.
    """
    if isinstance(target, ChatModel):
        return RecordingModel(target, path)
    recording = target.model = RecordingModel(target.model, path)
    return recording


class RecordingModel(WrappedModel):
    """A model that answers as another does, and writes down each request with its answer when that ends.

    Args:
        model: What answers.
        path: The file to write; what was in it is lost.
    """

    def __init__(self, model: ChatModel, path: str | Path) -> None:
        super().__init__(model)
        self.path = Path(path)
        self._lock = threading.Lock()
        self._counted: set[str] = set()
        self.path.write_text("", encoding="utf-8")
        self._write({"recording": VERSION, "name": model.name, "capabilities": asdict(model.capabilities)})

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See `ChatModel.stream`."""
        events: list[_Json] = []
        line: _Json = {"request": _request(request), "events": events}
        try:
            async with aclosing(super().stream(request)) as stream:
                async for event in stream:
                    _add(events, event)
                    yield event
        except Exception as error:
            line["error"] = {"type": type(error).__name__, "message": str(error)}
            raise
        finally:
            self._write(line)

    def count_tokens(self, request: ModelRequest) -> int:
        """See `ChatModel.count_tokens`."""
        tokens, digest = super().count_tokens(request), _digest(request)
        if digest not in self._counted:
            self._counted.add(digest)
            self._write({"counted": digest, "tokens": tokens})
        return tokens

    def _write(self, line: _Json) -> None:
        text = json.dumps(redacted(line), ensure_ascii=False)
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


class ReplayModel:
    """Answers as a recorded model did, one request after another.

    Args:
        path: The file that `record` wrote.
        match: ``exact``: each request must be the recorded one; what was masked then may be anything now.
            ``last_message``: its last message must be.

    Raises:
        NotFound: There is no such file.
        InputError: It is no recording.
    """

    def __init__(self, path: str | Path, match: Literal["exact", "last_message"] = "exact") -> None:
        self.path, self.match = Path(path), match
        lines = _read(self.path)
        self.name: str = lines[0]["name"]
        self.capabilities = Capabilities(**lines[0]["capabilities"])
        self.turns = [line for line in lines if "request" in line]
        """The requests with their answers."""
        self.played = 0
        """How many of them were asked again."""
        self._counted: dict[str, int] = {line["counted"]: line["tokens"] for line in lines if "counted" in line}

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Play the next answer.

        Raises:
            RequestDiffers: This is not the recorded request, or there is none left.
            ModelError: As recorded.
        """
        if self.played >= len(self.turns):
            raise RequestDiffers(f"{self.path} has {len(self.turns)} requests and this is one more; record it again")
        turn = self.turns[self.played]
        self._check(turn["request"], redacted(_request(request)))
        self.played += 1
        done = False
        for line in turn["events"]:
            for event in _read_event(line):
                done = isinstance(event, ModelDone)
                await asyncio.sleep(0)
                yield event
        if error := turn.get("error"):
            raise (ContextOverflow if error["type"] == "ContextOverflow" else ModelError)(error["message"])
        if not done:
            raise ModelError(f"request {self.played} in {self.path} was stopped when it was recorded; record it again")

    def count_tokens(self, request: ModelRequest) -> int:
        """As recorded; a guess of 4 characters a token for a request that was not counted then."""
        known = self._counted.get(_digest(request))
        return known if known is not None else len(json.dumps(_request(request))) // 4

    def assert_finished(self) -> None:
        """Fail the test unless every recorded request was asked again.

        Raises:
            AssertionError: Some were not.
        """
        if self.played < len(self.turns):
            raise AssertionError(f"{self.path} has {len(self.turns)} requests; {self.played} were asked again")

    def _check(self, recorded: Any, asked: Any) -> None:
        if self.match == "last_message":
            recorded, asked = recorded["messages"][-1], asked["messages"][-1]
        if _same(recorded, asked):
            return
        before, now = (json.dumps(one, indent=1, ensure_ascii=False).split("\n") for one in (recorded, asked))
        diff = list(difflib.unified_diff(before, now, "recorded", "asked", lineterm="", n=2))
        left_out = [f"… {len(diff) - _DIFF_LINES} more lines"] if len(diff) > _DIFF_LINES else []
        raise RequestDiffers(
            f"request {self.played + 1} is not the one in {self.path}; record it again, or see what changed:\n"
            + "\n".join(diff[:_DIFF_LINES] + left_out)
        )


def _read(path: Path) -> list[_Json]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
        if lines[0]["recording"] == VERSION:
            return lines
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}; make it with mmagent.testing.record") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is no recording; make it with mmagent.testing.record") from error
    raise InputError(f"{path} was recorded by another version; record it again")


def _request(request: ModelRequest) -> _Json:
    """What a model could tell apart in a request; what is at its default is left out."""
    asked: _Json = {"messages": [_message(message) for message in request.messages]}
    if request.tools:
        asked["tools"] = [asdict(tool) for tool in request.tools]
    for name in ("output", "require_call", "regex"):
        if value := getattr(request, name):
            asked[name] = value
    if request.choices:
        asked["choices"] = list(request.choices)
    return asked | {"sampling": asdict(request.sampling) | {"stop": list(request.sampling.stop)}}


def _message(message: Message) -> _Json:
    said: _Json = {"role": message.role, "content": [_block(block) for block in message.content]}
    return said | {key: value for key in ("tool_call_id", "name") if (value := getattr(message, key)) is not None}


def _block(block: Mapping[str, Any]) -> _Json:
    return {key: value for key, value in block.items() if key != "extras"}


def _digest(request: ModelRequest) -> str:
    asked = redacted({key: value for key, value in _request(request).items() if key != "sampling"})
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _add(events: list[_Json], event: ModelEvent) -> None:
    """Write an event down. Pieces of text are joined, for a secret may be cut in two."""
    if isinstance(event, ModelText | ModelReasoning):
        kind = "text" if isinstance(event, ModelText) else "reasoning"
        if events and kind in events[-1]:
            events[-1][kind] += event.text
        else:
            events.append({kind: event.text})
    elif isinstance(event, ModelToolCall):
        events.append({"call": dict(event.call)})
    else:
        events.append({"done": {"usage": event.usage.model_dump(exclude_defaults=True), "stop": event.stop}})


def _read_event(event: _Json) -> Iterator[ModelEvent]:
    """The event as a model streams it: text comes in words."""
    ((kind, value),) = event.items()
    if kind == "text":
        yield from map(ModelText, _WORDS.findall(value))
    elif kind == "reasoning":
        yield from map(ModelReasoning, _WORDS.findall(value))
    elif kind == "call":
        yield ModelToolCall(value)
    else:
        yield ModelDone(Usage(**value["usage"]), value["stop"])


def _same(recorded: Any, asked: Any) -> bool:
    """Whether two JSON values are the same, but for what is masked in the first."""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        return recorded.keys() == asked.keys() and all(_same(value, asked[key]) for key, value in recorded.items())
    if isinstance(recorded, list) and isinstance(asked, list):
        return len(recorded) == len(asked) and all(map(_same, recorded, asked))
    if isinstance(recorded, str) and isinstance(asked, str) and MASK in recorded:
        return _fits(recorded.split(MASK), asked)
    return bool(recorded == asked)


def _fits(pieces: list[str], text: str) -> bool:
    """Whether the text is these pieces in their order, with anything between them."""
    first, *middle, last = pieces
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
