"""One tool call, from the model's JSON to what the model is shown. It knows tools; it knows no model and no journal.

The wording of failures is a contract: models are trained on it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, closing, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from mmagent.agent.tools import AnyTool
from mmagent.agent.tools.context import Progress, ToolContext
from mmagent.agent.tools.results import Outcome, Parts, clean, cut_note, is_small
from mmagent.agent.tools.schema import first_error
from mmagent.agent.tools.workers import in_thread
from mmagent.content import Block, Message, ToolCallBlock, text
from mmagent.errors import ToolError
from mmagent.media import BlobStore
from mmagent.redact import redact, redact_error
from mmagent.settings import settings

__all__ = ["FIRST_PAUSE", "Outcome", "check", "failure", "perform", "run_once", "shorten"]

logger = logging.getLogger(__name__)

CLEAN_UP_SECONDS = 0.1
"""What a tool that is cancelled has before nobody waits for it."""
FIRST_PAUSE = 0.1
"""Seconds before a crash is tried again; twice as many before each further time."""
START_TIMEOUT = 60.0
"""Seconds that a process for an isolated tool may take to start; they do not count as the tool's."""
_MAX_WAITING, _MAX_MESSAGE, _MAX_ERROR = 100, 500, 4_000


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
    tool: AnyTool, arguments: dict[str, Any], context: ToolContext[Any], blobs: BlobStore, timeout: float
) -> Outcome:
    """Run a tool. Whatever it does, it has an outcome; only cancelling stops it.

    A crash or timeout is tried again as often as the tool allows. Media in the outcome say in their ``extras`` which
    call gave them (``call_id``) and what to call them (``label``, e.g. ``"chart 1"``).

    Args:
        tool: The tool.
        arguments: As `check` gave them.
        context: What the tool is told; ``call_id`` must be this call's. ``on_progress`` is called in this thread.
        blobs: Where media go.
        timeout: Seconds that each try may take; waiting for other calls of the same tool to end does not count.
    """
    place: AbstractAsyncContextManager[None] = tool.gate or nullcontext()
    for retry in range(tool.retries + 1):
        if retry:
            await asyncio.sleep(FIRST_PAUSE * 2 ** (retry - 1))
        async with place:
            outcome = await run_once(tool, arguments, context, blobs, timeout, settings().max_tool_output_chars)
        if not outcome.crashed:
            break
    return _labelled(outcome, tool.name, context)


def failure(why: str, *, crashed: bool = False) -> Outcome:
    """What the model is shown of a call that failed."""
    why = clean(why[:_MAX_ERROR])
    return Outcome((text(f"error: {why}"),), error=why, crashed=crashed)


def shorten(outcome: Outcome, limit: int) -> Outcome:
    """The outcome with no more than ``limit`` characters of text, and a note where it was cut."""
    total, left = sum(len(block["text"]) for block in outcome.content if block["type"] == "text"), limit
    if total <= limit or outcome.cut:
        return outcome
    blocks: list[Block] = []
    for block in outcome.content:
        if block["type"] == "text":
            block, left = text(block["text"][:left]), max(left - len(block["text"]), 0)
        blocks.append(block)
    return replace(outcome, content=(*blocks, cut_note(limit, total)), cut=True)


async def run_once(
    tool: AnyTool,
    arguments: dict[str, Any],
    context: ToolContext[Any],
    blobs: BlobStore,
    timeout: float | None,
    limit: int,
) -> Outcome:
    """One run of the tool, of at most ``timeout`` seconds, which gives at most ``limit`` characters of text."""
    clock = asyncio.timeout(timeout)
    left: threading.Event | None = None
    if tool.context_parameter or tool.isolate or tool.kind not in ("sync", "async"):
        left = threading.Event()
        context = replace(context, cancelled=left, on_progress=_reporter(context.on_progress, left))
    try:
        async with clock:
            if not tool.isolate:
                return await _run(tool, arguments, context, Parts(blobs, limit))
            from mmagent.agent.tools.isolate import run_isolated

            _set(clock, START_TIMEOUT)
            return await run_isolated(tool, arguments, context, blobs, lambda: _set(clock, timeout))
    except ToolError as error:
        return failure(str(error))
    except TimeoutError as error:
        late = f"{tool.name} timed out after {timeout or START_TIMEOUT:g} s"
        return failure(late if clock.expired() else _crash(tool, error), crashed=True)
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        return failure(_crash(tool, error), crashed=True)  # the tool itself was cancelled, the turn was not
    except (Exception, SystemExit) as error:
        return failure(_crash(tool, error), crashed=True)
    finally:
        if left is not None:
            left.set()


async def _run(tool: AnyTool, arguments: dict[str, Any], context: ToolContext[Any], parts: Parts) -> Outcome:
    def shown(value: Any) -> Outcome:
        parts.add(value)
        return parts.outcome()

    def call() -> Any:
        value = tool.call(arguments, context)
        return value if inspect.isawaitable(value) else shown(value)

    thread = f"tool {tool.name}"
    if tool.kind == "async generator":
        return await _until_left(_gather(tool, arguments, context, parts))  # type: ignore[no-any-return]
    if tool.kind == "generator":
        return await in_thread(lambda: _drain(tool, arguments, context, parts), thread)
    if tool.kind == "async":
        value = await _until_left(tool.call(arguments, context))
    else:
        made = await in_thread(call, thread)
        if isinstance(made, Outcome):
            return made
        value = await _until_left(made)  # a plain function that returned a coroutine
    return shown(value) if is_small(value) else await in_thread(lambda: shown(value), thread)


async def _until_left(work: Awaitable[Any]) -> Any:
    """What a tool returns. Once it is cancelled it has a moment to clean up; one that will not end is left alone."""
    task = asyncio.ensure_future(_with_exit(work))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task}, timeout=CLEAN_UP_SECONDS)
        if not task.done():
            logger.warning("a tool does not heed that it was cancelled; it goes on by itself")
            task.add_done_callback(_forget)
        else:
            _forget(task)
        raise
    value, end = task.result()
    if end is not None:
        raise end
    return value


async def _with_exit(work: Awaitable[Any]) -> tuple[Any, SystemExit | None]:
    """What a tool returns, or its `SystemExit`, which would end the event loop if it came out of a task."""
    try:
        return await work, None
    except SystemExit as end:
        return None, end


def _forget(task: asyncio.Future[Any]) -> None:
    """Look at what became of a task that nobody waits for, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()


def _drain(tool: AnyTool, arguments: dict[str, Any], context: ToolContext[Any], parts: Parts) -> Outcome:
    """All that a generator yields, and what it returns; once nobody waits for it, it is closed where it stands."""
    with closing(tool.call(arguments, context)) as stream:
        while not context.cancelled.is_set():
            try:
                part = next(stream)
            except StopIteration as end:
                if end.value is not None:
                    parts.add(end.value)
                break
            if isinstance(part, Progress):
                context.progress(part.message, part.fraction)
            else:
                parts.add(part)
    return parts.outcome()


async def _gather(tool: AnyTool, arguments: dict[str, Any], context: ToolContext[Any], parts: Parts) -> Outcome:
    async with aclosing(tool.call(arguments, context)) as stream:
        async for part in stream:
            if isinstance(part, Progress):
                context.progress(part.message, part.fraction)
            elif is_small(part):
                parts.add(part)
            else:
                await in_thread(partial(parts.add, part), f"tool {tool.name}")
    return parts.outcome()


def _reporter(tell: Callable[[Progress], None] | None, left: threading.Event) -> Callable[[Progress], None] | None:
    """``tell``, for any thread. Of what a thread says faster than the event loop can hear, some is left out."""
    if tell is None:
        return None
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    waiting: deque[Progress] = deque()

    def deliver() -> None:
        progress = waiting.popleft()
        if not left.is_set():
            tell(progress)

    def report(progress: Progress) -> None:
        fraction = progress.fraction
        if fraction is not None:
            fraction = min(max(float(fraction), 0.0), 1.0) if math.isfinite(fraction) else None
        progress = Progress(clean(str(progress.message)[:_MAX_MESSAGE]), fraction)
        if threading.get_ident() == here:
            tell(progress)
        elif len(waiting) < _MAX_WAITING and not loop.is_closed():
            waiting.append(progress)
            with suppress(RuntimeError):  # closed just now
                loop.call_soon_threadsafe(deliver)

    return report


def _labelled(outcome: Outcome, name: str, context: ToolContext[Any]) -> Outcome:
    """The outcome, its media marked with the call that gave them and a label that no other media of the tool have."""
    if all(block["type"] == "text" for block in outcome.content):
        return outcome
    for picture in context.pictures:
        tool, _, number = str(picture.get("extras", {}).get("label", "")).rpartition(" ")
        if tool == name and number.isdigit():
            context.labels[name] = max(context.labels[name], int(number))
    blocks: list[Block] = []
    for block in outcome.content:
        if block["type"] in ("image", "audio", "video", "file"):
            context.labels[name] += 1
            extras = {"call_id": context.call_id, "label": f"{name} {context.labels[name]}"}
            block = {**block, "extras": {**block.get("extras", {}), **extras}}
        blocks.append(block)
    return replace(outcome, content=tuple(blocks))


def _set(clock: asyncio.Timeout, seconds: float | None) -> None:
    clock.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


def _crash(tool: AnyTool, error: BaseException) -> str:
    logger.debug("the tool %s failed\n%s", tool.name, redact_error(error))
    return redact(f"{tool.name} failed: {type(error).__name__}: {error}".removesuffix(": "))
