"""Questions that are beyond a small model, with what it says then, and others between them. It knows no results.

None of the tools offered could help. Beside those questions stand some that it can answer, so that it tells both
apart.
"""

from __future__ import annotations

import random

from PIL import Image

from mmagent.train.draw.pictures import COLORS, PRODUCTS
from mmagent.train.sample import Draw, Message, Sample, Share, Shown, Tool, assistant, system, user
from mmagent.train.shop import photos
from mmagent.train.shop import phrases as p
from mmagent.train.shop.beyond import BEYOND, TEXT_KINDS, question
from mmagent.train.shop.cases import draw_picture
from mmagent.train.shop.episodes import SYSTEM
from mmagent.train.shop.pictures import an, shown
from mmagent.train.shop.tools import BUILT_IN, draw_distractors, name_of

SMALL_TALK: dict[str, str] = {
    "greeting": "Hello! How can I help you?",
    "thanks": "You are welcome!",
    "goodbye": "Goodbye!",
}
"""What customers say beside questions, and what is answered."""
WITHOUT_DOCUMENTS = tuple(tool for tool in BUILT_IN if name_of(tool) != "search_knowledge")
"""What an assistant is offered that was given nothing to search in; with documents, it should search them."""
Round = tuple[str, str]
"""Question and answer."""


def beyond(pictures: Share = 0.5, within: Share = 0.35, held_out: bool = False) -> Draw:
    """Conversations of one to three questions, most of them beyond a small model.

    Args:
        pictures: The share of conversations about a picture.
        within: The share of conversations that have something it can answer, too.
        held_out: Whether questions are of wordings that training never draws.
    """

    def draw(rng: random.Random) -> Sample:
        rounds: list[Round]
        if rng.random() >= pictures:
            rounds = [_asked(rng, rng.choice(TEXT_KINDS), held_out) for _ in range(rng.randint(1, 2))]
            if rng.random() < within:
                rounds.insert(rng.randint(0, len(rounds)), _small_talk(rng, held_out))
            return _talk(rng, rounds, [])
        if rng.random() < within:  # a picture that it knows, then a question about the world
            name = f"{rng.choice(sorted(COLORS))} {rng.choice(PRODUCTS)}"
            rounds = [(p.expand(rng, "What is {this|in the picture}?"), an(name))]
            rounds.append(_asked(rng, rng.choice(TEXT_KINDS), held_out))
            return _talk(rng, rounds, [shown(rng, draw_picture(rng, name))])
        rounds = [_asked(rng, "photo", held_out) for _ in range(rng.choice((1, 1, 2)))]
        if rng.random() < 0.2:
            rounds.append(_small_talk(rng, held_out))
        return _talk(rng, rounds, [Shown(picture(rng))])

    return draw


def picture(rng: random.Random) -> Image.Image:
    """A picture of the open world: as photographs look, or drawn."""
    if rng.random() < 0.75:
        return photos.photo(rng)
    return rng.choice(photos.SCENES)(rng).convert("RGB")


def _asked(rng: random.Random, kind: str, held_out: bool) -> Round:
    text = question(rng, kind, held_out=held_out)
    if rng.random() < 0.15:
        text = p.expand(rng, p.SENTENCES["opening"]) + text
    if rng.random() < 0.15:
        text = text.lower().rstrip("?.")
    return text, BEYOND[kind]


def _small_talk(rng: random.Random, held_out: bool) -> Round:
    name = rng.choice(sorted(SMALL_TALK))
    return p.phrase(rng, p.SENTENCES[name], held_out), SMALL_TALK[name]


def _talk(rng: random.Random, rounds: list[Round], shown: list[Shown]) -> Sample:
    tools: list[Tool] = []
    if rng.random() < 0.6:
        tools = [*(WITHOUT_DOCUMENTS if rng.random() < 0.7 else ()), *draw_distractors(rng, 0.4, of_trade=True)]
    messages: list[Message] = [system(SYSTEM)] if tools or rng.random() < 0.3 else []
    for index, (text, answer) in enumerate(rounds):
        messages += [user(text, images=len(shown) if index == 0 else 0), assistant(answer)]
    return Sample(messages, tools, shown)
