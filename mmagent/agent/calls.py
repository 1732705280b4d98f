"""One tool call, from the model's JSON to what the model is shown. It knows tools; it knows no model and no journal.

The wording of failures is a contract: models are trained on it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from mmagent.agent.schema import first_error
from mmagent.agent.tools import AnyTool, ToolContext, ToolResult
from mmagent.content import Block, Image, Media, Message, ToolCallBlock, text
from mmagent.errors import ToolError
from mmagent.media import BlobStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a call."""

    content: tuple[Block, ...]
    """What the model is shown."""
    data: Any = None
    """JSON for programs."""
    error: str | None = None
    """Why it failed."""
    crashed: bool = False
    """Whether it failed in a way its author did not foresee."""


def check(
    call: ToolCallBlock, tools: Mapping[str, AnyTool], messages: Sequence[Message]
) -> tuple[AnyTool, dict[str, Any]]:
    """The tool that a call means, and its keyword arguments.

    Raises:
        ToolError: There is no such tool, the arguments do not follow its schema, or a quoted one is no quote.
    """
    name = call["name"]
    chosen = tools.get(name)
    if chosen is None:
        raise ToolError(f"there is no tool {name}; there are: {', '.join(tools)}")
    try:
        arguments = chosen.validate(call["args"], messages)
    except ValidationError as error:
        raise ToolError(f"{name} got wrong arguments: {first_error(error)}") from error
    return chosen, arguments


async def perform(
    tool: AnyTool, arguments: dict[str, Any], context: ToolContext, blobs: BlobStore, timeout: float
) -> Outcome:
    """Run a tool for at most ``timeout`` seconds. Whatever it does, it has an outcome; only cancelling stops it."""
    if tool.context_parameter:
        arguments = arguments | {tool.context_parameter: context}
    clock = asyncio.timeout(timeout)
    try:
        async with clock:
            value = await _call(tool, arguments)
            return await asyncio.to_thread(_show, value, blobs)
    except ToolError as error:
        return failure(str(error))
    except TimeoutError as error:
        late = f"{tool.name} timed out after {timeout:g} s"
        return failure(late if clock.expired() else _crash(tool, error), crashed=True)
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        return failure(_crash(tool, error), crashed=True)  # the tool itself was cancelled, the turn was not
    except (Exception, SystemExit) as error:
        return failure(_crash(tool, error), crashed=True)


def failure(why: str, *, crashed: bool = False) -> Outcome:
    """What the model is shown of a call that failed."""
    why = _clean(why)
    return Outcome((text(f"error: {why}"),), error=why, crashed=crashed)


def shorten(outcome: Outcome, limit: int) -> Outcome:
    """The outcome with no more than ``limit`` characters of text, and a note where it was cut."""
    total, left = sum(len(block["text"]) for block in outcome.content if block["type"] == "text"), limit
    if total <= limit:
        return outcome
    blocks: list[Block] = []
    for block in outcome.content:
        if block["type"] == "text":
            block, left = text(block["text"][:left]), max(left - len(block["text"]), 0)
        blocks.append(block)
    note = text(f"\n[cut: this is the beginning, {limit} of {total} characters]")
    return replace(outcome, content=(*blocks, note))


async def _call(tool: AnyTool, arguments: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(tool.function):
        return await tool.function(**arguments)
    return await _in_thread(tool.name, tool.function, arguments)


async def _in_thread(name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call ``function`` in a thread of its own, which nobody waits for once this is cancelled or the process ends."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()

    def report(value: Any, error: BaseException | None) -> None:
        if not finished.done():
            finished.set_result((value, error))

    def work() -> None:
        value, error = None, None
        try:
            value = context.run(function, **arguments)
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(report, value, error)

    threading.Thread(target=work, name=f"tool {name}", daemon=True).start()
    value, error = await finished
    if error is not None:
        raise error
    return value


def _show(value: Any, blobs: BlobStore) -> Outcome:
    result = value if isinstance(value, ToolResult) else ToolResult(value)
    several = isinstance(result.content, list) and (result is value or any(map(_is_picture, result.content)))
    blocks: list[Block] = []
    for block in (_block(item, blobs) for item in (result.content if several else [result.content])):
        if blocks and blocks[-1]["type"] == "text" and block["type"] == "text":
            blocks[-1] = text(f"{blocks[-1]['text']}\n{block['text']}")
        else:
            blocks.append(block)
    return Outcome(tuple(blocks) or (text("done"),), data=to_jsonable_python(result.data))


def _block(value: Any, blobs: BlobStore) -> Block:
    if value is None:
        return text("done")
    if isinstance(value, str):
        return text(_clean(value))
    if _is_picture(value):
        return blobs.admit(value if isinstance(value, Media) else Image(value))
    return text(_clean(json.dumps(to_jsonable_python(value), ensure_ascii=False)))


def _is_picture(value: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")  # whoever made a PIL image has imported it
    return isinstance(value, Media) or (pillow is not None and isinstance(value, pillow.Image))


def _clean(value: str) -> str:
    """Half surrogate pairs, which no encoding can carry, become question marks."""
    return str.__str__(value).encode("utf-8", "replace").decode("utf-8")


def _crash(tool: AnyTool, error: BaseException) -> str:
    logger.debug("the tool %s failed", tool.name, exc_info=error)
    return f"{tool.name} failed: {type(error).__name__}: {error}".removesuffix(": ")
