"""How soon a model begins to speak about a picture, and how fast it goes on, on two threads. It knows no right answers.

Each question is about a receipt that was never shown before, under instructions of its own, so that no cache of
pictures or prefixes helps.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mmagent.chat.local import LocalModel
from mmagent.chat.protocol import ChatModel, ModelDone, ModelRequest, ModelText, ModelToolCall
from mmagent.evaluate.ask import Asker
from mmagent.evaluate.skills import Score, Told
from mmagent.train.sample import Sample, system, user
from mmagent.train.shop.cases import draw_picture
from mmagent.train.shop.episodes import SYSTEM, TOOLS
from mmagent.train.shop.pictures import shown

BAR = 1.0
"""Seconds."""
RUNS = 5
THREADS = 2
TOKENS = 48
"""Of an answer, at most."""


@dataclass(frozen=True)
class Pace:
    """One answer."""

    first: float
    """Seconds to the first event that carries text or a call; 0 where there was none."""
    rest: float
    """Seconds from the first text to the end; 0 where a call came first, for a call comes whole."""
    tokens: int


def speed(model: LocalModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None) -> list[Score]:
    """Medians of ``count`` answers after one that warms up; the whole time counts, from request to token."""
    runs = RUNS if count is None else max(1, count)
    rng = random.Random(f"speed {seed}")
    with threads(THREADS):
        fresh = again(model)
        with Asker(fresh) as ask:
            paces = [asyncio.run(pace(fresh, ask.request(question(rng), TOKENS))) for _ in range(runs + 1)][1:]
    spoken = [one.first for one in paces if one.first]
    if not spoken:
        told("skipped: it said nothing and called nothing")
        return []
    first = statistics.median(spoken)
    rates = [(one.tokens - 1) / one.rest for one in paces if one.tokens > 1 and one.rest > 0]
    told(f"first token after {first:.2f} s")
    scores = [Score("first token with a receipt", round(first, 3), 0, BAR, "s")]
    if rates:
        scores.append(Score("tokens per second", round(statistics.median(rates), 1), 0, None, "tokens/s"))
    return scores


def again(model: LocalModel) -> LocalModel:
    """The same model with workers of its own: threads that have computed keep the number of theirs.

    On an accelerator, where threads have no say, it is the model itself, for memory may not hold it twice.
    """
    loaded = model.engine().loaded
    if loaded.device.type != "cpu":
        return model

    from mmagent.engine.load import find_folder

    return LocalModel(find_folder(loaded.model.name_or_path))


def question(rng: random.Random) -> Sample:
    """A new receipt, asked about as the shop's customers do, with the shop's tools."""
    picture = shown(rng, draw_picture(rng, "receipt"))
    words = f"Can I still return the item for {rng.randint(100, 999)}.{rng.randint(10, 99)}?"
    instructions = f"{SYSTEM}\nYou answer the customers of shop {rng.randint(1000, 9999)}."
    return Sample([system(instructions), user(words, images=1)], list(TOOLS), [picture])


async def pace(model: ChatModel, request: ModelRequest) -> Pace:
    """How fast a request is answered."""
    began = time.perf_counter()
    first, tokens, streamed = 0.0, 0, False
    async for event in model.stream(request):
        if not first and (isinstance(event, ModelToolCall) or (isinstance(event, ModelText) and event.text.strip())):
            first, streamed = time.perf_counter() - began, isinstance(event, ModelText)
        elif isinstance(event, ModelDone):
            tokens = event.usage.completion_tokens
    return Pace(first, time.perf_counter() - began - first if streamed else 0.0, tokens)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on that many threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
