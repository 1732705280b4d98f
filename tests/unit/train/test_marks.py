"""Marks: each character and each thing is asked for at its own place, and where nobody knows nothing is asked."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from mmagent.train.marks import ACROSS, BLANK, CHARACTERS, DOWN, WORDS, MarksHead, Targets
from mmagent.train.sample import Mark, Shown


def shown(*marks: Mark, size: tuple[int, int] = (80, 40)) -> Shown:
    return Shown(Image.new("RGB", size), marks)


def test_a_character_is_asked_for_in_the_cell_of_its_middle() -> None:
    grid = 4  # cells of 80 / 16 = 5 by 40 / 8 = 5 pixels
    targets = Targets(shown(Mark("7", (10, 20, 13, 30)), Mark("a", (76, 35, 80, 40))), grid)
    assert targets.cells.shape == (grid * DOWN, grid * ACROSS)
    assert targets.cells[5, 2] == CHARACTERS.index("7")
    assert targets.cells[7, 15] == CHARACTERS.index("a")
    assert (targets.cells != BLANK).sum() == 2


def test_a_thing_is_asked_for_in_all_patches_that_it_covers() -> None:
    targets = Targets(shown(Mark("large red circle", (40, 0, 80, 20))), 4)
    for word in ("large", "red", "circle"):
        covered = targets.things[:, :, WORDS.index(word)]
        assert covered[:2, 2:].all()
        assert covered.sum() == 4
    assert targets.things.sum() == 12
    assert (targets.cells == BLANK).all()


def test_a_small_thing_covers_one_patch() -> None:
    targets = Targets(shown(Mark("star", (22, 12, 24, 14))), 4)
    assert targets.things[1, 1, WORDS.index("star")] == 1
    assert targets.things.sum() == 1


@pytest.mark.parametrize("mark", [Mark("é", (0, 0, 5, 5)), Mark("9", (90, 0, 99, 5)), Mark("nonsense", (0, 0, 9, 9))])
def test_what_is_unknown_or_outside_is_not_asked_for(mark: Mark) -> None:
    targets = Targets(shown(mark), 4)
    assert (targets.cells == BLANK).all()
    assert not targets.things.any()


def test_pictures_without_marks_teach_nothing() -> None:
    torch.manual_seed(0)
    head, patches = MarksHead(8), torch.randn(2, 16, 8, requires_grad=True)
    loss, right = head(patches, [Targets(shown(), 4), Targets(shown(), 4)])
    assert loss.item() == 0
    assert right != right  # not a number: there is nothing to tell
    marked = Targets(shown(Mark("7", (0, 0, 5, 5))), 4)
    loss, _ = head(patches, [Targets(shown(), 4), marked])
    loss.backward()
    assert patches.grad is not None
    assert not patches.grad[0].any()
    assert patches.grad[1].any()


def test_each_patch_tells_its_own_cells() -> None:
    """A head that knows what to say in one patch is right there, and only there."""
    torch.manual_seed(0)
    grid, there = 4, 2 * 4 + 1  # the patch in row 2, column 1
    row, column = 2 * DOWN + 1, 1 * ACROSS + 3
    width, height = 5 * grid * ACROSS, 5 * grid * DOWN
    box = (5.0 * column, 5.0 * row, 5.0 * column + 5, 5.0 * row + 5)
    targets = [Targets(shown(Mark("7", box), size=(width, height)), grid)]
    head = MarksHead(16)
    for place in range(grid * grid):
        patches = torch.zeros(1, grid * grid, 16)
        patches[0, place, 0] = 1
        with torch.no_grad():
            head.cells.weight.zero_()
            head.cells.bias.zero_()
            told = head.cells.weight.view(DOWN, ACROSS, BLANK + 1, 16)
            told[1, 3, CHARACTERS.index("7"), 0] = 9
        assert head(patches, targets)[1] == float(place == there)
