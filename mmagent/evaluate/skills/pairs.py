"""Whether a model's vectors tell which words go with which picture. It knows pictures and captions, no questions.

Half are scenes and half documents, drawn from dice that training never threw; where there are no scenes, products.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from mmagent.chat.local import LocalModel
from mmagent.errors import ConfigurationError, NotFound
from mmagent.evaluate.skills import Score, Told
from mmagent.train.sample import Draw, Shown
from mmagent.train.sources import make_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BAR = 0.90
COUNT = 500
SOURCES = ("scenes", "documents")
INSTEAD = "products"
"""Where one of the sources is not there."""
_TRIES = 40
"""Draws for each picture that is wanted: captions are not repeated."""
_SHOWN = 8


def pairs(model: LocalModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None) -> list[Score]:
    """How often the right one of ``count`` captions is nearest to a picture, and of pictures to a caption."""
    network = model.engine().loaded.model
    if getattr(network.config, "projection_dim", None) is None or network.config.model_type != "mmagent":
        told(f"skipped: {model.name} has no contrastive head")
        return []

    from mmagent.engine.load import find_folder
    from mmagent.knowledge.embed.nano import ContrastiveEmbedder

    shown = draw_pairs(COUNT if count is None else count, seed, told)
    embedder = ContrastiveEmbedder(find_folder(network.name_or_path))
    pictures = embedder.embed_pictures([one.image for one in shown])
    told(f"pairs: {len(pictures)} pictures")
    return scored(pictures, embedder.embed([one.caption for one in shown]), [one.caption for one in shown])


def scored(pictures: NDArray[np.float32], texts: NDArray[np.float32], captions: list[str]) -> list[Score]:
    """Recall@1 both ways.

    Args:
        pictures: ``[N, E]`` vectors of length 1.
        texts: ``[N, E]``, those of the captions, in the same order.
        captions: What is told of mistakes.
    """
    likeness = pictures @ texts.T  # [N pictures, N texts]
    ways = {"image to text r@1": likeness.argmax(1), "text to image r@1": likeness.argmax(0)}
    return [_score(name, nearest.tolist(), captions) for name, nearest in ways.items()]


def draw_pairs(count: int, seed: int, told: Told = lambda _: None) -> list[Shown]:
    """So many pictures with captions, none twice, half of each source."""
    found: list[Shown] = []
    for number, name in enumerate(SOURCES):
        draw = _source(name, told)
        share = count // len(SOURCES) + (number < count % len(SOURCES))
        rng = random.Random(f"held out: pairs {name} {seed}")
        known: dict[str, Shown] = {}
        for _ in range(_TRIES * share):
            for one in draw(rng).pictures:
                if one.caption and len(known) < share:
                    known.setdefault(one.caption, one)
            if len(known) == share:
                break
        found += known.values()
    return found


def _source(name: str, told: Told) -> Draw:
    options: dict[str, Any] = {}
    try:
        return make_source(name, options)
    except (ImportError, ConfigurationError, NotFound) as error:
        told(f"pairs: {INSTEAD} in place of {name}: {error}")
        return make_source(INSTEAD, options)


def _score(name: str, nearest: list[int], captions: list[str]) -> Score:
    wrong = [
        f"{captions[index]} | {captions[other]}"
        for index, other in enumerate(nearest)
        if captions[other] != captions[index]
    ]
    return Score(name, len(nearest) - len(wrong), len(nearest), BAR, wrong=tuple(wrong[:_SHOWN]))
