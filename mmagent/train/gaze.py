"""Where the decoder looks as it reads: a lesson for its attention alone. It knows rows and pictures, no network.

The words of an answer tell a decoder little about where in a picture they come from, and until it looks there it
learns to guess. This asks one head of three layers, at each token of an answer that stands printed in a picture, to
look at the picture's token where it stands (guided alignment: Chen et al., arXiv 1607.01628).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

from mmagent.train.packing import IGNORED, Row
from mmagent.train.sample import Shown

HEAD = 0
"""The one that is asked."""
_WORD = re.compile(r"[^\s\"'{}\[\]<>]+")
_SURE = 4
"""Characters that are not printed by chance in the same order."""


def watched(layers: int) -> frozenset[int]:
    """The layers, of so many, whose head is asked: two that lead to the place, and one that reads there."""
    return frozenset((layers // 4, layers // 2, 3 * layers // 4))


class Printed:
    """What is printed in a picture, in the order in which it was written, and at which of its tokens.

    Args:
        shown: The picture and its marks.
        first: The place of the picture's first token in its row.
        count: The picture's tokens: a square grid over it.
    """

    def __init__(self, shown: Shown, first: int, count: int) -> None:
        side, (width, height) = math.isqrt(count), shown.image.size
        self.last = first + count - 1
        """The place of the picture's last token."""
        characters = [mark for mark in shown.marks if len(mark.name) == 1]
        self.text = "".join(mark.name for mark in characters)
        self.places = [
            first
            + min(side - 1, max(0, int((top + bottom) / 2 / height * side))) * side
            + min(side - 1, max(0, int((left + right) / 2 / width * side)))
            for left, top, right, bottom in (mark.box for mark in characters)
        ]


def looks(row: Row, pieces: Sequence[str], pictures: Sequence[Printed]) -> list[tuple[int, int]]:
    """From where in a row to look where: the place before each token of an answer, and that of the picture's token.

    Args:
        row: The sample.
        pieces: The text of each of its tokens; empty for special ones.
        pictures: Those in it.
    """
    found: dict[int, int] = {}
    for start, end in _answers(row.labels):
        owners = [place for place in range(start, end) for _ in pieces[place]]
        text = "".join(pieces[start:end])
        for picture in pictures:
            if picture.last < start:  # what is shown later was not read
                for at, shown in _shared(text, picture):
                    found.setdefault(owners[at] - 1, picture.places[shown])  # the token's first character
    return sorted(found.items())


def _answers(labels: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = None
    for place, label in enumerate((*labels, IGNORED)):
        if label != IGNORED and start is None:
            start = place
        elif label == IGNORED and start is not None:
            yield start, place
            start = None


def _shared(text: str, picture: Printed) -> Iterator[tuple[int, int]]:
    """Places of characters in a text and of the same ones among those printed: of all of it, or word by word."""
    solid = [place for place, char in enumerate(text) if not char.isspace()]
    if (at := _find("".join(text[place] for place in solid), picture.text, 2)) is not None:
        yield from ((place, at + index) for index, place in enumerate(solid))
        return
    for word in _WORD.finditer(text):
        if (at := _find(word[0], picture.text, _SURE)) is not None:
            yield from ((word.start() + index, at + index) for index in range(len(word[0])))


def _find(text: str, printed: str, least: int) -> int | None:
    """Where a text is printed; None where it is not, or short and at more than one place."""
    if len(text) < least or (len(text) < _SURE and printed.count(text) > 1):
        return None
    at = printed.find(text)
    return None if at < 0 else at


class Gaze:
    """How far the asked heads are from looking where they should, in one pass of a decoder over packed samples.

    Args:
        looks: ``[M, 2]``: from which place in the packed row to look at which.
        layers: Those that are asked.
    """

    def __init__(self, looks: torch.Tensor, layers: frozenset[int]) -> None:
        self.looks, self.layers = looks, layers
        self.loss = torch.zeros(())
        """Cross entropy, the mean of layers and looks."""
        self.right = 0.0
        """The share of looks at the right token, in the last layer asked."""

    def watch(self, layer: int, query: torch.Tensor, key: torch.Tensor, scaling: float, lengths: list[int]) -> None:
        """Take note of a layer's attention, of ``[1, heads, T, d]`` each."""
        if layer not in self.layers:
            return
        loss, right, offset = torch.zeros((), device=query.device), 0, 0
        for queries, keys in zip(query[0, HEAD].split(lengths), key[0, HEAD].split(lengths), strict=True):
            inside = (self.looks[:, 0] >= offset) & (self.looks[:, 0] < offset + len(keys))
            rows, wanted = (self.looks[inside] - offset).unbind(1)
            offset += len(keys)
            if not len(rows):
                continue
            scores = (queries[rows] @ keys.T).float() * scaling  # [m, L]
            ahead = torch.arange(len(keys), device=rows.device) > rows.unsqueeze(1)
            scores = scores.masked_fill(ahead, -torch.inf)
            loss = loss + F.cross_entropy(scores, wanted, reduction="sum")
            right += int((scores.argmax(1) == wanted).sum())
        self.loss = self.loss.to(loss.device) + loss / (len(self.layers) * len(self.looks))
        self.right = right / len(self.looks)
