"""A few lines on a sheet, to be read: what documents ask, with fewer words that cannot be guessed. It knows no forms.

A network that has never read learns it from these in thousands of pictures; of whole documents it learns the phrases
first, and those lead it astray for long.
"""

from __future__ import annotations

import random

from mmagent.train.draw.forms import Form, Row
from mmagent.train.draw.papers import draw_paper
from mmagent.train.sample import Count, Draw, Sample, Share, Shown
from mmagent.train.shop import phrases as p
from mmagent.train.sources.documents import conversation, transcription
from mmagent.train.sources.drills import word

_MOST = 22
"""Characters of a line."""


def lines(most: Count = 4, pairs: Share = 0.5) -> Draw:
    """Lines of words, codes and numbers in no order, or of names and values; to copy, or to find a value by its name.

    Args:
        most: Lines of a sheet at most.
        pairs: The share of sheets with names and values.
    """

    def draw(rng: random.Random) -> Sample:
        count = rng.randint(1, most)
        if rng.random() < pairs:
            names = rng.sample(p.VOCABULARY, count)
            rows = [_pair(rng, name) for name in names]
            asked = [(f"{row.left.strip(':')}?", row.right) for row in rng.sample(rows, count)]
            if rng.random() < 0.5:
                asked.insert(0, transcription(rng, _text(rows)))
        else:
            rows = [Row(_words(rng)) for _ in range(count)]
            asked = [transcription(rng, _text(rows))]
        form = Form(rng.choice(("receipt", "label")), {}, (), tuple(rows))
        image, marks = draw_paper(rng, form)
        return conversation(rng, asked, Shown(image, marks))

    return draw


def _text(rows: list[Row]) -> str:
    return "\n".join(row.text for row in rows)


def _pair(rng: random.Random, name: str) -> Row:
    while True:
        row = Row(rng.choice((name, name.capitalize())) + rng.choice(("", ":")), _any(rng))
        if len(row.text) <= _MOST or rng.random() < 0.1:
            return row


def _words(rng: random.Random) -> str:
    text = _any(rng)
    while rng.random() < 0.7 and len(longer := f"{text} {_any(rng)}") <= _MOST:
        text = longer
    return text


def _any(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.5:
        return word(rng)
    said = p.made_up(rng) if draw < 0.75 else rng.choice(p.VOCABULARY)
    return rng.choice((said, said, said.capitalize(), said.upper()))
