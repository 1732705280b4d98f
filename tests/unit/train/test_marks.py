"""Marks: each character and each thing is asked for at its own place, and where nobody knows nothing is asked."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from PIL import Image

from mmagent.errors import ConfigurationError
from mmagent.model.stem import Gather
from mmagent.testing.tiny import byte_tokenizer
from mmagent.train.lesson import Lesson
from mmagent.train.marks import ACROSS, BLANK, BLANKS, CHARACTERS, DOWN, WORDS, MarksHead, Targets
from mmagent.train.network import build
from mmagent.train.recipe import Losses, Shape
from mmagent.train.sample import Mark, Shown
from tests.unit.train.toys import SHAPE


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
    head, patches = MarksHead(4, {"patches": (8, 4)}), torch.randn(2, 16, 8, requires_grad=True)
    loss, right = head({"patches": patches}, [Targets(shown(), 4), Targets(shown(), 4)])
    assert loss.item() == 0
    assert math.isnan(right["patches"])  # there is nothing to tell
    marked = Targets(shown(Mark("7", (0, 0, 5, 5))), 4)
    loss, _ = head({"patches": patches}, [Targets(shown(), 4), marked])
    loss.backward()
    assert patches.grad is not None
    assert not patches.grad[0].any()
    assert patches.grad[1].any()


@pytest.mark.parametrize("side", [2, 4, 8])
def test_each_place_tells_its_own_cells(side: int) -> None:
    """A head that knows what to say in one place is right there, and only there, on patches and finer and coarser."""
    grid = 4
    down, across = grid * DOWN // side, grid * ACROSS // side
    there = 1 * side + 1  # the place in row 1, column 1
    row, column = 2 * down - 1, 2 * across - 1  # its last cell
    box = (5.0 * column, 5.0 * row, 5.0 * column + 5, 5.0 * row + 5)
    targets = [Targets(shown(Mark("7", box), size=(5 * grid * ACROSS, 5 * grid * DOWN)), grid)]
    head = MarksHead(grid, {"patches": (16, grid), "level": (16, side)})
    cells = head.cells["level"]
    for place in range(side * side):
        features = torch.zeros(1, side * side, 16)
        features[0, place, 0] = 1
        with torch.no_grad():
            cells.weight.zero_()
            cells.bias.zero_()
            told = cells.weight.view(down, across, BLANK + 1, 16)
            told[-1, -1, CHARACTERS.index("7"), 0] = 9
        _, right = head({"patches": torch.zeros(1, grid * grid, 16), "level": features}, targets)
        assert right["level"] == float(place == there)


def test_all_cells_of_a_patch_are_asked_whether_they_are_blank() -> None:
    asked = {
        (row % DOWN, column % ACROSS)
        for row, column in product(range(48), range(96))
        if not (row * 96 + column) % BLANKS
    }
    assert len(asked) == DOWN * ACROSS


def test_a_network_begins_with_its_characters_apart() -> None:
    """Each of the four places under a patch reaches channels of its own, so the patch can tell them apart."""
    torch.manual_seed(0)
    network = build(Shape.model_validate(SHAPE), byte_tokenizer())
    stem = network.vision_tower.encoder.embeddings.patch_embedding
    last = next(layer for layer in stem if isinstance(layer, Gather))
    for index, (row, column) in enumerate(product((0, 1), (0, 1))):
        seen = torch.zeros(1, last.in_channels, 2, 2)
        seen[:, :, row, column] = torch.randn(last.in_channels)
        reached = last(seen)[0, :, 0, 0].abs() > 0
        share = last.out_channels // 4
        assert reached.nonzero().flatten().tolist() == list(range(index * share, (index + 1) * share))


def test_tokens_that_are_no_grid_cannot_be_asked() -> None:
    network = build(Shape.model_validate(SHAPE | {"fusion": "late"}), byte_tokenizer())
    with pytest.raises(ConfigurationError, match="marks_at"):
        Lesson(network, Losses(marks=1, marks_at=["tokens"]))
