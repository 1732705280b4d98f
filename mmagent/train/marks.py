"""Characters and things at their places: a lesson for the vision tower alone. It knows patches, no words of answers.

The words of an answer tell a vision tower little about what to tell apart. This asks it, at every place of a picture,
which character stands there and which thing. The head is thrown away when the training is over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mmagent.train.draw.products import SHAPES
from mmagent.train.draw.strokes import COLORS
from mmagent.train.sample import Mark, Shown

DOWN, ACROSS = 2, 4
"""Cells of a patch: narrow enough that the middles of two characters do not fall into one."""
CHARACTERS = "".join(map(chr, range(33, 127)))
BLANK = len(CHARACTERS)
BLANK_WEIGHT = 0.02
"""Of cells without a character, which are most."""
_NAMES = (
    "small medium large red blue green yellow black white orange purple brown cyan pink grey "
    "circle square triangle star diamond cross heart moon"
)
WORDS: tuple[str, ...] = tuple(sorted({*_NAMES.split(), *COLORS, *SHAPES}))
"""Words that name things; others of a mark are not asked for."""


class Targets:
    """What stands where in one picture of ``side`` pixels with ``grid`` × ``grid`` patches."""

    def __init__(self, shown: Shown, grid: int) -> None:
        self.cells = np.full((grid * DOWN, grid * ACROSS), BLANK, np.int16)
        self.things = np.zeros((grid, grid, len(WORDS)), np.uint8)
        self.known = bool(shown.marks)
        """Whether anybody said what is where."""
        width, height = shown.image.size
        for mark in shown.marks:
            left, top, right, bottom = mark.box
            box = (left / width, top / height, right / width, bottom / height)
            if len(mark.name) == 1:
                self._character(mark, box)
            else:
                self._thing(mark, box, grid)

    def _character(self, mark: Mark, box: tuple[float, float, float, float]) -> None:
        rows, columns = self.cells.shape
        row, column = int((box[1] + box[3]) / 2 * rows), int((box[0] + box[2]) / 2 * columns)
        if mark.name in CHARACTERS and 0 <= row < rows and 0 <= column < columns:
            self.cells[row, column] = CHARACTERS.index(mark.name)

    def _thing(self, mark: Mark, box: tuple[float, float, float, float], grid: int) -> None:
        words = [WORDS.index(word) for word in mark.name.split() if word in WORDS]
        left, top = (max(0, int(edge * grid + 0.5)) for edge in box[:2])
        ends = zip((left, top), box[2:], strict=True)
        right, bottom = (max(first + 1, int(edge * grid + 0.5)) for first, edge in ends)
        for word in words:
            self.things[top:bottom, left:right, word] = 1


class MarksHead(nn.Module):
    """Tells characters and things from the features of each patch, and characters from finer features, too.

    Args:
        width: Of patches.
        fine_width: Of features twice as many a side, where the tower has them (`mmagent.model.stem.Stem.fine`). There
            one small head serves every place, so it learns what characters look like long before the patches do.
    """

    def __init__(self, width: int, fine_width: int | None = None) -> None:
        super().__init__()
        self.cells = nn.Linear(width, DOWN * ACROSS * (BLANK + 1))
        self.fine = None if fine_width is None else nn.Linear(fine_width, ACROSS // 2 * (BLANK + 1))
        self.things = nn.Linear(width, len(WORDS))
        weight = torch.ones(BLANK + 1)
        weight[BLANK] = BLANK_WEIGHT
        self.weight = nn.Buffer(weight, persistent=False)

    def forward(
        self, patches: torch.Tensor, targets: Sequence[Targets], fine: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, float]:
        """The loss of patches ``[N, P, D]``, row by row, and the share of characters told right from them.

        ``fine`` is ``[N, D_fine, 2 grid, 2 grid]``.
        """
        known = [index for index, target in enumerate(targets) if target.known]
        if not known:
            return patches.sum() * 0.0, float("nan")
        seen = patches[known]
        count, places, _ = seen.shape
        grid = int(places**0.5)
        wanted = torch.from_numpy(np.stack([targets[index].cells for index in known])).long().to(seen.device).flatten()
        told = self.cells(seen).view(count, grid, grid, DOWN, ACROSS, BLANK + 1).permute(0, 1, 3, 2, 4, 5)
        told = told.reshape(-1, BLANK + 1).float()
        loss = F.cross_entropy(told, wanted, self.weight)
        if self.fine is not None and fine is not None:
            finely = self.fine(fine[known].permute(0, 2, 3, 1)).reshape(-1, BLANK + 1).float()
            loss = loss + F.cross_entropy(finely, wanted, self.weight)
        things = torch.from_numpy(np.stack([targets[index].things for index in known])).to(seen.device)
        named = self.things(seen).view(count, grid, grid, -1).float()
        loss = loss + 10 * F.binary_cross_entropy_with_logits(named, things.float())
        printed = wanted != BLANK
        return loss, float((told.argmax(-1) == wanted)[printed].float().mean())  # NaN where nothing is printed
