"""Characters and things at their places: a lesson for the vision tower alone. It knows patches, no words of answers.

The words of an answer tell a vision tower little about what to tell apart. This asks it, at every place of a picture,
which character stands there and which thing. The head is thrown away when the training is over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from mmagent.errors import ConfigurationError
from mmagent.train.draw.products import SHAPES
from mmagent.train.draw.strokes import COLORS
from mmagent.train.sample import Mark, Shown

DOWN, ACROSS = 2, 4
"""Cells of a patch: narrow enough that the middles of two characters do not fall into one."""
CHARACTERS = "".join(map(chr, range(33, 127)))
BLANK = len(CHARACTERS)
BLANK_WEIGHT = 0.02
"""Of cells without a character, which are most."""
BLANKS = 7
"""One cell of so many is asked for although nothing may stand there: no divisor of `ACROSS`, so none is left out."""
_CLASSES = BLANK + 1
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
    """Tells which character stands in each cell, from features at several levels, and from patches which things.

    Args:
        grid: Patches per side.
        levels: By name: the width of the features, and how many there are a side. ``patches`` is one of them; others
            are finer (`mmagent.model.stem.Stem.fine`, where one small head serves every place, so it learns what
            characters look like long before the patches do), or coarser (the tokens that the decoder sees).
    """

    def __init__(self, grid: int, levels: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.shapes = {name: (grid * DOWN // side, grid * ACROSS // side) for name, (_, side) in levels.items()}
        self.cells = nn.ModuleDict(
            {name: nn.Linear(width, math.prod(self.shapes[name]) * _CLASSES) for name, (width, _) in levels.items()}
        )
        self.things = nn.Linear(levels["patches"][0], len(WORDS))
        weight = torch.ones(_CLASSES)
        weight[BLANK] = BLANK_WEIGHT * BLANKS
        self.weight = nn.Buffer(weight, persistent=False)

    def forward(
        self, features: Mapping[str, torch.Tensor], targets: Sequence[Targets]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of features ``[N, side * side, D]`` at each level, row by row, and the shares of characters right.

        A share is not a number where nothing is printed.
        """
        known = [index for index, target in enumerate(targets) if target.known]
        patches = features["patches"]
        if not known:
            return patches.sum() * 0.0, dict.fromkeys(self.shapes, float("nan"))
        wanted = torch.from_numpy(np.stack([targets[index].cells for index in known])).long().to(patches.device)
        cells = wanted[0].numel()
        printed, wanted = wanted.flatten() != BLANK, wanted.flatten()
        spread = torch.arange(cells, device=wanted.device) % BLANKS == 0  # the same in each picture
        asked = (printed | spread.repeat(len(known))).nonzero().flatten()
        loss, right = torch.zeros((), device=patches.device), {}
        for name in self.shapes:
            told = self._told(name, features[name][known])[asked].float()
            loss = loss + F.cross_entropy(told, wanted[asked], self.weight)
            right[name] = float((told.argmax(-1) == wanted[asked])[printed[asked]].float().mean())
        things = torch.from_numpy(np.stack([targets[index].things for index in known])).to(patches.device)
        named = self.things(patches[known]).view(things.shape).float()
        return loss + 10 * F.binary_cross_entropy_with_logits(named, things.float()), right

    @torch.no_grad()
    def take(self, file: Path) -> None:
        """Take over from another run what fits.

        Raises:
            ConfigurationError: There is nothing to take.
        """
        try:
            kept = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ConfigurationError(f"{file} cannot be read; train that recipe with losses.marks first") from error
        for name, weight in self.named_parameters():
            if name in kept and kept[name].shape == weight.shape:
                weight.copy_(kept[name])

    def _told(self, name: str, features: torch.Tensor) -> torch.Tensor:
        """Scores of each class in each cell, cell by cell as in `Targets.cells`."""
        down, across = self.shapes[name]
        count, places, _ = features.shape
        side = math.isqrt(places)
        told: torch.Tensor = self.cells[name](features).view(count, side, side, down, across, _CLASSES)
        return told.permute(0, 1, 3, 2, 4, 5).reshape(-1, _CLASSES)
