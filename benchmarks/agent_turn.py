"""What caches are worth in an agent's turn about a picture: the time to the first token of each of its five steps.

The first four steps each call a tool, whose only choice is one token, so a call is there as soon as a first token; the
fifth answers. Networks: nano, and one of SmolVLM-256M's shape with random weights, whose tokens are bytes. Then eight
requests at once against the same eight one by one, which must say the same. Prints tables and a JSON line; exit code 1
where eight at once say something else.

    python -m benchmarks.agent_turn [--quick]   # --quick: nano only, 2 rounds
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import platformdirs
from PIL import Image as Pictures

from benchmarks.peers.checkpoints import random_vlm
from mmagent import Agent, Capabilities, Image, LocalModel, Message, Settings, tool
from mmagent.chat.protocol import ChatModel, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall, Sampling
from mmagent.content import text
from mmagent.media import BlobStore
from mmagent.settings import settings

CALLS, AT_ONCE, TOKENS = 4, 8, 64
CACHES = {"on": {}, "off": {"prefix_cache_bytes": "0", "feature_cache_bytes": "0"}}
NO_TOOL = "The picture shows a lamp, order 48213, paid with a card in May; the warranty is two years. " * 3


@dataclass
class Step:
    """One step of a turn."""

    seconds: float
    """From the request to the first event: the tool call, or the answer's first text."""
    prompt_tokens: int
    prefilled_tokens: int


@dataclass
class Turns:
    """The turns of one network with caches on or off."""

    steps: list[list[Step]] = field(default_factory=list)
    """Of each round."""
    encoder_runs: int = 0
    """In one turn."""

    def median(self, step: int) -> float:
        """Milliseconds to the first token."""
        return 1000 * statistics.median(steps[step].seconds for steps in self.steps)


@tool(effect="read")
def look(part: Literal["left", "right"]) -> str:
    """Look at a part of the picture.

    Args:
        part: Which half.
    """
    return NO_TOOL + part


class Rehearsed:
    """A `ChatModel` that has another one call a tool in the first steps and answer in the last, and notes the times."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model
        self.steps: list[Step] = []

    @property
    def name(self) -> str:
        """The other's."""
        return self._model.name

    @property
    def capabilities(self) -> Capabilities:
        """The other's."""
        return self._model.capabilities

    def count_tokens(self, request: ModelRequest) -> int:
        """The other's."""
        return self._model.count_tokens(request)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The other's first call, or an answer in place of its own: what random weights say may be nothing at all."""
        calls, called = len(self.steps) < CALLS, False
        sampling = Sampling(max_tokens=80) if calls else Sampling(max_tokens=16, temperature=1, seed=0)
        began, first = time.perf_counter(), 0.0
        async for event in self._model.stream(replace(request, require_call=calls, sampling=sampling)):
            first = first or time.perf_counter() - began
            if isinstance(event, ModelToolCall) and not called:
                called = True
                yield event
            elif isinstance(event, ModelDone):
                usage = event.usage
                self.steps.append(Step(first, usage.prompt_tokens, usage.prompt_tokens - usage.cached_tokens))
                if not calls:
                    yield ModelText("That is all.")
                yield replace(event, stop="tool_calls" if calls else "end")


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Settings by field, for a while."""
    names = {Settings.variable(field): value for field, value in values.items()}
    os.environ.update(names)
    settings.cache_clear()
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        settings.cache_clear()


@contextmanager
def counting_encoders(counted: list[str]) -> Iterator[None]:
    """Note each run of a vision tower."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    def note(module: Any, inputs: Any) -> None:
        if type(module).__name__.endswith("VisionModel"):
            counted.append(type(module).__name__)

    handle = register_module_forward_pre_hook(note)
    try:
        yield
    finally:
        handle.remove()


def picture(seed: int) -> Pictures.Image:
    """A picture that no other seed has."""
    return Pictures.linear_gradient("L").resize((512, 512)).rotate(seed).convert("RGB")


def question(words: str, blobs: BlobStore, **sampling: Any) -> ModelRequest:
    """A request without tools."""
    return ModelRequest((Message(role="user", content=(text(words),)),), blobs, sampling=Sampling(**sampling))


async def collect(model: ChatModel, request: ModelRequest) -> tuple[str, int]:
    """What a model says, and in how many tokens."""
    words, tokens = "", 0
    async for event in model.stream(request):
        if isinstance(event, ModelText):
            words += event.text
        elif isinstance(event, ModelDone):
            tokens = event.usage.completion_tokens
    return words, tokens


def fresh(path: str | Path, blobs: BlobStore) -> LocalModel:
    """A model that has been used once, for another question about another picture."""
    model = LocalModel(path)
    block = blobs.admit(Image(picture(90)))
    warm = ModelRequest(
        (Message(role="user", content=(block, text("?"))),), blobs, sampling=Sampling(max_tokens=2, temperature=1)
    )
    asyncio.run(collect(model, warm))
    return model


def turn(path: str | Path, blobs: BlobStore, counted: list[str] | None) -> list[Step]:
    """One turn of a fresh model; encoder runs are counted where there is a list for them."""
    model = Rehearsed(fresh(path, blobs))
    with Agent(model, tools=[look], builtins=False, blobs=blobs, max_steps=CALLS + 1) as agent:
        if counted is None:
            agent.run("What is in the picture?", Image(picture(0)))
        else:
            with counting_encoders(counted):
                agent.run("What is in the picture?", Image(picture(0)))
    return model.steps


def compare_caches(path: str | Path, blobs: BlobStore, rounds: int) -> dict[str, Turns]:
    """Turns with caches on and off, in turn; the first of each is not timed, but its encoder runs are counted."""
    results = {name: Turns() for name in CACHES}
    for number in range(rounds + 1):
        for name, values in CACHES.items():
            counted: list[str] | None = [] if number == 0 else None
            with environment(values):
                steps = turn(path, blobs, counted)
            if counted is None:
                results[name].steps.append(steps)
            else:
                results[name].encoder_runs = len(counted)
    return results


def compare_batch(path: str | Path, blobs: BlobStore, rounds: int) -> dict[str, Any]:
    """Tokens per second of requests one by one and at once, and how many of them say the same."""
    requests = [
        question(f"{index}. What about order {index * 977}?", blobs, max_tokens=TOKENS, temperature=1, seed=index)
        for index in range(AT_ONCE)
    ]

    async def alone(model: LocalModel) -> list[tuple[str, int]]:
        return [await collect(model, request) for request in requests]

    async def together(model: LocalModel) -> list[tuple[str, int]]:
        return list(await asyncio.gather(*(collect(model, request) for request in requests)))

    rates: dict[str, list[float]] = {"one by one": [], "at once": []}
    equal = AT_ONCE
    for _ in range(rounds):
        said = {}
        for name, ask in (("one by one", alone), ("at once", together)):
            model = fresh(path, blobs)
            began = time.perf_counter()
            said[name] = asyncio.run(ask(model))
            rates[name].append(sum(tokens for _, tokens in said[name]) / (time.perf_counter() - began))
        equal = min(equal, sum(one == other for one, other in zip(*said.values(), strict=True)))
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    return {"tokens_per_s": medians, "equal": equal, "of": AT_ONCE}


def table(name: str, results: dict[str, Turns]) -> str:
    """Markdown."""
    lines = [
        f"| {name}: step | prompt tokens | prefilled, caches on | off | ms to first token, on | off | off / on |",
        "|---|---|---|---|---|---|---|",
    ]
    on, off = results["on"], results["off"]
    for index in range(CALLS + 1):
        first, second = on.steps[0][index], off.steps[0][index]
        times = on.median(index), off.median(index)
        lines.append(
            f"| {index + 1} | {first.prompt_tokens} | {first.prefilled_tokens} | {second.prefilled_tokens} | "
            f"{times[0]:.0f} | {times[1]:.0f} | {times[1] / times[0]:.1f} |"
        )
    lines += ["", f"Runs of the vision tower in a turn: {on.encoder_runs} with caches, {off.encoder_runs} without.", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(platformdirs.user_cache_dir("mmagent-benchmarks")))
    options = parser.parse_args()
    rounds = 2 if options.quick else 3
    models: dict[str, str | Path] = {"nano": "nano"}
    if not options.quick:
        models["256M"] = random_vlm(options.folder)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        blobs = BlobStore(Path(folder))
        for name, path in models.items():
            turns = compare_caches(path, blobs, rounds)
            print(table(name, turns), flush=True)
            batch = compare_batch(path, blobs, rounds)
            rates = batch["tokens_per_s"]
            print(
                f"{AT_ONCE} requests, tokens/s: {rates['one by one']} one by one, {rates['at once']} at once; "
                f"{batch['equal']} of {AT_ONCE} say the same.\n",
                flush=True,
            )
            report[name] = {"turns": {caches: asdict(value) for caches, value in turns.items()}, "batch": batch}
    print(json.dumps({"benchmark": "agent_turn", "models": report}))
    raise SystemExit(int(any(entry["batch"]["equal"] < AT_ONCE for entry in report.values())))


if __name__ == "__main__":
    main()
