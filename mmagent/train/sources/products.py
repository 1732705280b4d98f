"""Photos of products and other kinds of pictures, each with several short questions. It knows no tools and no plans."""

from __future__ import annotations

import random

from mmagent.train.draw.pictures import COLORS, PRODUCTS
from mmagent.train.sample import Draw, Message, Sample, Share, Shown, assistant, system, user
from mmagent.train.shop import phrases as p
from mmagent.train.shop.cases import draw_picture
from mmagent.train.shop.episodes import SYSTEM
from mmagent.train.shop.pictures import Thing, an, listed, photo, shown

KINDS = {"receipt": "a receipt", "label": "a parcel label", "unrelated": "something else", "product": "a product"}
"""The kinds of pictures, as they are named."""
_NUMBERS = ("", "one", "two", "three")
_WHAT = "{What is in the picture|What is this|What do you see|What does the photo show|Name what you see}?"
_KIND = (
    "{What kind of picture is this|Is it a receipt, a parcel label, a product or something else|What sort of picture}?"
)

Round = tuple[str, str]
"""Question and answer."""


def products(kinds: Share = 0.2) -> Draw:
    """Pictures of one to three products, with questions on what they are, their colours and places.

    Args:
        kinds: The share of pictures that are of another kind: receipts, labels, scenes.
    """

    def draw(rng: random.Random) -> Sample:
        if rng.random() < kinds:
            kind = rng.choice(("receipt", "label", "unrelated"))
            return _talk(rng, shown(rng, draw_picture(rng, kind)), _kind_rounds(rng, kind))
        colors, count = sorted(COLORS), rng.choices((1, 2, 3), (6, 3, 1))[0]
        things = list(zip(rng.sample(colors, count), rng.sample(PRODUCTS, count), strict=True))
        if count == 1 and rng.random() < 0.5:
            picture = shown(rng, draw_picture(rng, " ".join(things[0])))
        else:
            picture = photo(rng, things)
        return _talk(rng, picture, _rounds(rng, things))

    return draw


def _talk(rng: random.Random, picture: Shown, rounds: list[Round]) -> Sample:
    messages: list[Message] = [system(SYSTEM)] if rng.random() < 0.3 else []
    for index, (question, answer) in enumerate(rounds):
        messages += [user(question, images=0 if index else 1), assistant(answer)]
    return Sample(messages, [], [picture])


def _kind_rounds(rng: random.Random, kind: str) -> list[Round]:
    other = rng.choice([name for name in KINDS if name not in (kind, "unrelated")])
    asked = "{Is {this|it}|Do you see} <kind>?"
    rounds = [(p.expand(rng, _KIND), KINDS[kind])]
    rounds.append((p.expand(rng, asked).replace("<kind>", KINDS[other]), f"no, {KINDS[kind]}"))
    if kind != "unrelated":
        rounds.append((p.expand(rng, asked).replace("<kind>", KINDS[kind]), "yes"))
    return rng.sample(rounds, rng.randint(1, len(rounds)))


def _rounds(rng: random.Random, things: list[Thing]) -> list[Round]:
    """Three to five questions about products from left to right."""
    color, product = rng.choice(things)
    other = rng.choice([name for name in PRODUCTS if name not in [thing[1] for thing in things]])
    wrong = rng.choice([name for name in sorted(COLORS) if name not in [thing[0] for thing in things]])
    names = [" ".join(thing) for thing in things]
    named = an(f"{color} {product}") if len(things) == 1 else f"the {product} is {color}"
    rounds = [
        (p.expand(rng, _WHAT), listed([an(name) for name in names])),
        (p.expand(rng, f"{{What {{color|colour}} is the {product}|Which {{color|colour}} has the {product}}}?"), color),
        (p.expand(rng, f"{{Is there|Do you see}} {an(product)}?"), "yes"),
        (p.expand(rng, f"{{Is there|Do you see}} {an(other)}?"), f"no, {listed([an(thing[1]) for thing in things])}"),
        (p.expand(rng, f"Is the {product} {wrong}?"), f"no, {color}"),
        (p.expand(rng, f"Is the {product} {color}?"), "yes"),
        (p.expand(rng, f"Is {{there|this}} {an(wrong)} {product}?"), f"no, {named}"),
        (p.expand(rng, "{How many products|How many things} {are there|do you see}?"), _NUMBERS[len(things)]),
        (p.expand(rng, _KIND), KINDS["product"]),
    ]
    if len(things) > 1:
        side, place = rng.choice((("left", 0), ("right", -1)))
        rounds.append((p.expand(rng, f"{{What is|Which product is}} on the {side}?"), an(names[place])))
        rounds.append((f"What {'color' if rng.random() < 0.5 else 'colour'} is the left product?", things[0][0]))
        rounds.append((f"What is {color}?", f"the {product}"))
    return rng.sample(rounds, rng.randint(3, 6))
